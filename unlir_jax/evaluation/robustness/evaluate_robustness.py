"""The job: attack and corrupt images of a data set, and say how often a network errs.

Every batch is kept as soon as it is done, so that a run which is killed resumes where
it was, and ends with the same table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlir_jax import attacks
from unlir_jax.core import finite
from unlir_jax.core.document_types import Record
from unlir_jax.data import pipeline, source
from unlir_jax.evaluation import batch_files, store
from unlir_jax.evaluation.robustness import scoring, summary, task
from unlir_jax.evaluation.robustness.settings import robustness
from unlir_jax.evaluation.robustness.task import Task
from unlir_jax.report import robustness_page
from unlir_jax.runs import origins, sharing, workdir
from unlir_jax.runtime import config, preemption
from unlir_jax.runtime.config import Settings
from unlir_jax.storage import documents, files, paths

PAGE, ROWS = "report.html", "per_image.json"
WRITTEN = (store.TABLE, store.COMMA, ROWS, PAGE)
TRACES = (workdir.SUMMARY, store.FOLDER, *WRITTEN)
SUMMARISED = ("statistics", "reference")
"""Settings of the summary only: the batches are the same."""
FREE = ("data.compare", "data.workers", "data.threads", *SUMMARISED)
ALEXNET, IMAGENET = "alexnet", 1000
Progress = Callable[[str, float], None]


class RobustnessOutcome(NamedTuple):
    """Say how an evaluation ended: its summary, None if it was stopped, and a line."""

    summary: Record | None
    message: str


def run(
    settings: Settings,
    folder: str | Path,
    *,
    progress: Progress = lambda doing, share: None,
    say: Callable[[str], None] = lambda text: None,
) -> RobustnessOutcome:
    """Evaluate as a config says, or continue with it.

    Writes to the workdir `per_image.parquet`, `.csv` and `.json`, `summary.json` and
    `report.html`.

    Args:
        settings: See `robustness.settings.robustness`.
        folder: The workdir: new, or that of an earlier start with the same settings.
        progress: Told what is being done, and the share of all that is done.
        say: Told what people should know of it, a sentence at a time.

    Raises:
        ValueError: A setting that makes no sense, a folder of something else, or other
            weights or data than it was begun with.
        FloatingPointError: Logits are not finite.
    """
    folder, plain = paths.check(folder, "workdir"), config.to_dict(settings)
    known = config.to_dict(robustness())
    place = sharing.Place(folder, plain, FREE, known, TRACES)
    done = sharing.check(place)
    reference = _reference(settings.reference)
    progress("loading the network", 0.0)
    given = task.prepare(settings)
    _check_reference(given)
    now = origins.describe(given.network, data=given.data._replace(labels=given.labels))
    notice = sharing.compare(place, now, settings.data.compare)
    if done is not None and _is_whole(folder, done, plain):
        return RobustnessOutcome(done, f"Done before: {_result(folder)}")
    sharing.check_writable(folder)
    if notice:
        say(notice)
    stopped = _score(given, place, now, progress, say)
    if stopped:
        return RobustnessOutcome(None, stopped)
    progress("writing", 1.0)
    found = _finish(given, place, reference)
    return RobustnessOutcome(found, f"Done: {_result(folder)}")


def _reference(file: str) -> Record | None:
    """Read the summary of the reference network.

    Raises:
        ValueError: There is no such file, or it is no summary with corruptions.
    """
    if file in ("", ALEXNET):
        return None
    text = paths.check(file, "reference")
    if not text.is_file():
        raise ValueError(
            f"`reference`={paths.shown(file)} does not exist; expected summary.json of "
            "an evaluation of robustness."
        )
    found = documents.read_json(text, "reference")
    if not isinstance(found, dict) or "corruptions" not in found:
        raise ValueError(
            f"`reference`={paths.shown(file)} has no corruptions; expected summary.json"
            " of an evaluation with `corruptions`."
        )
    return found


def _check_reference(given: Task) -> None:
    """Refuse AlexNet's errors for other classes than ImageNet's.

    Raises:
        ValueError: The network has another number of classes.
    """
    classes = given.network.module.num_classes
    if given.settings.reference == ALEXNET and classes != IMAGENET:
        raise ValueError(
            f"`reference`={ALEXNET!r} has errors on the {IMAGENET:,} classes of "
            f"ImageNet, but the network has {classes}; expected summary.json of "
            "another network."
        )


def _is_whole(folder: Path, done: Record, plain: Record) -> bool:
    """Tell whether a finished evaluation has its files, and the same statistics."""
    about = done.get("about", {})
    written = all((folder / each).is_file() for each in WRITTEN)
    return written and all(about.get(each) == plain[each] for each in SUMMARISED)


def _score(
    given: Task,
    place: sharing.Place,
    now: Record,
    progress: Progress,
    say: Callable[[str], None],
) -> str:
    """Score the batches that are not there; give a sentence if asked to stop."""
    folder, claimed = place.folder, False
    batches = pipeline.evaluation_batches(given.data.size, given.settings.batch_size)
    sharing.sweep(place, store.FOLDER, "")
    for batch in range(batches):
        _, damage = _read(given, folder, batch)
        if damage:
            say(
                f"{str(store.file_of(folder, batch))!r} is damaged ({damage}): it is "
                "made again."
            )
            store.file_of(folder, batch).unlink(missing_ok=True)
    missing = store.missing(folder, batches)
    with preemption.watch() as asked:
        for number, (batch, rows) in enumerate(scoring.read(given, missing)):
            if asked():
                break
            share = (batches - len(missing) + number) / batches

            def advance(doing: str, part: float, share: float = share) -> None:
                progress(doing, share + part / batches)

            arrays = scoring.score(given, rows, advance)
            if not claimed:
                # Not before: what the first batch refuses leaves no workdir behind.
                claim = sharing.claim(place, now, given.settings.data.compare)
                claimed = True
                if claim:
                    say(claim)
            _write(given, folder, batch, arrays)
        left = len(store.missing(folder, batches))
        if left:
            return (
                f"Stopped by {asked() or 'another process'} after {batches - left} of "
                f"{batches} batches: the same command goes on from there."
            )
    return ""


def _about(given: Task, arrays: Mapping[str, np.ndarray]) -> Record:
    both = np.concatenate([arrays["index"], arrays["unreadable"]])
    names = [given.data.name(int(place)) for place in both]
    return given.about() | {"names": names}


def _write(given: Task, folder: Path, batch: int, arrays: scoring.Arrays) -> None:
    file = store.file_of(folder, batch)
    with sharing.writing(folder):
        file.parent.mkdir(parents=True, exist_ok=True)
        named = {name.replace("/", "@"): each for name, each in arrays.items()}
        files.write_bytes(file, batch_files.pack(named, _about(given, arrays)))


def _read(given: Task, folder: Path, batch: int) -> tuple[scoring.Arrays | None, str]:
    """Read a batch; None and "" where it is not there, None and why if damaged.

    Raises:
        ValueError: It is sound, but of another evaluation.
    """
    file = store.file_of(folder, batch)
    if not file.is_file():
        return None, ""
    try:
        arrays, about = batch_files.unpack(file)
        arrays = {name.replace("@", "/"): each for name, each in arrays.items()}
        expected = _about(given, arrays)
    except (ValueError, OSError, KeyError, IndexError) as error:
        return None, " ".join(str(error).split())
    other = [key for key, value in expected.items() if (about or {}).get(key) != value]
    if other:
        raise ValueError(
            f"{str(file)!r} is of other {other[0]}; expected a batch of this "
            "evaluation: delete it, and the same command makes it again, or choose "
            "another workdir."
        )
    return arrays, ""


def _finish(given: Task, place: sharing.Place, reference: Record | None) -> Record:
    """Write the tables and the page; the summary last."""
    folder = place.folder
    batches = pipeline.evaluation_batches(given.data.size, given.settings.batch_size)
    every = [_read(given, folder, batch)[0] for batch in range(batches)]
    read = [arrays for arrays in every if arrays is not None]
    table = {name: np.concatenate([each[name] for each in read]) for name in read[0]}
    if not len(table["index"]):
        why = source.reason(given.data, 0, ())
        raise ValueError(f"No image of the data can be read: {why}")
    about = _described(given, table)
    found = {"about": about, **summary.summarise(table, about)}
    if given.corruptions:
        if given.settings.reference == ALEXNET:
            reference = summary.alexnet(about)
        found |= summary.corruption_errors(found, reference)
    finite.check(found, "the summary")
    rows = list(_lines(given, table))
    page = robustness_page.page(found)
    with sharing.alone(folder), sharing.writing(folder):
        (folder / workdir.SUMMARY).unlink(missing_ok=True)
        sharing.note_settings(place)
        store.write_tables(folder, rows)
        files.write_text(folder / ROWS, files.to_json({"lines": rows}))
        files.write_text(folder / PAGE, page)
        files.write_text(folder / workdir.SUMMARY, files.to_json(found))
    return found


def _described(given: Task, table: Mapping[str, np.ndarray]) -> Record:
    settings = given.settings
    kinds = {name: attacks.SPECS[name].kind for name in given.attacks}
    options = {name: dict(each[0].settings) for name, each in given.attacks.items()}
    return {
        "model": given.network.name,
        "weights": given.network.sha256,
        "data": settings.data.source,
        "labelled_by": given.labelled_by,
        "images": len(table["index"]),
        "unreadable": len(table["unreadable"]),
        "norm": settings.norm,
        "epsilons": list(given.epsilons),
        "attacks": list(given.attacks),
        "budgeted": [name for name, kind in kinds.items() if kind == "budget"],
        "attack_settings": {
            name: {key: each for key, each in own.items() if key != "epsilon"}
            for name, own in options.items()
        },
        "corruptions": list(given.corruptions),
        "severities": [int(each) for each in settings.severities],
        "reference": settings.reference,
        "seed": settings.seed,
        "statistics": settings.statistics.to_dict(),
        "versions": files.versions(),
    }


def _lines(given: Task, table: Mapping[str, np.ndarray]) -> Iterator[Record]:
    """Give the lines of the table; of a failed attack, no distances."""
    right = table["predicted"] == table["label"]
    for row, place in enumerate(table["index"]):
        image = files.readable(given.data.name(int(place)))
        head = {"image": image, "label": int(table["label"][row])}

        def line(method: str, metric: str, value: float, head: Record = head) -> Record:
            named = {"method": method, "metric": metric, "value": float(value)}
            return {**head, **named}

        yield line("clean", "correct", right[row])
        for name in given.attacks if right[row] else ():
            success = np.isfinite(table[f"distance/{name}"][row])
            yield line(name, "success", success)
            kinds: Sequence[str] = ("gradients", "forwards")
            if success:
                kinds = ("budget", *scoring.DISTANCES, "winner", *kinds)
            for kind in kinds:
                value = table[f"{kind}/{name}"][row]
                if np.isfinite(value) and not (kind == "winner" and value < 0):
                    yield line(name, kind, value)
        for name in given.corruptions:
            for number, severity in enumerate(given.settings.severities):
                kept = table[f"corruption/{name}"][row, number]
                yield line(name, f"correct@{severity}", kept)


def _result(folder: Path) -> str:
    return f"open {folder / PAGE}; all figures are in {folder / workdir.SUMMARY}"
