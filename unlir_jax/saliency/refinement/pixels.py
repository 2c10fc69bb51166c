"""Common part of both refinements: small images, and how alike pixels are."""

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.types import Array, Images

MOST_PIXELS = 128**2
"""Their pairs are a gigabyte as float32."""


def shrunk(images: Images, size: tuple[int, ...]) -> jax.Array:
    """Average images down to `size`, height and width; smaller ones stay as they are.

    Each pixel is the mean of what it covers, a pixel at its border by the share of it.
    """
    images = jnp.asarray(images)
    for axis, length in ((1, size[0]), (2, size[1])):
        if length < images.shape[axis]:
            weights = _averaging(images.shape[axis], length).astype(images.dtype)
            images = jnp.moveaxis(
                jnp.tensordot(weights, images, ((1,), (axis,)), precision="highest"),
                0,
                axis,
            )
    return images


def _averaging(source: int, target: int) -> np.ndarray:
    edges = np.arange(target + 1) * source / target
    low, high = edges[:-1, None], edges[1:, None]
    start = np.arange(source)[None]
    covered = np.clip(np.minimum(high, start + 1) - np.maximum(low, start), 0, None)
    return covered / covered.sum(1, keepdims=True)


def squared_distances(values: Array) -> jax.Array:
    """Square the distances of all pairs of pixels of an image.

    Args:
        values: `[rows, columns, channels]`.

    Returns:
        `[pixels, pixels]`, pixels in row-major order; exactly 0 on the diagonal.
    """
    flat = jnp.reshape(values, (-1, values.shape[-1]))
    # Less the mean, so that the difference of two large squares loses little.
    flat = flat - flat.mean(0, keepdims=True)
    squares = jnp.sum(flat**2, axis=-1)
    products = jnp.matmul(flat, flat.T, precision="highest")
    found = jnp.maximum(squares[:, None] + squares[None] - 2 * products, 0)
    return jnp.where(jnp.eye(len(flat), dtype=bool), 0, found)


def squared_steps(size: tuple[int, ...]) -> np.ndarray:
    """Square the distances of the places of all pixels, `[pixels, pixels]`.

    The unit is the longer side.
    """
    down, across = (np.subtract.outer(n, n) ** 2 for n in map(np.arange, size))
    table = down[:, None, :, None] + across[None, :, None, :]
    count = size[0] * size[1]
    return table.reshape((count, count)) / max(size) ** 2


def check_count(name: str, size: tuple[int, ...]) -> None:
    """Refuse so many pixels that all pairs of them do not fit into memory."""
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(
            f"`{name}` has {size[0]} x {size[1]} pixels, whose pairs are too many; "
            f"expected at most {MOST_PIXELS:,} pixels."
        )
