"""Multinomial logistic regression, tuned: what parts are compared with."""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unlir_jax.types import Array

PENALTIES = tuple(float(10.0**power) for power in np.arange(-0.5, -3.6, -0.5))
FOLDS, STEPS, LAST_STEPS = 5, 60, 150


class Logistic(NamedTuple):
    """Hold a classifier, `logits = (x - mean) / scale @ kernel + bias`.

    Attributes:
        kernel: `[channels, classes]`.
        bias: `[classes]`.
        mean: Mean of the examples, `[channels]`.
        scale: One number, the standard deviation of all entries.
        penalty: Chosen penalty.
        accuracy: On the folds that were left out, with that penalty.
    """

    kernel: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    scale: float
    penalty: float
    accuracy: float


def tune(
    descriptors: Array,
    labels: Array,
    classes: int,
    *,
    penalties: tuple[float, ...] = PENALTIES,
    seed: int = 0,
    examples: Array | None = None,
) -> Logistic:
    """Fit logistic regression with the penalty that is best on examples left out.

    Minimises the mean cross-entropy plus penalty / 2 times the squared kernel by
    L-BFGS. The penalty has the largest mean accuracy over stratified folds, of equal
    ones the largest penalty.

    Args:
        descriptors: `[examples, channels]`.
        labels: Integers, `[examples]`.
        classes: Number of classes.
        penalties: To choose from, falling.
        seed: Seed of the folds.
        examples: Which rows are views of one example, and are left out together; by
            default each is one of its own.

    Raises:
        ValueError: All descriptors are the same.
    """
    descriptors, labels = np.asarray(descriptors, np.float32), np.asarray(labels)
    mean = descriptors.mean(0)
    scale = float(np.std(descriptors - mean))
    if not scale > 0:
        raise ValueError(
            f"`descriptors` holds {len(descriptors)} equal rows; expected some that "
            "differ."
        )
    known = jnp.asarray((descriptors - mean) / scale)
    hot = jax.nn.one_hot(labels, classes)
    fold = folds(labels, FOLDS, seed)
    if examples is not None:
        _, first, places = np.unique(examples, return_index=True, return_inverse=True)
        fold = folds(labels[first], FOLDS, seed)[places]
    right = np.zeros(len(penalties))
    for left_out in range(FOLDS):
        fitted = _zeros(known.shape[1], classes)
        out = fold == left_out
        for place, penalty in enumerate(penalties):
            weight = jnp.asarray(~out, jnp.float32)
            fitted = _fit(known, hot, weight, penalty, fitted, STEPS)
            logits = np.asarray(_logits(fitted, known))[out]
            right[place] += np.sum(logits.argmax(1) == labels[out])
    best = int(np.argmax(right))
    fitted = _zeros(known.shape[1], classes)
    for penalty in penalties[: best + 1]:
        steps = LAST_STEPS if penalty == penalties[best] else STEPS
        fitted = _fit(known, hot, jnp.ones(len(known)), penalty, fitted, steps)
    kernel, bias = (np.asarray(leaf) for leaf in fitted)
    accuracy = float(right[best] / len(labels))
    return Logistic(kernel, bias, mean, scale, penalties[best], accuracy)


def logits(fitted: Logistic, descriptors: Array) -> np.ndarray:
    """Apply a classifier: `[examples, classes]`."""
    known = (np.asarray(descriptors, np.float32) - fitted.mean) / fitted.scale
    return known @ fitted.kernel + fitted.bias


def folds(labels: Array, count: int, seed: int = 0) -> np.ndarray:
    """Deal the examples of each class out to folds, `[examples]`, as evenly as can be.

    A class with fewer examples than folds is missing from some of them.
    """
    random, labels = np.random.default_rng(seed), np.asarray(labels)
    dealt = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        own = random.permutation(np.flatnonzero(labels == label))
        dealt[own] = (np.arange(len(own)) + random.integers(count)) % count
    return dealt


def _zeros(channels: int, classes: int) -> tuple[jax.Array, jax.Array]:
    return jnp.zeros((channels, classes)), jnp.zeros(classes)


def _logits(fitted: tuple[jax.Array, jax.Array], known: jax.Array) -> jax.Array:
    return known @ fitted[0] + fitted[1][None]


@jax.jit
def _fit(
    known: jax.Array,
    hot: jax.Array,
    weight: jax.Array,
    penalty: float | jax.Array,
    fitted: tuple[jax.Array, jax.Array],
    steps: int | jax.Array,
) -> tuple[jax.Array, jax.Array]:
    def loss(fitted: tuple[jax.Array, jax.Array]) -> jax.Array:
        rows = optax.softmax_cross_entropy(_logits(fitted, known), hot)
        mean = jnp.sum(rows * weight) / jnp.sum(weight)
        return mean + penalty / 2 * jnp.sum(jnp.square(fitted[0]))

    solver = optax.lbfgs(memory_size=10)
    value_and_gradient = optax.value_and_grad_from_state(loss)

    def step(_, carry):
        fitted, state = carry
        value, gradient = value_and_gradient(fitted, state=state)
        change, state = solver.update(
            gradient, state, fitted, value=value, grad=gradient, value_fn=loss
        )
        moved = optax.apply_updates(fitted, change)
        return cast(tuple[jax.Array, jax.Array], moved), state

    # Both numbers of steps share one program.
    fitted, _ = jax.lax.fori_loop(0, steps, step, (fitted, solver.init(fitted)))
    return fitted
