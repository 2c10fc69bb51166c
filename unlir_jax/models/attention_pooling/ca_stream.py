"""CA-Stream: one query travels through the stages of a network, and pools the last."""

import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from unlir_jax.core import choices
from unlir_jax.models.attention_pooling.pool import (
    EXACT,
    Pool,
    mixed,
    register,
    shares,
    similarity,
)
from unlir_jax.types import Array, PyTree

Last = Literal["xavier", "identity"]
LAST = "last"
"""Name of the last linear map; the others are `link0` …"""


@register("ca_stream")
class CrossAttentionStream(Pool):
    """Pool by a query that every stage changes.

    `a = softmax(F q / sqrt(d))` over the locations of a stage, `q' = W (F' a) + b` for
    the next one. The last `q'` takes the place of the average-pooled vector. The first
    query is one for all images, drawn from N(1, 1). No projections, no norm, no sum
    around a stage. Without earlier stages it is the paper's variant with one block.

    The query and all linear maps learn. In the released code (690615b) only the query
    did, because parameters were chosen by a name that the linear maps do not have.

    Attributes:
        last: How the last linear map starts: `xavier` as all others and as in the
            paper, or `identity`, with which the first pooled vector is a mean over
            locations. A classifier for average pooling then works from the start.

    References:
        Torres Figueroa et al., *CA-Stream: Attention-based Pooling for Interpretable
        Image Recognition*, CVPR Workshops 2024.
    """

    last: Last = "xavier"

    def setup(self) -> None:
        first = functools.partial(_first_query, self.channels[0])
        self.query = self.param("query", first)
        widths = (*self.channels[1:], self.channels[-1])
        ends = [*(f"link{place}" for place in range(len(widths) - 1)), LAST]
        self.links = [
            nn.Dense(
                width,
                precision=EXACT,
                kernel_init=_KERNELS[self.last if name == LAST else "xavier"],
                name=name,
            )
            for width, name in zip(widths, ends, strict=True)
        ]

    def begin(self, stages: Sequence[Array], size: int) -> tuple[jax.Array, ...]:
        """Give the query of the last maps of each image, `[batch, channels]`.

        Args:
            stages: Maps of the earlier stages.
            size: Number of images.
        """
        query = jnp.broadcast_to(self.query, (size, self.channels[0]))
        for maps, link in zip(stages, self.links[:-1], strict=True):
            query = link(mixed(maps, shares(similarity(maps, query))))
        return (query,)

    def scores(self, maps: Array, context: tuple[jax.Array, ...]) -> jax.Array:
        """Compare the last maps with their query."""
        return similarity(maps, *context)

    def pooled(self, maps: Array, scores: Array) -> jax.Array:
        """Add the last maps up, and map the sum linearly."""
        return self.links[-1](mixed(maps, shares(scores)))

    @nn.nowrap
    def check(self) -> None:
        """Refuse another start of the last linear map."""
        choices.check("last", self.last, Last)

    @nn.nowrap
    def draw(
        self, generator: np.random.Generator, path: str, leaf: PyTree
    ) -> np.ndarray:
        """Draw one array at the start, by its path in this module."""
        if path == "query":
            return generator.normal(1, 1, leaf.shape).astype(np.float32)
        if not path.endswith("kernel"):
            return np.zeros(leaf.shape, np.float32)
        if self.last == "identity" and path == f"{LAST}/kernel":
            return np.eye(*leaf.shape, dtype=np.float32)
        limit = np.sqrt(6 / sum(leaf.shape))
        return generator.uniform(-limit, limit, leaf.shape).astype(np.float32)


def _first_query(width: int, key: jax.Array) -> jax.Array:
    return 1 + jax.random.normal(key, (width,))


def _identity(key: jax.Array, shape: tuple[int, ...], dtype: PyTree) -> jax.Array:
    del key
    return jnp.eye(*shape, dtype=dtype)


_KERNELS = {"xavier": nn.initializers.xavier_uniform(), "identity": _identity}
