"""Score of the label: the number whose change a metric measures."""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from unlir_jax import split
from unlir_jax.core import choices, memoize
from unlir_jax.types import Images, Labels, Logits, SplitModel, Variables

Score = Literal["probability", "logit"]


@memoize.remember
def label_score(
    model: SplitModel, kind: Score = "probability"
) -> Callable[[Variables, Images, Labels], jax.Array]:
    """Give `(variables, images, labels) -> [batch]`, compiled.

    Args:
        model: The cut network.
        kind: `probability` is the label's softmax, in [0, 1]; `logit` what goes into
            it, without bounds.

    Raises:
        ValueError: `kind` is unknown.
    """
    choices.check("score", kind, Score)
    network = split.whole(model)

    def score(variables: Variables, images: Images, labels: Labels) -> jax.Array:
        logits = network(variables, images)
        if kind == "probability":
            return label_probability(logits, labels)
        return jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]

    return jax.jit(score)


@functools.partial(jax.jit, inline=True)
def label_probability(logits: Logits, labels: Labels) -> jax.Array:
    """Give the label's softmax, `[batch]`, compiled."""
    values = jax.nn.softmax(logits)
    return jnp.take_along_axis(values, labels[:, None], axis=1)[:, 0]
