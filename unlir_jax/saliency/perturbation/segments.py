"""Segments of an image: a grid, or superpixels by SLIC."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Integer

from unlir_jax.types import Array, Images

Kind = Literal["grid", "slic"]
Segments = Integer[Array, "batch height width"]
"""The number of each pixel's segment, less than the product of `layout`."""

NEIGHBOURS = tuple((down, across) for down in (-1, 0, 1) for across in (-1, 0, 1))


def layout(size: tuple[int, ...], count: int) -> tuple[int, int]:
    """Choose rows and columns of nearly square cells, nearly `count` of them.

    Args:
        size: Height and width in pixels.
        count: Segments asked for.

    Raises:
        ValueError: Fewer than one segment.
    """
    if count < 1:
        raise ValueError(f"`count`={count}; expected 1 segment or more.")
    height, width = size
    rows = round((count * height / width) ** 0.5)
    rows = min(max(rows, 1), height, count)
    return rows, min(max(round(count / rows), 1), width)


def grid(images: Images, count: int) -> Segments:
    """Cut images into rectangles, numbered from the top left.

    Args:
        images: `[batch, height, width, channels]`.
        count: Segments asked for; `layout` says how many there are.
    """
    size = jnp.shape(images)[1:3]
    rows, columns = _cells(size, layout(size, count))
    cells = rows[:, None] * layout(size, count)[1] + columns[None]
    return jnp.broadcast_to(jnp.asarray(cells)[None], (len(images), *size))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def slic(
    images: Images, count: int, compactness: float = 10.0, iterations: int = 10
) -> Segments:
    """Cut images into connected superpixels of similar colour.

    k-means over CIELAB colour and place, `d^2 = d_colour^2 + (m d_place / S)^2` (Eq. 2
    and 3), started on a grid of side `S`. Nothing is random, and no sum depends on the
    order in which a device adds.

    Args:
        images: `[batch, height, width, channels]` in [0, 1]; other than three channels
            are taken as 100 times their values.
        count: Superpixels asked for; the numbers run up to the product of `layout`,
            and a few of them may be missing.
        compactness: `m`, in units of CIELAB; larger is squarer.
        iterations: Iterations of k-means.

    References:
        Achanta et al., *SLIC Superpixels Compared to State-of-the-art Superpixel
        Methods*, TPAMI 2012, Algorithm 1.

    Note:
        A pixel chooses among the nine centres around its own cell of the grid, rather
        than those within `2 S`, and the start is not moved to the lowest gradient. A
        superpixel is its largest connected piece; the other pieces go to neighbours.
    """
    colours = jnp.asarray(images, jnp.promote_types(images.dtype, jnp.float32))
    colours = lab(colours) if colours.shape[-1] == 3 else 100 * colours
    cut = functools.partial(
        _cluster, count=count, compactness=compactness, iterations=iterations
    )
    return jax.vmap(lambda image: _connect(cut(image)))(colours)


def _cluster(
    colours: jax.Array, count: int, compactness: float, iterations: int
) -> jax.Array:
    """Group the pixels of one image by k-means among nine centres each."""
    height, width, _ = colours.shape
    shape = layout((height, width), count)
    rows, columns = _cells((height, width), shape)
    member_rows = jnp.asarray(rows[None] == np.arange(shape[0])[:, None], colours.dtype)
    member_columns = jnp.asarray(
        columns[None] == np.arange(shape[1])[:, None], colours.dtype
    )
    scale = compactness / (height * width / (shape[0] * shape[1])) ** 0.5
    place = scale * jnp.stack(jnp.mgrid[:height, :width], -1).astype(colours.dtype)
    features = jnp.concatenate([colours, place], -1)
    weighted = jnp.concatenate([features, jnp.ones_like(features[..., :1])], -1)

    def add(values: jax.Array) -> jax.Array:
        inner = jnp.einsum("rh,hwf->rwf", member_rows, values, precision="highest")
        return jnp.einsum("cw,rwf->rcf", member_columns, inner, precision="highest")

    def assign(centres: jax.Array) -> jax.Array:
        ring = ((1, 1), (1, 1), (0, 0))
        around = jnp.pad(centres, ring, constant_values=jnp.inf)
        distances = [
            jnp.sum((features - around[1 + dy :, 1 + dx :][rows][:, columns]) ** 2, -1)
            for dy, dx in NEIGHBOURS
        ]
        return jnp.argmin(jnp.stack(distances), axis=0)

    def update(_: Any, centres: jax.Array) -> jax.Array:
        chosen = assign(centres)
        total = jnp.zeros((shape[0] + 2, shape[1] + 2, weighted.shape[-1]))
        total = total.astype(features.dtype)
        for index, (dy, dx) in enumerate(NEIGHBOURS):
            found = add(jnp.where((chosen == index)[..., None], weighted, 0))
            place = slice(1 + dy, 1 + dy + shape[0]), slice(1 + dx, 1 + dx + shape[1])
            total = total.at[place].add(found)
        total = total[1:-1, 1:-1]
        members = total[..., -1:]
        return jnp.where(
            members > 0, total[..., :-1] / jnp.maximum(members, 1), centres
        )

    start = add(weighted)
    centres = start[..., :-1] / start[..., -1:]
    chosen = assign(jax.lax.fori_loop(0, iterations, update, centres))
    offsets = jnp.asarray(NEIGHBOURS)[chosen]
    row = jnp.asarray(rows)[:, None] + offsets[..., 0]
    return row * shape[1] + jnp.asarray(columns)[None] + offsets[..., 1]


def _connect(segments: jax.Array) -> jax.Array:
    """Keep each segment's largest connected piece, and grow all over the rest."""
    size, numbers = segments.size, jnp.arange(segments.size).reshape(segments.shape)
    outside = -jnp.ones((), segments.dtype)
    same = [neighbour == segments for neighbour in _shifted(segments, outside)]

    def spread(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        piece, _ = state
        lowest = piece
        for near, other in zip(same, _shifted(piece, jnp.asarray(size)), strict=True):
            lowest = jnp.where(near, jnp.minimum(lowest, other), lowest)
        # The pixel that names a piece may already know of a lower name.
        lowest = jnp.minimum(lowest, lowest.ravel()[lowest])
        return lowest, jnp.any(lowest != piece)

    piece, _ = jax.lax.while_loop(lambda s: s[1], spread, (numbers, jnp.asarray(True)))
    flat, owner = piece.ravel(), segments.ravel()
    pixels = jnp.zeros(size, jnp.int32).at[flat].add(1)
    most = jnp.zeros(size, jnp.int32).at[owner].max(pixels[flat])
    largest = pixels[flat] == most[owner]
    first = jnp.full(size, size).at[owner].min(jnp.where(largest, flat, size))
    kept = (flat == first[owner]).reshape(segments.shape)

    def grow(labels: jax.Array) -> jax.Array:
        grown = labels
        for neighbour in _shifted(labels, outside):
            grown = jnp.where(grown < 0, neighbour, grown)
        return grown

    start = jnp.where(kept, segments, outside)
    return jax.lax.while_loop(lambda labels: jnp.any(labels < 0), grow, start)


def _shifted(values: jax.Array, outside: jax.Array) -> list[jax.Array]:
    """List the neighbours above, below, to the left and to the right."""
    padded = jnp.pad(values, 1, constant_values=outside.astype(values.dtype))
    return [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]


def _cells(
    size: tuple[int, ...], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Give the row and the column of the cell that each pixel lies in."""
    rows, columns = (
        (np.arange(length) * number // length).astype(np.int32)
        for length, number in zip(size, shape, strict=True)
    )
    return rows, columns


def lab(images: jax.Array) -> jax.Array:
    """Turn sRGB under D65 into CIELAB (IEC 61966-2-1, CIE 15)."""
    linear = jnp.where(
        images <= 0.04045,
        images / 12.92,
        ((jnp.maximum(images, 0) + 0.055) / 1.055) ** 2.4,
    )
    to_xyz = np.asarray(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    # Each row's sum is the white point, which is then 1.
    to_xyz = jnp.asarray(to_xyz / to_xyz.sum(1, keepdims=True), images.dtype)
    xyz = jnp.einsum("...c,xc->...x", linear, to_xyz, precision="highest")
    bent = jnp.where(
        xyz > (6 / 29) ** 3,
        jnp.maximum(xyz, 1e-6) ** (1 / 3),
        xyz / (3 * (6 / 29) ** 2) + 4 / 29,
    )
    x, y, z = bent[..., 0], bent[..., 1], bent[..., 2]
    return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)
