"""Losses of one example each; who averages them knows which rows count."""

import jax
import jax.numpy as jnp
import optax

from unlir_jax.types import Array, Labels, Logits, PerImage


def targets(labels: Labels, classes: int, smoothing: float = 0.0) -> jax.Array:
    """Write labels as distributions over classes.

    With `smoothing` e, a share e of the mass is spread over all classes, the right one
    included (Szegedy et al., Rethinking the Inception Architecture, 2016, section 7).

    Returns:
        `[batch, classes]`, rows that sum to one; zeros for a label that is no class.
    """
    hot = jax.nn.one_hot(labels, classes)
    return hot * (1 - smoothing) + smoothing / classes * hot.sum(-1, keepdims=True)


def cross_entropy(logits: Logits, distribution: Logits) -> PerImage:
    """Compute - sum_c q_c log p_c for each row, in float32 or more."""
    wide = jnp.promote_types(logits.dtype, jnp.float32)
    return optax.softmax_cross_entropy(jnp.asarray(logits, wide), distribution)


def correct(logits: Logits, labels: Labels, top: int = 1) -> PerImage:
    """Give 1 where the label is among the `top` largest logits, else 0.

    A tie counts against the network, so that equal logits are never right; nor is one
    that is not a number, or a label that is no class.
    """
    labels = jnp.asarray(labels)
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)
    as_large = jnp.sum(~(logits < own), axis=1)
    # A negative label would be taken for a place counted from the end.
    return ((as_large <= top) & (labels >= 0)).astype(jnp.float32)


def weighted_total(values: Array, weight: PerImage) -> jax.Array:
    """Sum the rows that count; a row of weight 0 adds nothing, not even a NaN."""
    return jnp.sum(jnp.where(weight > 0, values, 0.0) * weight)
