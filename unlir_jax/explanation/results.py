"""What `results.json` says of the pictures that were explained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unlir_jax import metrics

TOP = 5


def describe(
    file: str, label: int, row: np.ndarray, names: Sequence[str], given: bool
) -> dict[str, Any]:
    """Say which class of a picture is explained, and which are likely.

    Args:
        file: The picture's.
        label: The class.
        row: Probability of each.
        names: Of the classes.
        given: Whether the class was asked for.
    """

    def named(index: int) -> dict[str, Any]:
        probability = plain(row[index])
        return {"index": index, "name": names[index], "probability": probability}

    return {
        "file": file,
        "label": named(label) | {"source": "given" if given else "predicted"},
        "top5": [named(int(index)) for index in np.argsort(-row, kind="stable")[:TOP]],
        "methods": {},
    }


def plain(value: np.ndarray | np.generic) -> Any:
    """Turn an array's values into Python's, to the digits that float32 has."""
    if value.dtype == bool:
        return bool(value)
    return np.round(value.astype(float), 7).tolist()


def summarise(
    entries: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Average the scores of each method over the pictures, and count its flat maps."""
    means, flat = {}, {}
    rows = [entry["methods"] | entry["controls"] for entry in entries]
    for name in rows[0]:
        means[name] = {
            metric: plain(np.mean([row[name][metric] for row in rows]))
            for metric in (*metrics.METRICS, "masked_probability")
            if metric in rows[0][name]
        }
        flat[name] = sum(row[name]["flat"] for row in rows)
    return means, flat


def nothing_read(failed: Sequence[Mapping[str, str]]) -> str:
    """Say why there is nothing to explain."""
    first = failed[0]["error"]
    return (
        first
        if len(failed) == 1
        else f"None of {len(failed)} pictures is usable: {first}"
    )
