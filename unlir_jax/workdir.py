"""The folder of a training: whose it is, and what is in it when it is finished."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from unlir_jax import (
    checkpoint,
    config,
    journal,
    mesh,
    presets,
    pretrained,
    record,
    tree,
)
from unlir_jax.data import source as sources
from unlir_jax.data import splits
from unlir_jax.report import training
from unlir_jax.weights import exported, readers

CONFIG, SUMMARY, PARAMETERS = "config.json", "summary.json", "parameters.txt"
CLASSES = "classes.json"
DIVERGED, CURVES, CHOICE = "diverged.json", "curves.png", "probe.json"
# May change from one start to the next: results are the same.
FREE = (
    *("data.cache", "data.compare", "data.duplicates"),
    *("data.threads", "data.workers"),
    *("checkpoint", "log", "mesh"),
)


def check(
    folder: Path,
    settings: Mapping[str, Any],
    free: Sequence[str] = FREE,
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Tell what a folder means to a run of these settings.

    Args:
        folder: The workdir; it need not exist.
        settings: See `config.to_dict`.
        free: What may differ from an earlier start.
        defaults: What a setting meant before there was it: an earlier version did not
            write it down.

    Returns:
        The summary if this very run has been finished there, else None.

    Raises:
        ValueError: It is no folder, holds a training of other settings, or holds
            things that no training of this library left there.
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise ValueError(f"Workdir {str(folder)!r} is a file; expected a folder.")
    theirs = read(folder / CONFIG)
    if theirs is None:
        ours = (SUMMARY, checkpoint.FOLDER, journal.METRICS)
        strange = [name for name in ours if (folder / name).exists()]
        if strange:
            raise ValueError(
                f"Workdir {str(folder)!r} holds {', '.join(strange)} but no {CONFIG}; "
                "expected a new folder, or that of an earlier start of this training."
            )
        return None
    theirs = _completed(theirs, defaults or {})
    options = settings.get("data", {}).get("options", {})
    known = config.to_dict(ConfigDict(presets.folder_options()))
    if "options" in theirs.get("data", {}):
        added = {name: known[name] for name in options if name in known}
        theirs["data"]["options"] = added | theirs["data"]["options"]
    differing = config.differences(settings, theirs, free)
    if differing:
        more = f" and {len(differing) - 8} more" if len(differing) > 8 else ""
        raise ValueError(
            f"Workdir {str(folder)!r} belongs to another config: "
            f"{'; '.join(differing[:8])}{more}. Expected another workdir, or the "
            "same config."
        )
    return read(folder / SUMMARY)


def _completed(settings: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Add the settings that are missing, group by group."""
    found = dict(settings)
    for name, value in defaults.items():
        if name not in found:
            found[name] = value
        elif isinstance(value, Mapping) and isinstance(found[name], Mapping):
            found[name] = _completed(found[name], value)
    return found


def read(path: Path) -> dict[str, Any] | None:
    """Read a document of a workdir; None where there is none."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(
            f"{str(path)!r} cannot be read ({error}); expected what `unlir train` "
            "wrote, or no such file."
        ) from error
    if not isinstance(document, dict):
        raise ValueError(f"{str(path)!r} is no JSON object; expected one.")
    document.pop("not_finite", None)
    return document


def claim(
    folder: Path, settings: Mapping[str, Any], parameters: str, classes: Sequence[str]
) -> None:
    """Note in a folder which training it belongs to, its classes and its parameters.

    Args:
        folder: The workdir.
        settings: See `config.to_dict`.
        parameters: A table of them.
        classes: Names of the data's classes by label.

    Raises:
        ValueError: It cannot be written to, or was begun with other classes.
    """
    _check_classes(folder, classes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        record.write_text(folder / CONFIG, record.to_json(dict(settings)))
        record.write_text(folder / PARAMETERS, parameters + "\n")
        record.write_text(folder / CLASSES, json.dumps(list(classes), indent=0) + "\n")
    except OSError as error:
        raise ValueError(
            f"Workdir {str(folder)!r} cannot be written to ({error.strerror}); "
            "expected a place that can."
        ) from error


def classes_of(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read what the classes of a training are called, by label; () where unknown.

    Args:
        folder: The workdir, a folder of its checkpoints, or one of them.
    """
    for place in (Path(folder), *Path(folder).resolve().parents[:2]):
        try:
            found = json.loads((place / CLASSES).read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, list) and all(isinstance(name, str) for name in found):
            return tuple(found)
    return ()


def training_pictures(folder: str | os.PathLike[str]) -> sources.Source:
    """Open the pictures that the network in a workdir was trained on.

    Raises:
        ValueError: They are not where they were, or the folder does not say where.
    """
    try:
        settings = json.loads((Path(folder) / CONFIG).read_text("utf-8"))
        data = ConfigDict(settings["data"] | {"test": "", "cache": "none"})
        return splits.open_splits(data).train
    except (ValueError, OSError, KeyError, TypeError, ImportError) as error:
        raise ValueError(
            f"The training pictures are not where they were: {error}"
        ) from error


def _check_classes(folder: Path, classes: Sequence[str]) -> None:
    """Refuse to go on where labels would mean other classes than before."""
    known = classes_of(folder) if (folder / CLASSES).is_file() else ()
    if known and known != tuple(classes):
        gone = [name for name in known if name not in classes]
        new = [name for name in classes if name not in known]
        shown = ", ".join(
            f"{word} {', '.join(map(repr, names[:5]))}"
            for word, names in (("without", gone), ("with", new))
            if names
        )
        raise ValueError(
            f"Workdir {str(folder)!r} was begun with {len(known)} classes, and the "
            f"data has {len(classes)} now, {shown or 'in another order'}; expected the "
            "same data, or another workdir."
        )
    begun = (folder / checkpoint.FOLDER).is_dir()
    if begun and not known and tuple(classes) != tuple(sorted(classes)):
        raise ValueError(
            f"Workdir {str(folder)!r} was begun by a version that may have numbered "
            f"the classes {', '.join(classes[:3])}, … in another order; expected "
            "another workdir."
        )


def first_notes() -> dict[str, Any]:
    """Give what a training notes beside each checkpoint, as it is at its beginning."""
    return {
        "train": {},
        "test": {},
        "best": {},
        "unreadable": {"train": [], "test": []},
        "means": None,
        "clock": None,
    }


def check_finite(
    folder: Path,
    values: Mapping[str, float],
    step: int,
    index: np.ndarray,
    name: Callable[[int], str],
) -> None:
    """Stop a training whose numbers are none any more.

    The names of all pictures of that batch are written to `diverged.json`.

    Raises:
        FloatingPointError: Says so, with the step and some of the names.
    """
    bad = [what for what, value in values.items() if not math.isfinite(value)]
    if not bad:
        return
    names = [name(int(place)) for place in index if place >= 0]
    if mesh.is_first():
        document = {"step": step, "not_a_number": bad, "batch": names}
        record.write_text(folder / DIVERGED, record.to_json(document))
    more = f" and {len(names) - 6} more, see {DIVERGED}" if len(names) > 6 else ""
    raise FloatingPointError(
        f"{' and '.join(bad)} of step {step} is not a finite number, on the batch of "
        f"{', '.join(names[:6])}{more}; the checkpoint before is kept: try a smaller "
        "optimizer.learning_rate, or optimizer.clip_norm=1."
    )


def note_unreadable(
    notes: dict[str, Any], split: str, report: Any, name: Callable[[int], str]
) -> None:
    """Remember the names of pictures that could not be read, each once."""
    known = notes["unreadable"][split]
    for place in report.index[(report.weight == 0) & (report.index >= 0)].tolist():
        if name(place) not in known:
            known.append(name(place))


def note_best(
    notes: dict[str, Any], metrics: Mapping[str, float], step: int, settings: Any
) -> bool:
    """Remember the best evaluation; tell whether this one is it."""
    name = f"test/{settings.best}"
    before = notes["best"].get(name)
    sign = 1 if settings.largest else -1
    if before is not None and sign * metrics[name] <= sign * before:
        return False
    notes["best"] = {"step": step} | dict(metrics)
    return True


def finish(
    folder: Path,
    job: Any,
    variables: Mapping[str, Any],
    notes: Mapping[str, Any],
    speed: Mapping[str, float],
) -> dict[str, Any]:
    """Write the weights and, last of all, the summary of a finished training.

    Args:
        folder: The workdir.
        job: See `job.Job`.
        variables: What has been learnt, whole.
        notes: Of the last checkpoint.
        speed: See `progress.Clock.values`.

    Returns:
        The summary.
    """
    train, test = job.data
    leaves = {path: np.asarray(leaf) for path, leaf in tree.flatten(variables).items()}
    network = job.network._replace(class_names=train.classes, **job.frame)
    purpose = pretrained.purpose(network)
    best = {
        f"best/{name.removeprefix('test/')}": value
        for name, value in notes["best"].items()
    }
    summary = dict(notes.get("test", {})) | dict(notes.get("train", {})) | best
    summary |= speed
    summary |= notes.get("start", {}) | notes.get("measured", {})
    summary |= notes.get("filters", {}) | notes.get("chosen", {})
    summary |= {
        "seed": job.settings.seed,
        "steps": job.steps,
        "train_examples": train.size,
        "test_examples": test.size if test else 0,
        "unreadable": notes["unreadable"],
        "duplicates": notes.get("duplicates"),
        "devices": job.laid.mesh.size,
        "processes": jax.process_count(),
        "versions": record.versions(),
        "initial_weights": pretrained.provenance(job.network),
        "preprocessing": pretrained.prepared(job.network, **job.frame),
        "config": config.to_dict(job.settings),
    }
    if mesh.is_first():
        path = exported.write(folder, leaves, purpose)
        summary["weights_sha256"] = readers.sha256(path)
        lines = (folder / journal.METRICS).read_text("utf-8").splitlines()
        record.write_bytes(folder / CURVES, training.draw(training.read(lines)))
        record.write_text(folder / SUMMARY, record.to_json(summary))
    return summary


def listed(metrics: Mapping[str, float]) -> str:
    """Write numbers by name for people."""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def result(folder: Path, summary: Mapping[str, Any]) -> str:
    """Say in a sentence how a finished training came out."""
    # The ends of intervals are in the summary.
    names = [name for name in summary if name.startswith("test/")]
    names = [name for name in names if not name.endswith(("_low", "_high"))]
    names = names or ["train/loss"]
    found = {name: summary[name] for name in names if summary.get(name) is not None}
    unread = sum(map(len, summary["unreadable"].values()))
    skipped = ""
    if unread:
        some = [name for names in summary["unreadable"].values() for name in names]
        more = ", …" if unread > 5 else ""
        skipped = f" {unread} pictures could not be read: {', '.join(some[:5])}{more}."
    return f"training is finished in {str(folder)!r}, {listed(found)}.{skipped}"
