"""OpenMax: logits reduced by how extreme an image is for each class."""

from typing import Literal, NamedTuple, get_args

import numpy as np
import scipy

from unlir_jax.core import choices
from unlir_jax.open_set import weibull
from unlir_jax.open_set.scores.softmax import log_probabilities
from unlir_jax.open_set.scores.spec import Linear, Score, score

Distance = Literal["euclidean", "eucos"]
Negative = Literal["shift", "positive"]
EUCLIDEAN_SHARE = 1 / 200
"""Weight of the Euclidean distance in `eucos`, as the original code has it."""


class OpenMaxState(NamedTuple):
    """Hold the mean logits of each class, and the tail of distances from them.

    Attributes:
        means: `[classes, classes]`.
        tails: A Weibull distribution for each class.
    """

    means: np.ndarray
    tails: tuple[weibull.Weibull, ...]


@score(
    "OpenMax",
    "-P(unknown), from tails of distances",
    "logits",
    "Bendale & Boult, 2016",
)
def openmax(
    head: Linear | None = None,
    *,
    tail: int = 20,
    largest: int = 3,
    distance: Distance = "euclidean",
    negative: Negative = "shift",
) -> Score:
    """Score by the negative probability of an unknown class.

    The distances of the correctly classified training images of a class from their mean
    logits have a Weibull tail. The logits of the most probable classes are reduced by
    the distribution of that tail, and what is taken away is the unknown class's logit.

    Args:
        head: Classifier, not used.
        tail: Number of largest distances that the tail is fitted to.
        largest: Number of most probable classes whose logits are reduced.
        distance: Distance from the mean logits, `euclidean`, or `eucos`: a two
            hundredth of it plus one minus the cosine, as in the original code.
        negative: Treatment of negative logits: `shift` subtracts the image's smallest
            logit from all of them first; `positive` reduces positive logits only.

    Raises:
        ValueError: A tail of fewer than 2, no class to reduce, or an unknown choice.
            When fitted: all distances of a class are equal.

    References:
        Bendale and Boult, *Towards Open Set Deep Networks*, CVPR 2016, Algorithms 1
        and 2.

    Note:
        Algorithm 2 multiplies logits by a share, which enlarges a negative one. The
        setting `negative` avoids that. A class without a correct image uses all of its
        images.
    """
    if tail < 2 or largest < 1:
        raise ValueError(
            f"`tail`={tail} and `largest`={largest}; expected 2 or more distances and "
            "1 or more classes."
        )
    for name, value, known in (
        ("distance", distance, Distance),
        ("negative", negative, Negative),
    ):
        choices.pick(value, get_args(known), f"`{name}`={value!r} is unknown")

    def fit(
        features: np.ndarray, logits: np.ndarray, labels: np.ndarray
    ) -> OpenMaxState:
        right = logits.argmax(1) == labels
        means, tails = [], []
        for label in range(logits.shape[1]):
            mine = labels == label
            own = logits[mine & right] if (mine & right).any() else logits[mine]
            means.append(own.mean(0))
            distances = _distances(own, means[-1][None], distance)[:, 0]
            tails.append(weibull.fit_tail(distances, tail, f"class {label}"))
        return OpenMaxState(np.stack(means), tuple(tails))

    def unknown(
        state: OpenMaxState, features: np.ndarray, logits: np.ndarray
    ) -> np.ndarray:
        found = _distances(logits, state.means, distance)
        extreme = np.stack(
            [own.below(found[:, label]) for label, own in enumerate(state.tails)], 1
        )
        given = logits - logits.min(1, keepdims=True) if negative == "shift" else logits
        count = min(largest, logits.shape[1])
        ranks = (-logits).argsort(1, kind="stable").argsort(1)
        weights = np.where(ranks < count, (count - ranks) / count, 0.0)
        taken = np.maximum(given, 0.0) * weights * extreme
        every = np.concatenate([given - taken, taken.sum(1, keepdims=True)], axis=1)
        return -np.exp(log_probabilities(every)[:, -1])

    return Score(fit, unknown)


def _distances(logits: np.ndarray, means: np.ndarray, kind: Distance) -> np.ndarray:
    """Measure logits against the mean of each class, `[batch, classes]`."""
    # Row by row in pairs: no result depends on the other rows.
    euclidean = scipy.spatial.distance.cdist(logits, means)
    if kind == "euclidean":
        return euclidean
    lengths = np.linalg.norm(logits, axis=1)[:, None] * np.linalg.norm(means, axis=1)
    products = np.sum(logits[:, None] * means[None], axis=2)
    cosine = np.divide(
        products, lengths, out=np.zeros_like(products), where=lengths > 0
    )
    return euclidean * EUCLIDEAN_SHARE + 1 - cosine
