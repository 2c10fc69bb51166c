"""Distances under Gaussians of one covariance, a mean for each class."""

from typing import NamedTuple

import numpy as np
import scipy

from unlir_jax.open_set import scatter
from unlir_jax.open_set.scores.spec import Linear, Score, score


class GaussianState(NamedTuple):
    """Hold Gaussians of standardised features.

    Attributes:
        standard: Mean and standard deviation of each channel.
        within: The covariance that all classes share.
        means: Whitened mean of each class, `[classes, channels]`.
    """

    standard: scatter.Standard
    within: scatter.Scatter
    means: np.ndarray

    def whiten(self, features: np.ndarray) -> np.ndarray:
        """Standardise and whiten features."""
        return self.within.whiten(self.standard.apply(features))

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Give the squared distance from each class, `[batch, classes]`."""
        return scipy.spatial.distance.cdist(
            self.whiten(features), self.means, "sqeuclidean"
        )


def fit_gaussians(
    features: np.ndarray, labels: np.ndarray, classes: int
) -> GaussianState:
    """Fit a mean for each class and one shrunken covariance.

    Channels are standardised before they are shrunk, so that their units do not matter.
    """
    standard = scatter.standard(features)
    rows = standard.apply(features)
    means = scatter.class_means(rows, labels, classes)
    within = scatter.shrunken(rows - means[labels], "the training images")
    return GaussianState(standard, within, within.whiten(means))


@score(
    "Mahalanobis distance",
    "-min_c d(x, mean_c)^2",
    "features",
    "Lee et al., 2018",
)
def mahalanobis(head: Linear | None = None) -> Score:
    """Score by the negative squared distance from the nearest class.

    Args:
        head: Classifier, not used.

    Raises:
        ValueError: When fitted: the images of each class are all equal.

    References:
        Lee, Lee, Lee and Shin, *A Simple Unified Framework for Detecting
        Out-of-Distribution Samples and Adversarial Attacks*, NeurIPS 2018, Eq. 1-2.

    Note:
        Features are standardised and their covariance is shrunk by the rule of Ledoit
        and Wolf, which the source does not do.
    """

    def nearest(
        state: GaussianState, features: np.ndarray, logits: np.ndarray
    ) -> np.ndarray:
        return -state.distances(features).min(1)

    def fit(
        features: np.ndarray, logits: np.ndarray, labels: np.ndarray
    ) -> GaussianState:
        return fit_gaussians(features, labels, logits.shape[1])

    return Score(fit, nearest)


@score(
    "Relative Mahalanobis distance",
    "d_0(x)^2 - min_c d(x, mean_c)^2",
    "features",
    "Ren et al., 2021",
)
def relative_mahalanobis(head: Linear | None = None) -> Score:
    """Score by how much nearer a class is than all training images together.

    Args:
        head: Classifier, not used.

    Raises:
        ValueError: When fitted: the images of each class are all equal.

    References:
        Ren, Fort, Liu, Roy, Padhy and Lakshminarayanan, *A Simple Fix to Mahalanobis
        Distance for Improving Near-OOD Detection*, 2021, Eq. 2-3.

    Note:
        The covariance of all images is the shrunken one within classes plus that of
        the class means. Without shrinkage this is the source's. Two covariances that
        are shrunk apart disagree about directions that no training image has.
    """

    def fit(
        features: np.ndarray, logits: np.ndarray, labels: np.ndarray
    ) -> tuple[GaussianState, np.ndarray, np.ndarray, np.ndarray]:
        state = fit_gaussians(features, labels, logits.shape[1])
        weights = np.bincount(labels) / len(labels)
        middle = weights @ state.means
        spread = np.sqrt(weights)[:, None] * (state.means - middle)
        _, lengths, directions = np.linalg.svd(spread, full_matrices=False)
        # Whitened, the covariance of all is the identity plus these directions.
        shares = lengths**2 / (1 + lengths**2)
        return state, middle, directions, shares

    def relative(
        fitted: tuple[GaussianState, np.ndarray, np.ndarray, np.ndarray],
        features: np.ndarray,
        logits: np.ndarray,
    ) -> np.ndarray:
        state, middle, directions, shares = fitted
        away = state.whiten(features) - middle
        along = np.square(away @ directions.T) @ shares
        overall = np.square(away).sum(1) - along
        return overall - state.distances(features).min(1)

    return Score(fit, relative)
