"""Features, labels and a linear classifier that the tests of open sets share."""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from unlir_jax.open_set import scores
from unlir_jax.runtime import config

FILE = Path(__file__).parents[1] / "golden" / "open_set" / "scores.npz"


class World(NamedTuple):
    train: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    head: scores.Linear

    def scored(self, own):
        """Fit a score to the training rows and score the test rows."""
        state = own.fit(self.train, self.head.logits(self.train), self.labels)
        return own.score(state, self.test, self.head.logits(self.test))


@functools.cache
def stored():
    return dict(np.load(FILE))


def world():
    found = stored()
    head = scores.Linear(found["kernel"].astype(float), found["bias"].astype(float))
    return World(
        found["train"].astype(float),
        found["labels"],
        found["test"].astype(float),
        head,
    )


COUNT = {"train": 6, "test": 3}


def draw_colours(folder):
    """Draw eight classes of noisy colours: `data/train/CLASS` and `data/test/CLASS`."""
    random = np.random.default_rng(0)
    for split, count in COUNT.items():
        for number in range(8):
            place = folder / "data" / split / f"colour{number}"
            place.mkdir(parents=True)
            base = [120 * (number >> bit & 1) for bit in range(3)]
            for index in range(count):
                pixels = random.integers(0, 120, (32, 32, 3)) + base
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{index}.png")
    return folder


def asked(folder, **more):
    """Give the arguments of a command on `draw_colours`."""
    given = {
        "data.path": folder / "data",
        "model.weights": "random",
        "data.image_size": 32,
        "splits": 2,
        "detectors.parts": 4,
        "features.folder": folder / "features",
        "gallery": 2,
    } | more
    return [f"--config.{name}={value}" for name, value in given.items()]


def read_settings(folder, names, **more):
    argument = f"configs/open_set.py:backbone=cifar_resnet8,scores={names}"
    return config.load(argument, asked(folder, **more))
