"""Connected parts of a binary image, for all thresholds of a map.

What touches only at corners is connected by 8 neighbours, and not by 4.
"""

from typing import Literal, cast

import numpy as np
from jaxtyping import Bool, Float

from unlir_jax.types import Array

Connectivity = Literal[4, 8]

STRUCTURES = {
    4: np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool),
    8: np.ones((3, 3), bool),
}
# Number of binary images that are held at once.
HELD = 32


def largest(
    mask: Bool[Array, "height width"], connectivity: Connectivity
) -> np.ndarray:
    """Keep the part with most pixels, the first in row-major order of equal ones.

    Returns:
        Bool `[height, width]`; nothing where there is nothing.
    """
    labels, _ = _label(np.asarray(mask, bool), STRUCTURES[connectivity])
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (labels == sizes.argmax()) & (labels > 0)


def boxes_of_parts(
    mask: Bool[Array, "height width"], connectivity: Connectivity
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a box around each part of a mask, in row-major order of their first pixels.

    Returns:
        Int `[parts, 4]`, `x0, y0, x1, y1` with both ends, and their numbers of pixels.
    """
    labels, count = _label(np.asarray(mask, bool)[None], _stacked(connectivity))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return _boxes(labels)[1], sizes


def boxes_of_cuts(
    values: Float[Array, "height width"] | np.ndarray,
    cuts: Float[Array, " cuts"] | np.ndarray,
    *,
    every: bool,
) -> list[np.ndarray]:
    """Draw boxes around what lies above each cut.

    Args:
        values: A map.
        cuts: What lies strictly above a cut is looked at.
        every: Whether all contours count, also around holes, or the one that
            encloses the largest area alone.

    Returns:
        For each cut int `[boxes, 4]`, `x0, y0, x1, y1` with both ends; `[0, 4]` where
        nothing lies above it.
    """
    # Cuts between the same two values give the same image, which is looked at once.
    above = values.size - np.searchsorted(np.sort(values, axis=None), cuts, "right")
    _, first, which = np.unique(above, return_index=True, return_inverse=True)
    found: list[np.ndarray] = []
    for start in range(0, len(first), HELD):
        chosen = np.asarray(cuts)[first[start : start + HELD]]
        stack = np.asarray(values)[None] > chosen[:, None, None]
        found += _every(stack) if every else _largest(stack)
    return [found[index] for index in which]


def _label(pictures: np.ndarray, structure: np.ndarray) -> tuple[np.ndarray, int]:
    """Number connected parts from 1 on: the numbers, and how many there are."""
    from scipy import ndimage  # Few need it, and it takes long to import.

    return cast(tuple[np.ndarray, int], ndimage.label(pictures, structure))


def _stacked(connectivity: Connectivity) -> np.ndarray:
    """Connect neighbours within an image, never across two images."""
    structure = np.zeros((3, 3, 3), bool)
    structure[1] = STRUCTURES[connectivity]
    return structure


def _every(stack: np.ndarray) -> list[np.ndarray]:
    labels, _ = _label(stack, _stacked(8))
    picture, boxes = _boxes(labels)
    # A hole's contour runs on the pixels around it.
    holes, _ = _label(_enclosed(stack), _stacked(4))
    hole_picture, hole_boxes = _boxes(holes)
    picture = np.concatenate([picture, hole_picture])
    boxes = np.concatenate([boxes, hole_boxes + np.asarray([-1, -1, 1, 1])])
    return [boxes[picture == index] for index in range(len(stack))]


def _largest(stack: np.ndarray) -> list[np.ndarray]:
    """Choose by the area of the polygon through the centres of the border's pixels.

    Inside it lie the unit squares between four pixels of the filled part and the
    triangles between three.
    """
    labels, count = _label(stack | _enclosed(stack), _stacked(8))
    corners = np.stack(
        [
            labels[:, y : y - 1 or None, x : x - 1 or None]
            for y in (0, 1)
            for x in (0, 1)
        ]
    )
    pixels = np.count_nonzero(corners, axis=0)
    areas = np.bincount(
        corners.max(0).ravel(), np.maximum(pixels - 2, 0).ravel(), minlength=count + 1
    )
    picture, boxes = _boxes(labels)
    found = []
    for index in range(len(stack)):
        own = np.flatnonzero(picture == index)
        # Of equal areas that whose first pixel comes last, as OpenCV lists them.
        best = own[len(own) - 1 - areas[1 + own][::-1].argmax()] if own.size else own
        found.append(boxes[best].reshape((-1, 4)))
    return found


def _enclosed(stack: np.ndarray) -> np.ndarray:
    """Mark the holes: empty pixels without a way of 4 neighbours to the outside."""
    outside = np.pad(~stack, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    labels, _ = _label(outside, _stacked(4))
    border = labels[:, :1, :1]
    return (outside & (labels != border))[:, 1:-1, 1:-1]


def _boxes(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give for each label the image that it is in and its box."""
    from scipy import ndimage

    slices = ndimage.find_objects(labels)
    picture = np.asarray([each[0].start for each in slices], int)
    boxes = [(x.start, y.start, x.stop - 1, y.stop - 1) for _, y, x in slices]
    return picture, np.asarray(boxes, int).reshape((-1, 4))
