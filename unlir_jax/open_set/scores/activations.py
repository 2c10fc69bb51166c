"""Energies of a linear classifier on activations that were clipped or scaled."""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import scipy

from unlir_jax.core import choices
from unlir_jax.open_set.scores.spec import Linear, Score, score

Variant = Literal["s", "p", "b"]


def _energies(head: Linear, features: np.ndarray) -> np.ndarray:
    return scipy.special.logsumexp(head.logits(features), axis=1)


def _check_percentile(percentile: float) -> None:
    if not 0 < percentile < 100:
        raise ValueError(
            f"`percentile`={percentile}; expected a number in (0, 100), such as 90."
        )


@score(
    "ReAct",
    "energy of activations clipped at a percentile",
    "activations",
    "Sun et al., 2021",
    head=True,
)
def react(head: Linear, *, percentile: float = 90.0) -> Score:
    """Score by the energy of activations clipped at a percentile of the training's.

    Args:
        head: Linear classifier of the activations.
        percentile: Percentile of all training activations at which to clip.

    Raises:
        TypeError: No linear classifier.
        ValueError: A percentile outside (0, 100), or negative activations.

    References:
        Sun, Guo and Li, *ReAct: Out-of-distribution Detection With Rectified
        Activations*, NeurIPS 2021, Eq. 2.
    """
    _check_percentile(percentile)

    def fit(features: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> float:
        return float(np.percentile(features, percentile))

    return Score(
        fit,
        lambda state, features, logits: _energies(head, np.minimum(features, state)),
    )


def _kept(features: np.ndarray, percentile: float) -> tuple[np.ndarray, int]:
    """Keep the largest activations of each image, and say how many."""
    count = features.shape[1] - round(features.shape[1] * percentile / 100)
    count = max(count, 1)
    places = (-features).argsort(axis=1, kind="stable")[:, :count]
    kept = np.zeros_like(features)
    np.put_along_axis(kept, places, np.take_along_axis(features, places, 1), 1)
    return kept, count


def _ratio(features: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Divide the sum of all activations by that of the largest; 1 for zeros."""
    whole, largest = features.sum(1, keepdims=True), kept.sum(1, keepdims=True)
    return np.divide(whole, largest, out=np.ones_like(whole), where=largest > 0)


def _shaped(head: Linear, shape: Callable[[np.ndarray], np.ndarray]) -> Score:
    return Score(
        lambda features, logits, labels: (),
        lambda state, features, logits: _energies(head, shape(features)),
    )


@score(
    "SCALE",
    "energy of activations times exp(sum / sum of the largest)",
    "activations",
    "Xu et al., 2024",
    head=True,
)
def scale(head: Linear, *, percentile: float = 85.0) -> Score:
    """Score by the energy of activations that are scaled image by image.

    Args:
        head: Linear classifier of the activations.
        percentile: Percentile above which an image's activations are large.

    Raises:
        TypeError: No linear classifier.
        ValueError: A percentile outside (0, 100), or negative activations.

    References:
        Xu, Chen, Franchi and Yao, *Scaling for Training Time and Post-hoc
        Out-of-distribution Detection Enhancement*, ICLR 2024, Eq. 7-8.
    """
    _check_percentile(percentile)

    def scaled(features: np.ndarray) -> np.ndarray:
        return features * np.exp(_ratio(features, _kept(features, percentile)[0]))

    return _shaped(head, scaled)


@score(
    "ASH",
    "energy of the largest activations, scaled",
    "activations",
    "Djurisic et al., 2023",
    head=True,
)
def ash(head: Linear, *, percentile: float = 65.0, variant: Variant = "s") -> Score:
    """Score by the energy of each image's largest activations.

    Args:
        head: Linear classifier of the activations.
        percentile: Percentile below which an image's activations become 0.
        variant: Treatment of the others: `s` scales them as `scale` does, `p` leaves
            them, `b` makes them equal with the sum of all.

    Raises:
        TypeError: No linear classifier.
        ValueError: A percentile outside (0, 100), an unknown variant, or negative
            activations.

    References:
        Djurisic, Bozanic, Ashok and Liu, *Extremely Simple Activation Shaping for
        Out-of-Distribution Detection*, ICLR 2023, Algorithms 1-3.
    """
    _check_percentile(percentile)
    choices.pick(variant, get_args(Variant), f"`variant`={variant!r} is unknown")

    def pruned(features: np.ndarray) -> np.ndarray:
        kept, count = _kept(features, percentile)
        if variant == "p":
            return kept
        if variant == "s":
            return kept * np.exp(_ratio(features, kept))
        return np.where(kept > 0, features.sum(1, keepdims=True) / count, 0.0)

    return _shaped(head, pruned)
