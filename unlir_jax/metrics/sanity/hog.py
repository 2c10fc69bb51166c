"""Histograms of oriented gradients.

Dalal & Triggs, *Histograms of oriented gradients for human detection*, CVPR 2005, in
the form of scikit-image: central differences, pixels counted for one orientation
without interpolation, and blocks normalised by L2 with clipping.
"""

import jax
import jax.numpy as jnp

from unlir_jax.types import Saliency

ORIENTATIONS = 9
CELL = 16
BLOCK = 3
CLIP, TINY = 0.2, 1e-5


def descriptors(
    pictures: Saliency,
    *,
    orientations: int = ORIENTATIONS,
    cell: int = CELL,
    block: int = BLOCK,
) -> jax.Array:
    """Describe grey images by the orientation of their edges.

    Args:
        pictures: `[batch, height, width]`.
        orientations: Number of bins of 180 degrees.
        cell: Side of a cell in pixels; what does not fill one is left out.
        block: Side of a block in cells; they overlap.

    Returns:
        `[batch, numbers]`, each in [0, 1].

    Raises:
        ValueError: The image has no block.
    """
    rows, columns = (side // cell for side in pictures.shape[1:3])
    if min(rows, columns) < block:
        raise ValueError(
            f"`pictures` are {pictures.shape[1]} x {pictures.shape[2]}; expected at "
            f"least {block * cell} pixels a side, or a smaller `cell` or `block`."
        )
    # Fused with what made the images, the difference of two equal pixels may be a
    # rounding above or below zero, which is the first orientation or the last.
    pictures = jax.lax.optimization_barrier(pictures)
    across = jnp.pad(pictures[:, :, 2:] - pictures[:, :, :-2], ((0, 0), (0, 0), (1, 1)))
    down = jnp.pad(pictures[:, 2:] - pictures[:, :-2], ((0, 0), (1, 1), (0, 0)))
    angle = jnp.mod(jnp.rad2deg(jnp.arctan2(down, across)), 180)
    # Rounding may give 180 itself, which is 0.
    bins = jnp.floor(angle * orientations / 180).astype(jnp.int32) % orientations
    chosen = bins[..., None] == jnp.arange(orientations)[None, None, None]
    votes = jnp.where(chosen, jnp.hypot(across, down)[..., None], 0)
    votes = votes[:, : rows * cell, : columns * cell]
    shape = (-1, rows, cell, columns, cell, orientations)
    cells = votes.reshape(shape).mean((2, 4))
    high, wide = rows - block + 1, columns - block + 1
    blocks = jnp.stack(
        [
            cells[:, y : y + high, x : x + wide]
            for y in range(block)
            for x in range(block)
        ],
        axis=3,
    )
    clipped = jnp.minimum(_unit(blocks), CLIP)
    return _unit(clipped).reshape((len(pictures), -1))


def _unit(blocks: jax.Array) -> jax.Array:
    length = jnp.sum(blocks**2, axis=(-2, -1), keepdims=True)
    return blocks / jnp.sqrt(length + TINY**2)
