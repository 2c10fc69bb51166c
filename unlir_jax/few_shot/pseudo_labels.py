"""Pseudo-labels: choice of unlabelled images, and their predicted labels."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from unlir_jax.types import Array

# Share of the images without labels, if each class had as many as the others.
SHARE = 0.5


class PseudoLabels(NamedTuple):
    """Hold what images are taken for.

    Attributes:
        places: Which of the images, in rising order.
        targets: Shares of classes, `[places, classes]`.
    """

    places: np.ndarray
    targets: np.ndarray


def confident(
    scores: Float[Array, "pictures classes"], share: float = SHARE
) -> PseudoLabels:
    """Choose the images that are surest, the same number of each class at most.

    Without that limit a class that attracts others grows with every round (Zou et al.,
    Unsupervised domain adaptation via class-balanced self-training, 2018).

    Args:
        scores: Log probabilities of all images.
        share: So many of each class: this share of the images over the classes, but
            at least one, and no more than are taken for the class.
    """
    scores = np.asarray(scores, np.float64)
    pictures, classes = scores.shape
    each = max(1, round(share * pictures / classes))
    taken, top = scores.argmax(1), scores.max(1)
    found = []
    for label in range(classes):
        own = np.flatnonzero(taken == label)
        found.append(own[np.argsort(-top[own], kind="stable")][:each])
    places = np.sort(np.concatenate(found))
    targets = np.exp(scores[places])
    return PseudoLabels(
        places, (targets / targets.sum(1, keepdims=True)).astype("float32")
    )
