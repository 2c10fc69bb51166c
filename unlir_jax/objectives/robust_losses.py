"""Losses of adversarial training, of one image each and its changed copy."""

import jax
import jax.numpy as jnp

from unlir_jax.objectives import losses
from unlir_jax.types import Labels, Logits, PerImage


def divergence(clean: Logits, changed: Logits) -> PerImage:
    """Compute KL(p, p') of the distributions of two rows of logits.

    Returns:
        `[batch]`, at least float32, 0 or more.
    """
    first, second = (jax.nn.log_softmax(_wide(rows)) for rows in (clean, changed))
    return jnp.sum(jnp.exp(first) * (first - second), axis=-1)


def boosted_cross_entropy(logits: Logits, labels: Labels) -> PerImage:
    """Compute - log p_y - log (1 - max_{k != y} p_k), from logits (Eq. 8 of MART).

    Returns:
        `[batch]`, at least float32. Wide margins keep a gradient: the second logarithm
        is a difference of log-sum-exps.

    References:
        Wang et al., *Improving Adversarial Robustness Requires Revisiting Misclassified
        Examples*, ICLR 2020, Section 3.2.
    """
    wide = _wide(logits)
    classes = wide.shape[-1]
    own = jax.nn.one_hot(labels, classes, dtype=bool)
    rival = jnp.argmax(jnp.where(own, -jnp.inf, wide), axis=-1)
    rest = jnp.where(jax.nn.one_hot(rival, classes, dtype=bool), -jnp.inf, wide)
    total = jax.nn.logsumexp(wide, axis=-1)
    boost = total - jax.nn.logsumexp(rest, axis=-1)
    return losses.cross_entropy(wide, losses.targets(labels, classes)) + boost


def trades(clean: Logits, changed: Logits, targets: Logits, weight: float) -> PerImage:
    """Compute the cross-entropy of the image + `weight` · KL(p, p').

    References:
        Zhang et al., *Theoretically Principled Trade-off between Robustness and
        Accuracy*, ICML 2019, Eq. 5, whose 1/λ is the weight.
    """
    apart = divergence(clean, changed)
    return losses.cross_entropy(clean, targets) + weight * apart


def mart(clean: Logits, changed: Logits, labels: Labels, weight: float) -> PerImage:
    """Compute `boosted_cross_entropy` of x' + `weight` · KL(p, p') (1 - p_y).

    References:
        Wang et al., *Improving Adversarial Robustness Requires Revisiting Misclassified
        Examples*, ICLR 2020, Eq. 11.
    """
    own = losses.targets(labels, clean.shape[-1])
    right = jnp.sum(own * jax.nn.softmax(_wide(clean)), axis=-1)
    apart = divergence(clean, changed) * (1 - right)
    return boosted_cross_entropy(changed, labels) + weight * apart


def _wide(logits: Logits) -> jax.Array:
    return jnp.asarray(logits, jnp.promote_types(logits.dtype, jnp.float32))
