"""Linear probes of a frozen network on few images: the bar for all that adapts it."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Integer

from unlir_jax.adapters import head as heads
from unlir_jax.few_shot import discriminant
from unlir_jax.parts import logistic, ridge
from unlir_jax.types import Array

Views = Float[Array, "views pictures channels"]


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Compute the logarithm of the softmax over the last axis."""
    top = logits - logits.max(-1, keepdims=True)
    return top - np.log(np.exp(top).sum(-1, keepdims=True))


def by_logistic(
    views: Views,
    labels: Integer[Array, " pictures"],
    classes: int,
    num_labelled: int | None = None,
) -> Callable[[Views], np.ndarray]:
    """Fit logistic regression to all views; the penalty is tuned on images left out.

    Both views of an image are in the same fold, so that an image does not help to
    recognise itself.

    Args:
        views: Descriptors of the images.
        labels: Labels of the images.
        classes: Number of classes.
        num_labelled: The first `num_labelled` images have true labels, the others
            pseudo-labels: the penalty is tuned on true ones, for it is easy to agree
            with one's own guesses.
    """

    def tune(
        some: Views, own: np.ndarray, penalties: tuple[float, ...] = logistic.PENALTIES
    ) -> logistic.Logistic:
        rows, owners = _stacked(some)
        every = np.tile(own, len(some))
        return logistic.tune(rows, every, classes, penalties=penalties, examples=owners)

    labels = np.asarray(labels)
    fitted = tune(views[:, :num_labelled], labels[:num_labelled])
    if num_labelled is not None and num_labelled < len(labels):
        fitted = tune(views, labels, penalties=(fitted.penalty,))
    return lambda test: np.mean(
        [log_probabilities(logistic.logits(fitted, view)) for view in test], axis=0
    )


def by_ridge(
    views: Views, labels: Integer[Array, " pictures"], classes: int
) -> Callable[[Views], np.ndarray]:
    """Fit ridge regression in closed form to the mean of the views."""
    kernel, bias = ridge.classifier(np.mean(views, axis=0), labels, classes)
    return lambda test: log_probabilities(np.mean(test, axis=0) @ kernel + bias)


def by_lda(
    views: Views, labels: Integer[Array, " pictures"], classes: int
) -> Callable[[Views], np.ndarray]:
    """Fit linear discriminants in closed form to the mean of the views."""
    kernel, bias = discriminant.classifier(np.mean(views, axis=0), labels, classes)
    return lambda test: log_probabilities(np.mean(test, axis=0) @ kernel + bias)


def by_cosine(
    views: Views, labels: Integer[Array, " pictures"], classes: int
) -> Callable[[Views], np.ndarray]:
    """Compare with the mean direction of each class by cosine."""
    directions = class_means(views, labels, classes)
    return lambda test: np.mean(
        [
            log_probabilities(heads.SCALE * unit(view) @ directions.T)
            for view in np.asarray(test)
        ],
        axis=0,
    )


def by_prototypes(
    views: Views, labels: Integer[Array, " pictures"], classes: int
) -> Callable[[Views], np.ndarray]:
    """Compare with the mean of each class by distance (Snell et al., 2017)."""
    rows, _ = _stacked(views)
    every = np.tile(labels, len(views))
    means = np.stack([rows[every == label].mean(0) for label in range(classes)])
    size = np.mean(np.square(rows - means[every]).sum(1))
    # One view of one image a class has no spread: that of the classes is next best.
    size = size or np.mean(np.square(means - means.mean(0)).sum(1)) or 1.0

    def classify(test: Views) -> np.ndarray:
        found = []
        for view in np.asarray(test):
            square = np.square(view).sum(1)[:, None] + np.square(means).sum(1)
            found.append(log_probabilities((2 * view @ means.T - square) / size))
        return np.mean(found, axis=0)

    return classify


def class_means(
    views: Views, labels: Integer[Array, " pictures"], classes: int
) -> np.ndarray:
    """Average unit descriptors of each class, at unit length: `[classes, channels]`."""
    rows, _ = _stacked(views)
    every = np.tile(np.asarray(labels), len(views))
    rows = unit(rows)
    return unit(np.stack([rows[every == label].mean(0) for label in range(classes)]))


def unit(rows: np.ndarray) -> np.ndarray:
    """Divide by the Euclidean norm over the last axis; zeros stay zeros."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def _stacked(views: Views) -> tuple[np.ndarray, np.ndarray]:
    views = np.asarray(views, np.float32)
    owners = np.tile(np.arange(views.shape[1]), len(views))
    return views.reshape(-1, views.shape[-1]), owners


PROBES: dict[str, Callable[..., Callable[[Views], np.ndarray]]] = {
    "logistic": by_logistic,
    "ridge": by_ridge,
    "lda": by_lda,
    "cosine": by_cosine,
    "prototypes": by_prototypes,
}
"""Ways to classify, by name."""
