"""Pictures whose classes are colours, for jobs that learn from few of them."""

import numpy as np
from PIL import Image

from unlir_jax.runtime import config

CLASSES = ("blue", "green", "red")


def write(folder):
    """Write five pictures of each class to learn from, and four to test on."""
    random = np.random.default_rng(0)
    for split, count in (("train", 5), ("test", 4)):
        for place, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 160, (32, 32, 3), np.uint8)
                pixels[..., place] += 90
                file = folder / split / name / f"{index}.png"
                Image.fromarray(pixels).save(file)
    return folder


def settings(folder, argument, **more):
    """Read the config of few shots for a network that is small and knows nothing."""
    given = {"data.path": folder, "model.weights": "random", "draws": 2}
    given |= {"data.image_size": 32, "steps": 3, "batch_size": 4} | more
    overrides = [f"--config.{name}={value}" for name, value in given.items()]
    return config.load(
        f"configs/few_shot.py:backbone=cifar_resnet8,{argument}", overrides
    )
