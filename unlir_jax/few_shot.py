"""The job: learn from few pictures of each class, several draws of them, and compare.

Every draw is kept as soon as it is done, so that a run which is killed goes on with the
next one. Several methods and numbers of shots make a folder each, and a page of all.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unlir_jax import config, interruption, record, workdir
from unlir_jax.adaptation import comparison, pictures, task, trial
from unlir_jax.adaptation import settings as default_settings
from unlir_jax.data import duplicates
from unlir_jax.report import few_shots

REPORT = "report.html"

Say = Callable[[str], None]


class Outcome(NamedTuple):
    """Say how a run ended: its summary, None if it was stopped, and a sentence."""

    summary: dict[str, Any] | None
    message: str


def prepare(settings: Any) -> task.Task:
    """Open the data and the network, and refuse what makes no sense.

    Returns:
        The task; of several that a config asks for, the first.

    Raises:
        ValueError: A setting that makes no sense; the sentence says what would.
    """
    return task.prepare(settings)[0]


def run(settings: Any, folder: str | Path, *, say: Say = lambda text: None) -> Outcome:
    """Learn from few pictures as a config says, or go on with it.

    Writes `summary.json` to the workdir, and each draw to `draws/`. Where the config
    lists methods or numbers of shots, each combination has that in a folder of its own,
    as if it had been run alone, and the workdir has the summary of all, `curves.png`
    and `report.html`.

    Args:
        settings: See `adaptation.settings.few_shot`.
        folder: The workdir: new, or that of an earlier start with the same settings.
        say: Told a line at a time what is done.

    Raises:
        ValueError: A setting that makes no sense, or a folder of something else.
    """
    folder, plain = Path(folder), config.to_dict(settings)
    several = task.several(settings)
    result = _results if several else _result
    known = config.to_dict(default_settings.few_shot())
    done = workdir.check(folder, plain, trial.FREE, known)
    if done is not None:
        return Outcome(done, f"Done before: {result(folder, done)}")
    tasks = task.prepare(settings)
    places = {each.name: folder / each.name if several else folder for each in tasks}
    before = {each.name: trial.finished(each, places[each.name]) for each in tasks}
    found = {name: own for name, own in before.items() if own is not None}
    if len(found) < len(tasks):
        tasks = _compared(tasks, say)
    folder.mkdir(parents=True, exist_ok=True)
    record.write_text(folder / workdir.CONFIG, record.to_json(dict(plain)))
    with interruption.watch() as asked:
        for group in task.cuts(each for each in tasks if each.name not in found):
            # At another cut pictures are other numbers: those before are let go.
            seen = pictures.Pictures(group[0])
            for each in group:
                if several:
                    say(f"{each.settings.method}, k={each.settings.k}")
                summary = trial.run(each, seen, places[each.name], asked=asked, say=say)
                if summary is None:
                    return Outcome(None, _stopped(asked(), places[each.name], each))
                found[each.name] = summary
            del seen
    in_order = [found[each.name] for each in tasks]
    if not several:
        (summary,) = in_order
        return Outcome(summary, f"Done: {result(folder, summary)}")
    summary = comparison.compare(in_order)
    png = few_shots.draw(summary)
    record.write_bytes(folder / workdir.CURVES, png)
    record.write_text(folder / REPORT, few_shots.page(summary, png))
    record.write_text(folder / workdir.SUMMARY, record.to_json(summary))
    return Outcome(summary, f"Done: {result(folder, summary)}")


def _compared(tasks: list[task.Task], say: Say) -> list[task.Task]:
    """Look for pictures that are both trained and tested on, and say so."""
    data, wanted = tasks[0].data, tasks[0].settings.data.duplicates
    if data.test is None or not wanted:
        return tasks
    found = duplicates.between(data.train, data.test)
    for sentence in found.sentences():
        say(sentence)
    return [each._replace(duplicates=found.document()) for each in tasks]


def _stopped(signal: str, folder: Path, given: task.Task) -> str:
    made = len(list((folder / trial.DRAWS).glob("*.json")))
    return (
        f"Stopped by {signal} after {made} of {given.settings.draws} draws of "
        f"{given.settings.method}: the same command goes on from there."
    )


def _result(folder: Path, summary: Mapping[str, Any]) -> str:
    found = summary["test/accuracy_draws"]
    spread = f" +- {np.std(found, ddof=1):.4f}" if len(found) > 1 else ""
    return (
        f"{len(found)} draws in {str(folder)!r}, test/accuracy "
        f"{summary['test/accuracy']:.4f}{spread}"
    )


def _results(folder: Path, summary: Mapping[str, Any]) -> str:
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
