"""Conditions of an evaluation: their setups, folders, and how far they differ."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlir_jax.core.document_types import Record
from unlir_jax.evaluation import conditions, store
from unlir_jax.evaluation.conditions import Condition
from unlir_jax.evaluation.setup import EvaluationSetup
from unlir_jax.explanation import scoring
from unlir_jax.statistics import significance

CODES = {
    "predicted": scoring.PREDICTED,
    "second": scoring.SECOND,
    "least": scoring.LEAST,
}


class Result(NamedTuple):
    """Hold what became of a condition.

    Attributes:
        given: Its setup.
        rows: Scores of its images.
        names: Names of these images.
        document: Its summary.
    """

    given: EvaluationSetup
    rows: store.Rows
    names: Sequence[str]
    document: Record


def setups(given: EvaluationSetup) -> list[EvaluationSetup]:
    """Give the setup of every condition, the one to compare with first.

    Raises:
        ValueError: A class is asked for that a network with one class does not have.
    """
    asked = given.settings.classes, given.settings.augmentations
    return [_under(given, condition) for condition in conditions.listed(*asked)]


def _under(given: EvaluationSetup, condition: Condition) -> EvaluationSetup:
    labels = _labels(given, condition.explained)
    found = given._replace(labels=labels, condition=condition)
    if condition.plain:
        return found
    # Agreement is that with the images as they are.
    left_out = {*conditions.agreement(given.settings)}
    kept = [name for name in given.columns if name not in left_out]
    return found._replace(
        scorers=[each for each in given.scorers if not left_out & {*each.columns}],
        contracts={name: given.contracts[name] for name in kept},
    )


def _labels(given: EvaluationSetup, explained: str) -> np.ndarray:
    """Give the class that is explained of each image; below 0 see `scoring.chosen`."""
    if explained in ("", "label"):
        return given.labels
    count = given.score.labels or given.network.module.num_classes
    if count < 2 and explained in ("second", "random"):
        raise ValueError(
            f"`classes`={given.settings.classes!r} has {explained!r}, but there is "
            "one class; expected other classes."
        )
    if explained != "random":
        return np.full(given.data.size, CODES[explained], np.int32)
    random = np.random.default_rng(given.settings.seed)
    # Any class but the label, where there is one.
    known = np.where(given.labels < 0, count, given.labels)
    drawn = random.integers(0, np.where(known < count, count - 1, count))
    return (drawn + (drawn >= known)).astype(np.int32)


def folder(workdir: Path, given: EvaluationSetup, first: EvaluationSetup) -> Path:
    """Name the folder of a condition; the first has the workdir itself."""
    own = given.condition
    if own == first.condition:
        return workdir
    return workdir / conditions.FOLDER / own.name


def lines(found: Sequence[Result]) -> Iterator[Record]:
    """Give the lines of the table of all conditions, one after another."""
    for given, rows, names, _ in found:
        own = given.condition
        explained = {"class": own.explained or "label"}
        about = explained | {"augmentation": own.augmentation}
        about = about if len(found) > 1 else {}
        yield from map(
            dict,
            store.lines(rows, names, list(given.explainers), given.columns, **about),
        )


def describe(found: Sequence[Result]) -> Record:
    """Say of all conditions what their means are, and how far they differ.

    Returns:
        Nothing of a single condition. Of several, `conditions` by name, and
        `differences`, see `compare`.
    """
    if len(found) == 1:
        return {}
    first = found[0].given
    known = {}
    for given, _, _, document in found:
        own = given.condition
        known[own.name or own.augmentation] = {
            "title": own.title,
            "class": own.explained or "label",
            "augmentation": own.augmentation,
            "folder": folder(Path(), given, first).as_posix(),
            "accuracy": document["about"]["accuracy"],
            "means": {name: each for name, each in document.items() if "/" in name},
        }
    return {"conditions": known, "differences": compare(found)}


def compare(found: Sequence[Result]) -> list[Record]:
    """Compare every condition with the first class, and with images as they are.

    Returns:
        One for each pair of conditions, method and metric: `condition`, `reference`,
        `difference` of the first to the second with its interval, `p_value` of the
        paired permutation test, `holm`, the same after Holm's correction over the
        methods and metrics of the pair, and `n`.
    """
    first = found[0].given.condition
    by_condition = {each.given.condition: each for each in found}
    pairs = []
    for own, other in by_condition.items():
        if own.explained != first.explained:
            reference = own._replace(explained=first.explained)
            pairs += _differences(other, by_condition[reference])
        if not own.plain:
            reference = own._replace(augmentation=first.augmentation)
            pairs += _differences(other, by_condition[reference])
    return pairs


def _differences(one: Result, other: Result) -> list[Record]:
    settings = one.given.settings
    options: Record = {
        "resamples": settings.statistics.resamples,
        "seed": settings.seed,
    }
    confidence = settings.statistics.confidence
    # An image may have become unreadable in between.
    _, *places = np.intersect1d(one.rows.index, other.rows.index, return_indices=True)
    found = []
    for metric in one.given.columns:
        columns = [each.given.columns.index(metric) for each in (one, other)]
        for place, method in enumerate(one.given.explainers):
            mine, theirs = (
                each.rows.values[rows, place, column].astype(np.float64)
                for each, rows, column in zip(
                    (one, other), places, columns, strict=True
                )
            )
            kept = np.isfinite(mine) & np.isfinite(theirs)
            if not kept.any():
                continue
            mine, theirs = mine[kept], theirs[kept]
            interval = significance.bootstrap_difference(
                mine, theirs, confidence=confidence, **options
            )
            found.append(
                {
                    "condition": one.given.condition.name,
                    "reference": other.given.condition.name or conditions.PLAIN,
                    "metric": metric,
                    "method": method,
                    "difference": float(interval.mean),
                    "low": float(interval.low),
                    "high": float(interval.high),
                    "p_value": significance.paired_permutation(mine, theirs, **options),
                    "n": int(kept.sum()),
                }
            )
    p_values = [pair["p_value"] for pair in found]
    corrected = significance.holm(p_values) if found else []
    for pair, p_value in zip(found, corrected, strict=True):
        pair["holm"] = float(p_value)
    return found
