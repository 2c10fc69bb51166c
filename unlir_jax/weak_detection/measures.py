"""Measures on test images: average precisions, and correct localisation."""

from collections.abc import Sequence
from typing import cast, get_args

import numpy as np

from unlir_jax import detection
from unlir_jax.core.document_types import Record
from unlir_jax.data import objects
from unlir_jax.data.objects import ObjectImages
from unlir_jax.detection import precision_curves
from unlir_jax.weak_detection import intervals

AUTO = "auto"
RULES = (AUTO, *get_args(precision_curves.Rule))


def measure(
    test: ObjectImages,
    places: Sequence[int],
    found: Sequence[detection.Detections],
    rule: str = AUTO,
) -> Record:
    """Compare what was found with the objects of test images.

    Args:
        test: Test images.
        places: Place of each image in them.
        found: What was found in each; all boxes that NMS left.
        rule: Rule of average precision, see `detection.average_precision`; "auto": that
            which is usual for the data.

    Returns:
        `test/rule`, `test/map50`, `test/map` (the average over overlaps 0.5, 0.55, …,
        0.95), `test/corloc`, `intervals` (see `intervals.bootstrap`) and `classes` of
        each. A class without objects in the test
        is null, and counts in no average.
    """
    chosen = cast(precision_curves.Rule, test.rule if rule == AUTO else rule)
    hard = test.ignored
    there = [
        detection.Objects(
            boxes, test.labels[place], None if hard is None else hard[place]
        )
        for place, boxes in zip(places, objects.boxes(test, places), strict=True)
    ]
    names = test.images.classes
    given = {"classes": len(names)}
    overlaps = detection.COCO_OVERLAPS
    each = detection.average_precision(
        found, there, overlaps=overlaps, rule=chosen, **given
    )
    right = detection.corloc(found, there, **given)
    measured = {"ap50": each[0], "ap": _mean(each), "corloc": right}
    by_class = {
        name: {
            key: float(values[label]) if np.isfinite(values[label]) else None
            for key, values in measured.items()
        }
        for label, name in enumerate(names)
    }
    return {
        "test/rule": chosen,
        "test/map50": float(np.nanmean(each[0])),
        "test/map": float(np.nanmean(measured["ap"])),
        "test/corloc": float(np.nanmean(right)),
        "test/intervals": intervals.bootstrap(found, there, rule=chosen, **given),
        "test/classes": by_class,
    }


def _mean(each: np.ndarray) -> np.ndarray:
    """Average over overlaps; a class without objects stays NaN."""
    return each.mean(0)
