"""Intervals over two things at once, such as the seeds of trainings and the images."""

from typing import NamedTuple

import numpy as np
import scipy

from unlir_jax.statistics.intervals import (
    Interval,
    Numbers,
    check_resampling,
    finite,
)
from unlir_jax.types import Array


class SignTest(NamedTuple):
    """Hold the outcome of a sign test.

    Attributes:
        positive: Number of differences above 0.
        n: Number of differences that are not 0.
        p_value: Two-sided, in (0, 1]; 1 where nothing is left.
    """

    positive: int
    n: int
    p_value: float


def bootstrap_crossed(
    values: Array,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Give the interval of a mean over a table, by resampling rows and columns.

    Rows are drawn with replacement and, independently, columns; a cell counts as often
    as its row times as its column. Percentiles are taken. With one row, it is the
    percentile interval over columns.

    Args:
        values: `[rows, columns]`; NaN where there is no number.
        confidence: In (0, 1).
        resamples: Number of draws.
        seed: Seed of the resampling.

    Returns:
        The mean of all cells with a number, its interval, and the number of columns.

    Raises:
        ValueError: Another number of axes, no number at all, an infinite one, or an
            impossible setting.

    References:
        Owen, *The Pigeonhole Bootstrap*, Annals of Applied Statistics 2007.

    Note:
        The variance is overstated, by the variance of single cells. Few rows, such as
        two seeds, say little about further ones.

    Example:
        >>> import numpy as np
        >>> found = bootstrap_crossed(np.full((2, 5), 0.5))
        >>> found.mean, found.low, found.high
        (0.5, 0.5, 0.5)
    """
    table = np.asarray(values, np.float64)
    check_resampling(confidence, resamples)
    there = ~np.isnan(table)
    if table.ndim != 2 or not there.any():
        raise ValueError(
            f"`values` has shape {table.shape} and {int(there.sum())} numbers; "
            "expected [rows, columns] with at least one."
        )
    if np.isinf(table).any():
        raise ValueError("`values` holds infinity; expected numbers, or NaN for none.")
    filled = np.where(there, table, 0)
    mean = filled.sum() / there.sum()
    if np.ptp(table[there]) == 0:
        number = float(table[there][0])
        return Interval(number, number, number, table.shape[1])
    random = np.random.default_rng(seed)
    rows, columns = (_counts(random, n, resamples) for n in table.shape)
    sums = np.sum((rows @ filled) * columns, axis=1)
    counts = np.sum((rows @ there) * columns, axis=1)
    # A draw may meet no number; another is not better.
    drawn = sums[counts > 0] / counts[counts > 0]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(mean), float(low), float(high), table.shape[1])


def _counts(random: np.random.Generator, n: int, resamples: int) -> np.ndarray:
    """Say how often each of n is drawn: `[resamples, n]`."""
    return random.multinomial(n, np.full(n, 1 / n), resamples).astype(np.float64)


def sign_test(differences: Numbers) -> SignTest:
    """Test whether differences are as often above 0 as below; zeros are left out.

    Differences are taken to be independent.

    Raises:
        ValueError: No difference, or one that is not finite.

    Example:
        >>> sign_test([0.1, 0.2, 0.1, 0.3, 0.0])
        SignTest(positive=4, n=4, p_value=0.125)
    """
    given = finite("differences", differences, (1,))
    positive, n = int((given > 0).sum()), int((given != 0).sum())
    if not n:
        return SignTest(0, 0, 1.0)
    p_value = scipy.stats.binomtest(positive, n).pvalue
    return SignTest(positive, n, float(p_value))
