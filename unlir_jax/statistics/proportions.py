"""Confidence intervals of shares.

Wilson, *Probable Inference, the Law of Succession, and Statistical Inference*, JASA 22,
1927.
"""

import math

from unlir_jax.statistics.intervals import NORMAL, Interval


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
