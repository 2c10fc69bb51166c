"""Scores that read the logits of one image alone, and fit nothing."""

from collections.abc import Callable

import numpy as np
import scipy

from unlir_jax.open_set.scores.spec import Linear, Score, score


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Compute the logarithm of the softmax over classes."""
    return scipy.special.log_softmax(logits, axis=1)


def _of_logits(function: Callable[[np.ndarray], np.ndarray]) -> Score:
    return Score(
        lambda features, logits, labels: (),
        lambda state, features, logits: function(logits),
    )


def check_positive(name: str, value: float) -> None:
    """Refuse a setting that is not above 0."""
    if not value > 0 or not np.isfinite(value):
        raise ValueError(f"`{name}`={value}; expected a number above 0.")


@score("Maximum softmax probability", "max_c p_c", "logits", "Hendrycks & Gimpel, 2017")
def msp(head: Linear | None = None, *, temperature: float = 1.0) -> Score:
    """Score by the largest probability.

    Args:
        head: Classifier, not used.
        temperature: Divisor of the logits.

    Raises:
        ValueError: A temperature that is not above 0.

    References:
        Hendrycks and Gimpel, *A Baseline for Detecting Misclassified and
        Out-of-Distribution Examples*, ICLR 2017.

    Note:
        Scores are logarithms of the probabilities, so that sure images keep their
        order where float64 rounds probabilities to 1 in other libraries.
    """
    check_positive("temperature", temperature)

    def largest(logits: np.ndarray) -> np.ndarray:
        # log p = -log(1 + sum of exp(z - max)), exact for sure images too.
        scaled = np.sort(logits / temperature, axis=1)
        rest = np.exp(scaled[:, :-1] - scaled[:, -1:]).sum(1)
        return -np.log1p(rest)

    return _of_logits(largest)


@score("Maximum logit", "max_c z_c", "logits", "Vaze et al., 2022")
def max_logit(head: Linear | None = None) -> Score:
    """Score by the largest logit.

    Args:
        head: Classifier, not used.

    References:
        Vaze, Han, Vedaldi and Zisserman, *Open-Set Recognition: A Good Closed-Set
        Classifier is All You Need*, ICLR 2022.
    """
    return _of_logits(lambda logits: logits.max(1))


@score("Energy", "T log sum_c exp(z_c / T)", "logits", "Liu et al., 2020")
def energy(head: Linear | None = None, *, temperature: float = 1.0) -> Score:
    """Score by the logarithm of the sum of exponentials, a soft maximum.

    Args:
        head: Classifier, not used.
        temperature: Width T of the maximum, in units of logits.

    Raises:
        ValueError: A temperature that is not above 0.

    References:
        Liu, Wang, Owens and Li, *Energy-based Out-of-distribution Detection*, NeurIPS
        2020, Eq. 4 with its sign turned.
    """
    check_positive("temperature", temperature)
    return _of_logits(
        lambda logits: (
            temperature * scipy.special.logsumexp(logits / temperature, axis=1)
        )
    )


@score("Entropy", "sum_c p_c log p_c", "logits", "Macedo et al., 2021")
def entropy(head: Linear | None = None) -> Score:
    """Score by the negative entropy of the probabilities, in nats.

    Args:
        head: Classifier, not used.

    References:
        Macedo, Ren, Zanchettin, Oliveira and Ludermir, *Entropic Out-of-Distribution
        Detection*, IJCNN 2021.
    """

    def negative(logits: np.ndarray) -> np.ndarray:
        logs = log_probabilities(logits)
        return np.sum(np.exp(logs) * logs, axis=1)

    return _of_logits(negative)


@score("Generalised entropy", "-sum_c (p_c (1 - p_c))^g", "logits", "Liu et al., 2023")
def gen(head: Linear | None = None, *, power: float = 0.1, largest: int = 100) -> Score:
    """Score by the negative generalised entropy of the largest probabilities.

    Args:
        head: Classifier, not used.
        power: Exponent in (0, 1).
        largest: Number of classes that count, the most probable ones.

    Raises:
        ValueError: A power outside (0, 1), or no class.

    References:
        Liu, Lochman and Zach, *GEN: Pushing the Limits of Softmax-Based
        Out-of-Distribution Detection*, CVPR 2023, Eq. 4.
    """
    if not 0 < power < 1:
        raise ValueError(f"`power`={power}; expected a number in (0, 1), such as 0.1.")
    if largest < 1:
        raise ValueError(f"`largest`={largest}; expected 1 or more classes.")

    def negative(logits: np.ndarray) -> np.ndarray:
        logs = log_probabilities(np.sort(logits, axis=1)[:, ::-1])
        # 1 - p of a sure class is the sum of all others, not a difference near 1.
        others = -np.expm1(np.minimum(logs, 0.0))
        others[:, 0] = np.exp(logs[:, 1:]).sum(1)
        terms = (np.exp(logs) * others) ** power
        return -terms[:, :largest].sum(1)

    return _of_logits(negative)
