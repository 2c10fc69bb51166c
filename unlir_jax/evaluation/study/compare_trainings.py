"""The job: score networks that were trained in several ways, and compare the ways.

Each network is scored by evaluations in a folder of its own, which resume. What is
cheap, such as logits and gradients, is computed again at each start.
"""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from unlir_jax.core import finite
from unlir_jax.core.document_types import Record
from unlir_jax.data import source
from unlir_jax.evaluation import images
from unlir_jax.evaluation.study import (
    comparison,
    illustrations,
    measures,
    networks,
    resistance,
    scores,
)
from unlir_jax.evaluation.study.comparison import Scored
from unlir_jax.evaluation.study.networks import Trained
from unlir_jax.models import factories, temperature
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.report import study_page
from unlir_jax.runs import origins, sharing, workdir
from unlir_jax.runtime import config, ranges
from unlir_jax.runtime.config import Settings
from unlir_jax.statistics import calibration
from unlir_jax.storage import files, paths

CELLS, PAGE, SCORES = "cells.csv", "report.html", "networks"
TRACES = (workdir.SUMMARY, SCORES, CELLS, PAGE)
# Of the summary only: the scores are the same.
SUMMARISED = ("statistics", "gallery")

Progress = Callable[[str, float], None]


class StudyOutcome(NamedTuple):
    """Say how a study ended: its summary, None if it was stopped, and a line."""

    summary: Record | None
    message: str


class Task(NamedTuple):
    """Hold what a study is made of, before anything is computed.

    Attributes:
        settings: The study's.
        trained: The networks, seed by seed, the baseline first.
        data: The test split.
        places: What it is dealt out to.
    """

    settings: Settings
    trained: Sequence[Trained]
    data: source.Source
    places: measures.Places


def prepare(settings: Settings) -> Task:
    """Read the workdirs and open the data, and refuse what makes no sense.

    Raises:
        ValueError: A workdir is missing, networks were not trained alike, or a setting
            makes no sense.
    """
    ranges.check(settings)
    if jax.process_count() > 1:
        raise ValueError(
            f"A study runs in one process, not {jax.process_count()}; expected one: "
            "evaluations of single networks can be distributed."
        )
    trained = networks.find(settings)
    scores.check(settings)
    data = images.open_limited(scores.evaluated(trained[0], settings, 0).data)
    places = measures.deal(data.size, settings.images)
    return Task(settings, trained, data, places)


def run(
    settings: Settings,
    folder: str | Path,
    *,
    progress: Progress = lambda doing, share: None,
) -> StudyOutcome:
    """Score and compare networks as a config says, or continue with it.

    Writes `summary.json`, `cells.csv` and `report.html` to the workdir, and to
    `networks/NAME` the evaluations of each network.

    Args:
        settings: See `study.settings.study`.
        folder: The workdir: new, or that of an earlier start with the same settings.
        progress: Told what is being done, and the share of all that is done.

    Raises:
        ValueError: As `prepare`; or a workdir of something else, or that was begun with
            other weights or data.
        FloatingPointError: A number is not finite.
    """
    folder, plain = paths.check(folder, "workdir"), config.to_dict(settings)
    place = sharing.Place(folder, plain, SUMMARISED, plain, TRACES)
    done, task = sharing.check(place), prepare(settings)
    loaded = [_load(each) for each in task.trained]
    hashes = {
        one.name: network.sha256
        for one, network in zip(task.trained, loaded, strict=True)
    }
    now = origins.describe(loaded[0], hashes, test=task.data)
    sharing.compare(place, now, "times")
    if done is not None and _is_whole(folder, done, plain):
        return StudyOutcome(done, f"Done before: {_result(folder)}")
    sharing.check_writable(folder)
    sharing.claim(place, now, "times")
    found: list[Scored] = []
    for number, (one, network) in enumerate(zip(task.trained, loaded, strict=True)):

        def advance(doing: str, share: float, n: int = number) -> None:
            name = task.trained[n].name
            progress(f"{name}: {doing}", (n + share) / len(task.trained))

        own = _score(task, one, network, folder / SCORES / one.name, advance)
        if own is None:
            return StudyOutcome(
                None, f"Stopped in {one.name!r}: the same command goes on from there."
            )
        found.append(own)
    progress("comparing", 1.0)
    compared = comparison.compare(
        found,
        settings.baseline,
        tuple(settings.metrics),
        **settings.statistics.to_dict(),
        seed=settings.seed,
    )
    summary = {"about": _about(task, loaded[0]), **compared}
    finite.check(summary, "the summary")
    shown = illustrations.draw(task.trained, loaded, task.data, settings.gallery)
    page = study_page.page(summary, shown)
    with sharing.alone(folder), sharing.writing(folder):
        files.write_text(folder / CELLS, _csv(summary["cells"]))
        files.write_text(folder / PAGE, page)
        files.write_text(folder / workdir.SUMMARY, files.to_json(summary))
    return StudyOutcome(summary, f"Done: {_result(folder)}")


def _is_whole(folder: Path, done: Record, plain: Record) -> bool:
    """Tell whether a finished study has its files, and the same statistics."""
    written = all((folder / each).is_file() for each in (CELLS, PAGE))
    about = done.get("about", {})
    return written and all(about.get(each) == plain[each] for each in SUMMARISED)


def _load(trained: Trained) -> Pretrained:
    return factories.load(trained.model, trained.weights, fold=True)


def _score(
    task: Task,
    trained: Trained,
    network: Pretrained,
    folder: Path,
    progress: Progress,
) -> Scored | None:
    """Measure one network; None if it was asked to stop."""
    theirs, places = trained.data, task.places
    frame = measures.Frame(
        task.settings.batch_size,
        theirs["image_size"] or network.image_size,
        theirs["crop"] or network.crop,
        theirs["interpolation"] or network.interpolation,
    )
    progress("classifying the test split", 0.0)
    classified = measures.classify(network, task.data, frame)
    facts = measures.calibrate(classified, places)
    degree = facts["temperature"]
    tables: dict[str, dict[str, np.ndarray]] = {}
    cooled = {scores.AS_TRAINED: network}
    if task.settings.calibrated:
        cooled[scores.CALIBRATED] = temperature.divided(network, degree)
    for name, each in cooled.items():
        slopes = measures.gradients(each, task.data, places.scored, frame)
        tables[name] = {f"loss/{key}": value for key, value in slopes.items()}
    progress("attacking", 0.0)
    tables[scores.AS_TRAINED] |= _own(task, network, frame)
    planned = scores.plans(trained, task.settings, task.data, degree)
    for number, (name, settings) in enumerate(planned.items()):

        def advance(doing: str, share: float, n: int = number, what=name) -> None:
            progress(f"{what}, {doing}", (n + share) / len(planned))

        if scores.score(settings, folder / name, advance) is None:
            return None
        own = scores.read(folder / name, _names(task.data, settings.data.limit))
        into = scores.AS_TRAINED if name == scores.SANITY else name
        tables[into] |= {k: v for k, v in own.items() if k not in tables[into]}
    return Scored(
        trained.arm,
        trained.seed,
        facts,
        _classified(classified, places, degree),
        _right(classified, places),
        tables,
    )


def _own(task: Task, network: Pretrained, frame: measures.Frame) -> scores.Table:
    """Measure what no temperature changes, or should."""
    places, settings = task.places.scored, task.settings
    given = settings.robustness, settings.seed
    found = resistance.measure(network, task.data, places, frame, *given)
    aligned = measures.alignment(network, task.data, places, frame)
    return {"logit/alignment": aligned, **found}


def _names(data: source.Source, count: int) -> list[str]:
    """Name the images of an evaluation with that limit."""
    places = measures.spread(data.size, count)
    return [files.readable(data.name(int(place))) for place in places]


def _classified(
    found: measures.Classified, places: measures.Places, degree: float
) -> dict[str, np.ndarray]:
    """Give what is known of each image of the test split that was not fitted on."""
    kept = ~np.isin(found.index, places.fitted)
    logits, labels = found.logits[kept], found.labels[kept]
    size = int(max(found.index.max(), places.scored.max())) + 1
    measured = {
        "accuracy": (logits.argmax(1) == labels).astype(float),
        "nll": calibration.negative_log_likelihoods(logits, labels),
        "nll_calibrated": calibration.negative_log_likelihoods(logits, labels, degree),
    }
    result = {}
    for name, values in measured.items():
        result[name] = np.full(size, np.nan)
        result[name][found.index[kept]] = values
    return result


def _right(found: measures.Classified, places: measures.Places) -> np.ndarray:
    right = found.index[found.logits.argmax(1) == found.labels]
    return np.isin(places.scored, right)


def _about(task: Task, network: Pretrained) -> Record:
    settings = task.settings
    return {
        "model": network.name,
        "layer": network.layer,
        "data": task.trained[0].data["source"],
        "baseline": settings.baseline,
        "arms": list(dict.fromkeys(each.arm for each in task.trained)),
        "sets": config.to_dict(settings.arms) | _given(settings),
        "given": list(settings.given),
        "seeds": settings.seeds,
        "images": len(task.places.scored),
        "fitted": len(task.places.fitted),
        "test": task.data.size,
        "methods": list(settings.methods),
        "metrics": list(settings.metrics),
        "localization": settings.localization,
        "statistics": settings.statistics.to_dict(),
        "gallery": settings.gallery,
        "versions": files.versions(),
    }


def _given(settings: Settings) -> dict[str, list[str]]:
    """Say of each given network what it is, without folders."""
    found = {}
    for arm, each in settings.given.items():
        weights = [] if each.weights is None else [paths.told(each.weights)]
        found[arm] = [paths.told(each.name), *weights]
    return found


def _csv(cells: Sequence[Record]) -> str:
    text = io.StringIO()
    names = [name for name in cells[0] if name != "seeds"]
    writer = csv.DictWriter(text, names, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(cells)
    return text.getvalue()


def _result(folder: Path) -> str:
    return f"open {folder / PAGE}; all cells are in {folder / CELLS}"
