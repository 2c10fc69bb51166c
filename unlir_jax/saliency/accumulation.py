"""Sums over many passes through a network, in the memory of one pass."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from unlir_jax.core import loops, random_keys
from unlir_jax.types import Images, PyTree

image_keys = jax.jit(random_keys.per_image)
"""Derive one key an image, see `random_keys.per_image`."""


def fold(
    step: Callable[..., PyTree],
    start: PyTree,
    items: PyTree,
    *arguments: PyTree,
    loop: loops.Loop,
) -> PyTree:
    """Apply `state = step(state, item, *arguments)` for each item in turn.

    Args:
        step: Should be jitted: on the host it is called as it is.
        start: The first state, an array or a tree of arrays.
        items: One array whose first axis is run through.
        *arguments: What stays the same.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        The last state.
    """
    if loops.place(loop, start, items, *arguments) == "host":
        for item in items:
            start = step(start, item, *arguments)
        return start

    def body(state: PyTree, item: jax.Array) -> tuple[PyTree, None]:
        return step(state, item, *arguments), None

    return jax.lax.scan(body, start, jnp.asarray(items))[0]


def noise(own: jax.Array, sample: PyTree, images: Images, level: float) -> jax.Array:
    """Draw Gaussian noise for each image from its own key.

    Args:
        own: The images' keys, from `image_keys`.
        sample: Number of the draw.
        images: What the noise is added to.
        level: Standard deviation, as a share of each image's range of values.
    """
    images = jnp.asarray(images)
    spread = jnp.max(images, (1, 2, 3)) - jnp.min(images, (1, 2, 3))

    def draw(key: jax.Array) -> jax.Array:
        key = jax.random.fold_in(key, sample)
        return jax.random.normal(key, images.shape[1:], images.dtype)

    return level * spread[:, None, None, None] * jax.vmap(draw)(own)


def check_samples(samples: int, level: float) -> None:
    """Refuse settings of noise that make no sense."""
    if samples < 1:
        raise ValueError(f"`samples`={samples}; expected 1 or more.")
    if level < 0:
        raise ValueError(f"`level`={level}; expected 0 or more.")
