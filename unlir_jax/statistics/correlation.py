"""Rank correlation of two columns of scores, with its interval."""

from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Integer

from unlir_jax.statistics.intervals import Interval, Numbers, check_resampling, paired
from unlir_jax.types import Array


class Correlation(NamedTuple):
    """Hold a correlation, and whether there was anything to correlate.

    Attributes:
        value: In [-1, 1]; 0 if one side is constant.
        constant: True if all values of one side are equal: no order to agree with.
    """

    value: float
    constant: bool


def spearman(first: Numbers, second: Numbers) -> Correlation:
    """Correlate the ranks of two columns; ties get the middle of their ranks.

    Raises:
        ValueError: The two differ in shape, hold fewer than two values, or some that
            are not finite.
    """
    one, other = paired(first, second, (1,))
    if len(one) < 2:
        raise ValueError("`first` has 1 value; expected at least 2 to correlate.")
    constant = not (np.ptp(one) and np.ptp(other))
    return Correlation(_correlate(one, other), constant)


def spearman_interval(
    first: Numbers,
    second: Numbers,
    *,
    groups: Integer[Array, " n"] | None = None,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """Give the interval of Spearman's correlation, by percentiles over resampled items.

    Args:
        first: `[n]`.
        second: `[n]`.
        groups: `[n]`, items that belong together, such as all parts of an image: these
            are drawn together, and counted in the result's `n`. Each alone without it.
        confidence: In (0, 1).
        resamples: Number of draws. One in which a side is constant counts as 0.
        seed: Seed of the resampling.

    Raises:
        ValueError: As `spearman`, or an impossible setting.
    """
    found = spearman(first, second).value
    check_resampling(confidence, resamples)
    one, other = paired(first, second, (1,))
    items = np.arange(len(one)) if groups is None else np.asarray(groups)
    members = np.unique(items, return_inverse=True)[1].reshape(-1)
    if len(members) != len(one):
        raise ValueError(
            f"`groups` has {len(members)} entries; expected {len(one)}, one an item."
        )
    count = int(members.max()) + 1
    random = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for index in range(resamples):
        times = np.bincount(random.integers(0, count, count), minlength=count)
        rows = np.repeat(np.arange(len(one)), times[members])
        drawn[index] = _correlate(one[rows], other[rows])
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    low, high = np.quantile(drawn, tails).tolist()
    return Interval(found, low, high, count)


def _correlate(first: np.ndarray, second: np.ndarray) -> float:
    # `spearmanr` takes twice as long, for a p-value that nobody reads.
    ranks = scipy.stats.rankdata((first, second), axis=1)
    return float(np.corrcoef(ranks)[0, 1]) if np.ptp(ranks, axis=1).all() else 0.0
