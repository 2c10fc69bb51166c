"""Average precision of detected boxes, as Pascal VOC and COCO compute it.

Everything is float64 on the host. A class that has no object has no average precision,
which is NaN, and means leave it out.
"""

from collections.abc import Sequence

import numpy as np

from unlir_jax.core import choices
from unlir_jax.detection import matching, precision_curves
from unlir_jax.detection.matching import Detections, Objects
from unlir_jax.detection.precision_curves import Rule

COCO_OVERLAPS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""Overlaps over which COCO averages."""
MOST = 100


def average_precision(
    detections: Sequence[Detections],
    objects: Sequence[Objects],
    *,
    classes: int,
    overlaps: Sequence[float] = (0.5,),
    rule: Rule = "coco",
) -> np.ndarray:
    """Compute the average precision of each class.

    `coco` takes the mean of the precision at recall 0, 0.01, …, 1. A detection has the
    free object that it overlaps most. Ignored objects are crowds: a detection on one
    does not count, and its overlap is the share of it that lies inside.
    `voc07` takes the mean at recall 0, 0.1, …, 1, and `voc10` the area under the curve.
    A detection has the one object that it overlaps most, and is wrong if that is taken.
    Ignored objects are difficult ones: a detection on one does not count.
    All take for precision the highest one at this recall or above.

    Args:
        detections: What was detected, one entry an image. COCO looks at the 100 boxes
            of highest score of each class and image, VOC at all.
        objects: What is there, in the same order.
        classes: Number of classes.
        overlaps: A detection is right from such an overlap on, each in (0, 1].
        rule: Whose rule to follow.

    Returns:
        Float64 `[overlaps, classes]` in [0, 1], NaN for a class without objects; those
        that are ignored do not count as objects.

    Raises:
        ValueError: Detections and objects that cannot be compared, or wrong settings.

    References:
        Everingham et al., *The Pascal visual object classes challenge: a
        retrospective*, 2015. Lin et al., *Microsoft COCO: common objects in context*,
        2014, and pycocotools.

    Note:
        Recall is compared with 0.1, …, 1 of `voc07` in whole numbers, so that 3 of 10
        objects reach 0.3. In floating point they do not: 3 * 0.1 > 0.3. `coco` compares
        with float64 numbers, as pycocotools does.

    Example:
        >>> import numpy as np
        >>> from unlir_jax import detection
        >>> boxes, labels = np.asarray([[0, 0, 4, 4], [5, 5, 9, 9]]), np.asarray([0, 0])
        >>> found = detection.Detections(boxes, np.asarray([0.9, 0.8]), labels)
        >>> there = detection.Objects(boxes[:1], labels[:1])
        >>> detection.average_precision([found], [there], classes=1).tolist()
        [[1.0]]
    """
    choices.check("rule", rule, Rule)
    wanted = [float(each) for each in overlaps]
    if not wanted or not all(0 < each <= 1 for each in wanted):
        raise ValueError(f"`overlaps`={wanted}; expected some, each in (0, 1].")
    matching.check(detections, objects, classes)
    crowds = rule == "coco"
    found = np.full((len(wanted), classes), np.nan)
    for label in range(classes):
        matched = matching.match(
            detections,
            objects,
            label,
            wanted,
            crowds=crowds,
            most=MOST if crowds else None,
        )
        if not matched.objects:
            continue
        for place, (hits, counted) in enumerate(
            zip(matched.hits, matched.counted, strict=True)
        ):
            found[place, label] = precision_curves.area(
                rule, hits[counted], matched.objects
            )
    return found


def mean_average_precision(
    detections: Sequence[Detections],
    objects: Sequence[Objects],
    *,
    classes: int,
    overlaps: Sequence[float] = (0.5,),
    rule: Rule = "coco",
) -> float:
    """Average over classes and overlaps (mAP).

    Args:
        detections: See `average_precision`, as for what follows.
        objects: Objects of the same images.
        classes: Number of classes.
        overlaps: `(0.5,)` for mAP@.5, `COCO_OVERLAPS` for the mean from .5 to .95.
        rule: Whose rule to follow.

    Returns:
        The mean over classes that have objects, in [0, 1].

    Raises:
        ValueError: As `average_precision`, or no class has an object.
    """
    table = average_precision(
        detections, objects, classes=classes, overlaps=overlaps, rule=rule
    )
    if np.isnan(table).all():
        raise ValueError(
            "`objects` holds no object that is not ignored; expected at least one."
        )
    return float(np.nanmean(table))
