"""Rank correlation of two columns of scores, with its interval."""

import math
from typing import NamedTuple

import numpy as np
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
    found = _correlate(np.ones(len(one)), _groups(one), _groups(other))
    return Correlation(found, not (np.ptp(one) and np.ptp(other)))


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
        resamples: How often to draw. One in which a side is constant counts as 0.
        seed: Seed of the resampling.

    Raises:
        ValueError: As `spearman`, or an impossible setting.
    """
    found = spearman(first, second).value
    check_resampling(confidence, resamples)
    one, other = (_groups(side) for side in paired(first, second, (1,)))
    members = _groups(np.arange(len(one)) if groups is None else np.asarray(groups))
    if len(members) != len(one):
        raise ValueError(
            f"`groups` has {len(members)} entries; expected {len(one)}, one an item."
        )
    count = int(members.max()) + 1
    random = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for index in range(resamples):
        times = np.bincount(random.integers(0, count, count), minlength=count)
        drawn[index] = _correlate(times[members].astype(float), one, other)
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    low, high = np.quantile(drawn, tails).tolist()
    return Interval(found, low, high, count)


def _groups(values: np.ndarray) -> np.ndarray:
    """Number the different values in rising order."""
    return np.unique(values, return_inverse=True)[1].reshape(-1)


def middle_ranks(weights: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Rank items that are there `weights` times each, equal ones in the middle."""
    sizes = np.bincount(groups, weights)
    return (np.cumsum(sizes) - (sizes - 1) / 2)[groups]


def _correlate(weights: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Correlate the ranks of items that are there `weights` times each."""
    middle = (weights.sum() + 1) / 2
    one = middle_ranks(weights, first) - middle
    other = middle_ranks(weights, second) - middle
    product = np.sum(weights * one**2) * np.sum(weights * other**2)
    if product == 0:
        return 0.0
    value = float(np.sum(weights * one * other) / math.sqrt(product))
    return min(1.0, max(-1.0, value))
