"""A small folder of scenes with boxes, and the settings of a small detector."""

import csv

import numpy as np
from PIL import Image

from unlir_jax.data import synthetic_scenes
from unlir_jax.weak_detection import settings

HEAD = ("path", "split", "class", "x0", "y0", "x1", "y1")


def write_folder(root, counts=(("train", 12), ("test", 4)), image_size=48):
    """Write scenes and their table; classes are a to d."""
    rows = []
    for split, count in counts:
        (root / split).mkdir(parents=True)
        for index in range(count):
            scene = synthetic_scenes.draw_scene(split, index, image_size=image_size)
            name = f"{split}/{index}.png"
            Image.fromarray(scene.image).save(root / name)
            for box, label in zip(scene.boxes, scene.labels, strict=True):
                rows.append((name, split, "abcd"[label], *box.tolist()))
    write_table(root, rows)
    return rows


def write_table(root, rows, head=HEAD):
    """Write a table of boxes."""
    with (root / "boxes.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows((head, *rows))


def small(path="", **changes):
    """Give settings that learn in seconds: a random network of 32 pixels."""
    found = settings.weak_detection()
    found.data.path = str(path)
    found.data.scenes.update({"train": 10, "test": 4, "image_size": 48})
    found.model.update({"name": "cifar_resnet8", "weights": "random"})
    found.features.update({"dimensions": 6, "images": 4})
    found.windows.update({"scales": (0.4, 0.8), "ratios": (1.0,), "step": 0.5})
    found.update({"batch_size": 4, "steps": 3, "gallery": 2})
    for name, value in changes.items():
        found[name] = value
    return found


def square(side=32, seed=0):
    """Draw an image of noise."""
    values = np.random.default_rng(seed).integers(0, 255, (side, side, 3))
    return Image.fromarray(values.astype(np.uint8))
