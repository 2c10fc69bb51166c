"""Intervals of scores, and tests between columns of scores.

Pure functions of numbers and, where something is drawn, of `seed`. A value that is not
finite is refused, never dropped. Intervals are in `intervals`, correlations in
`correlation`; all can be had from here.

SciPy ranks and correlates. Ours is what it lacks: BCa intervals of `[n, k]` figures in
bounded memory, sign flips that allow for the rounding of sums, Holm's steps, and an
exact Wilcoxon test of tied ranks.

Wilcoxon, *Individual comparisons by ranking methods*, 1945; Holm, *A simple
sequentially rejective multiple test procedure*, 1979; Phipson and Smyth, *Permutation
p-values should never be zero*, 2010.
"""

from typing import NamedTuple

import numpy as np
import scipy

from unlir_jax.statistics.correlation import Correlation, spearman, spearman_interval
from unlir_jax.statistics.intervals import (
    HELD,
    Interval,
    Numbers,
    bootstrap,
    bootstrap_difference,
    check_resampling,
    finite,
    paired,
)

EXACT_FLIPS = 14
EXACT_RANKS = 50

__all__ = [
    "Correlation",
    "Interval",
    "SignedRank",
    "bootstrap",
    "bootstrap_difference",
    "holm",
    "paired_permutation",
    "spearman",
    "spearman_interval",
    "wilcoxon",
    "win_rate",
]


class SignedRank(NamedTuple):
    """Hold the outcome of Wilcoxon's test.

    Attributes:
        statistic: Sum of the ranks of the positive differences.
        p_value: Two-sided, in (0, 1].
        n: Number of differences that are not zero.
    """

    statistic: float
    p_value: float
    n: int


def paired_permutation(
    first: Numbers, second: Numbers, *, resamples: int = 10_000, seed: int = 0
) -> float:
    """Test whether paired means differ, by flipping signs of the differences.

    Two-sided: how often is the mean of differences with random signs at least as far
    from zero as the one found? All sign flips are counted for up to 14 pairs; for more,
    `resamples` are drawn and `(1 + hits) / (1 + resamples)` is given.

    Returns:
        The p-value, in (0, 1]; 1 if all differences are zero.

    Raises:
        ValueError: The two differ in shape, or hold what is not finite.
    """
    one, other = paired(first, second, (1,))
    check_resampling(0.5, resamples)
    differences = one - other
    n = len(differences)
    # Sums of the same numbers in another order may differ by rounding.
    far = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()
    if n <= EXACT_FLIPS:
        signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float(np.mean(np.abs(signs @ differences) >= far))
    random = np.random.default_rng(seed)
    hits, step = 0, max(1, HELD // n)
    for start in range(0, resamples, step):
        shape = min(step, resamples - start), n
        signs = 1.0 - 2 * random.integers(0, 2, shape, np.int8)
        hits += int(np.sum(np.abs(signs @ differences) >= far))
    return (1 + hits) / (1 + resamples)


def wilcoxon(first: Numbers, second: Numbers) -> SignedRank:
    """Test whether paired differences are symmetric about zero, by signed ranks.

    Zeros are dropped, as Wilcoxon did; ties get the middle of their ranks. For up to
    50 differences the p-value is exact: all signs of these ranks are counted. For more
    it is that of a normal with variance corrected for ties and with the continuity
    correction of one half.

    Returns:
        Statistic, two-sided p-value (1 if nothing is left) and number of differences.

    Raises:
        ValueError: The two differ in shape, or hold what is not finite.

    Note:
        Differences equal to 12 digits of the largest count as tied: 0.3 - 0.2 is 0.1.
        SciPy's `method="exact"` counts ranks without ties; with its `"auto"` it depends
        on the version (1.14 to 1.18) and on n (up to 13) what is done about ties.
    """
    one, other = paired(first, second, (1,))
    differences = (one - other)[one != other]
    n = len(differences)
    if n == 0:
        return SignedRank(0.0, 1.0, 0)
    sizes = np.round(np.abs(differences) / np.abs(differences).max(), 12)
    ranks = scipy.stats.rankdata(sizes)
    statistic = float(ranks[differences > 0].sum())
    if n > EXACT_RANKS:
        signed = np.copysign(ranks, differences)
        test = scipy.stats.wilcoxon(signed, correction=True, method="asymptotic")
        return SignedRank(statistic, float(test.pvalue), n)
    # Ways to reach each sum of twice the ranks, which are whole also where tied.
    ways = np.ones(1)
    for rank in np.rint(2 * ranks).astype(int):
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    lower = round(2 * min(statistic, n * (n + 1) / 2 - statistic))
    chance = 2 * float(ways[: lower + 1].sum() / 2.0**n)
    return SignedRank(statistic, min(1.0, chance), n)


def holm(p_values: Numbers) -> np.ndarray:
    """Adjust p-values for their number: reject where the result is below the level.

    The i-th smallest of m is multiplied by `m - i + 1`, and none may be below a smaller
    one's result; the chance of any false rejection stays below the level.

    Returns:
        `[m]`, in the order of the input, at most 1.

    Raises:
        ValueError: A value outside [0, 1].
    """
    given = finite("p_values", p_values, (1,))
    if given.min() < 0 or given.max() > 1:
        wrong = given.min() if given.min() < 0 else given.max()
        raise ValueError(f"`p_values` holds {wrong}; expected values in [0, 1].")
    order = np.argsort(given, kind="stable")
    steps = given[order] * np.arange(len(given), 0, -1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def win_rate(first: Numbers, second: Numbers) -> float:
    """Tell in which share of the pairs the first is larger; ties are half a win.

    Raises:
        ValueError: The two differ in shape, or hold what is not finite.
    """
    one, other = paired(first, second, (1,))
    return float(np.mean((one > other) + (one == other) / 2))
