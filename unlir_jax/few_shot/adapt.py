"""The job: learn from few images of each class, several draws of them, and compare.

Every draw is kept as soon as it is done, so that a killed run resumes with the next
one. Several methods and numbers of shots make a folder each, and a page of all.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlir_jax.core import finite
from unlir_jax.core.document_types import Document, Record
from unlir_jax.data import duplicates
from unlir_jax.few_shot import comparison, frozen_features, setup, trial
from unlir_jax.few_shot import settings as default_settings
from unlir_jax.few_shot.setup import FewShotSetup
from unlir_jax.report import few_shots
from unlir_jax.runs import origins, sharing, workdir
from unlir_jax.runtime import config, preemption, ranges
from unlir_jax.runtime.config import Settings
from unlir_jax.storage import files, paths

REPORT = "report.html"
WRITTEN = (REPORT, workdir.CURVES)
TRACES = (*trial.TRACES, *WRITTEN)

Say = Callable[[str], None]


class FewShotOutcome(NamedTuple):
    """Say how a run ended: its summary, None if it was stopped, and a sentence."""

    summary: Record | None
    message: str


def prepare(settings: Settings) -> FewShotSetup:
    """Open the data and the network, and refuse what makes no sense.

    Returns:
        The task; of several that a config asks for, the first.

    Raises:
        ValueError: A setting that makes no sense; the sentence says what would.
    """
    return setup.prepare(settings)[0]


def run(
    settings: Settings, folder: str | Path, *, say: Say = lambda text: None
) -> FewShotOutcome:
    """Learn from few images as a config says, or continue with it.

    Writes `summary.json` to the workdir, and each draw to `draws/`. Where the config
    lists methods or numbers of shots, each combination has that in a folder of its own,
    as if it had been run alone, and the workdir has the summary of all, `curves.png`
    and `report.html`.

    Args:
        settings: See `settings.few_shot`.
        folder: The workdir: new, or that of an earlier start with the same settings.
        say: Told a line at a time what is done.

    Raises:
        ValueError: A setting that makes no sense, a folder of something else, or other
            weights or data than it was begun with.
        FloatingPointError: What comes of a draw is not finite.
    """
    folder, plain = paths.check(folder, "workdir"), config.to_dict(settings)
    ranges.check(settings)
    several = setup.several(settings)
    known = config.to_dict(default_settings.few_shot())
    top = sharing.Place(folder, plain, trial.FREE, known, TRACES)
    done = sharing.check(top)
    left = _left(folder, done, several)
    try:
        tasks = setup.prepare(settings)
    except (ValueError, OSError) as error:
        if done is None or left:
            raise
        unknown = f"what it began with cannot be looked at now ({error})"
        return FewShotOutcome(
            done, f"Done before: {_said(folder, done, several)}; {unknown}"
        )
    own = {
        each.name: trial.place(each, folder / each.name if several else folder)
        for each in tasks
    }
    data, network = tasks[0].data, tasks[0].network
    now = origins.describe(network, train=data.train, test=data.test)
    begun = _begun(top, own.values(), now)
    # A finished run of an earlier version is left as it is.
    silent = done is not None and not (left or (folder / origins.FILE).is_file())
    how = settings.data.compare
    compared = [] if silent else [sharing.compare(*each, how) for each in begun]
    if done is not None and not left:
        return FewShotOutcome(done, f"Done before: {_said(folder, done, several)}")
    sharing.check_writable(folder)
    for sentence in dict.fromkeys(filter(None, (*compared, left))):
        say(sentence)
    return _run(tasks, top, own, several, lambda: _claim(begun, how), say)


def _begun(
    top: sharing.Place, own: Iterable[sharing.Place], now: Document
) -> list[tuple[sharing.Place, Document]]:
    """List the folders of a run, with what each begins with.

    Names of images are listed once, not in the folder of each of several.
    """
    data = now.get("data", {})
    short = {
        name: {what: value for what, value in split.items() if what != "listed"}
        for name, split in data.items()
    }
    inner = [place for place in own if place.folder != top.folder]
    return [(top, now), *((place, {**now, "data": short}) for place in inner)]


def _claim(begun: Iterable[tuple[sharing.Place, Document]], how: str) -> None:
    for each, now in begun:
        sharing.claim(each, now, how)


def _run(
    tasks: list[FewShotSetup],
    top: sharing.Place,
    own: Mapping[str, sharing.Place],
    several: bool,
    claim: Callable[[], None],
    say: Say,
) -> FewShotOutcome:
    """Learn what has not been learnt, and put all together."""
    folder = top.folder
    for place in (top, *own.values()):
        sharing.sweep(place, trial.DRAWS, trial.ADAPTERS)
    before = {each.name: trial.finished(own[each.name]) for each in tasks}
    found = {name: summary for name, summary in before.items() if summary is not None}
    if len(found) < len(tasks):
        tasks = _compared(tasks, say)
    claim = functools.cache(claim)
    with preemption.watch() as asked:
        for group in setup.cuts(each for each in tasks if each.name not in found):
            # At another cut images are other numbers: those before are let go.
            features = frozen_features.FrozenFeatures(group[0])
            for each in group:
                if several:
                    say(f"{each.settings.method}, k={each.settings.k}")
                alone = own[each.name].folder
                summary = trial.run(
                    each, features, alone, claim=claim, asked=asked, say=say
                )
                if summary is None:
                    return FewShotOutcome(None, _stopped(asked(), alone, each))
                found[each.name] = summary
            del features
    in_order = [found[each.name] for each in tasks]
    if not several:
        (summary,) = in_order
        return FewShotOutcome(summary, f"Done: {_result(folder, summary)}")
    claim()
    summary = comparison.compare(in_order)
    finite.check(summary, "the summary")
    png = few_shots.draw(summary)
    page = few_shots.page(summary, png)
    with sharing.alone(folder), sharing.writing(folder):
        files.write_bytes(folder / workdir.CURVES, png)
        files.write_text(folder / REPORT, page)
        files.write_text(folder / workdir.SUMMARY, files.to_json(summary))
    return FewShotOutcome(summary, f"Done: {_results(folder, summary)}")


def _left(folder: Path, done: Document | None, several: bool) -> str:
    """Say what of a finished run is to be made again; "" where nothing is."""
    if done is None:
        return ""
    if not (_is_summary(done) if several else trial.is_summary(done)):
        return (
            f"{str(folder / workdir.SUMMARY)!r} is no summary of few shots: it is made "
            "again from the draws."
        )
    gone = [name for name in WRITTEN if not (folder / name).is_file()]
    if several and gone:
        return (
            f"The run in {str(folder)!r} is finished, but {', '.join(gone)} is gone: "
            "it is made again."
        )
    return ""


def _is_summary(found: Document) -> bool:
    """Tell whether a document is the summary of several runs."""
    names, shots = found.get("methods"), found.get("k")
    if not (isinstance(names, list) and isinstance(shots, list) and names and shots):
        return False
    return all(
        isinstance(found.get(f"{name}/{k}/test/accuracy"), float)
        for name in names
        for k in shots
    )


def _compared(tasks: list[FewShotSetup], say: Say) -> list[FewShotSetup]:
    """Look for images that are both trained and tested on, and say so."""
    data, wanted = tasks[0].data, tasks[0].settings.data.duplicates
    if data.test is None or not wanted:
        return tasks
    found = duplicates.between(data.train, data.test)
    for sentence in found.sentences():
        say(sentence)
    return [each._replace(duplicates=found.document()) for each in tasks]


def _stopped(signal: str, folder: Path, given: FewShotSetup) -> str:
    made = len(list((folder / trial.DRAWS).glob("*.json")))
    return (
        f"Stopped by {signal} after {made} of {given.settings.draws} draws of "
        f"{given.settings.method}: the same command goes on from there."
    )


def _said(folder: Path, summary: Document, several: bool) -> str:
    return (_results if several else _result)(folder, summary)


def _result(folder: Path, summary: Document) -> str:
    found = summary["test/accuracy_draws"]
    spread = f" +- {np.std(found, ddof=1):.4f}" if len(found) > 1 else ""
    return (
        f"{len(found)} draws in {str(folder)!r}, test/accuracy "
        f"{summary['test/accuracy']:.4f}{spread}"
    )


def _results(folder: Path, summary: Document) -> str:
    best = [
        max((summary[f"{name}/{k}/test/accuracy"], name) for name in summary["methods"])
        + (k,)
        for k in summary["k"]
    ]
    listed = ", ".join(f"{name} {accuracy:.4f} at k={k}" for accuracy, name, k in best)
    return (
        f"{len(summary['methods'])} methods and {len(summary['k'])} k in "
        f"{str(folder)!r}, best {listed}: open {folder / REPORT}"
    )
