"""One split of the classes: fit on the known ones, score all of the test."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from unlir_jax.core.document_types import Record
from unlir_jax.open_set import (
    classes,
    combination,
    descriptions,
    measures,
    protocols,
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


class Side(NamedTuple):
    """Hold what all scores of a split are measured with."""

    setup: OpenSetSetup
    division: classes.Division
    train: Split
    test: Split
    is_known: np.ndarray
    right: np.ndarray


def run(
    setup: OpenSetSetup,
    number: int,
    train: Split,
    test: Split,
    sets: Mapping[str, Split] = MappingProxyType({}),
    progress: Callable[[str], None] = lambda doing: None,
) -> Record:
    """Learn the known classes of a split, and score all test images.

    Args:
        setup: What is evaluated.
        number: Number of the split.
        train: All training images; no image of an unknown class is fitted to.
        test: Test images, see `scored`.
        sets: Further images of no known class, see `added`.
        progress: Told what is being done.

    Returns:
        Measures by score, scores of all test images, and what was chosen.

    Raises:
        ValueError: Images that make no score, or too few known classes for `best`.
    """
    division = setup.divisions[number]
    progress("parts" if setup.by_parts else "known classes")
    detectors = detectors_of(setup, number, train)
    known = known_images(setup, number, train, detectors)
    progress("known classes")
    own = recogniser.fit(setup.plan, known.images, known.labels, known.classes)
    judged = recogniser.judge(own, descriptions.described(test, detectors))
    if BEST in setup.names:
        progress("best")
    best = _chosen(setup, known)
    scores = _scores(judged, best)
    is_known = np.isin(test.labels, division.known)
    predicted = division.known[judged.logits.argmax(1)]
    right = is_known & (predicted == test.labels)
    further = {
        name: _scores(
            recogniser.judge(own, descriptions.described(each, detectors)), best
        )
        for name, each in sets.items()
    }
    side = Side(setup, division, train, test, is_known, right)
    return {
        "accuracy": float(right[is_known].mean()),
        "measures": {
            name: _measured(
                side, scores[name], [each[name] for each in further.values()]
            )
            for name in setup.names
        },
        "is_known": is_known.astype(int).tolist(),
        "right": right.astype(int).tolist(),
        "predicted": predicted.tolist(),
        "scores": {name: scores[name].tolist() for name in setup.names},
        "sets": {
            key: _against(side, scores, each, setup.names)
            for key, each in further.items()
        },
        **_about(best),
    }


def _chosen(setup: OpenSetSetup, known: Known) -> combination.Combination | None:
    """Choose what `best` is; None where it was not asked for."""
    if BEST not in setup.names:
        return None
    found = combination.turns(setup.plan, known.images, known.labels, known.classes)
    return combination.choose(found, setup.plan.names)


def _about(best: combination.Combination | None) -> Record:
    """Say what `best` is made of."""
    if best is None:
        return {}
    return {
        "chosen": list(best.names),
        "combination": best.record(),
        "pseudo_auroc": best.auroc,
        "pseudo_auroc_alone": dict(best.alone),
    }


def _against(
    side: Side,
    scores: Mapping[str, np.ndarray],
    further: Mapping[str, np.ndarray],
    names: Sequence[str],
) -> Record:
    """Measure all scores of known test images against a further set."""
    known, right = side.is_known, side.right[side.is_known]
    return {
        "measures": {
            name: measures.compare(scores[name][known], right, further[name])
            for name in names
        },
        "scores": {name: further[name].tolist() for name in names},
    }


def scored(setup: OpenSetSetup, number: int, test: Split) -> Split:
    """Keep the test images of a split: of known and unknown classes, not of others."""
    division = setup.divisions[number]
    every = np.concatenate([division.known, division.unknown])
    return test.take(np.isin(test.labels, every))


def added(setup: OpenSetSetup, number: int, each: Split) -> Split:
    """Keep the images of a set that a split takes: by its protocol, or all."""
    protocol = setup.settings.protocol
    unknown = protocols.find(protocol).added if protocol else ()
    return each.take(np.isin(each.labels, unknown[number])) if unknown else each


def detectors_of(
    setup: OpenSetSetup, number: int, train: Split
) -> descriptions.Detectors | None:
    """Fit detectors of parts to known classes; None where no score reads parts."""
    if not setup.by_parts:
        return None
    known = np.isin(train.labels, setup.divisions[number].known)
    wanted = setup.settings.detectors
    return descriptions.fit_detectors(
        train,
        np.flatnonzero(known),
        parts=wanted.parts,
        images=wanted.images,
        seed=setup.settings.seed + number,
    )


def known_images(
    setup: OpenSetSetup,
    number: int,
    train: Split,
    detectors: descriptions.Detectors | None,
) -> Known:
    """Describe the training images of the known classes of a split."""
    division = setup.divisions[number]
    chosen = np.flatnonzero(np.isin(train.labels, division.known))
    return Known(
        descriptions.described(train, detectors).take(chosen),
        np.searchsorted(division.known, train.labels[chosen]),
        len(division.known),
    )


def _scores(
    judged: recogniser.Judged, best: combination.Combination | None
) -> dict[str, np.ndarray]:
    own = {} if best is None else {BEST: best.combine(judged.scores)}
    return dict(judged.scores) | own


def _measured(
    side: Side, scores: np.ndarray, further: Sequence[np.ndarray]
) -> dict[str, float]:
    """Measure a score, also against hard and easy unknown classes.

    Without unknown classes in the data, all further sets together stand for them.
    """
    division, is_known, right = side.division, side.is_known, side.right
    if not len(division.unknown):
        kept = scores[is_known], right[is_known]
        return measures.compare(*kept, np.concatenate(further))
    found = measures.measure(scores, is_known, right)
    most = division.hard
    if most is None and side.setup.settings.similarity:
        train = side.train
        most = classes.hard(train.pooled, train.labels, division)
    if most is not None:
        hard = np.isin(side.test.labels, most)
        for name, among in ((HARD, hard), (EASY, ~hard)):
            if (among & ~is_known).any():
                own = measures.measure(scores, is_known, right, among)
                found |= {f"{key}_{name}": value for key, value in own.items()}
    return found
