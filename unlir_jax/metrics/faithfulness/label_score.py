"""Score of the label: the number whose change a metric measures."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from unlir_jax import split
from unlir_jax.core import memoize
from unlir_jax.split import scores
from unlir_jax.types import Images, Labels, Logits, SplitModel, Variables

ROUNDINGS = 8
"""Roundings by which an image may differ from its baseline without scoring more."""
RAW = "raw differences, in the unit of the score"
SHARE = "(s - b) / (c - b), clipped to [0, 1], with c of the image and b of "
"""Beginning of the sentence that says what becomes of a score without bounds."""


@memoize.remember
def label_score(
    model: SplitModel, score: scores.Score
) -> Callable[[Variables, Images, Labels], jax.Array]:
    """Give `(variables, images, labels) -> [batch]`, compiled."""
    network = split.whole(model)

    def scored(variables: Variables, images: Images, labels: Labels) -> jax.Array:
        return score(network(variables, images), labels)

    return jax.jit(scored)


@memoize.remember
def of_logits(score: scores.Score) -> Callable[[Logits, Labels], jax.Array]:
    """Give a score as a function of logits, compiled."""

    def scored(logits: Logits, labels: Labels) -> jax.Array:
        return score(logits, labels)

    return jax.jit(scored, inline=True)


def share(
    values: jax.Array, clean: jax.Array, baseline: jax.Array, nothing: float = 0.0
) -> jax.Array:
    """Bring a score without bounds to a scale on which the baseline is 0 and 1 clean.

    `(s - b) / (c - b)`. Below a baseline that scores more than the image, a lower
    score counts for the image: it is what sets it apart.

    Args:
        values: Scores `s`.
        clean: Score `c` of the image.
        baseline: Score `b` of its baseline.
        nothing: Value where the image scores as its baseline, up to rounding.

    Returns:
        Shares, without bounds; NaN where a score is.
    """
    effect = clean - baseline
    most = jnp.maximum(jnp.abs(clean), jnp.abs(baseline))
    none = jnp.abs(effect) <= ROUNDINGS * jnp.finfo(values.dtype).eps * most
    found = (values - baseline) / jnp.where(none, 1, effect)
    # As a sum, so that NaN stays.
    return jnp.where(none, nothing + 0 * (values - baseline), found)
