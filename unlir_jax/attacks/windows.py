"""Windows of the Square attack: where they lie, and what stands in them.

All take one image, `[height, width, channels]`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.types import Array, PyTree

TILES = 5
"""Tiles along the shorter side of the first point in `l2`."""
TINY = 1e-12


def stripes(key: jax.Array, original: Array, epsilon: float) -> jax.Array:
    """Add `+epsilon` or `-epsilon` to each column and channel."""
    shape = (1, *original.shape[1:])
    signs = jax.random.rademacher(key, shape, original.dtype)
    signs = jnp.broadcast_to(signs, original.shape)
    return jnp.clip(original + epsilon * signs, 0, 1)


def painted(
    key: jax.Array, image: Array, original: Array, side: PyTree, epsilon: float
) -> jax.Array:
    """Give a window the largest change, with one sign a channel."""
    first, second = jax.random.split(key)
    inside = _inside(corner(first, original.shape[:2], side), original.shape, side)
    signs = jax.random.rademacher(second, (1, 1, original.shape[2]), original.dtype)
    change = jnp.where(inside, 2 * epsilon * signs, jnp.zeros_like(original))
    tried = jnp.clip(image + change, original - epsilon, original + epsilon)
    return jnp.clip(tried, 0, 1)


def corner(key: jax.Array, size: tuple[int, ...], side: PyTree) -> jax.Array:
    """Draw the first row and column of a window, uniformly where it fits."""
    room = jnp.asarray(size, jnp.int32) - side + 1
    return jax.random.randint(key, (2,), 0, jnp.maximum(room, 1))


def _inside(start: jax.Array, shape: tuple[int, ...], side: PyTree) -> jax.Array:
    """Tell which pixels lie in a window, `[height, width, 1]`."""
    rows = jnp.arange(shape[0])[:, None, None] - start[0]
    columns = jnp.arange(shape[1])[None, :, None] - start[1]
    return (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)


def bump(rows: int, columns: int) -> np.ndarray:
    """Give a pyramid of a norm of 1: squares about the middle, one on the other.

    The square that reaches `k` pixels from the middle adds `1 / (k + 1)^2`.

    References:
        Andriushchenko et al., *Square Attack*, ECCV 2020, Section 3.4, the function
        eta.
    """
    across = np.abs(np.arange(rows) - rows // 2)[:, None]
    along = np.abs(np.arange(columns) - columns // 2)[None]
    distance = np.maximum(across, along)
    reach = max(rows // 2, columns // 2) + 1
    terms = 1 / (np.arange(max(reach, distance.max(initial=0) + 1)) + 1.0) ** 2
    terms[reach:] = 0
    found = np.cumsum(terms[::-1])[::-1][distance]
    return found / np.sqrt(np.sum(found**2))


@functools.lru_cache(maxsize=64)
def pair(side: int) -> np.ndarray:
    """Give two bumps of opposite sign, one above the other, with a norm of 1."""
    half = side // 2
    found = np.empty((side, side))
    if half:
        found[:half] = bump(half, side)
    found[half:] = -bump(side - half, side)
    return found / np.sqrt(np.sum(found**2))


def table(sides: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stack the pairs of all sides in the upper left corners, `[sides, most, most]`."""
    most = int(min(size))
    found = np.zeros((len(sides), most, most), np.float32)
    for place, side in enumerate(sides):
        found[place, :side, :side] = pair(int(side))
    return found


def tiles(key: jax.Array, original: Array, epsilon: float) -> jax.Array:
    """Fill the image with pairs of bumps of random signs, five along its side."""
    height, width, channels = original.shape
    side = max(1, min(height, width) // TILES)
    down, across = height // side, width // side
    first, second = jax.random.split(key)
    signs = jax.random.rademacher(first, (down, across, channels), original.dtype)
    turned = jax.random.bernoulli(second, 0.5, (down, across, 1, 1))
    form = jnp.asarray(pair(side), original.dtype)[None, None]
    form = jnp.where(turned, jnp.swapaxes(form, 2, 3), form)
    # [down, rows, across, columns, channels]
    laid = jnp.transpose(form, (0, 2, 1, 3))[..., None] * signs[:, None, :, None]
    laid = laid.reshape((down * side, across * side, channels))
    above, left = (height - down * side) // 2, (width - across * side) // 2
    change = jnp.zeros_like(original)
    change = jax.lax.dynamic_update_slice(change, laid, (above, left, 0))
    return jnp.clip(original + epsilon * _unit(change), 0, 1)


def moved(
    key: jax.Array,
    image: Array,
    original: Array,
    side: PyTree,
    form: Array,
    epsilon: float,
) -> jax.Array:
    """Take the change of one window away, and give another one more (Algorithm 3).

    The window keeps the direction that its change has, to which a pair of bumps is
    added. Its norm is what both windows had, and what the budget has left.

    Args:
        key: Key of the draw.
        image: The best point so far.
        original: The image.
        side: Side of both windows.
        form: Pair of bumps in the upper left corner, `[most, most]`.
        epsilon: Radius of the ball.
    """
    height, width, channels = original.shape
    first, second, third, fourth = jax.random.split(key, 4)
    start, other = (corner(each, (height, width), side) for each in (first, second))
    given, taken = (_inside(each, original.shape, side) for each in (start, other))
    signs = jax.random.rademacher(third, (1, 1, channels), original.dtype)
    form = jnp.where(jax.random.bernoulli(fourth), form.T, form).astype(original.dtype)
    rows = jnp.clip(jnp.arange(height) - start[0], 0, len(form) - 1)
    columns = jnp.clip(jnp.arange(width) - start[1], 0, len(form) - 1)
    laid = form[rows][:, columns][..., None] * signs
    change = image - original
    inside = jnp.where(given, change, 0)
    fresh = jnp.where(given, laid + inside / (TINY + _norms(inside)), 0)
    spare = jnp.maximum(epsilon**2 - jnp.sum(change**2), 0) / channels
    both = _norms(jnp.where(given | taken, change, 0))
    fresh = fresh / (TINY + _norms(fresh)) * jnp.sqrt(spare + both**2)
    change = jnp.where(given, fresh, jnp.where(taken, 0, change))
    return jnp.clip(original + epsilon * _unit(change), 0, 1)


def _norms(change: Array) -> jax.Array:
    """Measure each channel, `[1, 1, channels]`."""
    return jnp.sqrt(jnp.sum(change**2, axis=(0, 1), keepdims=True))


def _unit(change: Array) -> jax.Array:
    return jnp.asarray(change / (TINY + jnp.sqrt(jnp.sum(change**2))))
