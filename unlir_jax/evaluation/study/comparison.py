"""Each arm of a study next to the baseline, cell by cell."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from unlir_jax import metrics
from unlir_jax.core.document_types import Record
from unlir_jax.evaluation.study.scores import AS_TRAINED, CALIBRATED, Table
from unlir_jax.statistics import crossed

BOTH_RIGHT = "both_right"
CONDITIONS = (AS_TRAINED, CALIBRATED, BOTH_RIGHT)
HIGHER = {
    "accuracy": True,
    "nll": False,
    "nll_calibrated": False,
    "gradient_cosine": True,
    "gradient_total_variation": False,
    "alignment": True,
    "robust_accuracy": True,
    "least_distance": True,
}
"""Which direction is the wanted one, of what is no metric of maps."""
RANDOMIZATION = "_randomization"


class Scored(NamedTuple):
    """Hold what is known of one network.

    Attributes:
        arm: How it was trained.
        seed: Seed of its training; None of a network that is given for all seeds.
        facts: Temperature, accuracy and calibration, see `measures.calibrate`.
        classified: `accuracy`, `nll` and `nll_calibrated` of each image that no
            temperature was fitted on.
        right: Whether scored images are classified rightly, `[images]`.
        tables: Scores by condition.
    """

    arm: str
    seed: int | None
    facts: Mapping[str, float]
    classified: Table
    right: np.ndarray
    tables: Mapping[str, Table]


def higher(cell: str) -> bool | None:
    """Tell which direction of a cell is the wanted one; None where neither is."""
    name = cell.rpartition("/")[2]
    plain = name.partition("@")[0]
    if plain in HIGHER:
        return HIGHER[plain]
    known = metrics.SPECS.get(plain)
    return None if known is None else metrics.higher_is_better(name)


def compare(
    found: Sequence[Scored],
    baseline: str,
    faithfulness: Sequence[str],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Record:
    """Compare all arms with the baseline, paired by seed and image.

    Args:
        found: All networks, every arm with the same seeds, or with none: that one
            network stands next to each seed of another arm.
        baseline: Name of the arm that others are compared with.
        faithfulness: Metrics whose cells the sign tests count.
        confidence: Confidence of intervals.
        resamples: Number of resamples of each interval.
        seed: Seed of them.

    Returns:
        `networks`, the facts of each; `cells`, for each arm, condition and cell the two
        means, their difference with its interval over seeds and images, and whether it
        is `better`, `worse` or, with 0 in the interval, `open`; `signs`, for each arm
        and condition sign tests over cells of `faithfulness`, all and by metric.
    """
    arms = list(dict.fromkeys(each.arm for each in found))
    by_arm = {arm: [each for each in found if each.arm == arm] for arm in arms}
    how = {"confidence": confidence, "resamples": resamples, "seed": seed}
    cells: list[Record] = []
    for arm in arms:
        if arm != baseline:
            cells += _cells(*_paired(by_arm[baseline], by_arm[arm]), how)
    pairs = itertools.product((arm for arm in arms if arm != baseline), CONDITIONS)
    signs = [
        each for arm, when in pairs for each in _signs(cells, arm, when, faithfulness)
    ]
    networks = [{"arm": each.arm, "seed": each.seed, **each.facts} for each in found]
    return {"networks": networks, "cells": cells, "signs": signs}


def _paired(
    ours: Sequence[Scored], theirs: Sequence[Scored]
) -> tuple[Sequence[Scored], Sequence[Scored]]:
    """Repeat a network that is given for each seed of the other arm."""
    count = max(len(ours), len(theirs))
    first, second = (
        side * count if side[0].seed is None else side
        for side in (list(ours), list(theirs))
    )
    return first[:count], second[:count]


def _cells(
    ours: Sequence[Scored], theirs: Sequence[Scored], how: Mapping[str, Any]
) -> list[Record]:
    """Compare one arm, `theirs`, with the baseline."""
    arm, found = theirs[0].arm, []
    for name in ours[0].classified:
        sides = [np.stack([e.classified[name] for e in s]) for s in (ours, theirs)]
        cell = f"network/{name}"
        found.append(_cell(arm, AS_TRAINED, cell, sides[0], sides[1], how))
    right = np.stack([a.right & b.right for a, b in zip(ours, theirs, strict=True)])
    for condition in CONDITIONS:
        table = CALIBRATED if condition == BOTH_RIGHT else condition
        shared = [e.tables.get(table, {}) for e in (*ours, *theirs)]
        for cell in (c for c in shared[0] if all(c in each for each in shared)):
            first, second = (
                np.stack([each.tables[table][cell] for each in side])
                for side in (ours, theirs)
            )
            if condition == BOTH_RIGHT:
                first = np.where(right, first, np.nan)
            found.append(_cell(arm, condition, cell, first, second, how))
    return found


def _cell(
    arm: str,
    condition: str,
    cell: str,
    first: np.ndarray,
    second: np.ndarray,
    how: Mapping[str, Any],
) -> Record:
    """Compare two tables of `[seeds, images]`, where both have numbers."""
    there = np.isfinite(first) & np.isfinite(second)
    said: Record = {"arm": arm, "condition": condition, "cell": cell}
    nothing = dict.fromkeys(("baseline", "mean", "difference", "low", "high"))
    if not there.any():
        return said | nothing | {"n": 0, "verdict": "undefined", "seeds": []}
    difference = np.where(there, second - first, np.nan)
    interval = crossed.bootstrap_crossed(difference, **how)
    rows = [
        float(row[kept].mean()) if kept.any() else None
        for row, kept in zip(difference, there, strict=True)
    ]
    return said | {
        "baseline": float(first[there].mean()),
        "mean": float(second[there].mean()),
        "difference": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "n": int(there.sum()),
        "verdict": _verdict(interval.low, interval.high, higher(cell)),
        "seeds": rows,
    }


def _verdict(low: float, high: float, wanted: bool | None) -> str:
    if low <= 0 <= high:
        return "open"
    if wanted is None:
        return "higher" if low > 0 else "lower"
    return "better" if (low > 0) == wanted else "worse"


def _signs(
    cells: Sequence[Record], arm: str, condition: str, names: Sequence[str]
) -> list[Record]:
    """Count how many cells changed in the wanted direction."""
    own = [
        each
        for each in cells
        if (each["arm"], each["condition"]) == (arm, condition)
        and each["difference"] is not None
        and each["cell"].rpartition("/")[2] in names
    ]
    found = []
    for metric in ("all", *names):
        kept = [e for e in own if metric in ("all", e["cell"].rpartition("/")[2])]
        if not kept:
            continue
        wanted = [e["difference"] * (1 if higher(e["cell"]) else -1) for e in kept]
        test = crossed.sign_test(wanted)
        found.append(
            {
                "arm": arm,
                "condition": condition,
                "metric": metric,
                "cells": len(kept),
                "improved": test.positive,
                "changed": test.n,
                "p_value": test.p_value,
                "better": sum(each["verdict"] == "better" for each in kept),
                "worse": sum(each["verdict"] == "worse" for each in kept),
            }
        )
    return found
