"""Targets of explanations: one number an image, made of its logits."""

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.core import memoize
from unlir_jax.types import Array, Labels, Logits, PyTree

Score = Callable[[PyTree, PyTree], jax.Array]
"""`(logits, labels) -> [batch]`, for each image on its own."""

Target = str | int | Sequence[int] | Score
"""A name in `NAMED`, one class, several classes whose logits add up, or a score."""


def logit(logits: Logits, labels: Labels) -> jax.Array:
    """Take the label's logit."""
    _check_dense(logits)
    return jnp.take_along_axis(jnp.asarray(logits), labels[:, None], axis=1)[:, 0]


def probability(logits: Logits, labels: Labels) -> jax.Array:
    """Take the label's softmax probability."""
    return logit(jax.nn.softmax(logits), labels)


def log_probability(logits: Logits, labels: Labels) -> jax.Array:
    """Take the logarithm of the label's softmax probability."""
    return logit(jax.nn.log_softmax(logits), labels)


def residual_softmax(logits: Logits, labels: Labels) -> jax.Array:
    """Add the label's logit and the logarithm of its probability.

    References:
        Cai, *CAMs as Shapley Value-based Explainers*, arXiv 2501.06261 ("ReST").
    """
    return logit(logits, labels) + log_probability(logits, labels)


def margin(logits: Logits, labels: Labels) -> jax.Array:
    """Subtract the largest other logit from the label's."""
    _check_dense(logits)
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return logit(logits, labels) - jnp.max(jnp.where(own, -jnp.inf, logits), axis=1)


@memoize.remember
def contrast(*, others: int = 3, strength: float = 1.0) -> Score:
    """Set the label against the classes whose logits are nearest to its own.

    The mean of `y_label - strength * y_class` over the `others` nearest classes,
    weighted by their probabilities. Which classes these are is a constant; the
    weights are differentiated, as in the authors' code.

    Args:
        others: Number of other classes.
        strength: How much of the other classes' logits is subtracted; 0 leaves the
            label's own.

    Raises:
        ValueError: Fewer than one other class; when called, more than there are.

    References:
        Zhang et al., *Finer-CAM: Spotting the Difference Reveals Finer Details for
        Visual Explanation*, CVPR 2025, Eq. 5.
    """
    if others < 1:
        raise ValueError(f"`others`={others}; expected at least 1 class.")

    def score(logits: Logits, labels: Labels) -> jax.Array:
        _check_dense(logits)
        logits, classes = jnp.asarray(logits), logits.shape[-1]
        if others >= classes:
            least = "a network of 2 or more" if classes < 2 else ""
            raise ValueError(
                f"`others`={others} of {classes} class{'es' * (classes > 1)}; expected "
                + (least or f"at most {classes - 1}.")
            )
        own = logit(logits, labels)[:, None]
        distance = jax.lax.stop_gradient(jnp.abs(logits - own))
        itself = jax.nn.one_hot(labels, classes, dtype=bool)
        distance = jnp.where(itself, jnp.inf, distance)
        nearest = jnp.argsort(distance, axis=1, stable=True)[:, :others]
        theirs = jnp.take_along_axis(logits, nearest, axis=1)
        # Their softmax is their probabilities over their probabilities' sum.
        weights = jax.nn.softmax(theirs)
        return jnp.sum(weights * (own - strength * theirs), axis=1)

    return score


def region(mask: Array) -> Score:
    """Sum the label's logit over a region of a dense output.

    Args:
        mask: `[rows, columns]`, the weight of each place of the network's output
            `[batch, rows, columns, classes]`.
    """
    weights = np.asarray(mask)

    def score(logits: PyTree, labels: Labels) -> jax.Array:
        if logits.ndim != 4 or logits.shape[1:3] != weights.shape:
            raise ValueError(
                f"`mask` has shape {weights.shape}, but the network gives "
                f"{logits.shape}; expected [batch, rows, columns, classes] with the "
                "mask's rows and columns."
            )
        chosen = jnp.take_along_axis(logits, labels[:, None, None, None], axis=-1)
        return jnp.einsum("bhw,hw->b", chosen[..., 0], weights.astype(logits.dtype))

    return score


NAMED: Mapping[str, Score] = MappingProxyType(
    {
        "logit": logit,
        "probability": probability,
        "log_probability": log_probability,
        "residual_softmax": residual_softmax,
        "margin": margin,
        "contrast": contrast(),
    }
)
"""Scores that can be asked for by name."""


def resolve(target: Target) -> Score:
    """Make the function that scores logits.

    Args:
        target: A name in `NAMED`; a class, whatever the labels are; several classes,
            whose logits are added; or a function `(logits, labels) -> [batch]`.

    Raises:
        ValueError: An unknown name, or no class at all.
        TypeError: Something else.

    Returns:
        A score that is NaN, and so is its gradient, where the logits mean nothing,
        see `split.meaningless`, or the score is not finite.
    """
    return _finite(_score(target))


@memoize.remember
def _finite(score: Score) -> Score:
    @functools.wraps(score)
    def checked(logits: PyTree, labels: Labels) -> jax.Array:
        found = score(logits, labels)
        wrong = split.meaningless(jax.lax.stop_gradient(logits)).reshape(-1)
        if jnp.shape(found) != wrong.shape:
            return found
        wrong = wrong | ~jnp.isfinite(jax.lax.stop_gradient(found))
        # As a factor, so that the gradient is NaN as well.
        return found * jnp.where(wrong, jnp.nan, 1).astype(found.dtype)

    return checked


def _score(target: Target) -> Score:
    if isinstance(target, str):
        if target not in NAMED:
            raise ValueError(
                f"`target`={target!r} is unknown; expected one of {tuple(NAMED)}, a "
                "class, several classes, or a function (logits, labels) -> [batch]."
            )
        return NAMED[target]
    if callable(target):
        return target
    if isinstance(target, int | np.integer):
        return _classes((int(target),))
    if isinstance(target, Sequence):
        return _classes(tuple(int(index) for index in target))
    raise TypeError(
        f"`target` is a {type(target).__name__}; expected a name, a class, several "
        "classes, or a function (logits, labels) -> [batch]."
    )


@functools.cache
def _classes(chosen: tuple[int, ...]) -> Score:
    if not chosen:
        raise ValueError("`target` is an empty list; expected one class or more.")

    def score(logits: Logits, labels: Labels) -> jax.Array:
        del labels  # The classes are the same for every image.
        _check_dense(logits)
        for index in chosen:
            if not 0 <= index < logits.shape[-1]:
                raise ValueError(
                    f"`target` holds {index}; the network has classes 0 to "
                    f"{logits.shape[-1] - 1}."
                )
        return jnp.sum(logits[:, jnp.asarray(chosen)], axis=1)

    return score


def _check_dense(logits: PyTree) -> None:
    if logits.ndim != 2:
        raise ValueError(
            f"The network gives {logits.shape}; this target expects logits "
            "[batch, classes]: use targets.region for a dense output."
        )
