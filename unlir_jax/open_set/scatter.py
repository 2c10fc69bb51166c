"""Shrunken covariance of few rows with many channels, by their singular values."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from unlir_jax.types import Array

LEAST = 1e-10
"""Share of the largest variance below which a direction is rounding."""


class Scatter(NamedTuple):
    """Hold a covariance, `base * identity` plus more along some directions.

    Attributes:
        directions: Orthonormal, `[channels, directions]`.
        variances: The whole variance along each.
        base: The variance along all others.
        share: Share of the identity that was mixed in, in [0, 1].
    """

    directions: np.ndarray
    variances: np.ndarray
    base: float
    share: float

    def whiten(self, rows: Float[Array, "rows channels"]) -> np.ndarray:
        """Divide by the root of the covariance, `[rows, channels]`."""
        along = rows @ self.directions
        gains = self.variances**-0.5 - self.base**-0.5
        return rows * self.base**-0.5 + (along * gains) @ self.directions.T


def shrunken(rows: Float[Array, "rows channels"], whose: str) -> Scatter:
    """Estimate a covariance, mixed with a multiple of the identity.

    Args:
        rows: Rows whose mean is zero.
        whose: Their name in messages.

    Returns:
        The covariance with the share that Ledoit and Wolf estimate.

    Raises:
        ValueError: All rows are zero.

    References:
        Ledoit and Wolf, *A well-conditioned estimator for large-dimensional covariance
        matrices*, Journal of Multivariate Analysis 2004, Section 3.
    """
    rows = np.asarray(rows, np.float64)
    count, channels = rows.shape
    # The smaller of the two matrices of inner products has all that is needed.
    if count < channels:
        variances, vectors = np.linalg.eigh(rows @ rows.T / count)
    else:
        variances, vectors = np.linalg.eigh(rows.T @ rows / count)
    if not variances[-1] > 0:
        raise ValueError(
            f"The features of each class of {whose} are all equal; expected images of "
            "a class that differ."
        )
    kept = variances > LEAST * variances[-1]
    variances, vectors = variances[kept], vectors[:, kept]
    if count < channels:
        vectors = rows.T @ vectors / np.sqrt(count * variances)
    size = variances.sum() / channels
    squares = np.square(variances).sum()
    away = squares - channels * size**2
    fourth = np.square(np.square(rows).sum(1)).sum() / count
    error = max((fourth - squares) / count, 0.0)
    share = float(min(error / away, 1.0)) if away > 0 else 1.0
    # Without any identity the directions that no row has would have no variance.
    share = max(share, LEAST)
    return Scatter(
        vectors, (1 - share) * variances + share * size, float(share * size), share
    )


class Standard(NamedTuple):
    """Hold the mean and the standard deviation of each channel.

    Attributes:
        mean: `[channels]`.
        spread: `[channels]`, 1 where a channel is constant.
    """

    mean: np.ndarray
    spread: np.ndarray

    def apply(self, rows: Float[np.ndarray, "rows channels"]) -> np.ndarray:
        """Give rows of mean 0 and standard deviation 1."""
        return (rows - self.mean) / self.spread


def standard(rows: Float[np.ndarray, "rows channels"]) -> Standard:
    """Measure each channel; a constant one is only moved."""
    mean, spread = rows.mean(0), rows.std(0)
    constant = spread <= 1e-9 * np.maximum(np.abs(mean), 1e-300)
    return Standard(mean, np.where(constant, 1.0, spread))


def class_means(
    rows: Float[Array, "rows channels"], labels: Array, classes: int
) -> np.ndarray:
    """Average the rows of each class, `[classes, channels]`."""
    return np.stack([rows[labels == label].mean(0) for label in range(classes)])
