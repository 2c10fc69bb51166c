"""Confidence intervals of a mean or a median, by resampling items.

Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993.
"""

from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from unlir_jax.types import Array

Numbers = Array | Sequence[float | int]
Statistic = Literal["mean", "median"]

# So many numbers are held at once while resampling: 32 MiB.
HELD = 2**22
NORMAL = NormalDist()


class Interval(NamedTuple):
    """Hold a figure and between what it may lie.

    Attributes:
        mean: The statistic of the values themselves.
        low: Lower end.
        high: Upper end; equal to the lower if all values are equal, or if there is one.
        n: Number of things that were resampled; of 1, the interval says nothing.
    """

    mean: Any
    low: Any
    high: Any
    n: int


def bootstrap(
    values: Numbers,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    statistic: Statistic = "mean",
) -> Interval:
    """Give the interval of a statistic over items, by resampling items.

    Bias-corrected and accelerated (BCa) for the mean, percentiles for the median, whose
    jackknife says nothing.

    Args:
        values: `[n]`, or `[n, k]` for k figures whose items are drawn together.
        confidence: In (0, 1).
        resamples: Number of draws of n of n items with replacement.
        seed: Seed of the resampling; equal seeds give equal intervals.
        statistic: "mean" or "median".

    Returns:
        Numbers for `[n]`, arrays `[k]` for `[n, k]`.

    Raises:
        ValueError: No value, one that is not finite, or an impossible setting.
    """
    table = finite("values", values, (1, 2))
    check_resampling(confidence, resamples)
    if statistic not in get_args(Statistic):
        raise ValueError(
            f"`statistic`={statistic!r} is unknown; expected one of "
            f"{get_args(Statistic)}."
        )
    function = np.mean if statistic == "mean" else np.median
    columns = table.reshape(len(table), -1)
    drawn = np.empty((resamples, columns.shape[1]))
    done = 0
    for rows in _draws(len(table), resamples, seed, columns.size):
        drawn[done : done + len(rows)] = function(columns[rows], axis=1)
        done += len(rows)
    varying = np.ptp(columns, axis=0) > 0
    # The mean of equal numbers may miss them by rounding.
    found = np.where(varying, function(columns, axis=0), columns[0])
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    ends = np.repeat(found[None], 2, axis=0)
    for index in np.flatnonzero(varying):
        column, some = columns[:, index], drawn[:, index]
        if statistic == "mean":
            levels = _accelerated(some, found[index], column - found[index], tails)
        else:
            levels = tails
        ends[:, index] = np.quantile(some, levels)
    if table.ndim == 1:
        low, high = ends[:, 0].tolist()
        return Interval(float(found[0]), low, high, len(table))
    return Interval(found, ends[0], ends[1], len(table))


def _draws(n: int, resamples: int, seed: int, size: int) -> Iterator[np.ndarray]:
    """Draw the rows of all resamples, some at a time: `[some, n]`."""
    random = np.random.default_rng(seed)
    step = max(1, HELD // size)
    for start in range(0, resamples, step):
        yield random.integers(0, n, (min(step, resamples - start), n))


def _accelerated(
    drawn: np.ndarray, found: float, deviations: np.ndarray, tails: tuple[float, ...]
) -> list[float]:
    """Move the levels of the tails (Efron and Tibshirani, Eq. 14.9-14.15)."""
    below = np.mean(drawn < found) + np.mean(drawn == found) / 2
    least = 1 / (len(drawn) + 1)
    bias = NORMAL.inv_cdf(float(np.clip(below, least, 1 - least)))
    # Leaving one item out moves the mean in proportion to its deviation.
    scaled = deviations / np.abs(deviations).max()
    acceleration = float(np.sum(scaled**3) / (6 * np.sum(scaled**2) ** 1.5))
    levels = []
    for tail in tails:
        moved = bias + NORMAL.inv_cdf(tail)
        stretch = max(1 - acceleration * moved, 1e-9)
        levels.append(NORMAL.cdf(bias + moved / stretch))
    return levels


def bootstrap_difference(
    first: Numbers,
    second: Numbers,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    statistic: Statistic = "mean",
) -> Interval:
    """Give the interval of the paired difference `first - second`; see `bootstrap`.

    Raises:
        ValueError: As `bootstrap`, or the two differ in shape.
    """
    one, other = paired(first, second, (1, 2))
    return bootstrap(
        one - other,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        statistic=statistic,
    )


def finite(name: str, values: Numbers, axes: tuple[int, ...]) -> np.ndarray:
    """Give values as float64, or refuse a number of axes or what is not finite."""
    table = np.asarray(values, np.float64)
    if table.ndim not in axes or not table.size:
        kinds = " or ".join(("", "[n]", "[n, k]")[count] for count in axes)
        raise ValueError(
            f"`{name}` has shape {table.shape}; expected {kinds} with n of at least 1."
        )
    wrong = np.count_nonzero(~np.isfinite(table))
    if wrong:
        raise ValueError(
            f"`{name}` holds {wrong} values that are not finite; expected numbers: "
            "leave such items out, and count them."
        )
    return table


def paired(
    first: Numbers, second: Numbers, axes: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Give both sides as float64, or refuse them as `finite` or by their shapes."""
    one, other = finite("first", first, axes), finite("second", second, axes)
    if one.shape != other.shape:
        raise ValueError(
            f"`second` has shape {other.shape}; expected {one.shape} as `first` has: "
            "the same items in the same order."
        )
    return one, other


def check_resampling(confidence: float, resamples: int) -> None:
    """Refuse settings of resampling that are not possible."""
    if not 0 < confidence < 1:
        raise ValueError(
            f"`confidence`={confidence} is not possible; expected more than 0 and less "
            "than 1, such as 0.95."
        )
    if resamples < 1:
        raise ValueError(f"`resamples`={resamples}; expected 1 or more.")
