"""Loops over a network, run by the host or inside the compiled program."""

import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from unlir_jax.core import choices
from unlir_jax.types import Array, PyTree

Loop = Literal["auto", "host", "device"]
CACHED_PIXELS = 2 * 224 * 224
"""What a core of a CPU takes at once, see `few_enough`."""
CACHED_CELLS = 8 * 28 * 28
"""The same for a network's head, whose maps have many more filters than colours."""


def place(loop: Loop, *arguments: PyTree) -> Literal["host", "device"]:
    """Choose who drives a loop whose body runs a network.

    XLA on CPU runs convolutions inside a loop several times more slowly than outside,
    so `auto` means the host there; on accelerators, and under an enclosing
    transformation such as `jax.jit`, it means the device.

    Raises:
        ValueError: `loop` is unknown, or the host is asked for under a transformation.
    """
    choices.check("loop", loop, Loop)
    traced = any(isinstance(x, core.Tracer) for x in jax.tree.leaves(arguments))
    if loop == "auto":
        return "host" if jax.default_backend() == "cpu" and not traced else "device"
    if loop == "host" and traced:
        raise ValueError(
            "`loop`='host' cannot run inside jax.jit or another transformation; "
            "expected 'auto' or 'device'."
        )
    return loop


def few_enough(
    batch_size: int,
    size: Sequence[int],
    loop: Loop,
    *arguments: PyTree,
    most: int = CACHED_PIXELS,
) -> int:
    """Lower a number of images so that a pass over them stays in a CPU's caches.

    MobileNetV2 takes 4.8 ms of a core for each of 2 images of 224 x 224, 5.2 ms for
    each of 4 and 6.5 ms for each of 32 (docs/results/speed.md). Elsewhere, or for small
    images, the number stays as it is.

    Args:
        batch_size: The largest number that is allowed.
        size: Height and width of the images, or of the maps that a head starts from.
        loop: See `place`.
        *arguments: See `place`.
        most: Places of the images of one core.
    """
    if place(loop, *arguments) != "host" or jax.default_backend() != "cpu":
        return batch_size
    return min(batch_size, max(1, cores() * most // math.prod(size)))


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_steps(
    function: Callable[..., jax.Array], steps: Array, *arguments: PyTree, loop: Loop
) -> jax.Array:
    """Stack `function(step, *arguments)` over steps, one call at a time.

    Memory is that of one call. `function` should be jitted: on the host it is called
    as it is.

    Returns:
        Results along a new first axis.
    """
    if place(loop, steps, *arguments) == "host":
        # Each item of an array of JAX is sliced off by a program of its own.
        numeric = np.issubdtype(steps.dtype, np.number)
        items = map(np.asarray, np.asarray(steps)) if numeric else steps
        return _stacked([function(step, *arguments) for step in items])
    return jax.lax.map(lambda step: function(step, *arguments), jnp.asarray(steps))


def map_pairs(
    program: Callable[..., jax.Array],
    images: int,
    numbers: int,
    batch_size: int,
    *arguments: PyTree,
    loop: Loop,
) -> jax.Array:
    """Score every pair of an image and a number, `batch_size` of them at a time.

    Numbers count filters, masks or points on a curve. The pairs are cut into
    equal chunks, so less than one pass in a chunk is wasted, and memory does not grow
    with images or numbers.

    Args:
        program: `(size, start, *arguments) -> [size]`, jitted with `size` static; it
            asks `pairs` which images and numbers it is to score.
        images: How many.
        numbers: How many.
        batch_size: Largest number of pairs in one pass.
        *arguments: Passed on.
        loop: `auto`, `host` or `device`; see `place`.

    Returns:
        Scores, `[images, numbers]`.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size`={batch_size}; expected at least 1.")
    total = images * numbers
    chunks = -(-total // batch_size)
    size = -(-total // chunks)
    starts = np.arange(chunks, dtype=np.int32) * size
    chunk = functools.partial(program, size)
    if place(loop, *arguments) == "host":
        found = [chunk(np.asarray(start), *arguments) for start in starts]
    else:
        found = map_steps(chunk, starts, *arguments, loop=loop)
    return _by_image(found, images, numbers)


_stacked = jax.jit(jnp.stack)


@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)
def _by_image(found: PyTree, images: int, numbers: int) -> jax.Array:
    found = jnp.stack(found) if isinstance(found, list) else found
    return found.reshape(-1)[: images * numbers].reshape((images, numbers))


def pairs(
    size: int, start: jax.Array, images: int, numbers: int
) -> tuple[jax.Array, jax.Array]:
    """Give the images and the numbers of a chunk, `[size]` each."""
    index = jnp.minimum(start + jnp.arange(size), images * numbers - 1)
    return index // numbers, index % numbers
