"""The job: many methods by many metrics over a data set, with how sure the figures are.

Every batch is kept as soon as it is scored, so that a run which is killed resumes
where it was, and ends with the same table.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax

from unlir_jax.core import finite
from unlir_jax.core.document_types import Document, Record
from unlir_jax.data import pipeline, source
from unlir_jax.evaluation import (
    aggregate,
    axes,
    comparison,
    conditions,
    gallery,
    scoring,
    setup,
    store,
)
from unlir_jax.evaluation import settings as default_settings
from unlir_jax.evaluation.setup import EvaluationSetup
from unlir_jax.explanation import explainers
from unlir_jax.report import evaluation as report
from unlir_jax.runs import origins, sharing
from unlir_jax.runtime import config, mesh, preemption, ranges
from unlir_jax.runtime.config import Settings
from unlir_jax.storage import files, paths

SUMMARY, WORDS, PAGE = "summary.json", "summary.md", "report.html"
# What follows from the batches, and is written at the end; the summary is last.
WRITTEN = (store.TABLE, store.COMMA, WORDS, PAGE)
TRACES = (SUMMARY, store.FOLDER, gallery.FOLDER, conditions.FOLDER, *WRITTEN)
# Of the summary only: the batches are the same.
SUMMARISED = ("statistics", "gallery")
FREE = ("data.compare", "data.workers", "data.threads", "devices", *SUMMARISED)

Progress = Callable[[str, float], None]


class EvaluationOutcome(NamedTuple):
    """Say how an evaluation ended: its summary, None if it was stopped, and a line."""

    summary: Mapping[str, object] | None
    message: str


def run(
    settings: Settings,
    folder: str | Path,
    *,
    progress: Progress = lambda doing, share: None,
    say: Callable[[str], None] = lambda text: None,
) -> EvaluationOutcome:
    """Evaluate as a config says, or continue with it.

    Writes to the workdir `per_image.parquet` and `.csv` (image, label, method, metric,
    value), `summary.json`, `summary.md` and `report.html`. Of several conditions (see
    `conditions`), the table has all, with columns `class` and `augmentation`; pages and
    summaries of all but the first are in `conditions/NAME`.

    Args:
        settings: See `evaluation.settings.evaluation`.
        folder: The workdir: new, or that of an earlier start with the same settings.
        progress: Told what is being done, and the share of all that is done.
        say: Told what people should know of it, a sentence at a time.

    Raises:
        ValueError: A setting that makes no sense, a folder of something else, or other
            weights or data than it was begun with.
        FloatingPointError: A score is not finite though its metric is defined.
    """
    folder, plain = paths.check(folder, "workdir"), config.to_dict(settings)
    first = say if mesh.is_first() else lambda text: None
    ranges.check(settings)
    place, done = look(settings, folder)
    left = _left(folder, done, plain)
    progress("loading the network", 0.0)
    try:
        given = setup.prepare(settings)
    except (ValueError, OSError) as error:
        if done is None or left:
            raise
        unknown = f"what it began with cannot be looked at now ({error})"
        return EvaluationOutcome(done, f"Done before: {_result(folder)}; {unknown}")
    data = given.data._replace(labels=given.labels)
    now = origins.describe(given.network, given.further, given.annotations, data=data)
    # A finished evaluation of an earlier version is left as it is.
    silent = done is not None and not (left or (folder / origins.FILE).is_file())
    notice = "" if silent else sharing.compare(place, now, settings.data.compare)
    if done is not None and not left:
        return EvaluationOutcome(done, f"Done before: {_result(folder)}")
    sharing.check_writable(folder)
    given = setup.compared(given)
    for sentence in filter(None, (notice, left, *given.notices)):
        first(sentence)
    return _run(given, place, now, progress, say)


def look(settings: Settings, folder: Path) -> tuple[sharing.Place, Record | None]:
    """Look at a workdir: whose it is, and the summary if all was finished there.

    Raises:
        ValueError: It belongs to other settings, or to something else.
    """
    plain = config.to_dict(settings)
    known = _before(default_settings.known(plain), plain)
    place = sharing.Place(folder, plain, FREE, known, TRACES, default_settings.renewed)
    return place, sharing.check(place)


def _before(known: Record, plain: Document) -> Record:
    """Say what settings meant before there were they.

    An earlier version masked by the range of every map. For maps without a sign the
    default is the same.
    """
    names = [explainers.meant(str(name)) for name in plain["methods"]]
    own = {name: plain["method_options"].get(name, {}) for name in names}
    signs = "range" if explainers.signed(own) else "relu"
    options = plain["metric_options"].items()
    before = known["metric_options"]
    masking = {
        name: before.get(name, {}) | {"signs": signs}
        for name, each in options
        if "signs" in each
    }
    return known | {"metric_options": before | masking}


def _left(
    folder: Path, done: Mapping[str, object] | None, plain: Mapping[str, object]
) -> str:
    """Say what of a finished evaluation is to be made again; "" where nothing is."""
    if done is None:
        return ""
    inner = [*folder.glob(f"{conditions.FOLDER}/*/{store.FOLDER}")]
    further = [str((each.parent / PAGE).relative_to(folder)) for each in inner]
    gone = [n for n in (*WRITTEN, *further) if not (folder / n).is_file()]
    if gone:
        return (
            f"The evaluation in {str(folder)!r} is finished, but {', '.join(gone)} is "
            "gone: it is made again from the batches."
        )
    about = done.get("about")
    theirs = about if isinstance(about, dict) else {}
    if "statistics" not in theirs:
        return (
            f"{str(folder / SUMMARY)!r} is no summary of an evaluation: it is made "
            "again from the batches."
        )
    # An earlier version did not write all of them down.
    there = [name for name in SUMMARISED if name in theirs]
    changed = [name for name in there if theirs[name] != plain[name]]
    if changed:
        return (
            f"The evaluation in {str(folder)!r} was summarised with other settings "
            f"({', '.join(changed)}): it is summarised again from the batches."
        )
    return ""


def _run(
    given: EvaluationSetup,
    place: sharing.Place,
    now: Mapping[str, object],
    progress: Progress,
    say: Callable[[str], None],
) -> EvaluationOutcome:
    """Score the batches that are not there, and put all together."""
    every = axes.setups(given)
    setups = {axes.folder(place.folder, each, every[0]): each for each in every}
    batches = pipeline.evaluation_batches(given.data.size, given.settings.batch_size)
    own = range(jax.process_index(), batches, jax.process_count())
    inner = [
        str((folder / name).relative_to(place.folder))
        for folder in setups
        for name in (store.FOLDER, gallery.FOLDER, "")
    ]
    sharing.sweep(place, *inner)
    for folder, one in setups.items():
        store.drop_damaged(folder, own, one.whose(), say)

    @functools.cache
    def claim() -> None:
        _say(say, sharing.claim(place, now, given.settings.data.compare))

    with preemption.watch() as asked:
        for number, (folder, one) in enumerate(setups.items()):
            part = _part(progress, number, len(setups), one.condition.title)
            _score(one, folder, own, claim, asked, part, say)
    claim()
    # Who was asked to stop comes here too: else the others would wait for ever.
    mesh.wait_for_all("evaluated")
    if not mesh.is_first():
        return EvaluationOutcome(None, "")
    left = sum(len(store.missing(folder, batches)) for folder in setups)
    if left:
        every_batch = batches * len(setups)
        return EvaluationOutcome(
            None,
            f"Stopped by {asked() or 'another process'} after {every_batch - left} of "
            f"{every_batch} batches: the same command goes on from there.",
        )
    progress("comparing", 1.0)
    summary = _finish(setups, place, batches, progress, say)
    return EvaluationOutcome(summary, f"Done: {_result(place.folder)}")


def _part(progress: Progress, number: int, count: int, title: str) -> Progress:
    """Give the progress of one condition of several."""
    if count == 1:
        return progress
    return lambda doing, share: progress(f"{title}: {doing}", (number + share) / count)


def _score(
    given: EvaluationSetup,
    folder: Path,
    own: range,
    claim: Callable[[], None],
    asked: Callable[[], str],
    progress: Progress,
    say: Callable[[str], None],
) -> None:
    """Score the batches of a condition that are not there, until asked to stop."""
    whose = given.whose()
    missing = [index for index in own if not store.file_of(folder, index).is_file()]
    kept = gallery.read(folder, whose, given, say)
    for number, (index, batch) in enumerate(scoring.batches(given, missing)):
        if asked():
            break
        share = (len(own) - len(missing) + number) / len(own)
        given_to = given, batch, share, len(own), progress
        scored = scoring.score(*given_to, first=number == 0)
        # Not before: what the first batch refuses leaves no workdir behind.
        claim()
        kept, before = gallery.update(given, kept, scored), kept
        if kept is not None and kept is not before:
            gallery.write(folder, whose, kept)
        store.write(folder, index, scored.rows, whose)


def _say(say: Callable[[str], None], sentence: str) -> None:
    if sentence:
        say(sentence)


def _result(folder: Path) -> str:
    return f"open {folder / PAGE}; all scores are in {folder / store.TABLE}"


def _finish(
    setups: Mapping[Path, EvaluationSetup],
    place: sharing.Place,
    batches: int,
    progress: Progress,
    say: Callable[[str], None],
) -> Record:
    """Write the tables, the figures and the pages."""
    found = {
        folder: _conclude(given, folder, batches) for folder, given in setups.items()
    }
    every = list(found.values())
    every[0] = every[0]._replace(document=every[0].document | axes.describe(every))
    summary = every[0].document
    finite.check(summary, "the summary")
    progress("drawing the gallery", 1.0)
    written = {}
    for folder, (given, rows, names, document) in zip(found, every, strict=True):
        kept = gallery.read(folder, given.whose(), given, say)
        shown = gallery.draw(given, rows, names, kept, document["thresholds"])
        pages = report.markdown(document), report.page(document, rows, shown)
        written[folder] = document, *pages
    progress("writing", 1.0)
    # Another run with other statistics may end at the same time.
    with sharing.alone(place.folder), sharing.writing(place.folder):
        # It says that all that is next to it is of these settings.
        (place.folder / SUMMARY).unlink(missing_ok=True)
        sharing.note_settings(place)
        store.write_tables(place.folder, list(axes.lines(every)))
        # The workdir last, and in it what says that all is there.
        for folder, (document, words, page) in reversed(written.items()):
            files.write_text(folder / WORDS, words)
            files.write_text(folder / PAGE, page)
            files.write_text(folder / SUMMARY, files.to_json(document))
    return summary


def _conclude(given: EvaluationSetup, folder: Path, batches: int) -> axes.Result:
    """Put the batches of a condition together, and compare its methods."""
    rows = store.read(folder, batches, given.whose())
    if not len(rows.index):
        why = source.reason(given.data, 0, given.annotations)
        raise ValueError(f"No image of the data can be read: {why}")
    rows, results = aggregate.aggregate(given, rows)
    names = [given.data.name(int(index)) for index in rows.index]
    options = given.settings.statistics
    figures = comparison.compare(
        rows.values,
        list(given.explainers),
        given.controls,
        given.columns,
        confidence=options.confidence,
        resamples=options.resamples,
        seed=given.settings.seed,
    )
    document = aggregate.document(given, rows, names, figures, results)
    return axes.Result(given, rows, names, document)
