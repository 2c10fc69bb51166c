"""The workdir of a part network that has never been trained, made in a second."""

import json
import types
from pathlib import Path

import numpy as np
from PIL import Image

from unlir_jax import tree
from unlir_jax.data import folder, splits
from unlir_jax.features import batches
from unlir_jax.models import part_network, pretrained
from unlir_jax.parts import gallery as part_gallery
from unlir_jax.weights import exported

CLASSES = ("ant", "bee", "cat")
SIZE, PARTS, EACH = 32, 5, 5
DECISION = {"name": "descriptors", "layer": "layer2", "parts": PARTS}


def picture(index):
    """Make a picture whose red and green say where a pixel is, and blue which it is."""
    across = np.linspace(0, 255, 64)
    image = np.zeros((64, 64, 3))
    image[..., 0], image[..., 1] = across, across[:, None]
    image[..., 2] = 8 * index
    noise = np.random.default_rng(index).normal(0, 4, (64, 64, 1)) * [1, 1, 0]
    return Image.fromarray(np.clip(image + noise, 0, 255).astype(np.uint8))


def write_pictures(root):
    """Write the training pictures as folders of classes."""
    for index in range(EACH * len(CLASSES)):
        place = Path(root) / "train" / CLASSES[index // EACH]
        place.mkdir(parents=True, exist_ok=True)
        picture(index).save(place / f"{index:02}.png")


def job(data):
    """Stand in for `job.Job`, as far as a gallery looks at it."""
    network = pretrained.load(
        "cifar_resnet8", "random", num_classes=len(CLASSES), decision=DECISION
    )
    train = folder.folder(path=str(data), split="train", holdout=0.0)
    return types.SimpleNamespace(
        network=network,
        data=splits.Splits(train, None),
        image_size=SIZE,
        crop=1.0,
        interpolation="bilinear",
        frame={"image_size": SIZE, "crop": 1.0, "interpolation": "bilinear"},
    )


def no_features():
    """Stand in for batches that keep no features."""
    return batches.Batches(lambda start: iter(()), lambda: iter(()))


def write(root, data, gallery=True):
    """Write a workdir; return it and the job that it stands for."""
    made, root = job(data), Path(root)
    root.mkdir(parents=True)
    leaves = tree.flatten(made.network.variables)
    leaves = {path: np.asarray(leaf) for path, leaf in leaves.items()}
    purpose = exported.Purpose(
        made.network.name,
        CLASSES,
        SIZE,
        1.0,
        part_network.specification(made.network.module),
    )
    exported.write(root, leaves, purpose)
    settings = {
        "source": "folder",
        "path": str(data),
        "train": "train",
        "test": "test",
        "options": {"holdout": 0.0},
        "train_options": {},
        "test_options": {},
        "cache": "none",
    }
    (root / "config.json").write_text(json.dumps({"data": settings}))
    if gallery:
        found = part_gallery.collect(made, made.network.variables, no_features())
        part_gallery.write(root, found)
    return root, made
