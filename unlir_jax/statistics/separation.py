"""Separation of known from unknown by scores: rank statistics and areas of curves.

Scores are high where an image is of a known class. Equal scores share their rank. Where
two conventions are in use, each has a function of its own.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from unlir_jax.statistics.intervals import Numbers, finite
from unlir_jax.types import Array

Flags = Array | Sequence[bool]
"""Whether each is, `[n]`."""
RATE = 0.95
"""Rate of true positives at which false positives are counted."""


class Curve(NamedTuple):
    """Hold what is above each threshold, from the highest to the lowest.

    Attributes:
        thresholds: Distinct scores, falling, `[n]`.
        positives: Number of positives with at least that score, `[n]`.
        negatives: Number of negatives with at least that score, `[n]`.
    """

    thresholds: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray


def curve(positive: Numbers, negative: Numbers) -> Curve:
    """Count positives and negatives at or above each distinct score.

    Raises:
        ValueError: One side has no score, or one that is not finite.
    """
    one, other = finite("positive", positive, (1,)), finite("negative", negative, (1,))
    thresholds = np.unique(np.concatenate([one, other]))[::-1]

    def reached(scores: np.ndarray) -> np.ndarray:
        return len(scores) - np.searchsorted(np.sort(scores), thresholds, "left")

    return Curve(thresholds, reached(one), reached(other))


def auroc(positive: Numbers, negative: Numbers) -> float:
    """Give the share of pairs in which the positive scores higher; ties are half.

    Args:
        positive: Scores of the positives, `[n]`.
        negative: Scores of the negatives, `[m]`.

    Returns:
        A number in [0, 1]; 0.5 where all scores are equal.

    Raises:
        ValueError: One side has no score, or one that is not finite.

    References:
        Mann and Whitney, *On a test of whether one of two random variables is
        stochastically larger than the other*, 1947.

    Example:
        >>> from unlir_jax.statistics import separation
        >>> separation.auroc([0.9, 0.5], [0.5, 0.1])
        0.875
    """
    one, other = finite("positive", positive, (1,)), finite("negative", negative, (1,))
    ranks = scipy.stats.rankdata(np.concatenate([one, other]))[: len(one)]
    wins = ranks.sum() - len(one) * (len(one) + 1) / 2
    return float(wins / (len(one) * len(other)))


def average_precision(positive: Numbers, negative: Numbers) -> float:
    """Sum precision over the steps of recall, without interpolation.

    Args:
        positive: Scores of the positives, `[n]`.
        negative: Scores of the negatives, `[m]`.

    Returns:
        A number in [0, 1]; the share of positives where all scores are equal.

    Raises:
        ValueError: One side has no score, or one that is not finite.

    Note:
        `precision_area` is another number: of ten equal scores with three positives,
        0.65 instead of 0.3.

    Example:
        >>> from unlir_jax.statistics import separation
        >>> separation.average_precision([1] * 3, [1] * 7)
        0.3
    """
    precision, recall = _precision(curve(positive, negative))
    return float(np.sum(precision * np.diff(recall, prepend=0.0)))


def precision_area(positive: Numbers, negative: Numbers) -> float:
    """Give the area under precision against recall by trapezoids, as OpenOOD does.

    The curve begins at a precision of 1.

    Args:
        positive: Scores of the positives, `[n]`.
        negative: Scores of the negatives, `[m]`.

    Raises:
        ValueError: One side has no score, or one that is not finite.

    References:
        Yang et al., *OpenOOD: Benchmarking Generalized Out-of-Distribution Detection*,
        NeurIPS 2022.

    Example:
        >>> from unlir_jax.statistics import separation
        >>> separation.precision_area([1] * 3, [1] * 7)
        0.65
    """
    precision, recall = _precision(curve(positive, negative))
    return float(np.trapezoid(np.append(1.0, precision), np.append(0.0, recall)))


def false_positive_rate(
    positive: Numbers, negative: Numbers, *, rate: float = RATE
) -> float:
    """Give the share of negatives at the highest threshold that keeps enough positives.

    With known images as positives this is the classical FPR95. OpenOOD takes unknown
    images as positives: `false_positive_rate(-unknown, -known)`.

    Args:
        positive: Scores of the positives, `[n]`.
        negative: Scores of the negatives, `[m]`.
        rate: Share of positives to keep, in (0, 1].

    Returns:
        A number in [0, 1]; 1 where all scores are equal.

    Raises:
        ValueError: One side has no score or one that is not finite, or no such rate.

    Example:
        >>> from unlir_jax.statistics import separation
        >>> separation.false_positive_rate([4, 3, 1], [3, 2], rate=0.6)
        0.5
    """
    _check_rate(rate)
    found = curve(positive, negative)
    needed = _whole(rate * found.positives[-1])
    place = int(np.argmax(found.positives >= needed))
    return float(found.negatives[place] / found.negatives[-1])


def oscr(known: Numbers, right: Flags, unknown: Numbers) -> float:
    """Give the area under correct classification against false positives.

    A known image counts where it scores above the threshold and its class is right.
    The area is that of trapezoids over all thresholds, both ends included.

    Args:
        known: Scores of known images, `[n]`.
        right: Whether each was given its class, `[n]`.
        unknown: Scores of unknown images, `[m]`.

    Returns:
        A number in [0, accuracy].

    Raises:
        ValueError: One side has no score, one that is not finite, or other shapes.

    References:
        Dhamija, Gunther and Boult, *Reducing Network Agnostophobia*, NeurIPS 2018.

    Note:
        Equal scores are one step of the curve. Codes that step through equal scores one
        by one depend on the order of the images.

    Example:
        >>> from unlir_jax.statistics import separation
        >>> separation.oscr([0.9, 0.5], [True, False], [0.5, 0.1])
        0.5
    """
    rates = correct_classification(known, right, unknown)
    return float(np.trapezoid(rates[1], rates[0]))


def correct_classification(
    known: Numbers, right: Flags, unknown: Numbers
) -> tuple[np.ndarray, np.ndarray]:
    """Give false positives and correct classifications over all thresholds.

    Args:
        known: Scores of known images, `[n]`.
        right: Whether each was given its class, `[n]`.
        unknown: Scores of unknown images, `[m]`.

    Returns:
        Rates of false positives and of correct classification, both rising from 0 to 1
        and to the accuracy.

    Raises:
        ValueError: One side has no score, one that is not finite, or other shapes.
    """
    scores, correct = _judged(known, right)
    steps = curve(scores, unknown)
    kept = np.sort(scores[correct])
    hits = len(kept) - np.searchsorted(kept, steps.thresholds, "left")
    false = np.append(0.0, steps.negatives / steps.negatives[-1])
    return false, np.append(0.0, hits / len(scores))


def correct_at(known: Numbers, right: Flags, unknown: Numbers, *, rate: float) -> float:
    """Give the share of known images above a share of the unknown, and right.

    The threshold is the score of the ⌈rate · m⌉-th highest unknown image, and only
    what is above it counts.

    Args:
        known: Scores of known images, `[n]`.
        right: Whether each was given its class, `[n]`.
        unknown: Scores of unknown images, `[m]`.
        rate: Share of unknown images, in (0, 1].

    Raises:
        ValueError: One side has no score, one that is not finite, other shapes, or no
            such rate.

    References:
        Yang et al., *OpenOOD: Benchmarking Generalized Out-of-Distribution Detection*,
        NeurIPS 2022, whose CCR@FPR this is.

    Note:
        0.1 times 30 counts as 3, not as the 3.0000000000000004 that is rounded up to 4.

    Example:
        >>> from unlir_jax.statistics import separation
        >>> separation.correct_at([0.9, 0.5], [True, True], [0.5, 0.1], rate=0.5)
        0.5
    """
    _check_rate(rate)
    scores, correct = _judged(known, right)
    others = np.sort(finite("unknown", unknown, (1,)))[::-1]
    threshold = others[_whole(rate * len(others)) - 1]
    return float(np.mean((scores > threshold) & correct))


def _judged(known: Numbers, right: Flags) -> tuple[np.ndarray, np.ndarray]:
    scores, correct = finite("known", known, (1,)), np.asarray(right)
    if correct.shape != scores.shape or correct.dtype != bool:
        raise ValueError(
            f"`right` is {correct.dtype} of shape {correct.shape}; expected true or "
            f"false of shape {scores.shape}, one for each known image."
        )
    return scores, correct


def _precision(found: Curve) -> tuple[np.ndarray, np.ndarray]:
    precision = found.positives / (found.positives + found.negatives)
    return precision, found.positives / found.positives[-1]


def _whole(count: float) -> int:
    """Round a count up, unless it misses a whole number by rounding alone."""
    return max(math.ceil(count * (1 - 1e-12)), 1)


def _check_rate(rate: float) -> None:
    if not 0 < rate <= 1:
        raise ValueError(f"`rate`={rate}; expected a share in (0, 1], such as {RATE}.")
