"""Nearest points of a hyperplane inside the box of images, each image on its own."""

import jax
import jax.numpy as jnp

from unlir_jax.attacks.minimal import wide
from unlir_jax.types import Array, PyTree

ROUNDS = 100
"""Most rounds of Newton's method, which ends after about ten."""


def nearest(images: Array, slope: Array, gap: Array, norm: str) -> jax.Array:
    """Give the least change that raises a linear function by `gap`, if one does.

    The change `d` has `sum(slope d) = gap` and `0 <= images + d <= 1`, and of all such
    the least norm. Where the box holds none, every pixel goes to its bound.

    For `l2` it is `min(t |slope|, room)` with the sign of the slope, for `linf`
    `min(t, room)`. What that gains is concave and piecewise linear in `t`, so that
    Newton's method from 0 ends at the exact `t`.

    Args:
        images: `[batch, height, width, channels]` in [0, 1].
        slope: Gradient of the function, of the same shape.
        gap: What is to be gained, `[batch]`; where it is negative, lost.
        norm: `l2` or `linf`.

    References:
        Croce & Hein, *Minimally Distorted Adversarial Examples with a Fast Adaptive
        Boundary Attack*, ICML 2020, Section 2.1, for the problem.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax.attacks import halfspace
        >>> images = jnp.asarray([0.5, 0.9]).reshape((1, 1, 2, 1))
        >>> found = halfspace.nearest(
        ...     images, jnp.ones_like(images), jnp.asarray([0.5]), "linf"
        ... )
        >>> [round(float(each), 3) for each in found.ravel()]  # The second has no room.
        [0.4, 0.1]
    """
    uphill = slope * wide(jnp.where(gap < 0, -1, 1).astype(slope.dtype))
    room = jnp.where(uphill > 0, 1 - images, images)
    sizes = jnp.abs(slope)
    # Per unit of `t`, a pixel moves by its rate, and gains its size times that.
    rate = sizes if norm == "l2" else (sizes > 0).astype(sizes.dtype)
    time = jnp.where(rate > 0, room / jnp.where(rate > 0, rate, 1), jnp.inf)
    gains, most = sizes * rate, sizes * room
    length = _length(gains, most, time, jnp.abs(gap))
    moved = jnp.where(rate > 0, wide(length) * rate, 0)
    return jnp.sign(uphill) * jnp.minimum(moved, room)


def _length(gains: PyTree, most: PyTree, time: PyTree, gap: jax.Array) -> jax.Array:
    """Find `t` with `sum(min(t gains, most)) = gap`, infinity where there is none.

    A round takes the pixels that have come to their bounds by then as standing there.
    It finds the same `t` again once these stay the same, so that further rounds, which
    another image of the batch may need, change nothing.
    """
    axes = (1, 2, 3)

    def going(carry: PyTree) -> jax.Array:
        _, moving, number = carry
        return jnp.any(moving) & (number < ROUNDS)

    def advance(carry: PyTree) -> PyTree:
        length, _, number = carry
        free = time > wide(length)
        slope = jnp.sum(jnp.where(free, gains, 0), axis=axes)
        left = gap - jnp.sum(jnp.where(free, 0, most), axis=axes)
        further = jnp.where(left > 0, left / jnp.where(slope > 0, slope, 1), 0)
        further = jnp.where((slope > 0) | (left <= 0), further, jnp.inf)
        found = jnp.maximum(length, further)
        return found, found > length, number + 1

    start = jnp.zeros_like(gap), jnp.ones(gap.shape, bool), jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(going, advance, start)[0]
