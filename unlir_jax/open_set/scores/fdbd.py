"""Distance of features from the decision boundaries of a linear classifier."""

import numpy as np

from unlir_jax.open_set.scores.spec import Linear, Score, score


@score(
    "Fast decision-boundary distance",
    "mean distance to boundaries / distance to the mean feature",
    "features",
    "Liu & Qin, 2024",
    head=True,
)
def fdbd(head: Linear) -> Score:
    """Score by the mean distance to the boundaries with all other classes.

    Args:
        head: Linear classifier of the features.

    Raises:
        TypeError: No linear classifier.

    References:
        Liu and Qin, *Fast Decision Boundary based Out-of-Distribution Detector*, ICML
        2024, Eq. 7.

    Note:
        Two classes with equal kernels have no boundary and are left out. An image at
        the mean feature is taken to be as far from it as a millionth of its length.
    """
    kernel = np.asarray(head.kernel, np.float64)
    apart = np.linalg.norm(kernel[:, :, None] - kernel[:, None, :], axis=0)

    def fit(features: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return features.mean(0)

    def distance(
        mean: np.ndarray, features: np.ndarray, logits: np.ndarray
    ) -> np.ndarray:
        own = head.logits(features)
        best = own.argmax(1)
        gaps, between = own.max(1)[:, None] - own, apart[best]
        bounded = between > 0
        shares = np.divide(gaps, between, out=np.zeros_like(gaps), where=bounded)
        away = np.linalg.norm(features - mean, axis=1)
        least = 1e-6 * np.linalg.norm(features, axis=1)
        away = np.maximum(away, np.maximum(least, 1e-300))
        return shares.sum(1) / np.maximum(bounded.sum(1), 1) / away

    return Score(fit, distance)
