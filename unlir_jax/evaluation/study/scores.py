"""Scores of one network's explanations, each kind an evaluation in its own folder."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from unlir_jax.core import extras
from unlir_jax.core.document_types import Record
from unlir_jax.data import source
from unlir_jax.evaluation import evaluate, store
from unlir_jax.evaluation import settings as evaluations
from unlir_jax.evaluation.study.networks import Trained
from unlir_jax.explanation import explainers
from unlir_jax.runtime.config import Settings

AS_TRAINED, CALIBRATED, SANITY = "as_trained", "calibrated", "sanity"
OBJECTS = ("mask", "boxes")

Table = Mapping[str, np.ndarray]
"""Scores of each image by `method/metric`."""


def evaluated(trained: Trained, given: Settings, images: int) -> Settings:
    """Give the settings of an evaluation of a network on the test split."""
    found: Any = evaluations.evaluation()
    found.seed, found.batch_size = given.seed, given.batch_size
    found.model.name, found.model.weights = trained.model, trained.weights
    for name, value in trained.data.items():
        found.data[name] = ConfigDict(value) if name == "options" else value
    found.data.limit = images
    found.controls, found.gallery = False, 0
    found.statistics = given.statistics
    return found


def plans(
    trained: Trained, given: Settings, data: source.Source, temperature: float
) -> dict[str, Settings]:
    """List the evaluations of a network, by folder.

    Args:
        trained: The network.
        given: The study.
        data: The test split.
        temperature: Temperature of the calibrated network.
    """
    objects = any(each in data.annotations for each in OBJECTS)
    located = (given.localization,) if given.localization and objects else ()
    found, degrees = {}, {AS_TRAINED: 1.0}
    if given.calibrated:
        degrees[CALIBRATED] = temperature
    for name, degree in degrees.items():
        each: Any = evaluated(trained, given, given.images)
        each.model.temperature = degree
        each.methods = tuple(given.methods)
        each.metrics = (*given.metrics, *located)
        each.method_options = ConfigDict(given.method_options)
        each.metric_options = ConfigDict(given.metric_options)
        found[name] = each
    if given.sanity.images:
        each = evaluated(trained, given, min(given.sanity.images, given.images))
        each.methods = tuple(given.sanity.methods)
        each.metrics = (*given.sanity.metrics, *located)
        found[SANITY] = each
    return found


def score(
    settings: Settings,
    folder: Path,
    progress: Callable[[str, float], None],
) -> Record | None:
    """Run an evaluation, or what is left of it; None if it was asked to stop."""
    outcome = evaluate.run(settings, folder, progress=progress)
    return None if outcome.summary is None else dict(outcome.summary)


def read(folder: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the scores of a finished evaluation.

    Args:
        folder: Its workdir.
        names: Names of the images.

    Returns:
        By `method/metric`, `[images]`; NaN where there is no score.
    """
    with extras.needed("report"):
        from pyarrow import parquet

    rows = parquet.read_table(folder / store.TABLE).to_pydict()
    places = {name: place for place, name in enumerate(names)}
    found: dict[str, np.ndarray] = {}
    lines = zip(*(rows[each] for each in store.COLUMNS), strict=True)
    for image, _, method, metric, value in lines:
        nothing = np.full(len(names), np.nan)
        found.setdefault(f"{method}/{metric}", nothing)[places[image]] = value
    return found


def check(given: Settings) -> None:
    """Refuse methods that there are not, before anything is computed.

    Raises:
        ValueError: A name is unknown.
    """
    explainers.load_plugins()
    for names in (given.methods, given.sanity.methods):
        explainers.check(tuple(names), by_parts=False)
