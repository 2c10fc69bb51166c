"""Bounds of a probability, from the number of successes in independent trials."""

import numpy as np
import scipy

from unlir_jax.types import Array


def clopper_pearson_lower(
    successes: Array | int, trials: int, *, alpha: float = 0.05
) -> np.ndarray:
    """Give the exact one-sided lower bound of a probability.

    It is the `alpha` quantile of the Beta distribution with parameters k and
    n - k + 1, k successes of n trials, and 0 without a success. It is above the true
    probability in at most a share `alpha` of all experiments.

    Args:
        successes: Counts in [0, trials], of any shape.
        trials: Number of trials, at least 1.
        alpha: Probability that the bound is wrong, in (0, 1).

    Returns:
        Bounds in [0, 1), of the shape of the counts, float64.

    Raises:
        ValueError: A number out of range.

    References:
        Clopper & Pearson, *The Use of Confidence or Fiducial Limits Illustrated in the
        Case of the Binomial*, Biometrika 26 (1934).

    Example:
        >>> from unlir_jax.statistics import proportions
        >>> float(proportions.clopper_pearson_lower(2, 2, alpha=0.25))
        0.5
    """
    counts = np.asarray(successes)
    if trials < 1:
        raise ValueError(f"`trials`={trials}; expected at least 1.")
    if not 0 < alpha < 1:
        raise ValueError(f"`alpha`={alpha}; expected a probability in (0, 1).")
    if counts.size and not (0 <= counts.min() and counts.max() <= trials):
        wrong = counts.min() if counts.min() < 0 else counts.max()
        raise ValueError(f"`successes` holds {wrong}; expected 0 to {trials}.")
    some = np.maximum(counts, 1)
    bound = scipy.special.betaincinv(some, trials - some + 1, alpha)
    return np.where(counts > 0, bound, 0.0)
