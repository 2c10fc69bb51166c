"""Evidence of parts for the decision."""

import numpy as np

from unlir_jax.open_set.scores.spec import Linear, Score, score


@score(
    "Evidence of parts",
    "max_c sum_p W_cp (b_p - mean b_p)",
    "parts",
    "this library",
    head=True,
)
def parts(head: Linear) -> Score:
    """Score by the evidence that an image's parts give to its best class.

    Args:
        head: Linear classifier of the scores of parts, `W` and its bias.

    Raises:
        TypeError: No linear classifier.

    Note:
        The score of a part counts from its mean over training images. Without that, a
        common offset of all parts of a class would decide. The bias is left out.
    """

    def fit(features: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return features.mean(0)

    def evidence(
        mean: np.ndarray, features: np.ndarray, logits: np.ndarray
    ) -> np.ndarray:
        return np.max((features - mean) @ np.asarray(head.kernel, np.float64), axis=1)

    return Score(fit, evidence)
