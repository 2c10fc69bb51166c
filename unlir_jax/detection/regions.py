"""Features of regions: exact means of feature maps over boxes."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Num

from unlir_jax.detection import boxes as box
from unlir_jax.types import Array


def region_features(
    maps: Float[Array, "rows columns filters"],
    boxes: Num[Array, "boxes 4"],
    size: tuple[int, int],
    *,
    bins: int = 1,
) -> jax.Array:
    """Average maps over boxes.

    A map is taken for constant within each of its cells, which tile the image. The mean
    over a box weighs each cell by the area that both share. It is exact at any edge,
    has a derivative by maps and boxes, and is one matrix product.

    Args:
        maps: Feature maps of one image.
        boxes: `x0, y0, x1, y1` in pixels; what is outside of the image does not count.
        size: Height and width of the image in pixels.
        bins: Number of rows and of columns that each box is divided into.

    Returns:
        `[boxes, bins, bins, filters]`. A bin without area in the image gives zeros.

    Raises:
        ValueError: Wrong boxes, or a size or a number of bins below 1.

    References:
        Girshick, *Fast R-CNN*, 2015, Section 2.1, with an exact mean in place of a
        maximum over rounded cells.

    Example:
        >>> import numpy as np
        >>> from unlir_jax import detection
        >>> maps = np.asarray([[[0.0], [8.0]]], np.float32)
        >>> box = np.asarray([[0.0, 0, 3, 2]])
        >>> detection.region_features(maps, box, (2, 4)).squeeze().round(3).tolist()
        2.6670000553131104
    """
    box.check_boxes(boxes)
    if min(*size, bins) < 1:
        raise ValueError(f"`size`={size} and `bins`={bins}; expected 1 or more.")
    maps, boxes = jnp.asarray(maps), jnp.asarray(boxes)
    rows, columns, filters = maps.shape
    down = _shares(boxes[:, 1], boxes[:, 3], rows, size[0], bins, maps.dtype)
    across = _shares(boxes[:, 0], boxes[:, 2], columns, size[1], bins, maps.dtype)
    weights = down[:, :, None, :, None] * across[:, None, :, None, :]
    found = weights.reshape(-1, rows * columns) @ maps.reshape(-1, filters)
    return found.reshape(len(boxes), bins, bins, filters)


def _shares(
    start: jax.Array,
    end: jax.Array,
    cells: int,
    side: int,
    bins: int,
    kind: jnp.dtype,
) -> jax.Array:
    """Give each cell's share of the part of each bin in the image.

    Args:
        start: First edges, `[boxes]`.
        end: Last edges, `[boxes]`.
        cells: Number of cells.
        side: Side of the image in pixels.
        bins: Number of bins.
        kind: Kind of number.

    Returns:
        `[boxes, bins, cells]`; each row adds up to 1, or to 0 without length.
    """
    steps = jnp.arange(bins + 1, dtype=kind) / bins
    start, end = start.astype(kind)[:, None], end.astype(kind)[:, None]
    edges = (start * (1 - steps)[None] + end * steps[None]) * (cells / side)
    edges = jnp.clip(edges, 0, cells)
    first = jnp.arange(cells, dtype=kind)[None, None]
    low = jnp.maximum(edges[:, :-1, None], first)
    high = jnp.minimum(edges[:, 1:, None], first + 1)
    lengths = jnp.maximum(high - low, 0)
    whole = lengths.sum(-1, keepdims=True)
    return jnp.where(whole > 0, lengths / jnp.where(whole > 0, whole, 1), 0)
