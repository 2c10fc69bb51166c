"""Norms: distances, steepest steps, projections onto balls, and random points in them.

All take `[batch, height, width, channels]`, and treat each image on its own.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.types import PyTree

Norm = Literal["linf", "l2", "l1"]
HALVINGS = 50
"""Halvings of an interval: more than float64 has bits at such magnitudes."""


def _wide(values: PyTree) -> jax.Array:
    """Give one number an image the axes of images."""
    return jnp.reshape(values, (-1, 1, 1, 1))


def length(changes: PyTree, norm: str) -> jax.Array:
    """Measure changes, `[batch]`: `l0` counts pixels, the others take all channels.

    For `l2` the changes are divided by their largest before they are squared, so that
    the squares of tiny ones do not vanish.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax.attacks import norms
        >>> changes = jnp.zeros((1, 2, 2, 3)).at[0, 0, 0].set(0.5)
        >>> [float(norms.length(changes, name)[0]) for name in ("l0", "l1", "linf")]
        [1.0, 1.5, 0.5]
    """
    sizes = jnp.abs(jnp.asarray(changes))
    axes = tuple(range(1, sizes.ndim))
    if norm == "l0":
        moved = jnp.any(sizes > 0, axis=-1)
        return jnp.sum(moved, axis=axes[:-1]).astype(sizes.dtype)
    if norm == "l1":
        return jnp.sum(sizes, axis=axes)
    largest = jnp.max(sizes, axis=axes)
    if norm == "linf":
        return largest
    scale = jnp.where(largest > 0, largest, 1)
    return scale * jnp.sqrt(jnp.sum((sizes / _wide(scale)) ** 2, axis=axes))


def unit(changes: PyTree, norm: str) -> jax.Array:
    """Divide changes by their norm; zeros stay zeros."""
    largest = length(changes, "linf")
    changes = changes / _wide(jnp.where(largest > 0, largest, 1))
    size = length(changes, norm)
    return changes / _wide(jnp.where(size > 0, size, 1))


def steepest(
    gradient: PyTree, norm: str, images: PyTree = None, share: float = 0.0
) -> jax.Array:
    """Give the change of norm 1 that raises a linear loss most.

    Its sign for `linf`, the unit vector for `l2`, and for `l1` the entry with the
    largest slope.

    Args:
        gradient: Gradient of the loss.
        norm: `linf`, `l2` or `l1`.
        images: Where it is taken: of `l1`, entries that would leave [0, 1] are passed
            over.
        share: Share of the entries among which `l1` divides the change; at least the
            largest takes part, and what equals the smallest that does.
    """
    if norm == "linf":
        return jnp.sign(gradient)
    if norm == "l2":
        return unit(gradient, "l2")
    sizes = jnp.abs(gradient)
    if images is not None:
        free = jnp.where(gradient > 0, images < 1, images > 0)
        sizes = jnp.where(free, sizes, 0)
    flat = sizes.reshape((len(sizes), -1))
    count = max(1, round(share * flat.shape[1]))
    least = jax.lax.top_k(flat, count)[0][:, -1]
    chosen = (sizes >= _wide(least)) & (sizes > 0)
    return unit(jnp.where(chosen, jnp.sign(gradient), 0), "l1")


def project(images: PyTree, originals: PyTree, epsilon: PyTree, norm: str) -> jax.Array:
    """Give the nearest images within `epsilon` of the originals and in [0, 1].

    Nearest in the Euclidean sense, exactly, of both conditions at once for `linf` and
    `l1`. For `l2` the change is scaled first and clipped then, as is usual: what is
    found satisfies both conditions but may not be the nearest.

    Args:
        images: What is projected.
        originals: Centres of the balls, in [0, 1].
        epsilon: Radius, one for all or one an image.
        norm: `linf`, `l2` or `l1`.

    References:
        Duchi et al., *Efficient Projections onto the l1-Ball for Learning in High
        Dimensions*, ICML 2008, for the threshold without bounds; Croce & Hein,
        *Mind the Box: l1-APGD for Sparse Adversarial Attacks on Image Classifiers*,
        ICML 2021, Section 3, for that with bounds.
    """
    radius = _wide(jnp.asarray(epsilon, images.dtype))
    if norm == "linf":
        inside = jnp.clip(images, originals - radius, originals + radius)
        return jnp.clip(inside, 0, 1)
    changes = images - originals
    if norm == "l2":
        size = _wide(length(changes, "l2"))
        scale = jnp.minimum(1, radius / jnp.where(size > 0, size, 1))
        return jnp.clip(originals + changes * scale, 0, 1)
    room = jnp.where(changes > 0, 1 - originals, originals)
    sizes = _shrunk(jnp.abs(changes), room, radius)
    return originals + jnp.sign(changes) * sizes


def _shrunk(sizes: jax.Array, room: jax.Array, radius: jax.Array) -> jax.Array:
    """Give `min(max(sizes - t, 0), room)`, whose sum is at most the radius.

    The threshold `t` is where the sum is the radius, or 0. The sum falls with it and
    is piecewise linear, so that halving finds the piece, and its line the threshold.
    """
    shape = sizes.shape
    sizes, room = (a.reshape((len(a), -1)) for a in (sizes, room))
    radius = jnp.broadcast_to(radius.reshape((-1, 1)), (len(sizes), 1))

    def kept(threshold: jax.Array) -> jax.Array:
        return jnp.clip(sizes - threshold, 0, room)

    def total(threshold: jax.Array) -> jax.Array:
        return jnp.sum(kept(threshold), axis=1, keepdims=True)

    def halve(_: PyTree, bounds: tuple[jax.Array, jax.Array]) -> PyTree:
        low, high = bounds
        middle = (low + high) / 2
        above = total(middle) > radius
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    zeros = jnp.zeros_like(radius)
    top = jnp.max(sizes, axis=1, keepdims=True)
    halvings = HALVINGS if sizes.dtype == jnp.float64 else HALVINGS // 2
    low, high = jax.lax.fori_loop(0, halvings, halve, (zeros, top))
    # Between `low` and `high` the same entries fall along one line.
    middle = (low + high) / 2
    sloping = (sizes > middle) & (sizes - middle < room)
    count = jnp.sum(sloping, axis=1, keepdims=True)
    line = high - (radius - total(high)) / jnp.maximum(count, 1)
    threshold = jnp.where(total(zeros) > radius, jnp.clip(line, low, high), 0)
    return kept(threshold).reshape(shape)


def random_point(
    keys: jax.Array, originals: PyTree, epsilon: PyTree, norm: str
) -> jax.Array:
    """Draw a point of the ball around each image, uniformly, and clip it to [0, 1].

    Args:
        keys: One an image, `[batch]`.
        originals: Centres, in [0, 1].
        epsilon: Radius.
        norm: `linf`, `l2` or `l1`.
    """
    shape, dtype = originals.shape[1:], originals.dtype
    draw = functools.partial(_drawn, shape=shape, dtype=dtype, norm=norm)
    return jnp.clip(originals + epsilon * jax.vmap(draw)(keys), 0, 1)


def _drawn(
    key: jax.Array, shape: tuple[int, ...], dtype: np.dtype, norm: str
) -> jax.Array:
    """Draw from the unit ball.

    A direction is drawn from the density that depends on the norm alone, `exp(-|x|^p)`,
    and the length as the n-th root of a uniform number.
    """
    if norm == "linf":
        return jax.random.uniform(key, shape, dtype, -1, 1)
    first, second, third = jax.random.split(key, 3)
    if norm == "l2":
        found = jax.random.normal(first, shape, dtype)
    else:
        sign = jax.random.rademacher(third, shape, dtype)
        found = sign * jax.random.exponential(first, shape, dtype)
    share = jax.random.uniform(second, (), dtype) ** (1 / np.prod(shape))
    return share * unit(found[None], norm)[0]
