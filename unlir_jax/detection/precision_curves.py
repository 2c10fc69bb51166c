"""Precision over recall, and the areas that Pascal VOC and COCO take under it."""

from typing import Literal, NamedTuple

import numpy as np

Rule = Literal["voc07", "voc10", "coco"]
RECALLS = np.linspace(0, 1, 101)
"""Thresholds of COCO in float64; in float32 some recalls fall on the other side."""


class Curve(NamedTuple):
    """Hold precision and recall after each detection that counts.

    Attributes:
        precision: Share of right detections so far, `[detections]`.
        hits: Number of objects found so far, `[detections]`.
        objects: Number of objects.
    """

    precision: np.ndarray
    hits: np.ndarray
    objects: int


def curve(hits: np.ndarray, objects: int) -> Curve:
    """Count right detections after each one, and divide by the number of both."""
    right = np.cumsum(hits)
    return Curve(right / np.arange(1, len(hits) + 1), right, objects)


def envelope(precision: np.ndarray) -> np.ndarray:
    """Give the highest precision from each place on."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def _eleven(points: Curve) -> float:
    best = envelope(points.precision)
    # The least number of hits with a recall of k / 10.
    needed = -(-np.arange(11) * points.objects // 10)
    return float(_at(best, np.searchsorted(points.hits, needed)).mean())


def _hundred(points: Curve) -> float:
    best = envelope(points.precision)
    recall = points.hits / points.objects
    return float(_at(best, np.searchsorted(recall, RECALLS)).mean())


def _area(points: Curve) -> float:
    gains = np.diff(points.hits, prepend=0)
    return float((envelope(points.precision) * gains).sum() / points.objects)


def _at(precision: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Read at places; 0 behind the last one."""
    return np.concatenate([precision, [0.0]])[places]


AREAS = {"voc07": _eleven, "voc10": _area, "coco": _hundred}


def area(rule: Rule, hits: np.ndarray, objects: int) -> float:
    """Compute the average precision of one class.

    Args:
        rule: See `average_precision`.
        hits: Whether each detection that counts is right, by falling score.
        objects: Number of objects, at least 1.
    """
    return AREAS[rule](curve(hits, objects))
