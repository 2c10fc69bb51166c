"""Detected boxes matched with objects, by the rules of Pascal VOC and of COCO."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer, Num

from unlir_jax.detection import boxes as box
from unlir_jax.types import Array


class Detections(NamedTuple):
    """Hold what was detected in one image.

    Attributes:
        boxes: `x0, y0, x1, y1` in pixels, see `detection.boxes`.
        scores: One number a box, higher where an object is likelier.
        labels: The class of each box.
    """

    boxes: Num[Array, "boxes 4"]
    scores: Float[Array, " boxes"]
    labels: Integer[Array, " boxes"]


class Objects(NamedTuple):
    """Hold the objects of one image.

    Attributes:
        boxes: `x0, y0, x1, y1` in pixels, see `detection.boxes`.
        labels: The class of each object.
        ignored: Objects that need not be found: difficult ones of VOC, crowds of COCO.
            None if there are none.
    """

    boxes: Num[Array, "boxes 4"]
    labels: Integer[Array, " boxes"]
    ignored: Bool[Array, " boxes"] | None = None


class Matched(NamedTuple):
    """Hold the detections of one class that count, over all images.

    Attributes:
        hits: Whether each is right, by falling score, bool `[overlaps, detections]`.
        counted: Whether each counts; one on an ignored object does not.
        objects: Number of objects that should be found.
    """

    hits: np.ndarray
    counted: np.ndarray
    objects: int


def match(
    detections: Sequence[Detections],
    objects: Sequence[Objects],
    label: int,
    limits: Sequence[float],
    *,
    crowds: bool,
    most: int | None,
) -> Matched:
    """Match the detections of a class with its objects, image by image.

    Args:
        detections: What was detected, one entry an image.
        objects: What is there, in the same order.
        label: The class.
        limits: Overlaps from which a detection is right.
        crowds: Whether to match as COCO does, see `match_coco`, or as VOC.
        most: Number of detections of an image that count, the highest scores first.

    Returns:
        All detections in the order of their scores; equal ones in that of the images.
    """
    scores: list[np.ndarray] = []
    hits: list[np.ndarray] = []
    counted: list[np.ndarray] = []
    count = 0
    for found, there in zip(detections, objects, strict=True):
        own = np.asarray(there.labels) == label
        ignored = ignored_of(there)[own]
        count += int(np.count_nonzero(~ignored))
        boxes, values = best_first(found, label, most)
        table = overlap(boxes, np.asarray(there.boxes)[own], ignored & crowds)
        rule = match_coco if crowds else match_voc
        pairs = [rule(table, ignored, limit) for limit in limits]
        scores.append(values)
        hits.append(np.stack([hit for hit, _ in pairs]))
        counted.append(np.stack([counts for _, counts in pairs]))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return Matched(
        np.concatenate(hits, axis=1)[:, order],
        np.concatenate(counted, axis=1)[:, order],
        count,
    )


def match_coco(
    overlaps: np.ndarray, ignored: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Give each detection the free object that it overlaps most.

    Ignored objects come last and take any number of detections. Of equal overlaps the
    last object is taken.

    Args:
        overlaps: `[detections, objects]`, detections by falling score.
        ignored: Which objects need not be found.
        limit: Least overlap.

    Returns:
        Which detections are right, and which count.
    """
    hits = np.zeros(len(overlaps), bool)
    counted = np.ones(len(overlaps), bool)
    free = ~ignored
    limit = min(limit, 1 - 1e-10)
    for place, row in enumerate(overlaps):
        near = np.flatnonzero(free & (row >= limit))
        if near.size:
            best = near[len(near) - 1 - np.argmax(row[near][::-1])]
            hits[place], free[best] = True, False
        elif (ignored & (row >= limit)).any():
            counted[place] = False
    return hits, counted


def match_voc(
    overlaps: np.ndarray, ignored: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Compare each detection with the one object that it overlaps most.

    If an earlier detection has that object, this one is wrong. Of equal overlaps the
    first object is taken.

    Args:
        overlaps: `[detections, objects]`, detections by falling score.
        ignored: Which objects need not be found.
        limit: Least overlap.

    Returns:
        Which detections are right, and which count.
    """
    hits = np.zeros(len(overlaps), bool)
    counted = np.ones(len(overlaps), bool)
    free = np.ones(len(ignored), bool)
    for place, row in enumerate(overlaps if len(ignored) else ()):
        best = np.argmax(row)
        if row[best] < limit:
            continue
        if ignored[best]:
            counted[place] = False
        else:
            hits[place], free[best] = free[best], False
    return hits, counted


def best_first(
    found: Detections, label: int, most: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Give boxes and scores of a class by falling score, equal ones as they come."""
    own = np.asarray(found.labels) == label
    boxes, scores = np.asarray(found.boxes)[own], np.asarray(found.scores)[own]
    order = np.argsort(-scores, kind="stable")[:most]
    return boxes[order], scores[order]


def ignored_of(there: Objects) -> np.ndarray:
    """Say which objects need not be found."""
    if there.ignored is None:
        return np.zeros(len(there.labels), bool)
    return np.asarray(there.ignored, bool)


def overlap(
    first: np.ndarray, second: np.ndarray, crowd: np.ndarray | None = None
) -> np.ndarray:
    """Divide intersections by unions in float64, `[ones, others]`.

    Args:
        first: Boxes.
        second: Other boxes.
        crowd: Which of the others are crowds: their intersections are divided by the
            area of the first box.
    """
    one, two = (np.asarray(each, np.float64) for each in (first, second))
    low = np.maximum(one[:, None, :2], two[None, :, :2])
    high = np.minimum(one[:, None, 2:], two[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    own, other = (np.prod(each[:, 2:] - each[:, :2], axis=-1) for each in (one, two))
    union = own[:, None] + other[None] - shared
    if crowd is not None:
        union = np.where(crowd[None], own[:, None], union)
    return np.where(shared > 0, shared / np.where(union > 0, union, 1), 0.0)


def check(
    detections: Sequence[Detections], objects: Sequence[Objects], classes: int
) -> None:
    """Refuse detections and objects that cannot be compared.

    Raises:
        ValueError: Numbers of images, shapes, classes or scores that make no sense.
    """
    if classes < 1:
        raise ValueError(f"`classes`={classes}; expected 1 or more.")
    if len(detections) != len(objects) or not len(objects):
        raise ValueError(
            f"`detections` are of {len(detections)} images and `objects` of "
            f"{len(objects)}; expected one entry of both for each image."
        )
    for name, images in (("detections", detections), ("objects", objects)):
        for place, image in enumerate(images):
            where = f"{name}[{place}]"
            box.check_boxes(np.asarray(image.boxes), f"{where}.boxes")
            lengths = {len(part) for part in image if part is not None}
            if len(lengths) > 1:
                raise ValueError(
                    f"`{where}` has parts of lengths {sorted(lengths)}; expected one "
                    "entry a box."
                )
            labels = np.asarray(image.labels)
            if labels.size and not 0 <= labels.min() <= labels.max() < classes:
                raise ValueError(
                    f"`{where}.labels` has labels from {labels.min()} to "
                    f"{labels.max()}; expected 0 to {classes - 1}."
                )
    if not all(np.isfinite(np.asarray(each.scores)).all() for each in detections):
        raise ValueError(
            "`detections` have scores that are not finite; expected numbers."
        )
