"""One split of the classes: fit on the known ones, score all of the test."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from unlir_jax.core.document_types import Record
from unlir_jax.open_set import (
    classes,
    combination,
    descriptions,
    measures,
    recogniser,
)
from unlir_jax.open_set.descriptions import Split
from unlir_jax.open_set.score_names import BEST
from unlir_jax.open_set.setup import OpenSetSetup

HARD, EASY = "hard", "easy"


class Known(NamedTuple):
    """Hold the training images of the known classes of one split.

    Attributes:
        images: What scores read of them.
        labels: Their classes, from 0.
        classes: Number of known classes.
    """

    images: recogniser.Described
    labels: np.ndarray
    classes: int


def run(
    setup: OpenSetSetup,
    number: int,
    train: Split,
    test: Split,
    progress: Callable[[str], None] = lambda doing: None,
) -> Record:
    """Learn the known classes of a split, and score all test images.

    Args:
        setup: What is evaluated.
        number: Number of the split.
        train: All training images; no image of an unknown class is fitted to.
        test: All test images.
        progress: Told what is being done.

    Returns:
        Measures by score, scores of all test images, and what was chosen.

    Raises:
        ValueError: Images that make no score, or too few known classes for `best`.
    """
    division = setup.divisions[number]
    chosen = np.flatnonzero(np.isin(train.labels, division.known))
    detectors = None
    if setup.by_parts:
        progress("parts")
        wanted = setup.settings.detectors
        seed = setup.settings.seed + number
        detectors = descriptions.fit_detectors(
            train, chosen, parts=wanted.parts, images=wanted.images, seed=seed
        )
    known = Known(
        descriptions.described(train, detectors).take(chosen),
        np.searchsorted(division.known, train.labels[chosen]),
        len(division.known),
    )
    progress("known classes")
    own = recogniser.fit(setup.plan, known.images, known.labels, known.classes)
    judged = recogniser.judge(own, descriptions.described(test, detectors))
    scores, about = dict(judged.scores), {}
    if BEST in setup.names:
        progress("best")
        found = combination.turns(setup.plan, known.images, known.labels, known.classes)
        best = combination.choose(found, setup.plan.names)
        scores[BEST] = best.combine(scores)
        about = {
            "chosen": list(best.names),
            "pseudo_auroc": best.auroc,
            "pseudo_auroc_alone": dict(best.alone),
        }
    is_known = np.isin(test.labels, division.known)
    predicted = division.known[judged.logits.argmax(1)]
    right = is_known & (predicted == test.labels)
    return {
        "accuracy": float(right[is_known].mean()),
        "measures": {
            name: _measured(setup, division, train, test, scores[name], is_known, right)
            for name in setup.names
        },
        "is_known": is_known.astype(int).tolist(),
        "right": right.astype(int).tolist(),
        "predicted": predicted.tolist(),
        "scores": {name: scores[name].tolist() for name in setup.names},
        **about,
    }


def _measured(
    setup: OpenSetSetup,
    division: classes.Division,
    train: Split,
    test: Split,
    scores: np.ndarray,
    is_known: np.ndarray,
    right: np.ndarray,
) -> dict[str, float]:
    """Measure a score, also against unknown classes by their likeness."""
    found = measures.measure(scores, is_known, right)
    if setup.settings.similarity:
        hard = np.isin(test.labels, classes.hard(train.pooled, train.labels, division))
        for name, among in ((HARD, hard), (EASY, ~hard)):
            if (among & ~is_known).any():
                own = measures.measure(scores, is_known, right, among)
                found |= {f"{key}_{name}": value for key, value in own.items()}
    return found
