"""Descriptions of an image's cells, before a decision uses them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.types import Array

NONE = 1e-12


class Grid(NamedTuple):
    """Hold the cells of images.

    Attributes:
        maps: Maps of the last layer, `[batch, rows, columns, channels]`.
        finer: Maps of an earlier layer, `step` times the rows and columns; or None.
    """

    maps: jax.Array
    finer: jax.Array | None


class Reading(NamedTuple):
    """Hold what a part network says of images.

    Attributes:
        scores: How much each cell looks like each part, `[batch, rows, columns,
            parts]`, on the finest grid that is looked at.
        shares: How each cell is dealt out to the parts, of the same shape.
        contributions: What each part adds to each logit, `[batch, parts, classes]`.
        bias: What is added besides, `[classes]`.
    """

    scores: jax.Array
    shares: jax.Array
    contributions: jax.Array
    bias: jax.Array


class Traits(NamedTuple):
    """Hold what constraints on parts look at, of one pass over a batch.

    Attributes:
        logits: `[batch, classes]`.
        shares: How each region is dealt out to the parts, `[batch, regions, parts]` or,
            where regions are cells, `[batch, rows, columns, parts]`; without the
            background, where there is one.
        cells: How each cell is, `[batch, rows, columns, parts]`.
        descriptors: What each part looks like in each image, `[batch, parts, width]`.
        parts: The vectors that cells are compared with, `[parts, width]`.
        kernel: Weight of each part for each class, `[parts, classes]`.
        gates: Logits of the gates between parts and classes, or None.
        blocks: Which part belongs to which class, `[parts, classes]` of 0 and 1, or
            None.
        distances: Squared, of each cell from each part, as `cells`; or None.
    """

    logits: jax.Array
    shares: jax.Array
    cells: jax.Array
    descriptors: jax.Array
    parts: jax.Array
    kernel: jax.Array
    gates: jax.Array | None = None
    blocks: jax.Array | None = None
    distances: jax.Array | None = None


def pack(maps: Array, finer: Array) -> jax.Array:
    """Put a finer layer's cells behind the channels of the cell that they lie in.

    So that what crosses the cut of a `SplitModel`, or lies on the disk, is one array.

    Args:
        maps: `[batch, rows, columns, channels]`.
        finer: `[batch, step * rows, step * columns, others]`; interpolated to that size
            where it has another, as where a stride of 2 met an odd number of rows.

    Returns:
        `[batch, rows, columns, channels + step * step * others]`.
    """
    batch, rows, columns, _ = maps.shape
    step = max(1, round(finer.shape[1] / rows))
    shape = (batch, step * rows, step * columns, finer.shape[-1])
    if finer.shape != shape:
        finer = jax.image.resize(finer, shape, "bilinear", antialias=False)
    split = jnp.reshape(finer, (batch, rows, step, columns, step, shape[-1]))
    packed = split.transpose((0, 1, 3, 2, 4, 5)).reshape((batch, rows, columns, -1))
    return jnp.concatenate([maps, packed.astype(maps.dtype)], axis=-1)


def unpack(packed: Array, channels: int, others: int) -> Grid:
    """Undo `pack`, up to the interpolation."""
    packed = jnp.asarray(packed)
    maps, rest = packed[..., :channels], packed[..., channels:]
    if not others:
        return Grid(maps, None)
    batch, rows, columns, size = rest.shape
    step = round((size / others) ** 0.5)
    split = rest.reshape((batch, rows, columns, step, step, others))
    split = split.transpose((0, 1, 3, 2, 4, 5))
    return Grid(maps, split.reshape((batch, step * rows, step * columns, others)))


def coarse(shares: Array, maps: Array) -> jax.Array:
    """Average what finer cells have over those within each cell of the last maps."""
    batch, rows, columns, parts = shares.shape
    step = rows // maps.shape[1]
    if step == 1:
        return jnp.asarray(shares)
    split = jnp.reshape(
        shares, (batch, rows // step, step, columns // step, step, parts)
    )
    return split.mean((2, 4))


def joined(grid: Grid) -> jax.Array:
    """Give the channels of both layers on the grid of the last maps."""
    if grid.finer is None:
        return grid.maps
    return jnp.concatenate([grid.maps, coarse(grid.finer, grid.maps)], axis=-1)


def own_class(values: Array, labels: Array) -> jax.Array:
    """Pick what is said for one class an image, from `[parts, …, classes]`.

    Returns:
        `[batch, parts, …]`.
    """
    return jnp.moveaxis(jnp.asarray(values), -1, 0)[jnp.asarray(labels)]


def unit(vectors: Array) -> jax.Array:
    """Divide by the Euclidean norm over the last axis; zeros stay zeros."""
    square = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    length = jnp.sqrt(jnp.where(square > NONE, square, 1.0))
    return jnp.where(square > NONE, vectors / length, 0.0)


class Embedding(nn.Module):
    """Hold a matrix `kernel`, `[incoming, outgoing]`, and use it as a linear map."""

    incoming: int
    outgoing: int

    def setup(self) -> None:
        draw = nn.initializers.normal(self.incoming**-0.5)
        self.kernel = self.param("kernel", draw, (self.incoming, self.outgoing))

    def __call__(self, values: Array) -> jax.Array:
        return jnp.asarray(values) @ self.kernel


class White(nn.Module):
    """Subtract a mean and map to a space where cells are white: `(x - mean) kernel`."""

    incoming: int
    outgoing: int

    def setup(self) -> None:
        draw = nn.initializers.normal(self.incoming**-0.5)
        self.centre = self.param("mean", nn.initializers.zeros, (self.incoming,))
        self.kernel = self.param("kernel", draw, (self.incoming, self.outgoing))

    def __call__(self, values: Array) -> jax.Array:
        values = jnp.asarray(values)
        centre = self.centre.reshape((1,) * (values.ndim - 1) + (-1,))
        return (values - centre) @ self.kernel


class WhiteCells(nn.Module):
    """Describe the cells of the last maps, finer maps averaged within them.

    Attributes:
        channels: Number of channels of the last maps.
        others: Number of channels of the finer maps, 0 without.
        dimensions: Sizes of the white descriptors of the two; 0: not whitened.
        normalise: Whether descriptors have length one.
    """

    channels: int
    others: int
    dimensions: tuple[int, int]
    normalise: bool = False

    @property
    def width(self) -> int:
        """Give the number of numbers that describe a cell."""
        last = self.dimensions[0] or self.channels
        return last + (self.dimensions[1] or self.others if self.others else 0)

    def setup(self) -> None:
        if self.dimensions[0]:
            self.last = White(self.channels, self.dimensions[0], name="last")
        if self.others and self.dimensions[1]:
            self.finer = White(self.others, self.dimensions[1], name="finer")

    def __call__(self, grid: Grid) -> jax.Array:
        """Give `[batch, rows, columns, width]` on the grid of the last maps."""
        found = self.last(grid.maps) if self.dimensions[0] else grid.maps
        if grid.finer is not None:
            finer = self.finer(grid.finer) if self.dimensions[1] else grid.finer
            found = jnp.concatenate([found, coarse(finer, grid.maps)], axis=-1)
        return unit(found) if self.normalise else found


class Cells(nn.Module):
    """Describe each cell by unit vectors of the last and of the finer maps.

    The white descriptors of the last maps are enlarged to the finer grid; both are
    brought to length one, the finer is weighted, and together they have length one.

    Attributes:
        channels: Number of channels of the last maps.
        others: Number of channels of the finer maps, 0 without.
        dimensions: Sizes of the white descriptors of the two.
        finer_weight: Weight of the finer maps.
    """

    channels: int
    others: int
    dimensions: tuple[int, int]
    finer_weight: float

    @property
    def width(self) -> int:
        """Give the number of numbers that describe a cell."""
        return self.dimensions[0] + (self.dimensions[1] if self.others else 0)

    def setup(self) -> None:
        self.last = White(self.channels, self.dimensions[0], name="last")
        if self.others:
            self.finer = White(self.others, self.dimensions[1], name="finer")

    def __call__(self, grid: Grid) -> jax.Array:
        """Give `[batch, rows, columns, width]` on the finest grid there is."""
        last = self.last(grid.maps)
        if grid.finer is None:
            return unit(last)
        finer = unit(self.finer(grid.finer)) * self.finer_weight
        shape = (*finer.shape[:3], last.shape[-1])
        last = unit(jax.image.resize(last, shape, "bilinear", antialias=False))
        return unit(jnp.concatenate([last, finer], axis=-1))
