"""Confidence intervals and bounds of shares."""

import math

import numpy as np
import scipy

from unlir_jax.statistics.intervals import NORMAL, Interval
from unlir_jax.types import Array


def wilson(count: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Give the interval of a share by Wilson's score, without continuity correction.

    It holds the shares whose test does not reject `count` of `n`. Unlike that of
    resampling, it has a width where all items are equal.

    Args:
        count: Number of items that have what is counted.
        n: Number of items.
        confidence: In (0, 1).

    Raises:
        ValueError: No items, a count outside of 0 to `n`, or an impossible confidence.

    References:
        Wilson, JASA 22, 1927; Brown, Cai & DasGupta, *Interval Estimation for a
        Binomial Proportion*, Statistical Science 16, 2001, Eq. 4.

    Example:
        >>> from unlir_jax.statistics import proportions
        >>> found = proportions.wilson(10, 10)
        >>> found.mean, round(found.low, 3), found.high
        (1.0, 0.722, 1.0)
    """
    if not 0 < confidence < 1:
        raise ValueError(
            f"`confidence`={confidence} is not possible; expected more than 0 and less "
            "than 1, such as 0.95."
        )
    if n < 1 or not 0 <= count <= n:
        raise ValueError(
            f"`count`={count} of `n`={n} items; expected at least one item, and a "
            "count from 0 to their number."
        )
    share, z = count / n, NORMAL.inv_cdf((1 + confidence) / 2)
    scale = 1 + z**2 / n
    middle = (share + z**2 / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / scale
    low = 0.0 if count == 0 else max(middle - half, 0.0)
    high = 1.0 if count == n else min(middle + half, 1.0)
    return Interval(share, low, high, n)


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
