"""One pass through a network, or its head, for each filter of each image."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import loops

Program = Callable[..., jax.Array]


def score(
    program: Program,
    images: int,
    filters: int,
    batch_size: int,
    *arguments: Any,
    loop: loops.Loop,
) -> jax.Array:
    """Score every pair of an image and a filter, `batch_size` of them at a time.

    The pairs are cut into equal chunks, so less than one pass in a chunk is wasted,
    and memory does not grow with images or filters.

    Args:
        program: `(size, start, *arguments) -> [size]`, jitted with `size` static; it
            asks `pairs` which images and filters it is to score.
        images: How many.
        filters: How many.
        batch_size: Largest number of pairs in one pass.
        *arguments: Passed on.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        Scores, `[images, filters]`.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size`={batch_size}; expected at least 1.")
    total = images * filters
    chunks = -(-total // batch_size)
    size = -(-total // chunks)
    starts = np.arange(chunks, dtype=np.int32) * size
    chunk = functools.partial(program, size)
    found = loops.map_steps(chunk, jnp.asarray(starts), *arguments, loop=loop)
    return found.reshape(-1)[:total].reshape((images, filters))


def pairs(
    size: int, start: jax.Array, images: int, filters: int
) -> tuple[jax.Array, jax.Array]:
    """Number the images and the filters of a chunk, `[size]` each."""
    index = jnp.minimum(start + jnp.arange(size), images * filters - 1)
    return index // filters, index % filters
