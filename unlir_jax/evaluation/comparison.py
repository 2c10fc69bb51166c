"""Intervals of means, tests of differences, and controls that are not beaten."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from unlir_jax import metrics
from unlir_jax.core.document_types import Document, Record
from unlir_jax.statistics import power, significance


class Figures(NamedTuple):
    """Hold what is said of the methods.

    Attributes:
        means: `method/metric` to `mean`, `low`, `high` and `n`.
        pairs: One for each metric and pair of methods: `difference`, its interval,
            `p_value` of the paired permutation test, `holm`, the same after Holm's
            correction over all pairs of its `family`, and `win_rate` of the first.
            Pairs with a control are the family "controls", all others "methods".
        unbeaten: Where a method is not better than a control beyond chance: `metric`,
            `method`, `control`, `behind` (by how much the control is ahead, negative
            where it is not), and `worse`, whether that is beyond chance.
        power: For each metric, what its number of images can show of the pairs with a
            control: `metric`, and all that `power.Power` has. Empty without controls.
    """

    means: dict[str, Record]
    pairs: list[Record]
    unbeaten: list[Record]
    power: list[Record]


def compare(
    values: np.ndarray,
    methods: Sequence[str],
    controls: Sequence[str],
    names: Sequence[str],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Figures:
    """Give the interval of every mean, and compare all methods with all.

    Args:
        values: `[images, methods, metrics]`; images with a score that is not finite
            are left out for that metric, in all methods, and counted by `n`.
        methods: Names along the second axis, controls among them.
        controls: Which of them are controls, computed without the network.
        names: Names of the metrics.
        confidence: Confidence of intervals; a p-value below 1 minus it is a difference.
        resamples: Number of resamples of intervals and tests.
        seed: Seed of both.
    """
    means: dict[str, Record] = {}
    pairs: list[Record] = []
    counts: dict[str, int] = {}
    settings: Record = {"resamples": resamples, "seed": seed}
    for place, metric in enumerate(names):
        kept = values[np.isfinite(values[..., place]).all(1), :, place]
        kept = kept.astype(np.float64)
        for index, method in enumerate(methods):
            means[f"{method}/{metric}"] = _interval(
                kept[:, index], confidence, settings
            )
        if not len(kept):
            continue
        counts[metric] = len(kept)
        sign = 1 if metrics.higher_is_better(metric) else -1
        for first, second in itertools.combinations(range(len(methods)), 2):
            known = (methods[first] in controls) + (methods[second] in controls)
            if known == 2:
                continue
            one, other = kept[:, first], kept[:, second]
            found = significance.bootstrap_difference(
                one, other, confidence=confidence, **settings
            )
            pairs.append(
                {
                    "metric": metric,
                    "family": "controls" if known else "methods",
                    "first": methods[first],
                    "second": methods[second],
                    "difference": float(found.mean),
                    "low": float(found.low),
                    "high": float(found.high),
                    "p_value": significance.paired_permutation(one, other, **settings),
                    "win_rate": significance.win_rate(sign * one, sign * other),
                }
            )
    for family in ("controls", "methods"):
        _correct([pair for pair in pairs if pair["family"] == family])
    level = 1 - confidence
    unbeaten = _unbeaten(pairs, controls, level)
    return Figures(means, pairs, unbeaten, _power(pairs, counts, level, resamples))


def _correct(pairs: Sequence[Record]) -> None:
    """Correct the p-values of one family of comparisons for their number."""
    corrected = significance.holm([pair["p_value"] for pair in pairs]) if pairs else []
    for pair, p_value in zip(pairs, corrected, strict=True):
        pair["holm"] = float(p_value)


def _power(
    pairs: Sequence[Document], counts: Mapping[str, int], level: float, resamples: int
) -> list[Record]:
    """Say for each metric what its images can show against controls."""
    comparisons = sum(pair["family"] == "controls" for pair in pairs)
    if not comparisons:
        return []
    settings: Record = {"level": level, "resamples": resamples}
    return [
        {"metric": metric}
        | power.of_comparisons(count, comparisons, **settings)._asdict()
        for metric, count in counts.items()
    ]


def _interval(values: np.ndarray, confidence: float, settings: Document) -> Record:
    if not len(values):
        return {"mean": None, "low": None, "high": None, "n": 0}
    found = significance.bootstrap(values, confidence=confidence, **settings)
    return {
        "mean": float(found.mean),
        "low": float(found.low),
        "high": float(found.high),
        "n": int(found.n),
    }


def _unbeaten(
    pairs: Sequence[Document], controls: Sequence[str], level: float
) -> list[Record]:
    """Find where a method is not better than a control, beyond chance."""
    found = []
    for pair in pairs:
        first, second, metric = pair["first"], pair["second"], pair["metric"]
        if (first in controls) == (second in controls):
            continue
        method, control = (second, first) if first in controls else (first, second)
        behind = -pair["difference"] if method == first else pair["difference"]
        if not metrics.higher_is_better(metric):
            behind = -behind
        sure = pair["holm"] < level
        if behind < 0 and sure:
            continue
        found.append(
            {
                "metric": metric,
                "method": method,
                "control": control,
                "behind": behind,
                "worse": bool(behind > 0 and sure),
            }
        )
    return found
