"""Refusal of images of unknown classes: a threshold on known images that were left out.

No image of an unknown class is needed.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from unlir_jax.core import choices
from unlir_jax.open_set import recogniser
from unlir_jax.open_set.combination import Combination
from unlir_jax.open_set.score_names import BEST
from unlir_jax.parts import logistic
from unlir_jax.types import Array

FOLDS = 5
LEAST_IMAGES = 3
"""Training images of a class: one is left out, and of the others one again."""


class Rejecter(NamedTuple):
    """Hold what refuses images, as data from which all is fitted again.

    Attributes:
        plan: How scores are fitted.
        train: Training images of known classes.
        labels: Their classes, from 0.
        logits: Their logits by classifiers that had not seen them.
        combination: What `best` is; None where it was not asked for.
        thresholds: By score, the least that is accepted.
        kept: Share of images of known classes that the thresholds are for.
    """

    plan: recogniser.Plan
    train: recogniser.Described
    labels: np.ndarray
    logits: np.ndarray
    combination: Combination | None
    thresholds: Mapping[str, float]
    kept: float


class Verdicts(NamedTuple):
    """Hold what was found out about images.

    Attributes:
        accepted: Whether each is taken for an image of a known class, `[images]`.
        nearest: The known class with the largest logit, `[images]`.
        scores: High where an image fits the known classes, `[images]`.
    """

    accepted: np.ndarray
    nearest: np.ndarray
    scores: np.ndarray


def threshold(scores: Array, kept: float = 0.95) -> float:
    """Give the score from which on images are accepted.

    It is the k-th smallest of n scores, with `k = floor((1 - kept)(n + 1))`. Then a new
    image of a known class is accepted with a probability of `kept` or more, if it comes
    from where these came from.

    Args:
        scores: Scores of images of known classes that nothing was fitted to, `[n]`.
        kept: Share of images of known classes to be accepted, in (0, 1).

    Raises:
        ValueError: No score, one that is not finite, or a share outside (0, 1).

    References:
        Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World*, 2005,
        Proposition 2.3.

    Note:
        With so few scores that k is 0, it is the smallest, and the share is smaller:
        `n / (n + 1)`.

    Example:
        >>> import numpy as np
        >>> from unlir_jax.open_set import rejection
        >>> rejection.threshold(np.arange(19.0), kept=0.9)
        1.0
    """
    values = np.sort(np.asarray(scores, np.float64))
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"`scores` has the shape {values.shape}; expected one or more finite "
            "numbers [n]."
        )
    if not 0 < kept < 1:
        raise ValueError(f"`kept`={kept}; expected a share in (0, 1), such as 0.95.")
    # A share such as 0.95 is a little more than its digits say.
    rank = int(np.floor((1 - kept) * (len(values) + 1) + 1e-9))
    return float(values[max(rank, 1) - 1])


def left_out(
    plan: recogniser.Plan, train: recogniser.Described, labels: np.ndarray, classes: int
) -> dict[str, np.ndarray]:
    """Score each training image by a recogniser that has not seen it.

    Args:
        plan: Which scores, and how they are fitted.
        train: Training images of known classes.
        labels: Their classes, 0 to `classes - 1`.
        classes: Number of known classes.

    Returns:
        `[images]` by score.

    Raises:
        ValueError: A class has fewer than three images.
    """
    least = int(np.bincount(labels, minlength=classes).min())
    if least < LEAST_IMAGES:
        raise ValueError(
            f"A known class has {least} training images; expected {LEAST_IMAGES} or "
            "more, so that some can be left out for a threshold."
        )
    fold = logistic.folds(labels, min(FOLDS, least), plan.seed)
    found = {name: np.empty(len(labels)) for name in plan.names}
    for number in np.unique(fold):
        out = fold == number
        own = recogniser.fit(plan, train.take(~out), labels[~out], classes)
        judged = recogniser.judge(own, train.take(out))
        for name in plan.names:
            found[name][out] = judged.scores[name]
    return found


def fit(
    plan: recogniser.Plan,
    train: recogniser.Described,
    labels: np.ndarray,
    *,
    combination: Combination | None = None,
    kept: float = 0.95,
) -> Rejecter:
    """Fit thresholds of all scores to training images of known classes.

    Args:
        plan: Which scores, and how they are fitted.
        train: Training images of known classes.
        labels: Their classes, from 0, each three times or more.
        combination: What `best` is; None for no such score.
        kept: Share of images of known classes to be accepted, in (0, 1).

    Raises:
        ValueError: See `threshold` and `left_out`.
    """
    classes = int(labels.max()) + 1
    scores = left_out(plan, train, labels, classes)
    if combination is not None:
        scores[BEST] = combination.combine(scores)
    thresholds = {name: threshold(each, kept) for name, each in scores.items()}
    logits = recogniser.left_out_logits(plan, train, labels, classes)
    return Rejecter(plan, train, labels, logits, combination, thresholds, kept)


def fitted(rejecter: Rejecter, score: str) -> recogniser.Recogniser:
    """Fit the classifier, and one score of a rejecter.

    Args:
        rejecter: See `fit`.
        score: One of its scores.

    Raises:
        ValueError: It has no such score.
    """
    known = rejecter.thresholds
    choices.pick(score, known, f"`reject`={score!r} is no score of the rejecter")
    best = rejecter.combination if score == BEST else None
    plan = rejecter.plan._replace(names=(score,) if best is None else best.names)
    classes = int(rejecter.labels.max()) + 1
    given = rejecter.train, rejecter.labels, classes, rejecter.logits
    return recogniser.fit(plan, *given)


def judging(
    rejecter: Rejecter, score: str, own: recogniser.Recogniser | None = None
) -> Callable[[recogniser.Described], Verdicts]:
    """Give the function that judges images by one score of a rejecter.

    Args:
        rejecter: See `fit`.
        score: One of its scores.
        own: What `fitted` gives, where it is known.

    Raises:
        ValueError: It has no such score.
    """
    own = fitted(rejecter, score) if own is None else own
    known = rejecter.thresholds
    best = rejecter.combination if score == BEST else None

    def judge(images: recogniser.Described) -> Verdicts:
        judged = recogniser.judge(own, images)
        found = judged.scores[score] if best is None else best.combine(judged.scores)
        return Verdicts(found >= known[score], judged.logits.argmax(1), found)

    return judge
