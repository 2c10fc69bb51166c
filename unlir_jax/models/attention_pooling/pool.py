"""Common part of all ways to pool by attention, and their table.

A way to pool is one file: a subclass of `Pool` under `@register(name)`, which
`attention_pooling` imports. Its fields are its settings, but for `channels` of the maps
that are looked at, the last maps' last.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from unlir_jax.types import Array, PyTree

EXACT = "highest"
"""Precision of products, on any accelerator."""

uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Draw a kernel uniformly within `1 / sqrt(inputs)`, as PyTorch's linear layers."""


def identity(key: jax.Array, shape: tuple[int, ...], dtype: Any = None) -> jax.Array:
    """Start a kernel as the identity."""
    del key
    return jnp.eye(*shape, dtype=dtype)


class Pool(nn.Module):
    """Pool the last maps of a network to one vector by weights of their locations.

    Each has the methods `begin(stages, size)`, what earlier maps give to the last ones,
    `()` where they are not looked at; `scores(maps, context)`, before the softmax,
    `[batch, rows, columns, queries]`; and `pooled(maps, scores)`, `[batch, channels]`.
    """

    channels: tuple[int, ...]

    def begin(self, stages: Sequence[Array], size: int) -> tuple[jax.Array, ...]:
        """Give what the scores of the last maps depend on besides the maps."""
        del stages, size
        return ()

    def __call__(self, maps: Array, context: tuple[jax.Array, ...] = ()) -> jax.Array:
        """Pool maps, `[batch, channels]`."""
        return self.pooled(maps, self.scores(maps, context))

    @nn.nowrap
    def check(self) -> None:
        """Refuse settings that make no sense for these channels."""

    @nn.nowrap
    def draw(
        self, generator: np.random.Generator, path: str, leaf: PyTree
    ) -> np.ndarray:
        """Draw one array at the start, by its path in this module."""
        limit = leaf.shape[0] ** -0.5
        if len(leaf.shape) == 2:
            return generator.uniform(-limit, limit, leaf.shape).astype(np.float32)
        one = path.endswith("scale")
        return (np.ones if one else np.zeros)(leaf.shape, np.float32)


POOLS: dict[str, type[Pool]] = {}
"""Ways to pool by attention, by name."""


def register(name: str) -> Callable[[type[Pool]], type[Pool]]:
    """Let a way to pool be asked for by name.

    Raises:
        ValueError: The name is taken.
    """

    def add(kind: type[Pool]) -> type[Pool]:
        if name in POOLS:
            raise ValueError(
                f"`name`={name!r} is a way to pool already; expected another."
            )
        POOLS[name] = kind
        return kind

    return add


def shares(scores: Array) -> jax.Array:
    """Deal out 1 over the locations by a softmax: `[batch, rows, columns, queries]`."""
    return jax.nn.softmax(scores, axis=(1, 2))


def similarity(maps: Array, query: Array) -> jax.Array:
    """Compare locations with a query of each image: `F q / sqrt(d)`, one score each."""
    scores = jnp.einsum("bijc,bc->bij", maps, query, precision=EXACT)
    return scores[..., None] / np.sqrt(maps.shape[-1]).astype(scores.dtype)


def mixed(maps: Array, weights: Array) -> jax.Array:
    """Add maps up by weights of one query: `[batch, channels]`."""
    return jnp.einsum("bijc,bij->bc", maps, weights[..., 0], precision=EXACT)
