"""Efficient Probing: learned queries, each of which reads its share of the channels."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from unlir_jax.core import choices
from unlir_jax.models.attention_pooling.pool import (
    EXACT,
    Pool,
    identity,
    register,
    shares,
    uniform,
)
from unlir_jax.types import Array, PyTree

DEVIATION = 0.02
Start = Literal["random", "average", "parts"]


@register("efficient_probing")
class EfficientProbing(Pool):
    """Pool by several learned queries.

    `a_i = softmax(X q_i / sqrt(d))` over the locations, which are compared as they are.
    `V = X W` has the channels of the maps; query i adds up the i-th group of them,
    `sum a_i V_i`. The groups side by side are the vector: `d^2 + Q d` parameters.

    Attributes:
        queries: Number of queries, which divides that of the channels.
        start: How it starts: `random`, as in the paper; or `average`, as average
            pooling: the queries are zero, and the linear map is the identity. A
            classifier of average-pooled maps then works from the first step on; or
            `parts`: a training on kept features fits queries and values in closed
            form, see `parts.queries.fit`. Until then it is as `average`. The paper
            learns all of them by gradients.

    References:
        Psomas et al., *Attention, Please! Revisiting Attentive Probing Through the Lens
        of Efficiency*, ICLR 2026, arXiv 2506.10178.
    """

    queries: int = 32
    start: Start = "random"

    def setup(self) -> None:
        width = self.channels[-1]
        query, values = nn.initializers.normal(DEVIATION), uniform
        if self.start != "random":
            query, values = nn.initializers.zeros, identity
        self.query = self.param("query", query, (self.queries, width))
        self.values = self.param("values", values, (width, width))

    def scores(self, maps: Array, context: tuple[jax.Array, ...] = ()) -> jax.Array:
        """Compare the locations with each query."""
        del context
        found = jnp.einsum("bijc,qc->bijq", maps, self.query, precision=EXACT)
        return found / np.sqrt(maps.shape[-1]).astype(found.dtype)

    def pooled(self, maps: Array, scores: Array) -> jax.Array:
        """Add the groups of channels up, each by its query."""
        # Sums first: one linear map of each, not of each location.
        sums = jnp.einsum("bijc,bijq->bqc", maps, shares(scores), precision=EXACT)
        groups = self.values.reshape((maps.shape[-1], self.queries, -1))
        found = jnp.einsum("bqc,cqv->bqv", sums, groups, precision=EXACT)
        return found.reshape((len(found), -1))

    @nn.nowrap
    def check(self) -> None:
        """Refuse another start, and queries that do not divide the channels."""
        choices.check("start", self.start, Start)
        width = self.channels[-1]
        if self.queries < 1 or width % self.queries:
            raise ValueError(
                f"`queries`={self.queries} does not divide the {width} channels of the "
                "last maps; expected a divisor, such as 1, 2 or 4."
            )

    @nn.nowrap
    def draw(
        self, generator: np.random.Generator, path: str, leaf: PyTree
    ) -> np.ndarray:
        """Draw one array at the start, by its path in this module."""
        if self.start != "random":
            zeros = np.zeros(leaf.shape, np.float32)
            return zeros if path == "query" else np.eye(*leaf.shape, dtype=np.float32)
        if path == "query":
            return generator.normal(0, DEVIATION, leaf.shape).astype(np.float32)
        return super().draw(generator, path, leaf)
