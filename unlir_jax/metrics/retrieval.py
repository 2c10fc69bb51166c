"""Quality of rankings of similar images.

Philbin et al. (CVPR 2007) and Radenovic et al. (Revisiting Oxford and Paris, CVPR
2018): what is junk for a query is taken out of its ranking before anything is counted.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from unlir_jax.types import Array, Labels

Relevant = Bool[Array, "queries index"]
ROWS = 512


class Retrieval(NamedTuple):
    """Hold how each query fared.

    Attributes:
        average_precision: `[queries]`, in [0, 1]; NaN where nothing is to be found.
        found: bool `[queries, k]`: whether one of the first 1, 2, ... k is relevant.
        left_out: Number of queries for which nothing is to be found.
    """

    average_precision: np.ndarray
    found: np.ndarray
    left_out: int

    @property
    def mean_average_precision(self) -> float:
        """Average over the queries for which something is to be found."""
        return float(np.nanmean(self.average_precision))

    def recall(self, k: int) -> float:
        """Give the share of those queries with a relevant one among the first `k`."""
        kept = ~np.isnan(self.average_precision)
        return float(self.found[kept, k - 1].mean())


def evaluate(
    scores: Float[Array, "queries index"],
    relevant: Relevant,
    junk: Relevant | None = None,
    *,
    trapezoid: bool = False,
    k: int = 10,
) -> Retrieval:
    """Rank the index for each query and count what is relevant.

    Args:
        scores: Higher is more alike; of equal ones, the first in the index comes first.
        relevant: What should be found.
        junk: What counts neither way, such as the query itself.
        trapezoid: Integrate precision over recall by trapezoids, as the code of the
            Oxford and Paris benchmarks does, instead of averaging the precision at each
            relevant one.
        k: Length of `found`.

    Raises:
        ValueError: Shapes that do not fit, a score that is not finite, or nothing to
            find for any query.

    Example:
        >>> import numpy as np
        >>> from unlir_jax.metrics import retrieval
        >>> scores = np.asarray([[0.9, 0.5, 0.1]])
        >>> found = retrieval.evaluate(scores, np.asarray([[True, False, True]]), k=3)
        >>> found.average_precision.round(3).tolist()  # (1 / 1 + 2 / 3) / 2
        [0.833]
    """
    scores, relevant = np.asarray(scores), np.asarray(relevant, bool)
    junk = np.zeros_like(relevant) if junk is None else np.asarray(junk, bool)
    if scores.ndim != 2 or not scores.shape == relevant.shape == junk.shape:
        raise ValueError(
            f"`scores`, `relevant` and `junk` have shapes {scores.shape}, "
            f"{relevant.shape} and {junk.shape}; expected [queries, index] for all."
        )
    if not np.isfinite(scores).all():
        raise ValueError("`scores` has values that are not finite; expected numbers.")
    wanted = relevant & ~junk
    counts = wanted.sum(1)
    if not counts.any():
        raise ValueError(
            "`relevant` is False for all that is not junk; expected something to find."
        )
    # Junk goes behind all that counts, in the order of the index.
    order = np.argsort(np.where(junk, np.inf, -scores), axis=1, kind="stable")
    hits = np.take_along_axis(wanted, order, axis=1)
    total = np.cumsum(hits, axis=1)
    precision = total / np.arange(1, hits.shape[1] + 1)
    if trapezoid:
        # Of the list before each, where there is one.
        before = (total - hits) / np.maximum(np.arange(hits.shape[1]), 1)
        before[:, 0] = 1.0
        precision = (precision + before) / 2
    with np.errstate(invalid="ignore"):
        average = np.where(
            counts > 0, (precision * hits).sum(1) / np.maximum(counts, 1), np.nan
        )
    return Retrieval(average, total[:, :k] > 0, int(np.count_nonzero(counts == 0)))


def revisited(
    easy: Relevant, hard: Relevant, junk: Relevant
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Give what is relevant and junk in each setup of Revisited Oxford and Paris.

    `evaluate(scores, *revisited(easy, hard, junk)["medium"], trapezoid=True)` is its
    score for medium. Radenovic et al., CVPR 2018, section 3.2. In the first benchmarks,
    what is good or okay is relevant, and there is one setup.

    Args:
        easy: Images that show it plainly.
        hard: Images in which it is hard to see.
        junk: Images that say neither.

    Returns:
        For `easy`, `medium` (easy and hard) and `hard`; what the other setup is about
        is junk.

    Raises:
        ValueError: Shapes that differ, or an image that is two of them.
    """
    kinds = [np.asarray(kind, bool) for kind in (easy, hard, junk)]
    shapes = [kind.shape for kind in kinds]
    if len(set(shapes)) > 1 or (np.sum(kinds, axis=0) > 1).any():
        raise ValueError(
            f"`easy`, `hard` and `junk` have shapes {shapes[0]}, {shapes[1]} and "
            f"{shapes[2]}, or share images; expected [queries, index] for all, and "
            "each image in one of them at most."
        )
    easy, hard, junk = kinds
    return {
        "easy": (easy, hard | junk),
        "medium": (easy | hard, junk),
        "hard": (hard, easy | junk),
    }


def by_class(
    descriptors: Float[Array, "pictures channels"], labels: Labels, *, k: int = 10
) -> Retrieval:
    """Let each image ask for the others of its class, by cosine.

    Memory is that of some hundred queries against all images.

    Args:
        descriptors: Descriptors of any length; zeros are alike nothing.
        labels: Integers, `[images]`.
        k: Length of `Retrieval.found`.

    Raises:
        ValueError: As `evaluate`; another number of labels than of descriptors.
    """
    # In double precision, or what is nearly as alike would swap places.
    rows, labels = np.asarray(descriptors, np.float64), np.asarray(labels)
    if rows.ndim != 2 or labels.shape != rows.shape[:1]:
        raise ValueError(
            f"`descriptors` has shape {rows.shape} and `labels` {labels.shape}; "
            "expected [images, channels] and [images]."
        )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    if not (np.unique(labels, return_counts=True)[1] > 1).any():
        raise ValueError(
            "`labels` has no class with two images; expected something to find."
        )
    found = []
    for first in range(0, len(rows), ROWS):
        some = slice(first, first + ROWS)
        same = labels[some, None] == labels[None]
        own = np.arange(len(rows))[some, None] == np.arange(len(rows))[None]
        if not (same & ~own).any():
            nothing = np.full(len(same), np.nan)
            none = np.zeros((len(same), min(k, len(rows))), bool)
            found.append(Retrieval(nothing, none, len(same)))
            continue
        found.append(evaluate(rows[some] @ rows.T, same, own, k=k))
    return Retrieval(
        np.concatenate([each.average_precision for each in found]),
        np.concatenate([each.found for each in found]),
        sum(each.left_out for each in found),
    )
