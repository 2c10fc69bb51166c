"""Divergence of an image's probabilities from those that are typical of a class."""

import numpy as np

from unlir_jax.open_set.scores.softmax import log_probabilities
from unlir_jax.open_set.scores.spec import Linear, Score, score


@score(
    "KL matching",
    "-min_c KL(p, mean p of images predicted as c)",
    "logits",
    "Hendrycks et al., 2022",
)
def kl_matching(head: Linear | None = None) -> Score:
    """Score by the negative divergence from the nearest typical distribution.

    Args:
        head: Classifier, not used.

    References:
        Hendrycks et al., *Scaling Out-of-Distribution Detection for Real-World
        Settings*, ICML 2022, Section 4.

    Note:
        A class that no training image is predicted as has no typical distribution and
        is left out.
    """

    def fit(features: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        logs, predicted = log_probabilities(logits), logits.argmax(1)
        means = [
            # The logarithm of a mean of tiny probabilities, which would round to 0.
            np.logaddexp.reduce(logs[predicted == label], axis=0)
            - np.log(np.count_nonzero(predicted == label))
            for label in np.unique(predicted)
        ]
        return np.stack(means)

    def negative(
        typical: np.ndarray, features: np.ndarray, logits: np.ndarray
    ) -> np.ndarray:
        logs = log_probabilities(logits)
        own = np.exp(logs)
        divergences = np.sum(own * logs, axis=1)[:, None] - own @ typical.T
        return -divergences.min(1)

    return Score(fit, negative)
