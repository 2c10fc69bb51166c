"""SimPool: the average asks where to look, and locations answer as they are."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.models.attention_pooling.pool import (
    EXACT,
    Pool,
    mixed,
    register,
    shares,
    similarity,
    uniform,
)
from unlir_jax.types import Array

LEAST = 1e-6
EPSILON = 1e-6


@register("simpool")
class SimPool(Pool):
    """Pool by a query made of the average, and by a power mean of what it finds.

    `q = W_q mean(X)`, `k = W_k LN(X)`, `v = LN(X)`, `a = softmax(k q / sqrt(d))`. The
    vector is `(sum a u^gamma)^(1/gamma)` with `u = v - min(v) + 1e-6`, or `sum a v`
    without gamma. No projection of values or of the result; one head; no biases.

    The minimum is over the locations and channels of each image. That of the released
    code (fac2263) is over the whole batch, on which an image's logits then depend.

    Attributes:
        gamma: Exponent; 0 for none. The paper's is 2 for convolutional networks and
            1.25 for transformers.
        shifted: Whether a learned number, 0 at the start, is added to the vector.

    References:
        Psomas et al., *Keep It SimPool: Who Said Supervised Transformers Suffer from
        Attention Deficit?*, ICCV 2023.
    """

    gamma: float = 2.0
    shifted: bool = False

    def setup(self) -> None:
        width = self.channels[-1]
        linear = {"use_bias": False, "precision": EXACT, "kernel_init": uniform}
        self.norm = nn.LayerNorm(EPSILON, use_fast_variance=False)
        self.query = nn.Dense(width, **linear)
        self.key = self.param("key", uniform, (width, width))
        if self.shifted:
            self.shift = self.param("shift", nn.initializers.zeros, (1,))

    def scores(self, maps: Array, context: tuple[jax.Array, ...] = ()) -> jax.Array:
        """Compare the locations with what the average asks for."""
        del context
        query = self.query(jnp.mean(maps, axis=(1, 2)))
        # The product of keys and query; one product of vectors each, not each location.
        query = jnp.matmul(query, self.key.T, precision=EXACT)
        return similarity(self.norm(maps), query)

    def pooled(self, maps: Array, scores: Array) -> jax.Array:
        """Take the weighted power mean of the normalised locations."""
        values, weights = self.norm(maps), shares(scores)
        if not self.gamma:
            found = mixed(values, weights)
        else:
            least = jnp.min(values, axis=(1, 2, 3), keepdims=True)
            powers = (values - least + LEAST) ** self.gamma
            found = mixed(powers, weights) ** (1 / self.gamma)
        return found + self.shift[None] if self.shifted else found

    @nn.nowrap
    def check(self) -> None:
        """Refuse an exponent below zero."""
        if self.gamma < 0:
            raise ValueError(
                f"`gamma`={self.gamma}; expected an exponent above 0, or 0 for none."
            )
