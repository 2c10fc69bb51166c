"""Virtual-logit matching: what training features do not span, as one more logit."""

from typing import NamedTuple

import numpy as np
import scipy

from unlir_jax.open_set.scores.spec import Linear, Score, score


class VimState(NamedTuple):
    """Hold the space of the training features.

    Attributes:
        origin: Point at which all logits are zero, or nearest to it, `[channels]`.
        directions: Orthonormal principal directions, `[channels, dimensions]`.
        gain: Factor from the length of a residual to its logit.
    """

    origin: np.ndarray
    directions: np.ndarray
    gain: float


@score(
    "Virtual-logit matching",
    "energy - gain times length of the residual",
    "features",
    "Wang et al., 2022",
    head=True,
)
def vim(head: Linear, *, dimensions: int = 0) -> Score:
    """Score by the energy minus the virtual logit of the residual.

    Args:
        head: Linear classifier of the features.
        dimensions: Dimensions of the principal space; 0: half of the directions that
            the training features have.

    Raises:
        TypeError: No linear classifier.
        ValueError: A negative number of dimensions. When fitted: the training features
            leave no residual.

    References:
        Wang, Li, Feng and Zhang, *ViM: Out-Of-Distribution with Virtual-logit
        Matching*, CVPR 2022, Eq. 4-6.

    Note:
        The source takes 512 or 1,000 dimensions, for training sets of a million images.
        The linear classifier gives the logits.
    """
    if dimensions < 0:
        raise ValueError(f"`dimensions`={dimensions}; expected 0 or more.")
    kernel = np.asarray(head.kernel, np.float64)
    # Discriminants of n classes have rank n - 1: the last singular value is rounding.
    origin = -np.linalg.pinv(kernel.T, rcond=1e-9) @ head.bias

    def fit(features: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> VimState:
        rows = features - origin
        _, lengths, directions = np.linalg.svd(rows, full_matrices=False)
        rank = int(np.count_nonzero(lengths > 1e-9 * max(lengths[0], 1e-300)))
        kept = dimensions or max(rank // 2, 1)
        if kept >= rank:
            raise ValueError(
                f"`dimensions`={kept}, but the training features span {rank}; expected "
                "fewer, so that a residual is left."
            )
        main = directions[:kept].T
        residual = _lengths(rows, main).mean()
        return VimState(origin, main, head.logits(features).max(1).mean() / residual)

    def matched(
        state: VimState, features: np.ndarray, logits: np.ndarray
    ) -> np.ndarray:
        virtual = state.gain * _lengths(features - state.origin, state.directions)
        return scipy.special.logsumexp(head.logits(features), axis=1) - virtual

    return Score(fit, matched)


def _lengths(rows: np.ndarray, directions: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows - (rows @ directions) @ directions.T, axis=1)
