"""Intervals of mAP and CorLoc over other draws of test images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unlir_jax import detection
from unlir_jax.detection import matching, precision_curves
from unlir_jax.detection.average_precision import MOST
from unlir_jax.detection.precision_curves import Rule

RESAMPLES, LEVELS = 500, (0.025, 0.975)
OVERLAP = 0.5


class Judged(NamedTuple):
    """Hold what is known of a class, detections by falling score.

    Attributes:
        images: Image of each detection that counts.
        hits: Whether it is right.
        objects: Number of objects of each image.
        right: Whether the best box of each image is right, NaN without object.
    """

    images: np.ndarray
    hits: np.ndarray
    objects: np.ndarray
    right: np.ndarray


def bootstrap(
    found: Sequence[detection.Detections],
    there: Sequence[detection.Objects],
    *,
    classes: int,
    rule: Rule,
    resamples: int = RESAMPLES,
) -> dict[str, list[float]]:
    """Draw test images with replacement, and measure again.

    Args:
        found: What was found in each image.
        there: Its objects.
        classes: Number of classes.
        rule: Rule of average precision.
        resamples: Number of draws.

    Returns:
        `map50` and `corloc`, each the 2.5th and 97.5th percentile. Classes of which a
        draw has no object count in no mean of it.

    References:
        Efron and Tibshirani, *An introduction to the bootstrap*, 1993, Section 13.3.
    """
    each = by_class(found, there, classes, rule)
    random = np.random.default_rng(0)
    measured = []
    # A draw may have no object at all, and is drawn again.
    while len(measured) < resamples and any(own.objects.any() for own in each):
        drawn = random.integers(len(found), size=len(found))
        counts = np.bincount(drawn, minlength=len(found))
        known = [own for own in each if own.objects @ counts]
        if known:
            pairs = [measure(own, counts, rule) for own in known]
            measured.append(np.mean(pairs, axis=0))
    ends = np.quantile(np.asarray(measured), LEVELS, axis=0).T
    return dict(zip(("map50", "corloc"), ends.tolist(), strict=True))


def by_class(
    found: Sequence[detection.Detections],
    there: Sequence[detection.Objects],
    classes: int,
    rule: Rule,
) -> list[Judged]:
    """Judge what was found once, for all draws."""
    given = list(zip(found, there, strict=True))
    right = np.stack(
        [detection.corloc([one], [two], classes=classes) for one, two in given]
    )
    return [
        _of_class(given, label, rule)._replace(right=right[:, label])
        for label in range(classes)
    ]


def _of_class(
    given: Sequence[tuple[detection.Detections, detection.Objects]],
    label: int,
    rule: Rule,
) -> Judged:
    """Match what was found with what is there, image by image."""
    crowds = rule == "coco"
    most = MOST if crowds else None
    images, hits, scores, objects = [], [], [], []
    for place, (one, two) in enumerate(given):
        matched = matching.match(
            [one], [two], label, [OVERLAP], crowds=crowds, most=most
        )
        _, values = matching.best_first(one, label, most)
        counted = matched.counted[0]
        hits.append(matched.hits[0][counted])
        scores.append(values[counted])
        images.append(np.full(int(counted.sum()), place))
        objects.append(matched.objects)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return Judged(
        np.concatenate(images)[order],
        np.concatenate(hits)[order],
        np.asarray(objects),
        np.zeros(0),
    )


def measure(own: Judged, counts: np.ndarray, rule: Rule) -> tuple[float, float]:
    """Give average precision and CorLoc where each image comes so many times."""
    hits = np.repeat(own.hits, counts[own.images])
    precision = precision_curves.area(rule, hits, int(own.objects @ counts))
    known = np.isfinite(own.right)
    right = np.average(own.right[known], weights=counts[known])
    return precision, float(right)
