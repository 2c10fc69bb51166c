"""Where a loop over a network runs: on the host or inside the compiled program."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import core

Loop = Literal["auto", "host", "device"]
CACHED_PIXELS = 4 * 224 * 224
CACHED_CELLS = 8 * 28 * 28
"""The same for a network's head, whose maps have many more filters than colours."""


def place(loop: Loop, *arguments: Any) -> Literal["host", "device"]:
    """Choose who drives a loop whose body runs a network.

    XLA on CPU runs convolutions inside a loop several times more slowly than outside,
    so `auto` means the host there; on accelerators, and under an enclosing
    transformation such as `jax.jit`, it means the device.

    Raises:
        ValueError: `loop` is unknown, or the host is asked for under a transformation.
    """
    if loop not in get_args(Loop):
        raise ValueError(
            f"`loop`={loop!r} is unknown; expected one of {get_args(Loop)}."
        )
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
    *arguments: Any,
    most: int = CACHED_PIXELS,
) -> int:
    """Lower a number of images so that a pass over them stays in a CPU's caches.

    MobileNetV2 takes 5.4 ms of a core for each of 4 images of 224 x 224 and 6.7 ms for
    each of 32 (docs/performance.md). Elsewhere, and for small images, the number stays
    as it is.

    Args:
        batch_size: The largest number that is allowed.
        size: Height and width of the images, or of the maps that a head starts from.
        loop: See `place`.
        *arguments: See `place`.
        most: Places that all images may have together.
    """
    if place(loop, *arguments) != "host" or jax.default_backend() != "cpu":
        return batch_size
    return min(batch_size, max(1, most // math.prod(size)))


def map_steps(
    function: Callable[..., jax.Array], steps: jax.Array, *arguments: Any, loop: Loop
) -> jax.Array:
    """Stack `function(step, *arguments)` over steps, one call at a time.

    Memory is that of one call. `function` should be jitted: on the host it is called
    as it is.

    Returns:
        Results along a new first axis.
    """
    if place(loop, steps, *arguments) == "host":
        return jnp.stack([function(step, *arguments) for step in steps])
    return jax.lax.map(lambda step: function(step, *arguments), steps)
