"""Power of the paired test: the p-values that a number of images allows.

With n pairs, a test that flips signs has 2^n outcomes, of which the two most extreme
are always as far from zero as what was found. So no p-value is below 2 / 2^n, nor,
where flips are drawn, below one in the number of draws.
"""

import math
from typing import NamedTuple

from unlir_jax.statistics.intervals import check_resampling
from unlir_jax.statistics.significance import EXACT_FLIPS


class Power(NamedTuple):
    """Say whether a difference can be found among several comparisons.

    Attributes:
        images: Number of pairs of each comparison.
        comparisons: Number of comparisons that Holm's correction allows for.
        smallest: The smallest p-value after the correction, at most 1.
        enough: Whether that is below the level.
        needed: The smallest number of images for which it would be; None where no
            number of images would do, since too few sign flips are drawn.
        resamples: The smallest number of draws for which it would be.
    """

    images: int
    comparisons: int
    smallest: float
    enough: bool
    needed: int | None
    resamples: int


def smallest_p_value(n: int, *, resamples: int = 10_000) -> float:
    """Give the smallest p-value of `paired_permutation`: `2 / 2^n`, two-sided.

    It is that of n differences of one sign. For more than 14 pairs flips are drawn, and
    it is `1 / (1 + resamples)`.

    Args:
        n: Number of pairs.
        resamples: Number of draws where not all flips are counted.

    Raises:
        ValueError: No pair, or no draw.

    Example:
        >>> from unlir_jax.statistics import power
        >>> power.smallest_p_value(3)
        0.25
    """
    check_resampling(0.5, resamples)
    if n < 1:
        raise ValueError(f"`n`={n} pairs; expected 1 or more.")
    return 2 / 2**n if n <= EXACT_FLIPS else 1 / (1 + resamples)


def of_comparisons(
    n: int, comparisons: int, *, level: float = 0.05, resamples: int = 10_000
) -> Power:
    """Tell whether n images can show any of several differences, after Holm's steps.

    Holm multiplies the smallest of m p-values by m.

    Args:
        n: Number of images.
        comparisons: m.
        level: A corrected p-value below it is a difference.
        resamples: Number of draws of the test.

    Raises:
        ValueError: No image, comparison or draw, or a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"`level`={level}; expected between 0 and 1, such as 0.05.")
    if comparisons < 1:
        raise ValueError(f"`comparisons`={comparisons}; expected 1 or more.")

    def corrected(images: int) -> float:
        return comparisons * smallest_p_value(images, resamples=resamples)

    # From there on flips are drawn, and more images change nothing.
    sizes = range(1, EXACT_FLIPS + 2)
    needed = next((images for images in sizes if corrected(images) < level), None)
    smallest = corrected(n)
    return Power(
        n,
        comparisons,
        min(smallest, 1.0),
        smallest < level,
        needed,
        math.floor(comparisons / level),
    )
