"""Boxes: from masks, to masks, and how far they overlap.

A box is `x0, y0, x1, y1` in pixels; both ends belong to it, so that one pixel is a box
with equal ends. A box whose end lies before its start is none: rows of
`[0, 0, -1, -1]` fill up images with fewer boxes than others.
"""

import jax.numpy as jnp
import numpy as np
from jax import core
from jaxtyping import Bool, Integer

from unlir_jax.types import Array, Images

Boxes = Integer[Array, "batch boxes 4"]
Inside = Bool[Array, "batch height width"]
Regions = Inside | Integer[Array, "batch height width"]
"""Where the object is: True; or a mask of classes, in which 0 is not the object, 255 or
a negative number is void, not said and so left out, and anything else is the object."""

NONE = (0, 0, -1, -1)
VOID = 255


def exists(boxes: Integer[Array, "*some 4"]) -> np.ndarray:
    """Tell which boxes are boxes: bool, without the last axis."""
    boxes = np.asarray(boxes)
    return (boxes[..., 2] >= boxes[..., 0]) & (boxes[..., 3] >= boxes[..., 1])


def overlap(
    first: Integer[Array, "ones 4"], second: Integer[Array, "others 4"]
) -> np.ndarray:
    """Divide intersections by unions, in pixels: `[ones, others]` in [0, 1].

    What is no box overlaps nothing.
    """
    one, two = (np.asarray(boxes, np.int64) for boxes in (first, second))
    one, two = one[:, None], two[None]
    low = np.maximum(one[..., :2], two[..., :2])
    high = np.minimum(one[..., 2:], two[..., 2:])
    shared = np.prod(np.maximum(high - low + 1, 0), axis=-1)
    sizes = [np.prod(b[..., 2:] - b[..., :2] + 1, axis=-1) for b in (one, two)]
    union = sizes[0] + sizes[1] - shared
    good = exists(one) & exists(two)
    return np.where(good, shared / np.where(good, union, 1), 0.0)


def fill(boxes: Boxes, size: tuple[int, ...]) -> np.ndarray:
    """Mark the union of each image's boxes: bool `[batch, height, width]`."""
    boxes = np.asarray(boxes)
    rows, columns = (np.arange(side)[None, None] for side in size)
    down = (rows >= boxes[..., 1:2]) & (rows <= boxes[..., 3:4])
    across = (columns >= boxes[..., 0:1]) & (columns <= boxes[..., 2:3])
    inside = down[..., :, None] & across[..., None, :]
    return inside.any(axis=1)


def around(masks: Regions) -> np.ndarray:
    """Draw the smallest box around each mask: int `[batch, 4]`, none if it is empty.

    Void pixels are no part of the object, as in Pascal VOC.
    """
    masks = np.asarray(told(masks)[0])
    found = np.tile(np.asarray(NONE), (len(masks), 1))
    for box, mask in zip(found, masks, strict=True):
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        if rows.size:
            box[:] = columns[0], rows[0], columns[-1], rows[-1]
    return found


def check_boxes(boxes: Boxes, images: Images) -> None:
    """Refuse boxes that do not belong to these images.

    Raises:
        TypeError: The coordinates are not integers.
        ValueError: A wrong shape.
    """
    shape, count = jnp.shape(boxes), jnp.shape(images)[0]
    if len(shape) != 3 or shape[0] != count or shape[2] != 4:
        raise ValueError(
            f"`boxes` has shape {shape}; expected [batch, boxes, 4], that is x0, y0, "
            f"x1, y1 of some boxes for each of the {count} images."
        )
    if not jnp.issubdtype(jnp.result_type(boxes), jnp.integer):
        raise TypeError(
            f"`boxes` are {jnp.result_type(boxes)}; expected integers: pixels, both "
            "ends included."
        )


def told(regions: Regions) -> tuple[Array, Array | None]:
    """Split masks into what is the object and what is void.

    Returns:
        Bool `[batch, height, width]` both; None for the second of booleans, which leave
        nothing out.
    """
    if jnp.result_type(regions) == jnp.bool_:
        return regions, None
    numbers = regions.astype(np.int32)
    void = (numbers == VOID) | (numbers < 0)
    return (numbers != 0) & ~void, void


def check_regions(regions: Regions, images: Images) -> None:
    """Refuse masks of objects that do not belong to these images.

    Raises:
        TypeError: They are neither booleans nor whole numbers.
        ValueError: They do not have the images' size, or 255 is their only object.
    """
    if jnp.shape(regions) != jnp.shape(images)[:3]:
        raise ValueError(
            f"`regions` has shape {jnp.shape(regions)}; expected "
            f"{jnp.shape(images)[:3]}, one mask of the images' size each; boxes.fill "
            "makes masks of boxes."
        )
    kind = jnp.result_type(regions)
    if kind == jnp.bool_:
        return
    if not jnp.issubdtype(kind, jnp.integer):
        raise TypeError(
            f"`regions` are {kind}; expected booleans, True on the object, or whole "
            "numbers: 0 for what is not the object, 255 for void, others the object."
        )
    if isinstance(regions, core.Tracer):
        return
    _check_white(np.asarray(regions))


def _check_white(values: np.ndarray) -> None:
    """Refuse masks of black and white, all of whose objects would be void."""
    numbers = set(np.unique(values).tolist())
    if VOID in numbers and numbers <= {0, VOID}:
        raise ValueError(
            "`regions` holds 0 and 255 only, and 255 means void; expected "
            "`regions == 255` where that is the object, or -1 for void."
        )
