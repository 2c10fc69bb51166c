"""Scores by the nearest training images."""

import numpy as np
import scipy

from unlir_jax.open_set.scores.spec import Linear, Score, score

ROWS = 256
"""Images that are compared with all training images at once."""


def unit(rows: np.ndarray) -> np.ndarray:
    """Divide by the Euclidean norm; zeros stay zeros."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


def _check_neighbours(neighbours: int) -> None:
    if neighbours < 1:
        raise ValueError(f"`neighbours`={neighbours}; expected 1 or more.")


@score("Nearest neighbours", "-distance to the k-th", "features", "Sun et al., 2022")
def knn(head: Linear | None = None, *, neighbours: int = 5) -> Score:
    """Score by the negative distance of the k-th nearest training image.

    Args:
        head: Classifier, not used.
        neighbours: Number k of neighbours; of fewer training images, all.

    Raises:
        ValueError: No neighbour.

    References:
        Sun, Ming, Zhu and Li, *Out-of-Distribution Detection with Deep Nearest
        Neighbors*, ICML 2022, Section 3.

    Note:
        Features have unit length, as in the source. Its k is 50 for CIFAR-10.
    """
    _check_neighbours(neighbours)

    def fit(features: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return unit(features)

    def negative(
        bank: np.ndarray, features: np.ndarray, logits: np.ndarray
    ) -> np.ndarray:
        rows, found = unit(features), []
        for start in range(0, len(rows), ROWS):
            apart = scipy.spatial.distance.cdist(rows[start : start + ROWS], bank)
            found.append(np.sort(apart, axis=1)[:, :neighbours][:, -1])
        return -np.concatenate(found)

    return Score(fit, negative)


@score(
    "Nearest-neighbour guidance",
    "energy times mean of the k largest energy-weighted cosines",
    "features",
    "Park et al., 2023",
)
def nnguide(head: Linear | None = None, *, neighbours: int = 10) -> Score:
    """Score by the energy times the guidance of the nearest training images.

    Args:
        head: Classifier, not used: energies are those that the logits give.
        neighbours: Number of neighbours whose cosines are averaged; of fewer training
            images, all.

    Raises:
        ValueError: No neighbour.

    References:
        Park, Jung and Teoh, *Nearest Neighbor Guidance for Out-of-Distribution
        Detection*, ICCV 2023, Eq. 5-6.

    Note:
        The bank holds all training images; the source draws a share of them.
    """
    _check_neighbours(neighbours)

    def fit(features: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return unit(features) * scipy.special.logsumexp(logits, axis=1)[:, None]

    def guided(
        bank: np.ndarray, features: np.ndarray, logits: np.ndarray
    ) -> np.ndarray:
        rows, found = unit(features), []
        for start in range(0, len(rows), ROWS):
            products = rows[start : start + ROWS] @ bank.T
            found.append(np.sort(products, axis=1)[:, -neighbours:].mean(1))
        return np.concatenate(found) * scipy.special.logsumexp(logits, axis=1)

    return Score(fit, guided)
