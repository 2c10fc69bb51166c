"""Contents of `results.json` for the images that were explained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unlir_jax import metrics
from unlir_jax.core.document_types import Document, Record
from unlir_jax.explanation.scoring import Scores

TOP = 5


def describe(
    files: Sequence[str], found: Scores, names: Sequence[str], given: bool
) -> list[Record]:
    """Say of each image which class is explained, which are likely, and the scores.

    Args:
        files: Files of the images.
        found: Their probabilities and scores.
        names: Names of the classes.
        given: Whether the class was asked for.
    """

    def named(row: np.ndarray, index: int) -> Record:
        probability = plain(row[index])
        return {"index": index, "name": names[index], "probability": probability}

    entries = []
    for place, (file, row) in enumerate(zip(files, found.probabilities, strict=True)):
        label = named(row, int(found.labels[place]))
        top = np.argsort(-row, kind="stable")[:TOP].tolist()
        methods = {
            name: {metric: plain(each[place]) for metric, each in values.items()}
            | {"flat": plain(found.flat[name][place])}
            for name, values in found.values.items()
        }
        entries.append(
            {
                "file": file,
                "label": label | {"source": "given" if given else "predicted"},
                "top5": [named(row, index) for index in top],
                "methods": methods,
            }
        )
    return entries


def plain(value: np.ndarray | np.generic) -> Any:
    """Turn an array's values into Python's, to the digits that float32 has."""
    if value.dtype == bool:
        return bool(value)
    return np.round(value.astype(float), 7).tolist()


def summarise(
    entries: Sequence[Document],
) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Average the scores of each method over the images, and count its flat maps."""
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
        else f"None of {len(failed)} images is usable: {first}"
    )
