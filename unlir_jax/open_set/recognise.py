"""The job: learn known classes, score images of known and unknown ones, and compare.

Every split is kept as soon as it is done, so that a killed run resumes with the next
one.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unlir_jax.core import finite
from unlir_jax.core.document_types import Document, Record
from unlir_jax.open_set import (
    comparison,
    confusions,
    descriptions,
    fit_rejecter,
    protocols,
    rejecter_file,
    setup,
    split_files,
    trial,
)
from unlir_jax.open_set import settings as default_settings
from unlir_jax.open_set.setup import OpenSetSetup
from unlir_jax.report import open_set_page
from unlir_jax.runs import origins, sharing, workdir
from unlir_jax.runtime import config, preemption
from unlir_jax.runtime.config import Settings
from unlir_jax.storage import files, paths

SPLITS, PAGE = "splits", "report.html"
TRACES = (workdir.SUMMARY, SPLITS, PAGE, rejecter_file.FILE)
FREE = (
    *("data.cache", "data.compare", "data.duplicates", "data.threads"),
    *("data.workers", "features", "batch_size", "statistics", "gallery"),
)

Progress = Callable[[str, float], None]


class OpenSetOutcome(NamedTuple):
    """Say how a run ended: its summary, None if it was stopped, and a sentence."""

    summary: Record | None
    message: str


class Job(NamedTuple):
    """Hold a run of which the folder is known to be its own.

    Attributes:
        given: What is evaluated.
        place: The workdir, and whose it is.
        progress: Told what is being done, and the share of all that is done.
        say: Told a sentence for people.
    """

    given: OpenSetSetup
    place: sharing.Place
    progress: Progress
    say: Callable[[str], None]


def run(
    settings: Settings,
    folder: str | Path,
    *,
    progress: Progress = lambda doing, share: None,
    say: Callable[[str], None] = lambda text: None,
) -> OpenSetOutcome:
    """Tell known from unknown classes as a config says, or continue with it.

    Writes `summary.json`, `report.html` and the rejecter to the workdir, and each split
    to `splits/`.

    Args:
        settings: See `settings.open_set`.
        folder: The workdir: new, or that of an earlier start with the same settings.
        progress: Told what is being done, and the share of all that is done.
        say: Told a sentence for people.

    Raises:
        ValueError: A setting that makes no sense, a folder of something else, or other
            weights or data than it was begun with.
        FloatingPointError: A number is not finite.
    """
    folder, plain = paths.check(folder, "workdir"), config.to_dict(settings)
    known = config.to_dict(default_settings.open_set())
    place = sharing.Place(folder, plain, FREE, known, TRACES)
    done, given = sharing.check(place), setup.prepare(settings)
    data: dict[str, Any] = {"train": given.train, "test": given.test, **given.sets}
    now = origins.describe(given.network, **data)
    how = settings.data.compare
    told = sharing.compare(place, now, how)
    if done is not None and (folder / PAGE).is_file() and "scores" in done:
        return OpenSetOutcome(done, f"Done before: {_result(folder, done)}")
    part = protocols.notice(settings.protocol, len(given.train.classes))
    for sentence in filter(None, (told, part)):
        say(sentence)
    sharing.check_writable(folder)
    sharing.claim(place, now, how)
    sharing.sweep(place, SPLITS)
    try:
        found = _work(Job(given, place, progress, say))
    except preemption.Stopped as stopped:
        return OpenSetOutcome(None, str(stopped))
    summary = comparison.compare(given, found.splits) | found.rejecter
    finite.check(summary, "the summary")
    shown = confusions.draw(given, found.splits)
    text = open_set_page.page(summary, found.splits, shown)
    with sharing.alone(folder), sharing.writing(folder):
        files.write_text(folder / PAGE, text)
        files.write_text(folder / workdir.SUMMARY, files.to_json(summary))
    return OpenSetOutcome(summary, f"Done: {_result(folder, summary)}")


class Seen(NamedTuple):
    """Hold all images as the network sees them."""

    train: descriptions.Split
    test: descriptions.Split
    sets: Mapping[str, descriptions.Split]


class Found(NamedTuple):
    """Hold the splits, and what the rejecter does; {} without one."""

    splits: Sequence[Document]
    rejecter: Record


def _work(job: Job) -> Found:
    """Do all splits, or the ones that are left, and fit the rejecter.

    Raises:
        preemption.Stopped: It was asked to stop.
    """
    with preemption.watch() as asked:
        seen = _read(job, asked)
        count = len(job.given.divisions)
        found = [_split(job, seen, number, asked) for number in range(count)]
    job.progress("rejecter", 0.95)
    try:
        stored = fit_rejecter.fit(job.given, seen.train, found[0])
    except ValueError as error:
        job.say(f"There is no rejecter: {error}")
        return Found(found, {})
    with sharing.writing(job.place.folder):
        fit_rejecter.save(job.place.folder, stored)
    job.progress("comparing", 1.0)
    return Found(found, fit_rejecter.told(stored, found[0]))


def _read(job: Job, asked: Callable[[], str]) -> Seen:
    """Describe all images, or read the descriptions that are kept."""
    given = job.given
    sources = {"train": given.train, "test": given.test, **given.sets}
    found = {}
    for number, (name, data) in enumerate(sources.items()):

        def part(doing: str, share: float, number: int = number) -> None:
            job.progress(doing, 0.3 * (number + share) / len(sources))

        found[name] = descriptions.read(given, data, name, part, asked)
    lost = {name: each.unreadable for name, each in found.items() if each.unreadable}
    if lost:
        counts = ", ".join(f"{count} of {name}" for name, count in lost.items())
        job.say(f"Images that cannot be read are left out: {counts}.")
    return Seen(found.pop("train"), found.pop("test"), found)


def _split(job: Job, seen: Seen, number: int, asked: Callable[[], str]) -> Document:
    """Do a split, or read the one that is kept."""
    given, count = job.given, len(job.given.divisions)
    test = trial.scored(given, number, seen.test)
    sets = {key: trial.added(given, number, each) for key, each in seen.sets.items()}
    file = job.place.folder / SPLITS / f"{number:03d}.json"
    whose = _whose(given, number, test, sets)
    kept, damage = split_files.read(file, whose)
    if damage:
        job.say(f"{str(file)!r} is damaged ({damage}): it is made again.")
    if kept is not None:
        return kept
    if asked():
        raise preemption.Stopped(
            f"Stopped by {asked()} after {number} of {count} splits: the same command "
            "continues."
        )

    def advance(doing: str) -> None:
        job.progress(f"split {number}: {doing}", 0.3 + 0.65 * number / count)

    fresh = trial.run(given, number, seen.train, test, sets, advance)
    split_files.write(file, fresh, whose)
    return fresh | whose.about()


def _whose(
    given: OpenSetSetup,
    number: int,
    test: descriptions.Split,
    sets: Mapping[str, descriptions.Split],
) -> split_files.Whose:
    division, every = given.divisions[number], given.train.classes
    return split_files.Whose(
        number,
        given.network.sha256,
        [every[int(label)] for label in division.known],
        [every[int(label)] for label in division.unknown],
        descriptions.names(given.test, test.places),
        given.names,
        {
            key: descriptions.names(given.sets[key], each.places)
            for key, each in sets.items()
        },
        [
            every[int(label)]
            for label in (division.hard if division.hard is not None else ())
        ],
    )


def _result(folder: Path, summary: Document) -> str:
    areas = {name: summary[f"{name}/auroc"]["mean"] for name in summary["scores"]}
    best = max(areas, key=lambda name: areas[name])
    return (
        f"{summary['splits']} splits, accuracy {summary['accuracy']['mean']:.4f}, "
        f"largest AUROC {areas[best]:.4f} by {best}: open {folder / PAGE}"
    )
