"""Segments of several classes, from a map for each class that an image has."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from unlir_jax.core import choices
from unlir_jax.metrics.localization.boxes import VOID
from unlir_jax.metrics.localization.mean_iou import Segments, overlaps_of_counts
from unlir_jax.metrics.localization.pixels import Scaling, scaled
from unlir_jax.types import Array, Explainer, Images, RandomKey, Variables


class Highest(NamedTuple):
    """Hold the highest of the maps of an image's classes.

    Attributes:
        values: `[batch, height, width]` in [0, 1]; -1 for an image without a class.
        classes: The class of that map, `[batch, height, width]`; of equal maps the
            first class.
    """

    values: np.ndarray
    classes: np.ndarray

    def segments(self, background: float) -> np.ndarray:
        """Give int32 0 where no map exceeds `background`, else the class + 1.

        Raises:
            ValueError: `background` is not in [0, 1].
        """
        _check_background(background)
        above = self.values > background
        return np.where(above, self.classes + 1, 0).astype(np.int32)


def segmenter(
    explain: Explainer, *, background: float = 0.3, scaling: Scaling = "range"
) -> Callable[..., np.ndarray]:
    """Make a function from images and the classes that they have to segments.

    Args:
        explain: Any explainer, also a refined one.
        background: What the highest map has to exceed, in [0, 1]. Choose it on other
            images, see `best_background`.
        scaling: As in `pixels.energy_pointing_game`; every map is scaled on its own.

    Returns:
        `(variables, images, present, *, key) -> segments`, see `highest_classes` and
        `Highest.segments`.

    Raises:
        ValueError: A setting out of its range.
    """
    choices.check("scaling", scaling, Scaling)
    _check_background(background)

    def segment(
        variables: Variables,
        images: Images,
        present: Array,
        *,
        key: RandomKey | None = None,
    ) -> np.ndarray:
        found = highest_classes(
            explain, variables, images, present, scaling=scaling, key=key
        )
        return found.segments(background)

    return segment


def highest_classes(
    explain: Explainer,
    variables: Variables,
    images: Images,
    present: Array,
    *,
    scaling: Scaling = "range",
    key: RandomKey | None = None,
) -> Highest:
    """Explain each class that an image has, and find the highest map of each pixel.

    A batch is explained as often as the image with the most classes has some.

    Args:
        explain: Any explainer.
        variables: Variables of its network.
        images: `[batch, height, width, 3]` in [0, 1].
        present: Which classes each image has, bool `[batch, classes]`.
        scaling: As in `pixels.energy_pointing_game`.
        key: Random key, of explainers that need one.

    Raises:
        ValueError: `present` is of another number of images.
    """
    known = np.asarray(present, bool)
    if known.ndim != 2 or len(known) != len(images):
        raise ValueError(
            f"`present` has shape {known.shape}; expected [{len(images)}, classes], a "
            "row for each image."
        )
    size = tuple(images.shape[1:3])
    values = np.full((len(known), *size), -1, np.float32)
    classes = np.zeros(values.shape, np.int32)
    # Classes of an image in front, in rising order.
    order = np.argsort(~known, axis=1, kind="stable")
    for place in range(known.sum(1).max(initial=0)):
        labels = order[:, place].astype(np.int32)
        own = None if key is None else jax.random.fold_in(key, place)
        saliency = explain(variables, images, labels, key=own)
        maps = np.asarray(scaled(saliency, size, scaling))
        there = known[np.arange(len(known)), labels][:, None, None]
        higher = there & (maps > values)
        values = np.where(higher, maps, values)
        classes = np.where(higher, labels[:, None, None], classes)
    return Highest(values, classes)


def class_counts(
    found: Highest, true: Segments, classes: int, *, thresholds: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels of each class in each image, at every background.

    Args:
        found: What `highest_classes` gives.
        true: Masks: 0 for background, class `c` as `c + 1`; 255 and negative numbers
            are void, which counts nowhere.
        classes: Number of classes, the background among them.
        thresholds: Number of backgrounds, at 0, 1 / thresholds, ….

    Returns:
        Pixels that are found and right, and pixels that are found or there, int64
        `[batch, thresholds, classes]`. Added over images and divided, they are the IoU
        of `class_overlaps`.

    Raises:
        ValueError: No threshold, shapes that differ, or a class that there is not.
    """
    right = np.asarray(true)
    _check_counted(found, right, classes, thresholds)
    batch, known = len(right), (right != VOID) & (right >= 0)
    tried = (np.arange(thresholds) / thresholds).astype(found.values.dtype)
    # Above so many backgrounds lies the map.
    above = np.searchsorted(tried, found.values, side="left")
    shape = (batch, thresholds + 1, classes)
    rows = np.broadcast_to(np.arange(batch)[:, None, None], right.shape)

    def counted(where: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Count pixels whose map lies above each background."""
        places = (rows[where], above[where], which[where])
        flat = np.ravel_multi_index(places, shape)
        table = np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)
        return table[:, ::-1].cumsum(1)[:, ::-1][:, 1:]

    guess = found.classes + 1
    there = counted(known, right * 0)[:, :, :1]
    pixels = np.stack([(known & (right == n)).sum((1, 2)) for n in range(classes)], -1)
    both, taken = counted(known & (guess == right), right), counted(known, guess)
    taken_ground = counted(known & (right == 0), right)[:, :, 0]
    both[:, :, 0] = pixels[:, None, 0] - taken_ground
    taken[:, :, 0] = known.sum((1, 2))[:, None] - there[:, :, 0]
    return both, taken + pixels[:, None] - both


def _check_counted(
    found: Highest, right: np.ndarray, classes: int, thresholds: int
) -> None:
    if thresholds < 1:
        raise ValueError(f"`thresholds`={thresholds}; expected 1 or more.")
    if right.shape != found.values.shape:
        raise ValueError(
            f"`true` has shape {right.shape}; expected {found.values.shape}, as "
            "`found`."
        )
    known = right[right != VOID]
    most = max(int(known.max(initial=0)), int(found.classes.max(initial=0)) + 1)
    if most >= classes:
        raise ValueError(
            f"Pixels have the class {most}; expected classes in [0, {classes}), and "
            "for void 255 or less than 0."
        )


def best_background(
    found: Highest, true: Segments, classes: int, *, thresholds: int = 100
) -> float:
    """Find the background with the highest mIoU on some images.

    Args:
        found: What `highest_classes` gives for images that are not evaluated.
        true: Their masks: 0 for background, class `c` as `c + 1`, 255 for void.
        classes: Number of classes, the background among them.
        thresholds: Number of them, at 0, 1 / thresholds, ….

    Returns:
        The lowest of equally good ones, in [0, 1).

    Raises:
        ValueError: No threshold, or no pixel that is not void.
    """
    counts = class_counts(found, true, classes, thresholds=thresholds)
    both, either = (each.sum(0) for each in counts)
    means = [overlaps_of_counts(*pair).mean for pair in zip(both, either, strict=True)]
    if np.isnan(means).any():
        raise ValueError(
            "`true` is void throughout; expected pixels of classes or background."
        )
    return int(np.argmax(means)) / thresholds


def _check_background(background: float) -> None:
    if not 0 <= background <= 1:
        raise ValueError(f"`background`={background}; expected a value in [0, 1].")
