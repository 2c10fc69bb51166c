"""Measures of how well scores tell known from unknown images, all by their names."""

from collections.abc import Callable, Mapping

import numpy as np

from unlir_jax.statistics import separation

Measure = Callable[[np.ndarray, np.ndarray, np.ndarray], float]

MEASURES: Mapping[str, tuple[str, Measure]] = {
    "auroc": ("AUROC", lambda known, right, unknown: separation.auroc(known, unknown)),
    "fpr95": (
        "FPR95, known as positive",
        lambda known, right, unknown: separation.false_positive_rate(known, unknown),
    ),
    "fpr95_openood": (
        "FPR95, unknown as positive",
        lambda known, right, unknown: separation.false_positive_rate(-unknown, -known),
    ),
    "aupr_in": (
        "Average precision of known",
        lambda known, right, unknown: separation.average_precision(known, unknown),
    ),
    "aupr_out": (
        "Average precision of unknown",
        lambda known, right, unknown: separation.average_precision(-unknown, -known),
    ),
    "aupr_in_trapezoid": (
        "Area under precision of known",
        lambda known, right, unknown: separation.precision_area(known, unknown),
    ),
    "aupr_out_trapezoid": (
        "Area under precision of unknown",
        lambda known, right, unknown: separation.precision_area(-unknown, -known),
    ),
    "oscr": (
        "OSCR",
        lambda known, right, unknown: separation.oscr(known, right, unknown),
    ),
    "ccr_at_fpr10": (
        "Known and right at 10 % of unknown",
        lambda known, right, unknown: separation.correct_at(
            known, right, unknown, rate=0.1
        ),
    ),
}
"""Titles and functions of `(known, right, unknown)`; every value is in [0, 1]."""

LOWER = ("fpr95", "fpr95_openood")
"""Measures of which less is better."""


def measure(
    scores: np.ndarray,
    is_known: np.ndarray,
    right: np.ndarray,
    among: np.ndarray | None = None,
) -> dict[str, float]:
    """Measure a score on known and unknown images.

    Args:
        scores: `[images]`, high where known.
        is_known: Whether each is of a known class.
        right: Whether each known image was given its class.
        among: Which unknown images count; all by default.

    Raises:
        ValueError: One side has no image.
    """
    unknown = ~is_known if among is None else ~is_known & among
    return compare(scores[is_known], right[is_known], scores[unknown])


def compare(
    known: np.ndarray, right: np.ndarray, unknown: np.ndarray
) -> dict[str, float]:
    """Measure a score by its values on known and on unknown images.

    Args:
        known: Scores of known images, `[n]`.
        right: Whether each was given its class, `[n]`.
        unknown: Scores of unknown images, `[m]`.

    Raises:
        ValueError: One side has no image.
    """
    return {name: own(known, right, unknown) for name, (_, own) in MEASURES.items()}
