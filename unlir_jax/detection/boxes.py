"""Boxes with edges between pixels: overlaps, and boxes of whole pixels.

A box is `x0, y0, x1, y1` in pixels of the image. Its edges are lines: the whole image
is `0, 0, width, height`, and a box of equal ends has no area. Boxes of
`metrics.localization.boxes` and of Pascal VOC name the last pixel inside instead;
`of_pixels` adds the one pixel that they lack.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import core
from jaxtyping import Num

from unlir_jax.types import Array

Boxes = Num[Array, "boxes 4"]


def of_pixels(boxes: Num[Array, "*some 4"]) -> np.ndarray:
    """Turn boxes that name their last pixels into boxes with edges.

    Args:
        boxes: First and last column and row, `x0, y0, x1, y1`, from 0 on.

    Returns:
        The same shape and kind of number; a row that is no box, such as
        `[0, 0, -1, -1]`, gets no area.

    Example:
        >>> import numpy as np
        >>> from unlir_jax import detection
        >>> detection.of_pixels(np.asarray([[0, 0, 9, 4]])).tolist()
        [[0, 0, 10, 5]]
    """
    boxes = np.asarray(boxes)
    ends = np.maximum(boxes[..., 2:] + 1, boxes[..., :2])
    return np.concatenate([boxes[..., :2], ends], axis=-1)


def areas(boxes: Num[Array, "*some 4"]) -> jax.Array:
    """Multiply width and height: `[...]`, 0 for a box whose ends are out of order."""
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def shared_areas(
    first: Num[Array, "ones 4"], second: Num[Array, "others 4"]
) -> jax.Array:
    """Give the area of each intersection, `[ones, others]`."""
    low = jnp.maximum(first[:, None, :2], second[None, :, :2])
    high = jnp.minimum(first[:, None, 2:], second[None, :, 2:])
    return areas(jnp.concatenate([low, high], axis=-1))


def overlaps(first: Num[Array, "ones 4"], second: Num[Array, "others 4"]) -> jax.Array:
    """Divide intersections by unions (IoU).

    Args:
        first: Some boxes.
        second: Other boxes.

    Returns:
        `[ones, others]` in [0, 1]; 0 where both boxes have no area.

    Example:
        >>> import numpy as np
        >>> from unlir_jax import detection
        >>> boxes = np.asarray([[0.0, 0, 2, 2], [1, 0, 3, 2]])
        >>> detection.overlaps(boxes[:1], boxes).round(3).tolist()
        [[1.0, 0.3330000042915344]]
    """
    first, second = jnp.asarray(first), jnp.asarray(second)
    shared = shared_areas(first, second)
    union = areas(first)[:, None] + areas(second)[None] - shared
    return jnp.where(union > 0, shared / jnp.where(union > 0, union, 1), 0.0)


def check_boxes(boxes: Array, name: str = "boxes") -> None:
    """Refuse what is no table of boxes.

    Args:
        boxes: Anything with a shape.
        name: Name of the argument.

    Raises:
        ValueError: A wrong shape, or where it can be seen, a number that is not finite
            or ends out of order.
    """
    shape = jnp.shape(boxes)
    if len(shape) != 2 or shape[1] != 4:
        raise ValueError(
            f"`{name}` has shape {shape}; expected [boxes, 4], that is x0, y0, x1, y1."
        )
    if isinstance(boxes, core.Tracer):
        return
    table = np.asarray(boxes)
    if not np.isfinite(table).all():
        raise ValueError(f"`{name}` holds numbers that are not finite; expected edges.")
    wrong = np.count_nonzero((table[:, 2:] < table[:, :2]).any(axis=1))
    if wrong:
        raise ValueError(
            f"`{name}` holds {wrong} boxes that end before they begin; expected x0, "
            "y0, x1, y1, not x, y, width, height."
        )
