"""Places of keypoints, and of the best cell of each part."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from unlir_jax.metrics.parts.part_maps import Scores, check_scores, chunks
from unlir_jax.types import Array

Keypoints = Float[Array, "images k 3"]

SIDES = re.compile(r"^(left|right)[ _-]+|[ _-]+(left|right)$", re.IGNORECASE)


class KeypointShare(NamedTuple):
    """Hold which keypoint each part marks, and how often.

    Attributes:
        share: `[parts]` in [0, 1]; its mean is the figure.
        keypoint: Merged name for each part; empty for one whose maps are all flat.
        pictures: `[parts]`, how many images were looked at.
    """

    share: np.ndarray
    keypoint: tuple[str, ...]
    pictures: np.ndarray


class Field(NamedTuple):
    """Hold maps of parts and the keypoints of the same images.

    Attributes:
        scores: `[images, rows, columns, parts]`.
        points: float64 `[images, k, 2]`, x and y.
        visible: bool `[images, k]`, visible and in the image.
        groups: `[k]`, which merged name each keypoint has.
        merged: The merged names.
        size: Side of the image.
    """

    scores: np.ndarray
    points: np.ndarray
    visible: np.ndarray
    groups: np.ndarray
    merged: tuple[str, ...]
    size: int


class Best(NamedTuple):
    """Hold the best cell of each part in each image, all `[images, parts]`.

    Attributes:
        score: Its score.
        cell: Its index, row by row.
        flat: Whether all cells have that score, so that none is best.
    """

    score: np.ndarray
    cell: np.ndarray
    flat: np.ndarray


def merge_sides(names: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Merge left and right by name: `left_eye` and `right_eye` are `eye`.

    Returns:
        The merged names in order of first appearance, and `[k]`, which of them each of
        `names` is.
    """
    bare = [SIDES.sub("", name) for name in names]
    merged = tuple(dict.fromkeys(bare))
    return merged, np.asarray([merged.index(name) for name in bare], np.int64)


def read(
    scores: Scores, keypoints: Keypoints, names: Sequence[str], image_size: int
) -> Field:
    """Check what was given, and find which keypoints are visible in the image.

    Raises:
        ValueError: Shapes that do not fit, no visible keypoint at all, or values that
            are not finite.
        TypeError: `names` is one string.
    """
    scores = check_scores(scores)
    if isinstance(names, str):
        raise TypeError(f"`names`={names!r} is one string; expected a list of names.")
    expected = (len(scores), len(names), 3)
    points = np.asarray(keypoints, np.float64)
    if points.shape != expected:
        raise ValueError(
            f"`keypoints` has shape {points.shape}; expected {expected}: x, y, visible "
            f"of {len(names)} names in {len(scores)} images."
        )
    if image_size < 1:
        raise ValueError(
            f"`image_size`={image_size}; expected the side of the image in pixels."
        )
    said = points[..., 2] > 0
    broken = said & ~np.isfinite(points[..., :2]).all(-1) | np.isnan(points[..., 2])
    if broken.any():
        raise ValueError(
            f"`keypoints` holds {np.count_nonzero(broken)} points that are visible "
            "where x or y is not finite; expected numbers, or 0 for visible."
        )
    inside = ((points[..., :2] >= 0) & (points[..., :2] <= image_size)).all(-1)
    visible = said & inside
    if not visible.any():
        raise ValueError(
            f"`keypoints` has none that is visible between 0 and {image_size} pixels; "
            "expected some to measure parts with."
        )
    merged, groups = merge_sides(names)
    return Field(scores, points[..., :2], visible, groups, merged, image_size)


def discs(keypoints: Keypoints, radius: float, size: int) -> np.ndarray:
    """Tell which pixels `interventions.keypoint_removal` paints.

    Args:
        keypoints: `[images, k, 3]`.
        radius: In pixels; a pixel is in a disc by its centre.
        size: Side of the images.

    Returns:
        bool `[images, size, size]`.
    """
    points = np.asarray(keypoints, np.float64)
    seen = (points[..., 2] > 0) & ((points >= 0) & (points <= size))[..., :2].all(-1)
    pixels = np.arange(size) + 0.5
    covered = np.zeros((len(points), size, size), bool)
    for image, point in zip(*np.nonzero(seen), strict=True):
        x, y = points[image, point, :2]
        covered[image] |= np.hypot(pixels - x, pixels[:, None] - y) <= radius
    return covered


def best(scores: np.ndarray) -> Best:
    """Find the cell where each part scores highest in each image."""
    images, rows, columns, parts = scores.shape
    score = np.empty((images, parts))
    cell = np.empty((images, parts), np.int64)
    flat = np.empty((images, parts), bool)
    for some in chunks(images, rows * columns * parts):
        # With cells last, the maximum is found several times faster.
        cells = scores[some].reshape(-1, rows * columns, parts).transpose(0, 2, 1)
        cells = np.ascontiguousarray(cells)
        cell[some] = cells.argmax(-1)
        score[some] = cells.max(-1)
        flat[some] = score[some] == cells.min(-1)
    return Best(score, cell, flat)


def highest(field: Field, best: Best, top: int) -> np.ndarray:
    """Choose the images in which each part scores highest, `[top or less, parts]`.

    Only those with a visible keypoint; those with a flat map come last.
    """
    if top < 1:
        raise ValueError(f"`top`={top}; expected 1 or more images.")
    usable = np.flatnonzero(field.visible.any(1))
    scores = np.where(best.flat, -np.inf, best.score)[usable]
    return usable[np.argsort(-scores, axis=0, kind="stable")[:top]]


def centres(field: Field, cells: np.ndarray) -> np.ndarray:
    """Give the centre of cells in pixels of the image: `[...]` to `[..., 2]`."""
    rows, columns = field.scores.shape[1:3]
    row, column = np.divmod(cells, columns)
    x = (column + 0.5) * field.size / columns
    y = (row + 0.5) * field.size / rows
    return np.stack([x, y], -1)


def inside(
    field: Field, chosen: np.ndarray, cells: np.ndarray, side: float
) -> tuple[np.ndarray, np.ndarray]:
    """Tell which merged keypoints are in a square round the centre of a cell.

    Args:
        field: Maps and keypoints.
        chosen: `[n, parts]` or `[n, 1]`, indices of images.
        cells: `[n, parts]`, a cell in each.
        side: Side of the square, edges included.

    Returns:
        Whether one is inside, `[n, parts, names]`, and whether it is visible at all, as
        `chosen` with one more axis.
    """
    visible = field.visible[chosen]
    offsets = field.points[chosen] - centres(field, cells)[..., None, :]
    # NaN may stand for points that are not visible.
    with np.errstate(invalid="ignore"):
        within = (np.abs(offsets) <= side / 2).all(-1) & visible
    members = [field.groups == group for group in range(len(field.merged))]
    return (
        np.stack([within[..., some].any(-1) for some in members], -1),
        np.stack([visible[..., some].any(-1) for some in members], -1),
    )


def everything(field: Field) -> Iterator[tuple[np.ndarray, slice]]:
    """Go through all images, some at a time: indices `[n, 1]`, and the slice."""
    images, points = field.visible.shape
    for some in chunks(images, 4 * points * field.scores.shape[-1]):
        yield np.arange(some.start, some.stop)[:, None], some


def length(side: float | None, share: float, image_size: int) -> float:
    """Give the side of a region: as asked for, or a share of the image's."""
    side = share * image_size if side is None else side
    if not side > 0:
        raise ValueError(f"`side`={side}; expected a number of pixels above 0.")
    return side


def most(
    field: Field, counts: np.ndarray, total: np.ndarray, pictures: np.ndarray
) -> KeypointShare:
    """Find the keypoint with the largest share for each part: counts `[parts, names]`.

    Of equal shares the one with more images is taken.
    """
    shares = counts / np.maximum(total, 1)
    largest = shares == shares.max(-1, keepdims=True)
    chosen = np.where(largest, counts, -1).argmax(-1)
    share = np.take_along_axis(shares, chosen[:, None], -1)[:, 0]
    names = tuple(
        field.merged[index] if marks else ""
        for index, marks in zip(chosen, share > 0, strict=True)
    )
    return KeypointShare(share, names, pictures)
