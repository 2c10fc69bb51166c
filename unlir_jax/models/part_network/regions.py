"""Regions of a map: cells, windows, several input sizes, boxes, proposals.

Boxes are x0, y0, x1, y1 in shares of the image: its left and upper edges are 0, its
right and lower edges 1, and cell i of n covers i / n to (i + 1) / n. Descriptors are
averages of the map, computed in float32 or more.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float

from unlir_jax.models.layers import Style
from unlir_jax.types import Array, Maps, RandomKey


class Regions(NamedTuple):
    """Hold what the regions of a batch look like, and where they are.

    Attributes:
        descriptors: `[batch, regions, channels]`.
        boxes: `[regions, 4]`, the same in all images, or `[batch, regions, 4]`.
    """

    descriptors: jax.Array
    boxes: jax.Array


def windows(maps: Maps, sizes: Sequence[int] = (1, 2, 3)) -> Regions:
    """Average the maps over all square windows of some sizes, at stride 1.

    The stand-in for region proposals in our reconstruction of DP-Net (arXiv 2404.15037,
    whose regions are not openly known): 7 x 7 cells and sizes 1 to 4 give 49 + 36 + 25
    + 16 regions, in the order of `sizes`, then row by row.

    Args:
        maps: `[batch, rows, columns, channels]`.
        sizes: Sides of the windows in cells.

    Raises:
        ValueError: Maps of another shape, no sizes, or one that is less than 1 or
            larger than the maps.
    """
    maps = _wide(maps)
    batch, rows, columns, channels = maps.shape
    if not sizes or min(sizes) < 1 or max(sizes) > min(rows, columns):
        raise ValueError(
            f"`sizes`={tuple(sizes)} on maps of {rows} x {columns} cells; expected one "
            f"or more from 1 to {min(rows, columns)}, or images of more pixels."
        )
    descriptors, boxes = [], []
    for size in sizes:
        down, y = _bands(rows, size)
        across, x = _bands(columns, size)
        pooled = maps
        if size > 1:
            pooled = jnp.einsum("pr,brcd->bpcd", down, maps, precision="highest")
            pooled = jnp.einsum("qc,bpcd->bpqd", across, pooled, precision="highest")
        descriptors.append(pooled.reshape((batch, -1, channels)))
        y0, x0 = (grid.ravel() for grid in np.meshgrid(y, x, indexing="ij"))
        boxes.append(np.stack([x0, y0, x0 + size / columns, y0 + size / rows], -1))
    where = np.minimum(np.concatenate(boxes), 1).astype(np.float32)
    return Regions(jnp.concatenate(descriptors, axis=1), jnp.asarray(where))


def roi_align(
    maps: Maps,
    boxes: Float[Array, "*pictures regions 4"],
    size: int = 1,
    samples: int = 2,
) -> jax.Array:
    """Average the maps over boxes, by bilinear samples at half-pixel centres.

    He et al., Mask R-CNN, ICCV 2017, section 3, with the half pixel that its authors'
    later code subtracts (`aligned=True`). A box is cut into `size x size` bins, each
    averaged over `samples x samples` points at the centres of its equal pieces. It is
    piecewise differentiable in maps and boxes.

    Args:
        maps: `[batch, rows, columns, channels]`.
        boxes: `[regions, 4]` for all images, or `[batch, regions, 4]`.
        size: Bins along each side.
        samples: Points along each side of a bin; with fewer than a bin has cells, some
            cells are not looked at.

    Returns:
        `[batch, regions, channels]` for size 1, else `[batch, regions, size, size,
        channels]`.

    Raises:
        ValueError: Shapes that do not fit, or a `size` or `samples` less than 1.

    Note:
        Beyond the outermost centres the map continues as it is there.
    """
    maps, boxes = _wide(maps), jnp.asarray(boxes, jnp.result_type(boxes, jnp.float32))
    batch, rows, columns, channels = maps.shape
    shared = boxes.ndim == 2
    if boxes.shape[-1] != 4 or not (shared or boxes.shape[:-2] == (batch,)):
        raise ValueError(
            f"`boxes` has shape {boxes.shape}; expected [regions, 4] or [{batch}, "
            "regions, 4], x0, y0, x1, y1 in shares of the image."
        )
    if size < 1 or samples < 1:
        raise ValueError(f"`size`={size}, `samples`={samples}; expected 1 or more.")
    down = _interpolation(boxes[..., 1], boxes[..., 3], rows, size, samples)
    across = _interpolation(boxes[..., 0], boxes[..., 2], columns, size, samples)
    weights = jnp.einsum("...kr,...lc->...klrc", down, across, precision="highest")
    weights = weights.reshape((*boxes.shape[:-1], size, size, rows * columns))
    flat = maps.reshape((batch, rows * columns, channels))
    order = "nklm,bmd->bnkld" if shared else "bnklm,bmd->bnkld"
    pooled = jnp.einsum(order, weights, flat, precision="highest")
    return pooled[:, :, 0, 0] if size == 1 else pooled


def random_boxes(
    key: RandomKey, count: int, smallest: float = 0.2, largest: float = 1.0
) -> jax.Array:
    """Draw boxes that lie inside the image, the same for all images.

    Width and height are uniform and independent, then so is the place.

    Args:
        key: Where they come from; `jax.vmap` over `keys.per_image` gives each image
            its own.
        count: How many.
        smallest: The least side, as a share of the image's.
        largest: The largest side.

    Returns:
        `[count, 4]`.

    Raises:
        ValueError: No `count`, or sides other than 0 < smallest <= largest <= 1.
    """
    _check_sides(count, smallest, largest)
    size_key, place_key = jax.random.split(key)
    sides = jax.random.uniform(size_key, (count, 2), minval=smallest, maxval=largest)
    start = jax.random.uniform(place_key, (count, 2)) * (1 - sides)
    return jnp.concatenate([start, jnp.minimum(start + sides, 1)], axis=1)


class Proposals(nn.Module):
    """Propose boxes by where a learned attention looks, trained end to end.

    For proposal k, with x_r the centre of a cell in shares of the image, and f_r its
    descriptor over the root of the number of channels,

        a_kr = softmax_r(<q_k, f_r> - |x_r - p_k|^2 / (2 reach^2)),
        centre_k = sum_r a_kr x_r,
        side_k = smallest + (largest - smallest) sigmoid(s_k + V sum_r a_kr f_r),

    and what lies beyond the image is cut off. The anchors p_k start spread over the
    image by a low-discrepancy sequence, s_k with the side `start`, q_k and V at zero:
    the first boxes are the same for all images. Ours; the soft-argmax is that of
    Levine et al., JMLR 2016, section 5.1. What `roi_align` takes from a box tells it
    nothing of what is far outside, so begin with boxes that see enough.

    Attributes:
        count: Number of boxes.
        start: Side of the first boxes, as a share of the image's.
        smallest: Less than `start`.
        largest: More than `start`.
        reach: Distance from its anchor that a proposal looks at, unless the maps call
            it away.
        style: Style of the products.
    """

    count: int
    start: float = 0.4
    smallest: float = 0.1
    largest: float = 1.0
    reach: float = 0.15
    style: Style = Style()

    @nn.compact
    def __call__(self, maps: Array) -> jax.Array:
        """Compute boxes, `[batch, count, 4]`, for `roi_align`.

        Raises:
            ValueError: Maps of another shape than `[batch, rows, columns, channels]`,
                or settings out of order.
        """
        maps = _wide(maps)
        self._check()
        batch, rows, columns, channels = maps.shape
        zeros, precision = nn.initializers.zeros, self.style.precision
        places = self.param("places", lambda _: _spread(self.count))
        share = (self.start - self.smallest) / (self.largest - self.smallest)
        logit = nn.initializers.constant(np.log(share / (1 - share)))
        sides = self.param("sides", logit, (self.count, 2))
        queries = self.param("queries", zeros, (channels, self.count))
        kernel = self.param("kernel", zeros, (channels, 2))

        centres = _centres(rows, columns)
        features = maps.reshape((batch, -1, channels)) / np.sqrt(channels)
        away = jnp.sum((centres[:, None] - places[None]) ** 2, axis=-1)
        logits = jnp.einsum("brd,dk->brk", features, queries, precision=precision)
        logits = logits - away[None] / (2 * self.reach**2)
        attention = jax.nn.softmax(logits, axis=1)
        centre = jnp.einsum("brk,rx->bkx", attention, centres, precision="highest")
        seen = jnp.einsum("brk,brd->bkd", attention, features, precision=precision)
        change = jnp.einsum("bkd,dx->bkx", seen, kernel, precision=precision)
        open_share = jax.nn.sigmoid(sides[None] + change)
        half = (self.smallest + (self.largest - self.smallest) * open_share) / 2
        corners = [jnp.maximum(centre - half, 0), jnp.minimum(centre + half, 1)]
        return jnp.concatenate(corners, axis=-1)

    def _check(self) -> None:
        _check_sides(self.count, self.smallest, self.largest)
        if not self.smallest < self.start < self.largest or self.reach <= 0:
            raise ValueError(
                f"`start`={self.start}, `reach`={self.reach}; expected a start between "
                f"smallest={self.smallest} and largest={self.largest}, and a positive "
                "reach."
            )


def _wide(maps: Array) -> jax.Array:
    """Bring maps to float32 or more.

    Raises:
        ValueError: They are not `[batch, rows, columns, channels]`.
    """
    maps = jnp.asarray(maps)
    if maps.ndim != 4:
        raise ValueError(
            f"`maps` has shape {maps.shape}; expected [batch, rows, columns, channels]."
        )
    return maps.astype(jnp.promote_types(maps.dtype, jnp.float32))


def _bands(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Average `size` neighbours of `count`: `[windows, count]`, and their start."""
    first = np.arange(count - size + 1)
    offset = np.arange(count)[None] - first[:, None]
    inside = (offset >= 0) & (offset < size)
    return (inside / size).astype(np.float32), first / count


def _interpolation(
    low: jax.Array, high: jax.Array, count: int, size: int, samples: int
) -> jax.Array:
    """Weigh `count` cells for the bins of a side: `[..., regions, size, count]`."""
    points = (jnp.arange(size * samples, dtype=low.dtype) + 0.5) / (size * samples)
    points = points.reshape((1,) * low.ndim + (-1,))
    points = low[..., None] + (high - low)[..., None] * points
    points = jnp.clip(points * count - 0.5, 0, count - 1)
    cell = jnp.arange(count, dtype=low.dtype).reshape((1,) * points.ndim + (-1,))
    weights = jnp.maximum(1 - jnp.abs(points[..., None] - cell), 0)
    return weights.reshape((*low.shape, size, samples, count)).mean(-2)


def _centres(rows: int, columns: int) -> np.ndarray:
    """Give x and y of the centres of cells, row by row: `[cells, 2]`."""
    y, x = np.meshgrid(
        (np.arange(rows) + 0.5) / rows,
        (np.arange(columns) + 0.5) / columns,
        indexing="ij",
    )
    return np.stack([x.ravel(), y.ravel()], -1).astype(np.float32)


def _spread(count: int) -> jax.Array:
    """Spread points evenly over the image, `[count, 2]`; the first in its centre.

    The additive recurrence with the plastic number (Roberts, The Unreasonable
    Effectiveness of Quasirandom Sequences, 2018).
    """
    plastic = 1.324717957244746
    steps = np.arange(count)[:, None] * np.array([[1 / plastic, 1 / plastic**2]])
    return jnp.asarray((0.5 + steps) % 1, jnp.float32)


def _check_sides(count: int, smallest: float, largest: float) -> None:
    if count < 1 or not 0 < smallest <= largest <= 1:
        raise ValueError(
            f"`count`={count}, `smallest`={smallest}, `largest`={largest}; expected at "
            "least one box, and sides in shares of the image, 0 < smallest <= "
            "largest <= 1."
        )
