"""Weibull distribution of large distances, by maximum likelihood."""

from typing import NamedTuple

import numpy as np
import scipy

from unlir_jax.types import Array

TRANSLATION = 1.0
"""Distance of the smallest one of the tail from the start, as in libMR."""


class Weibull(NamedTuple):
    """Hold a distribution `1 - exp(-((x - start) / scale)^shape)` from `start` on.

    Attributes:
        shape: Above 0.
        scale: Above 0.
        start: Where it begins.
    """

    shape: float
    scale: float
    start: float

    def below(self, values: Array) -> np.ndarray:
        """Give the probability of at most these values, 0 below the start."""
        away = np.maximum(np.asarray(values, np.float64) - self.start, 0.0)
        with np.errstate(divide="ignore"):
            powers = self.shape * (np.log(away) - np.log(self.scale))
        return -np.expm1(-np.exp(np.minimum(powers, 700.0)))


def fit_tail(distances: Array, tail: int, whose: str = "`distances`") -> Weibull:
    """Fit the largest distances.

    The start lies 1 below the smallest of them.

    Args:
        distances: At least two that differ among the largest.
        tail: Number of largest distances; all, where there are fewer.
        whose: Their owner in messages.

    Raises:
        ValueError: The largest distances are all equal.

    References:
        Scheirer, Rocha, Micheals and Boult, *Meta-Recognition: The Theory and Practice
        of Recognition Score Analysis*, TPAMI 2011.
    """
    largest = np.sort(np.asarray(distances, np.float64))[-tail:]
    if len(largest) < 2 or not np.ptp(largest) > 1e-9 * max(abs(largest[-1]), 1e-300):
        raise ValueError(
            f"The {len(largest)} largest distances of {whose} are equal; expected 2 or "
            "more images that differ, or another score than `openmax`."
        )
    start = largest[0] - TRANSLATION
    # In shares of the largest, whose powers do not overflow.
    top = largest[-1] - start
    logs = np.log((largest - start) / top)

    def slope(shape: float) -> float:
        powers = np.exp(shape * logs)
        return float(powers @ logs / powers.sum() - 1 / shape - logs.mean())

    high = 1.0
    while slope(high) < 0:
        high *= 2
    shape = float(scipy.optimize.brentq(slope, 1e-6, high, xtol=1e-12 * high))
    scale = top * np.mean(np.exp(shape * logs)) ** (1 / shape)
    return Weibull(shape, float(scale), float(start))
