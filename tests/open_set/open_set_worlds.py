"""Features, labels and a linear classifier that the tests of open sets share."""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlir_jax.open_set import scores

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
