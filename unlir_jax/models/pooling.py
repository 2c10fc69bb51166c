"""Describe images by pooling the maps of a network."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from unlir_jax.core import compilation
from unlir_jax.types import Array, Features, Maps, Module

Descriptors = Float[jax.Array, "batch channels"]
POWER = 3.0
LEAST = 1e-6
LEVELS = 3


def average(maps: Maps) -> Descriptors:
    """Average over cells (GAP)."""
    return jnp.mean(maps, axis=(1, 2))


def maximum(maps: Maps) -> Descriptors:
    """Take the largest over cells (GMP, MAC)."""
    return compilation.largest(maps, (1, 2))


def gem(maps: Maps, power: float = POWER) -> Descriptors:
    """Take the generalised mean over cells, `(mean x^p)^(1/p)`.

    Radenovic, Tolias and Chum, TPAMI 2019, Eq. 3; what is below 1e-6 counts as that.
    """
    maps = jnp.maximum(maps, LEAST)
    # In shares of the largest, whose powers are at most one.
    largest = compilation.largest(maps, (1, 2), keepdims=True)
    mean = jnp.mean((maps / largest) ** power, axis=(1, 2))
    return largest[:, 0, 0] * mean ** (1 / power)


def rmac(maps: Maps, levels: int = LEVELS) -> Descriptors:
    """Add up the unit descriptors of square regions of several sizes, at unit length.

    R-MAC (Tolias, Sicre and Jegou, ICLR 2016), without its whitening of regions: at
    level l, squares of side `2 min(rows, columns) / (l + 1)`, as many along the shorter
    side as l and along the longer one so that neighbours overlap by about 40 %.

    Args:
        maps: `[batch, rows, columns, channels]`.
        levels: Number of sizes.
    """
    rows, columns = maps.shape[1:3]
    total = jnp.zeros((maps.shape[0], maps.shape[3]))
    for top, left, side in regions(rows, columns, levels):
        found = maximum(maps[:, top : top + side, left : left + side])
        total = total + _unit(found)
    return _unit(total)


def regions(rows: int, columns: int, levels: int) -> list[tuple[int, int, int]]:
    """List the squares of R-MAC: row, column and side of each."""
    short, long = min(rows, columns), max(rows, columns)
    # How many more squares lie along the longer side: the overlap nearest to 0.4.
    overlaps = [
        abs((short**2 - short * (long - short) / steps) / short**2 - 0.4)
        for steps in range(1, 7)
    ]
    more = 0 if rows == columns else 1 + overlaps.index(min(overlaps))
    found = []
    for level in range(1, levels + 1):
        side = max(1, 2 * short // (level + 1))
        down = level + (more if rows > columns else 0)
        across = level + (more if columns > rows else 0)
        for top in _starts(rows, side, down):
            found += [(top, left, side) for left in _starts(columns, side, across)]
    return found


def _starts(length: int, side: int, count: int) -> list[int]:
    if count == 1:
        return [(length - side) // 2 if length > side else 0]
    return [int(index * (length - side) / (count - 1)) for index in range(count)]


def _unit(vectors: Array) -> jax.Array:
    square = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    safe = jnp.where(square > 0, square, 1)
    return jnp.where(square > 0, vectors * jax.lax.rsqrt(safe), 0)


POOLINGS: Mapping[str, Callable[[Maps], Descriptors]] = MappingProxyType(
    {"average": average, "max": maximum, "gem": gem, "rmac": rmac}
)
"""Ways to pool, by name."""

TOKEN = "token"
"""Name of what networks with a class token have besides."""


def describe(found: Maps | Features, how: str) -> Descriptors:
    """Pool maps by one of `POOLINGS`, or take the class token that leads a grid.

    Args:
        found: Maps; a transformer's have the tokens that lead as context.
        how: One of `POOLINGS`, or `token`.

    Raises:
        ValueError: There is no such way, or no token.
    """
    maps = found.maps if isinstance(found, Features) else found
    if how in POOLINGS:
        return POOLINGS[how](maps)
    leading = found.context[0] if isinstance(found, Features) else maps[:, 0, :0]
    leading = jnp.asarray(leading)
    if how != TOKEN or not leading.shape[1]:
        known = ", ".join(POOLINGS)
        raise ValueError(
            f"`pooling`={how!r}; expected one of {known}, or {TOKEN!r} of a network "
            "with a class token."
        )
    return leading[:, 0]


def has_token(module: Module) -> bool:
    """Tell whether a network has a class token."""
    return TOKEN in getattr(module, "ways", ())


def cells(maps: jax.Array, count: int) -> jax.Array:
    """Average over `count` x `count` windows that cover maps of any size."""
    if maps.shape[1:3] == (count, count):
        return maps
    down, across = (_windows(n, count).astype(maps.dtype) for n in maps.shape[1:3])
    return jnp.einsum("yh,xw,bhwc->byxc", down, across, maps, precision="highest")


def _windows(length: int, cells: int) -> np.ndarray:
    """Average from floor(i n / cells) up to ceil((i + 1) n / cells), PyTorch's rule."""
    cell = np.arange(cells)[:, None]
    start, stop = cell * length // cells, -(-(cell + 1) * length // cells)
    position = np.arange(length)[None, :]
    inside = (position >= start) & (position < stop)
    return inside / inside.sum(axis=1, keepdims=True)
