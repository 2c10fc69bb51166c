"""Contents of `results.json` for the images that were explained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unlir_jax import metrics
from unlir_jax.core.document_types import Document, Record
from unlir_jax.explanation.scoring import Scores
from unlir_jax.split import scores
from unlir_jax.split.scores import Score

TOP = 5


def describe(
    files: Sequence[str],
    found: Scores,
    names: Sequence[str],
    given: bool,
    score: Score = scores.NAMED["softmax"],
) -> list[Record]:
    """Say of each image which class is explained, which are likely, and the scores.

    Args:
        files: Files of the images.
        found: Their probabilities and scores.
        names: Names of the classes.
        given: Whether the class was asked for.
        score: Score that says whether the network gives classes probabilities.
    """

    def named(index: int, value: np.ndarray, is_probability: object) -> Record:
        kind = "probability" if is_probability else "value"
        return {"index": index, "name": names[index], kind: plain(value)}

    entries = []
    for place, (file, row) in enumerate(zip(files, found.probabilities, strict=True)):
        label = named(int(found.labels[place]), found.clean[place], score.bounded)
        top = np.argsort(-row, kind="stable")[:TOP].tolist()
        methods = {
            name: {metric: plain(each[place]) for metric, each in values.items()}
            | {
                "flat": plain(found.flat[name][place]),
                "nearly_flat": plain(found.nearly_flat[name][place]),
            }
            for name, values in found.values.items()
        }
        entries.append(
            {
                "file": file,
                "label": label | {"source": "given" if given else "predicted"},
                "top5": [named(index, row[index], score.rows) for index in top],
                "methods": methods,
            }
        )
    return entries


def recorded(parameters: Mapping[str, Document]) -> dict[str, Record]:
    """Write settings of methods down as JSON does."""
    return {
        name: {
            each: scores.recorded(value) if each == "score" else value
            for each, value in settings.items()
        }
        for name, settings in parameters.items()
    }


def plain(value: np.ndarray | np.generic) -> Any:
    """Turn an array's values into Python's, to the digits that float32 has."""
    if value.dtype == bool:
        return bool(value)
    return np.round(value.astype(float), 7).tolist()


def summarise(
    entries: Sequence[Document],
) -> dict[str, dict[str, Any]]:
    """Average the scores of each method over the images, and count its flat maps.

    Returns:
        `mean`, scores by method; `flat`, the number of its flat maps, and
        `nearly_flat`, that of its nearly flat masks.
    """
    means, flat, nearly = {}, {}, {}
    rows = [entry["methods"] | entry["controls"] for entry in entries]
    for name in rows[0]:
        means[name] = {
            metric: plain(np.mean([row[name][metric] for row in rows]))
            for metric in (*metrics.METRICS, "masked_probability")
            if metric in rows[0][name]
        }
        flat[name] = sum(row[name]["flat"] for row in rows)
        nearly[name] = sum(row[name]["nearly_flat"] for row in rows)
    return {"mean": means, "flat": flat, "nearly_flat": nearly}


def nothing_read(failed: Sequence[Mapping[str, str]]) -> str:
    """Say why there is nothing to explain."""
    first = failed[0]["error"]
    return (
        first
        if len(failed) == 1
        else f"None of {len(failed)} images is usable: {first}"
    )
