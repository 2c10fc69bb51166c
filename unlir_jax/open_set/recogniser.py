"""Recogniser of known classes: a classifier of frozen features and fitted scores."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from unlir_jax.open_set import classifier
from unlir_jax.open_set.scores import SCORES, SPECS, Linear, Score
from unlir_jax.parts import ridge

PARTS = "parts"


class Described(NamedTuple):
    """Hold what a frozen network says of images.

    Attributes:
        pooled: Pooled features, `[images, channels]`.
        parts: Scores of parts, `[images, parts]`; None where no score reads them.
    """

    pooled: np.ndarray
    parts: np.ndarray | None = None

    def take(self, places: np.ndarray) -> "Described":
        """Keep some images."""
        some = None if self.parts is None else self.parts[places]
        return Described(self.pooled[places], some)


class Plan(NamedTuple):
    """Say how a recogniser is fitted.

    Attributes:
        names: Scores, names of `scores.SCORES`.
        options: Settings of scores by name.
        head: Kind of the classifier, see `classifier.fit`.
        seed: Seed of the folds of left-out logits.
        smoothing: See `classifier.fit`.
    """

    names: Sequence[str]
    options: Mapping[str, Mapping[str, Any]] = {}
    head: classifier.Kind = "prototypes"
    seed: int = 0
    smoothing: float = 0.0


class Recogniser(NamedTuple):
    """Hold a classifier and scores that were fitted on known classes.

    Attributes:
        classifier: It gives the logits.
        scores: The functions of each score, and its state.
    """

    classifier: classifier.Classifier
    scores: Mapping[str, tuple[Score, Any]]


class Judged(NamedTuple):
    """Hold the logits and scores of images.

    Attributes:
        logits: `[images, classes]`.
        scores: `[images]` by name, high where an image fits the known classes.
    """

    logits: np.ndarray
    scores: Mapping[str, np.ndarray]


def fit(
    plan: Plan,
    train: Described,
    labels: np.ndarray,
    classes: int,
    logits: np.ndarray | None = None,
) -> Recogniser:
    """Fit a classifier and scores to training images of known classes.

    Scores see the logits of training images that were left out of the fit.

    Args:
        plan: How.
        train: The images.
        labels: Their classes, 0 to `classes - 1`.
        classes: Number of known classes.
        logits: What `left_out_logits` gives, where it is known.

    Raises:
        ValueError: Images that make no score; the sentence says why.
    """
    own = classifier.fit(train.pooled, labels, classes, plan.head, plan.smoothing)
    if logits is None:
        logits = left_out_logits(plan, train, labels, classes)
    found = {}
    for name in plan.names:
        rows, head = _input(name, train), own.linear
        if SPECS[name].takes == PARTS:
            # Evidence without a bias; discriminants are no use without theirs.
            head = Linear(*ridge.classifier(rows, labels, classes))
        score = SCORES[name](head, **plan.options.get(name, {}))
        found[name] = score, score.fit(rows, logits, labels)
    return Recogniser(own, found)


def left_out_logits(
    plan: Plan, train: Described, labels: np.ndarray, classes: int
) -> np.ndarray:
    """Classify training images as `fit` does, see `classifier.left_out_logits`."""
    given = train.pooled, labels, classes, plan.head, plan.smoothing
    return classifier.left_out_logits(*given, seed=plan.seed)


def judge(recogniser: Recogniser, images: Described) -> Judged:
    """Classify and score images."""
    logits = recogniser.classifier.logits(images.pooled)
    scores = {
        name: score.score(state, _input(name, images), logits)
        for name, (score, state) in recogniser.scores.items()
    }
    return Judged(logits, scores)


def _input(name: str, images: Described) -> np.ndarray:
    if SPECS[name].takes != PARTS:
        return images.pooled
    if images.parts is None:
        raise ValueError(
            f"`scores` has {name!r}, but the images have no scores of parts; expected "
            "a network with maps."
        )
    return images.parts
