"""Tokens of a transformer as a grid of maps, and the grid as tokens again."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax.types import Array

SQUARE = "square"
MOST_LEADING = 16
"""How many leading tokens a sentence tries to find a grid."""


class Tokens(NamedTuple):
    """Say how `[batch, tokens, channels]` becomes a grid of maps.

    Attributes:
        leading: Number of tokens before the grid, such as class and register tokens.
        grid: Rows and columns, or "square".

    Example:
        >>> from unlir_jax import split
        >>> split.Tokens(leading=1, grid=(14, 14))  # A ViT-B/16 at 224 pixels.
        Tokens(leading=1, grid=(14, 14))
    """

    leading: int = 0
    grid: tuple[int, int] | Literal["square"] = SQUARE


Layout = Tokens | tuple[int, tuple[int, int] | Literal["square"]] | Literal["square"]
"""`Tokens`, or a tuple of its two fields; "square" where no token leads."""


def check(tokens: Layout) -> Tokens:
    """Read a layout of tokens.

    Raises:
        ValueError: It is none.
    """
    found = tokens
    if isinstance(tokens, str):
        found = Tokens(grid=tokens)
    elif isinstance(tokens, tuple) and len(tokens) == 2:
        found = Tokens(*tokens)
    if isinstance(found, Tokens) and _is_count(found.leading, 0):
        grid = found.grid
        if grid == SQUARE:
            return found
        pair = isinstance(grid, tuple | list) and len(grid) == 2
        if pair and all(_is_count(side, 1) for side in grid):
            return found._replace(grid=tuple(grid))
    raise ValueError(
        f"`tokens`={tokens!r}; expected (leading, grid), where `leading` is a number "
        'of tokens and `grid` is (rows, columns) or "square", such as (1, "square").'
    )


def to_grid(values: Array, layout: Tokens) -> tuple[jax.Array, jax.Array]:
    """Lay tokens out as maps.

    Args:
        values: `[batch, tokens, channels]`.
        layout: Leading tokens, and the grid of the others in row-major order.

    Returns:
        Maps `[batch, rows, columns, channels]`, and the leading tokens.

    Raises:
        ValueError: There are no tokens, or too few or many for the grid.
    """
    shape = jnp.shape(values)
    if len(shape) != 3:
        raise ValueError(
            f"`tokens`={tuple(layout)} is given, but the network is cut where arrays "
            f"have shape {shape}; expected [batch, tokens, channels], or no `tokens`."
        )
    batch, count, channels = shape
    left = count - layout.leading
    if layout.grid == SQUARE:
        rows = columns = math.isqrt(max(left, 0))
    else:
        rows, columns = layout.grid
    if left < 1 or rows * columns != left:
        grid = "a square" if layout.grid == SQUARE else f"{rows} x {columns}"
        raise ValueError(
            f"`tokens` says {layout.leading} leading and {grid}, but the network has "
            f"{count} tokens where it is cut; expected leading + rows x columns = "
            f"{count}, such as {' or '.join(_fitting(count, layout.leading))}."
        )
    values = jnp.asarray(values)
    grid = values[:, layout.leading :].reshape(batch, rows, columns, channels)
    return grid, values[:, : layout.leading]


def from_grid(maps: Array, leading: Array) -> jax.Array:
    """Lay maps out as tokens, behind those that lead."""
    batch, rows, columns, channels = jnp.shape(maps)
    flat = jnp.reshape(jnp.asarray(maps), (batch, rows * columns, channels))
    return jnp.concatenate([jnp.asarray(leading, flat.dtype), flat], 1)


def _fitting(count: int, leading: int) -> list[str]:
    """List layouts that would fit: squares first, then what is nearest to one."""
    found = []
    for lead in range(min(MOST_LEADING, count - 1) + 1):
        side = math.isqrt(count - lead)
        if side > 1 and side * side == count - lead:
            found.append(f"{lead} + {side} x {side}")
    left = count - leading
    for rows in range(math.isqrt(max(left, 0)), 0, -1):
        if left % rows == 0:
            found.append(f"{leading} + {rows} x {left // rows}")
            break
    return list(dict.fromkeys(found))[:4] or [f"0 + 1 x {count}"]


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
