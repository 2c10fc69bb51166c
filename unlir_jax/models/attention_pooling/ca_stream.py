"""CA-Stream: one query travels through the stages of a network, and pools the last."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from unlir_jax.core import choices
from unlir_jax.models.attention_pooling.pool import (
    EXACT,
    Pool,
    identity,
    mixed,
    register,
    shares,
    similarity,
)
from unlir_jax.types import Array, PyTree

Start = Literal["xavier", "average", "left_out"]
Initializer = Callable[..., Any]
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
        start: How it starts: `xavier`, all linear maps at random as in the paper; or
            `average`, as average pooling: the query of the last maps is zero, and the
            last linear map the identity. A classifier of average-pooled maps then
            works from the first step on; or `left_out`: a training on kept features
            fits the attention behind classifiers that have not seen the image, see
            `training.attention_start`. Until then it is as `average`.

    References:
        Torres Figueroa et al., *CA-Stream: Attention-based Pooling for Interpretable
        Image Recognition*, CVPR Workshops 2024.
    """

    start: Start = "xavier"

    def setup(self) -> None:
        width, *others = self.channels
        usual = nn.initializers.xavier_uniform()
        self.query = self.param("query", self._start("query", _around_one), (width,))
        names = [*(f"link{place}" for place in range(len(others))), LAST]
        self.links = [
            nn.Dense(
                outputs,
                precision=EXACT,
                kernel_init=self._start(name, usual),
                name=name,
            )
            for name, outputs in zip(names, (*others, self.channels[-1]), strict=True)
        ]

    @nn.nowrap
    def _start(self, name: str, usual: Initializer) -> Initializer:
        """Choose how the query, or the kernel of a linear map, starts."""
        if self.start == "xavier":
            return usual
        earlier = len(self.channels) - 1
        into_last = f"link{earlier - 1}" if earlier else "query"
        own = {LAST: identity, into_last: nn.initializers.zeros}
        return own.get(name, usual)

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
        """Refuse another start."""
        choices.check("start", self.start, Start)

    @nn.nowrap
    def draw(
        self, generator: np.random.Generator, path: str, leaf: PyTree
    ) -> np.ndarray:
        """Draw one array at the start, by its path in this module."""
        start = self._start(path.removesuffix("/kernel"), _around_one)
        if path.endswith("bias") or start is nn.initializers.zeros:
            return np.zeros(leaf.shape, np.float32)
        if start is identity:
            return np.eye(*leaf.shape, dtype=np.float32)
        if path == "query":
            return generator.normal(1, 1, leaf.shape).astype(np.float32)
        limit = np.sqrt(6 / sum(leaf.shape))
        return generator.uniform(-limit, limit, leaf.shape).astype(np.float32)


def _around_one(key: jax.Array, shape: tuple[int, ...], dtype: Any = None) -> jax.Array:
    return 1 + jax.random.normal(key, shape, dtype)
