"""Learned positions of a grid of patches, on a grid of another size.

Each library resizes them by a rule of its own, and other numbers come out of another.
"""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

PATH = "params/tokens/position"
CUBIC = jax.image.ResizeMethod.CUBIC
PYTORCH = jax.image.ResizeMethod.CUBIC_PYTORCH


def _antialiased(grid: jax.Array, side: int) -> jax.Array:
    return jax.image.resize(grid, (side, side, grid.shape[-1]), CUBIC)


def _bicubic(grid: jax.Array, side: int) -> jax.Array:
    shape = side, side, grid.shape[-1]
    return jax.image.resize(grid, shape, PYTORCH, antialias=False)


def _offset(grid: jax.Array, side: int) -> jax.Array:
    return _scaled(grid, side, (side + 0.1) / len(grid), 0.0)


def _corners(grid: jax.Array, side: int) -> jax.Array:
    scale = (side - 1) / (len(grid) - 1)
    return _scaled(grid, side, scale, 0.5 - 0.5 * scale)


def _scaled(grid: jax.Array, side: int, scale: float, shift: float) -> jax.Array:
    shape = side, side, grid.shape[-1]
    both = jnp.full(2, scale), jnp.full(2, shift)
    return jax.image.scale_and_translate(
        grid, shape, (0, 1), *both, PYTORCH, antialias=False
    )


RULES: Mapping[str, Callable[[jax.Array, int], jax.Array]] = {
    "antialiased": _antialiased,
    "bicubic": _bicubic,
    "offset": _offset,
    "corners": _corners,
}
"""Rules by name: timm's, which is that of all DINOv2 with registers; transformers';
that of the official DINO and DINOv2, whose scale has 0.1 of a patch more; and
torchvision's, whose corners stay corners."""


def check(rule: str) -> None:
    """Refuse a rule that is none.

    Raises:
        ValueError: It is none of `RULES`.
    """
    if rule not in RULES:
        raise ValueError(
            f"`positions`={rule!r} is no rule; expected one of {', '.join(RULES)}."
        )


def resize(positions: np.ndarray, places: int, rule: str) -> np.ndarray:
    """Resize the positions of a square grid.

    Args:
        positions: `[1, old places, channels]`.
        places: Number of places of the new grid, a square number as well.
        rule: One of `RULES`.

    Raises:
        ValueError: One of the grids is no square, or the rule is unknown.
    """
    check(rule)
    old, new = math.isqrt(positions.shape[1]), math.isqrt(places)
    if (old**2, new**2) != (positions.shape[1], places):
        raise ValueError(
            f"The file has positions of {positions.shape[1]} places, and the network "
            f"has {places} places; expected two square grids, to resize one to another."
        )
    if old == new:
        return positions
    grid = jnp.asarray(positions[0], jnp.float32).reshape(old, old, -1)
    resized = RULES[rule](grid, new)
    return np.asarray(resized).reshape(1, places, positions.shape[2])
