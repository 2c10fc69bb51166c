"""Mean intersection over union: of one map against its background, and of classes.

Everingham et al., *The Pascal Visual Object Classes challenge: a retrospective*, IJCV
2015, Section 4.3: the pixels of all images are counted together, void ones left out.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from unlir_jax import split
from unlir_jax.core import choices
from unlir_jax.metrics.localization.boxes import VOID
from unlir_jax.metrics.localization.optimal_threshold import BEST, OPTIMAL
from unlir_jax.metrics.localization.pixels import (
    Counts,
    LocalizationMetric,
    Scaling,
    pixel_average_precision,
)
from unlir_jax.metrics.localization.thresholds import ChosenOn, check_chosen_on
from unlir_jax.metrics.spec import Output
from unlir_jax.types import Array, SplitModel

COUNTS = ("segmented_inside", "segmented_outside")
ClassMaps = Float[Array, "batch classes height width"]
Segments = Integer[Array, "batch height width"]


@BEST._replace(
    title="Mean IoU",
    meaning="How well do map and object overlap, and their backgrounds?",
    contract=OPTIMAL._replace(baseline="background is what the map does not take"),
    source="Everingham et al., IJCV 2015",
    outputs={
        "miou": Output("mIoU", "higher"),
        "class_miou": Output("mIoU of classes", "higher"),
    },
    curves=("mean_iou_curve", *COUNTS),
)
def mean_iou(
    model: SplitModel,
    *,
    thresholds: int = 100,
    scaling: Scaling = "range",
    chosen_on: ChosenOn = "other_half",
) -> LocalizationMetric:
    """Average the IoU of object and background of an image, at every threshold.

    `pooled_mean_iou` gives mIoU, which counts the pixels of all images together, and
    `pooled_class_overlaps` that of several classes.

    Args:
        model: The cut network.
        thresholds: Number of them, at 0, 1 / thresholds, ..., and 1; the map is where
            it is at least as high.
        scaling: As in `pixels.energy_pointing_game`.
        chosen_on: Which images choose the threshold, see `thresholds.at_chosen`.

    Returns:
        A metric `(variables, images, labels, saliency, regions, *, key)` with
        `mean_iou_curve`, `[batch, thresholds + 1]`, NaN for an image without an object;
        and the pixels on and off the object at each threshold, `segmented_inside` and
        `segmented_outside`. Void pixels are left out.
    """
    choices.check("scaling", scaling, Scaling)
    check_chosen_on(chosen_on)
    counting = pixel_average_precision(model, thresholds=thresholds, scaling=scaling)

    @split.guarded(model)
    def score(*arguments: Any, **named: Any) -> dict[str, jax.Array]:
        found = counting(*arguments, **named)
        inside, outside = found["pixels_inside"], found["pixels_outside"]
        one, other = np.asarray(inside), np.asarray(outside)
        curve = np.mean(_overlaps(one, other), axis=0)
        curve = np.where(one[:, :1] > 0, curve, np.nan)
        counts = dict(zip(COUNTS, (inside, outside), strict=True))
        return {"mean_iou_curve": jnp.asarray(curve), **counts}

    return score


def _overlaps(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Give the IoU of object and background, `[2, ..., thresholds]`.

    At the first threshold, which is 0, all pixels are taken. Where there is no
    background, one of which nothing is taken for it is found: 1.
    """
    inside, outside = (np.asarray(each, np.float64) for each in (inside, outside))
    objects, others = inside[..., :1], outside[..., :1]
    taken = np.maximum(objects + outside, 1)
    left = objects - inside + others
    rest = np.where(left > 0, (others - outside) / np.maximum(left, 1), 1.0)
    return np.stack([inside / taken, rest])


def pooled_mean_iou(inside: Counts, outside: Counts, places: Array | int) -> float:
    """Give mIoU of object and background from what `mean_iou` counts.

    Args:
        inside: `segmented_inside` of all images.
        outside: `segmented_outside` of all images.
        places: Threshold at which each image is cut, as a place along its curve.

    Returns:
        In [0, 1], NaN without any pixel of an object.
    """
    rows = np.arange(len(inside))
    where = np.broadcast_to(np.asarray(places), rows.shape)
    pairs = [
        np.asarray([each[:, 0].sum(), each[rows, where].sum()], np.float64)
        for each in (np.asarray(inside), np.asarray(outside))
    ]
    return float(_overlaps(*pairs)[:, 1].mean()) if pairs[0][0] else float("nan")


def pooled_class_overlaps(
    inside: Counts, outside: Counts, places: Array | int, labels: Array, classes: int
) -> "ClassOverlaps":
    """Give mIoU of classes and background, of images with one class each.

    What a map takes is its image's class, as image labels say it.

    Args:
        inside: `segmented_inside` of all images.
        outside: `segmented_outside` of all images.
        places: Threshold at which each image is cut, as a place along its curve.
        labels: The class of each image, in [0, classes).
        classes: Number of classes, without the background.

    Returns:
        What `class_overlaps` gives for background, 0, and each class `c` as `c + 1`.
    """
    rows = np.arange(len(inside))
    where = np.broadcast_to(np.asarray(places), rows.shape)
    one, other = (np.asarray(each, np.float64) for each in (inside, outside))
    taken, more = one[rows, where], other[rows, where]
    own = np.asarray(labels, int) + 1
    both, either = np.zeros((2, classes + 1))
    np.add.at(both, own, taken)
    np.add.at(either, own, one[:, 0] + more)
    both[0] = (other[:, 0] - more).sum()
    either[0] = (other[:, 0] + one[:, 0] - taken).sum()
    return overlaps_of_counts(both, either)


def segments(
    class_maps: ClassMaps, present: Array, *, background: float = 0.3
) -> np.ndarray:
    """Give each pixel the class whose map is highest, or the background.

    Args:
        class_maps: A map in [0, 1] of each class, as large as the images.
        present: Which classes an image has, bool `[batch, classes]`; the others are
            given nowhere.
        background: What the highest map has to exceed, in [0, 1]. Choose it on other
            images.

    Returns:
        Int32 `[batch, height, width]`: 0 for background, class `c` as `c + 1`; of equal
        maps the first class.

    Raises:
        ValueError: Shapes that do not fit, or another threshold.
    """
    maps, known = np.asarray(class_maps), np.asarray(present, bool)
    if maps.ndim != 4 or known.shape != maps.shape[:2]:
        raise ValueError(
            f"`class_maps` has shape {maps.shape} and `present` {known.shape}; "
            "expected [batch, classes, height, width] and [batch, classes]."
        )
    if not 0 <= background <= 1:
        raise ValueError(f"`background`={background}; expected a value in [0, 1].")
    rated = np.where(known[..., None, None], maps, -np.inf)
    return np.where(rated.max(1) > background, rated.argmax(1) + 1, 0).astype(np.int32)


class ClassOverlaps(NamedTuple):
    """Hold how segments overlap.

    Attributes:
        mean: mIoU, the mean of the classes that are anywhere, in [0, 1].
        each: IoU of each class, NaN for one that is neither there nor predicted.
        absent: Number of classes that are left out so.
    """

    mean: float
    each: np.ndarray
    absent: int


def class_overlaps(predicted: Segments, true: Segments, classes: int) -> ClassOverlaps:
    """Measure mIoU of classes, over the pixels of all images.

    Args:
        predicted: A class of each pixel, in [0, classes).
        true: The same; 255 and negative numbers are void, which counts nowhere.
        classes: Number of classes, the background among them.

    Raises:
        ValueError: Shapes that differ, or a class that there is not.

    Example:
        >>> import numpy as np
        >>> from unlir_jax import metrics
        >>> true = np.asarray([[[0, 0, 1, 255]]])
        >>> found = metrics.class_overlaps(np.asarray([[[0, 1, 1, 1]]]), true, 3)
        >>> found.mean, found.absent
        (0.5, 1)
    """
    guess, right = np.asarray(predicted), np.asarray(true)
    if guess.shape != right.shape:
        raise ValueError(
            f"`predicted` has shape {guess.shape}; expected {right.shape}, as `true`."
        )
    known = (right != VOID) & (right >= 0)
    guess, right = guess[known].astype(int), right[known].astype(int)
    for name, values in (("predicted", guess), ("true", right)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(
                f"`{name}` holds {values.min()} to {values.max()}; expected classes in "
                f"[0, {classes}), and for void 255 or less than 0 in `true`."
            )
    counts = np.bincount(classes * right + guess, minlength=classes**2)
    table = counts.reshape((classes, classes))
    both = np.diagonal(table)
    return overlaps_of_counts(both, table.sum(0) + table.sum(1) - both)


def overlaps_of_counts(both: Array, either: Array) -> ClassOverlaps:
    """Divide the pixels that are found and right by those that are found or there.

    Args:
        both: Pixels of each class, `[classes]`.
        either: The others with these, `[classes]`.
    """
    both, either = np.asarray(both), np.asarray(either)
    each = np.where(either > 0, both / np.maximum(either, 1), np.nan)
    there = either > 0
    mean = float(each[there].mean()) if there.any() else float("nan")
    return ClassOverlaps(mean, each, int((~there).sum()))
