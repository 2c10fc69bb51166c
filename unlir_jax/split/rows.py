"""Functions of one row of logits an image, `(logits, labels) -> [batch]`."""

import jax
import jax.numpy as jnp

from unlir_jax.types import Labels, Logits, PyTree


def check(name: str, logits: PyTree, labels: PyTree, several: bool) -> None:
    """Refuse logits and labels of which such a function means nothing.

    Args:
        name: Name of the score.
        logits: What the network gives.
        labels: What the score is asked for.
        several: Whether there have to be two outputs, since they are compared.

    Raises:
        ValueError: The sentence says what to give instead.
    """
    if jnp.ndim(logits) == 4:
        raise ValueError(
            f"The network gives {jnp.shape(logits)}, logits of every place, of which "
            f"`score`={name!r} makes no number; expected `score`='region', "
            "'region_sigmoid' or 'region_logit'."
        )
    if jnp.ndim(logits) != 2:
        raise ValueError(
            f"The network gives {jnp.shape(logits)}; `score`={name!r} expects logits "
            "[batch, classes]."
        )
    if jnp.ndim(labels) != 1:
        raise ValueError(
            f"`labels` has shape {jnp.shape(labels)}; `score`={name!r} expects one "
            "label an image, and only scores of a region take more."
        )
    if several and logits.shape[-1] == 1:
        raise ValueError(
            f"The network has 1 output, of which `score`={name!r} says nothing: its "
            "softmax probability is always 1; expected `score`='sigmoid', the "
            "probability of yes, or 'logit', the output itself."
        )


def take(logits: Logits, labels: Labels) -> jax.Array:
    """Take the label's logit."""
    return jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]


def softmax(logits: Logits, labels: Labels) -> jax.Array:
    """Take the label's softmax probability."""
    return take(jax.nn.softmax(logits), labels)


def softmax_odds(logits: Logits, labels: Labels) -> tuple[jax.Array, jax.Array]:
    """Give `log p` and `log (1 - p)` of each label's softmax probability."""
    chosen = labels[:, None] == jnp.arange(logits.shape[-1])[None]
    everything = jax.nn.logsumexp(logits, axis=-1)
    label = jnp.sum(jnp.where(chosen, logits, 0), axis=-1)
    rest = jax.nn.logsumexp(jnp.where(chosen, -jnp.inf, logits), axis=-1)
    return label - everything, rest - everything


def sigmoid(logits: Logits, labels: Labels) -> jax.Array:
    """Take the label's sigmoid probability."""
    return jax.nn.sigmoid(take(logits, labels))


def sigmoid_odds(logits: Logits, labels: Labels) -> tuple[jax.Array, jax.Array]:
    """Give `log p` and `log (1 - p)` of each label's sigmoid probability."""
    own = take(logits, labels)
    return jax.nn.log_sigmoid(own), jax.nn.log_sigmoid(-own)


def log_softmax(logits: Logits, labels: Labels) -> jax.Array:
    """Take the logarithm of the label's softmax probability."""
    return take(jax.nn.log_softmax(logits), labels)


def residual_softmax(logits: Logits, labels: Labels) -> jax.Array:
    """Add the label's logit and the logarithm of its probability.

    References:
        Cai, *CAMs as Shapley Value-based Explainers*, arXiv 2501.06261 ("ReST").
    """
    return take(logits, labels) + log_softmax(logits, labels)


def margin(logits: Logits, labels: Labels) -> jax.Array:
    """Subtract the largest other logit from the label's."""
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return take(logits, labels) - jnp.max(jnp.where(own, -jnp.inf, logits), axis=1)


def contrast(others: int, strength: float, logits: Logits, labels: Labels) -> jax.Array:
    """Set the label against the classes with the nearest logits, see `scores`."""
    classes = logits.shape[-1]
    if others >= classes:
        least = "a network of 2 or more" if classes < 2 else ""
        raise ValueError(
            f"`others`={others} of {classes} class{'es' * (classes > 1)}; expected "
            + (least or f"at most {classes - 1}.")
        )
    own = take(logits, labels)[:, None]
    distance = jax.lax.stop_gradient(jnp.abs(logits - own))
    itself = jax.nn.one_hot(labels, classes, dtype=bool)
    distance = jnp.where(itself, jnp.inf, distance)
    nearest = jnp.argsort(distance, axis=1, stable=True)[:, :others]
    theirs = jnp.take_along_axis(logits, nearest, axis=1)
    # Their softmax is their probabilities over their probabilities' sum.
    weights = jax.nn.softmax(theirs)
    return jnp.sum(weights * (own - strength * theirs), axis=1)
