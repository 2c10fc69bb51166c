"""Comparison of scores over the splits of an evaluation."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from unlir_jax.core.document_types import Document, Record
from unlir_jax.open_set import protocols
from unlir_jax.open_set.score_names import BEST
from unlir_jax.open_set.setup import OpenSetSetup
from unlir_jax.statistics import significance
from unlir_jax.storage import files


def compare(setup: OpenSetSetup, found: Sequence[Document]) -> Record:
    """Put the splits together: means with intervals over splits.

    Args:
        setup: What was evaluated.
        found: See `trial.run`, of all splits.

    Returns:
        `{score}/{measure}` and `accuracy`, each `mean`, `low`, `high` and its `values`;
        so `near/{name}/{score}/{measure}` and `far/…` of further sets.
        With `best`: `best/auroc_against_single`, the paired difference from the other
        score with the largest mean AUROC, which is chosen on the test itself.
    """
    common = setup.settings.statistics.to_dict()

    def interval(values: Sequence[float], others: Sequence[float] | None = None) -> Any:
        given = np.asarray(values) - np.asarray(others if others is not None else 0.0)
        own = significance.bootstrap(given, **common)
        return {
            "mean": float(own.mean),
            "low": float(own.low),
            "high": float(own.high),
            "values": given.tolist(),
        }

    summary: Record = {}
    for name in setup.names:
        for measure in found[0]["measures"][name]:
            values = [split["measures"][name][measure] for split in found]
            summary[f"{name}/{measure}"] = interval(values)
    for key in setup.sets:
        for name in setup.names:
            for measure in found[0]["sets"][key]["measures"][name]:
                values = [s["sets"][key]["measures"][name][measure] for s in found]
                summary[f"{key}/{name}/{measure}"] = interval(values)
    summary["accuracy"] = interval([split["accuracy"] for split in found])
    if BEST in setup.names:
        areas = {
            name: [split["measures"][name]["auroc"] for split in found]
            for name in setup.names
        }
        others = [name for name in setup.names if name != BEST]
        single = max(others, key=lambda name: np.mean(areas[name]))
        summary["best/single"] = single
        summary["best/auroc_against_single"] = interval(areas[BEST], areas[single])
        summary["best/chosen"] = [split["chosen"] for split in found]
    return summary | _about(setup, found)


def _about(setup: OpenSetSetup, found: Sequence[Document]) -> Record:
    settings = setup.settings
    return {
        "scores": setup.names,
        "splits": len(found),
        "known": len(setup.divisions[0].known),
        "unknown": len(setup.divisions[0].unknown),
        "images": len(found[0]["images"]),
        "sets": {key: len(each) for key, each in found[0]["set_images"].items()},
        "protocol": settings.protocol,
        "notice": protocols.notice(settings.protocol, len(setup.train.classes)),
        "model": setup.network.name,
        "head": settings.head,
        "pooling": setup.pooling,
        "versions": files.versions(),
    }
