"""Boxes where an object may be: windows of many sizes, and boxes around maps."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unlir_jax import maps
from unlir_jax.detection import boxes as box
from unlir_jax.metrics.localization import components
from unlir_jax.types import Saliency

SCALES = (0.25, 0.4, 0.6, 0.85)
RATIOS = (0.5, 1.0, 2.0)
THRESHOLDS = (0.3, 0.5, 0.7)


class Proposals(NamedTuple):
    """Hold boxes of some images in one table.

    Attributes:
        boxes: Float32 `[batch, boxes, 4]`, `x0, y0, x1, y1` in pixels; zeros behind the
            last box of an image.
        exist: Which rows are boxes, bool `[batch, boxes]`.
    """

    boxes: np.ndarray
    exist: np.ndarray


def dense_windows(
    size: tuple[int, int],
    *,
    scales: Sequence[float | int] = SCALES,
    ratios: Sequence[float | int] = RATIOS,
    step: float | int = 0.25,
) -> np.ndarray:
    """Cover an image with windows; the result depends on its size alone.

    A window of scale s and ratio r has the area of s² of the image, and r times the
    width to height of the image, as far as it fits. Windows of one shape have equal
    distances, and reach all four borders.

    Args:
        size: Height and width of the image in pixels.
        scales: Square roots of the share of the image, each in (0, 1].
        ratios: Width to height, as a multiple of that of the image.
        step: Largest distance of two windows, as a share of their side, in (0, 1].

    Returns:
        Float32 `[windows, 4]`, each window once, by scale, ratio, row and column.

    Raises:
        ValueError: A setting out of its range.

    Example:
        >>> from unlir_jax import detection
        >>> detection.dense_windows((8, 8), scales=(0.5,), ratios=(1.0,), step=1.0)
        array([[0., 0., 4., 4.],
               [4., 0., 8., 4.],
               [0., 4., 4., 8.],
               [4., 4., 8., 8.]], dtype=float32)
    """
    if min(size) < 1:
        raise ValueError(f"`size`={size}; expected a height and a width of 1 or more.")
    if not len(scales) or not all(0 < scale <= 1 for scale in scales):
        raise ValueError(f"`scales`={tuple(scales)}; expected some, each in (0, 1].")
    if not len(ratios) or not all(0 < ratio < math.inf for ratio in ratios):
        raise ValueError(f"`ratios`={tuple(ratios)}; expected some, each above 0.")
    if not 0 < step <= 1:
        raise ValueError(f"`step`={step}; expected a share in (0, 1].")
    found = []
    for scale in scales:
        for ratio in ratios:
            tall = size[0] * min(1.0, scale / math.sqrt(ratio))
            wide = size[1] * min(1.0, scale * math.sqrt(ratio))
            top, left = _starts(size[0], tall, step), _starts(size[1], wide, step)
            y, x = np.meshgrid(top, left, indexing="ij")
            shape = [x, y, x + wide, y + tall]
            found.append(np.stack(shape, axis=-1).reshape(-1, 4))
    windows = np.concatenate(found).astype(np.float32)
    windows = np.minimum(windows, np.asarray(size[::-1] * 2, np.float32))
    _, first = np.unique(windows, axis=0, return_index=True)
    return windows[np.sort(first)]


def _starts(side: int, window: float, step: float | int) -> np.ndarray:
    # A window that fits a whole number of times must not get one more by rounding.
    count = math.ceil((side - window) / (step * window) - 1e-9) + 1
    return np.linspace(0, side - window, max(count, 1))


def boxes_of_maps(
    saliency: Saliency,
    size: tuple[int, int],
    *,
    thresholds: Sequence[float | int] = THRESHOLDS,
    most: int = 16,
    least_side: float | int = 2,
) -> Proposals:
    """Draw boxes around what stands out in a map: of a class, or of a part.

    Each map is resized, scaled to [0, 1], and cut at the thresholds. Each connected
    piece above a threshold gives a box, so every peak has boxes of several sizes.

    Args:
        saliency: Raw maps.
        size: Height and width of the image in pixels.
        thresholds: Shares of the range of the map, each in [0, 1).
        most: Number of boxes of a map; the largest ones are kept.
        least_side: Pixels that both sides of a box have at least.

    Returns:
        Boxes by falling area, equal areas by row and column; none for a flat map.

    Raises:
        ValueError: A setting out of its range, or maps that are not finite.
    """
    if not len(thresholds) or not all(0 <= cut < 1 for cut in thresholds):
        raise ValueError(f"`thresholds`={tuple(thresholds)}; expected some in [0, 1).")
    if most < 1:
        raise ValueError(f"`most`={most}; expected 1 or more.")
    if not np.isfinite(np.asarray(saliency)).all():
        raise ValueError("`saliency` holds numbers that are not finite.")
    ready = np.asarray(maps.normalize(maps.resize(saliency, size)))
    table = np.zeros((len(ready), most, 4), np.float32)
    exist = np.zeros((len(ready), most), bool)
    for place, values in enumerate(ready):
        cuts = np.asarray(thresholds, values.dtype)
        pieces = components.boxes_of_cuts(values, cuts, every=True)
        found = np.unique(box.of_pixels(np.concatenate(pieces)), axis=0)
        sides = found[:, 2:] - found[:, :2]
        found = found[(sides >= least_side).all(axis=1)]
        order = np.argsort(-np.asarray(_areas(found)), kind="stable")[:most]
        table[place, : len(order)] = found[order]
        exist[place, : len(order)] = True
    return Proposals(table, exist)


def _areas(found: np.ndarray) -> np.ndarray:
    return np.prod(found[:, 2:] - found[:, :2], axis=1)
