"""Classifiers of frozen features in closed form, from the known classes alone."""

from typing import Literal, NamedTuple, get_args

import numpy as np

from unlir_jax.adapters import head as heads
from unlir_jax.core import choices
from unlir_jax.open_set import scatter, softmax_regression
from unlir_jax.open_set.scores import gaussians
from unlir_jax.open_set.scores.neighbours import unit
from unlir_jax.open_set.scores.spec import Linear
from unlir_jax.parts import logistic

Kind = Literal["prototypes", "lda", "softmax"]
FOLDS = 5


class Classifier(NamedTuple):
    """Hold a classifier of features, and the linear one that some scores need.

    Attributes:
        kind: `prototypes`, `lda` or `softmax`.
        fitted: Gaussians of the classes, by which features are whitened.
        directions: Unit prototypes of whitened features, `[classes, channels]`.
        linear: Linear classifier of the features themselves: that of the softmax, else
            linear discriminants.
    """

    kind: Kind
    fitted: gaussians.GaussianState
    directions: np.ndarray
    linear: Linear

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Classify features, `[images, classes]`."""
        if self.kind != "prototypes":
            return self.linear.logits(features)
        white = unit(self.fitted.whiten(np.asarray(features, np.float64)))
        return heads.SCALE * white @ self.directions.T


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    kind: Kind = "prototypes",
    smoothing: float = 0.0,
) -> Classifier:
    """Fit a classifier to training images of known classes.

    Args:
        features: `[images, channels]`.
        labels: `[images]`, 0 to `classes - 1`, each at least once.
        classes: Number of known classes.
        kind: `prototypes` compares whitened features with the mean direction of each
            class by cosine; `lda` gives linear discriminants; `softmax` minimises the
            cross-entropy, see `softmax_regression.fit`.
        smoothing: Share of the targets of `softmax` that all classes have alike.

    Raises:
        ValueError: An unknown kind, or classes whose images are all equal.

    Note:
        Whitening is fitted within known classes. One that is fitted on unknown classes
        too makes figures better than they are.
    """
    choices.pick(kind, get_args(Kind), f"`head`={kind!r} is unknown")
    rows = np.asarray(features, np.float64)
    fitted = gaussians.fit_gaussians(rows, labels, classes)
    white = unit(fitted.whiten(rows))
    directions = unit(scatter.class_means(white, labels, classes))
    if kind == "softmax":
        linear = softmax_regression.fit(rows, labels, classes, smoothing=smoothing)
    else:
        linear = discriminants(fitted, labels)
    return Classifier(kind, fitted, directions, linear)


def discriminants(fitted: gaussians.GaussianState, labels: np.ndarray) -> Linear:
    """Write the discriminants of Gaussians of one covariance as a linear classifier."""
    shares = np.bincount(labels, minlength=len(fitted.means)) / len(labels)
    kernel = fitted.within.whiten(fitted.means).T / fitted.standard.spread[:, None]
    bias = np.log(shares) - np.square(fitted.means).sum(1) / 2
    return Linear(kernel, bias - fitted.standard.mean @ kernel)


def left_out_logits(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    kind: Kind = "prototypes",
    smoothing: float = 0.0,
    *,
    seed: int = 0,
) -> np.ndarray:
    """Classify each training image by a classifier that has not seen it.

    A classifier is far surer of images that it was fitted to than of test images.

    Args:
        features: `[images, channels]`.
        labels: `[images]`, each class at least twice.
        classes: Number of known classes.
        kind: See `fit`.
        smoothing: See `fit`.
        seed: Seed of the folds.

    Raises:
        ValueError: A class has one image.
    """
    counts = np.bincount(labels, minlength=classes)
    if counts.min() < 2:
        raise ValueError(
            f"A known class has {counts.min()} training images; expected 2 or more, so "
            "that some can be left out."
        )
    fold = logistic.folds(labels, int(min(FOLDS, counts.min())), seed)
    found = np.empty((len(labels), classes))
    for number in np.unique(fold):
        out = fold == number
        own = fit(features[~out], labels[~out], classes, kind, smoothing)
        found[out] = own.logits(features[out])
    return found
