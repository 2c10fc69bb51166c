"""The folder of a training: whose it is, and what is in it when it is finished."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unlir_jax.core.document_types import Document, Record
from unlir_jax.data import presets, splits
from unlir_jax.data import source as sources
from unlir_jax.runs import origins
from unlir_jax.runtime import checkpoint, config, mesh, metric_writer
from unlir_jax.storage import documents, files, locks, paths
from unlir_jax.weights import exported, readers

CONFIG, SUMMARY, PARAMETERS = origins.CONFIG, "summary.json", "parameters.txt"
PARTS = "parts.json"
CLASSES, CHOICE, CURVES = "classes.json", "probe.json", "curves.png"
TRACES = (SUMMARY, checkpoint.FOLDER, metric_writer.METRICS)
WROTE = "what `unlir train` wrote"
# May change from one start to the next: results are the same.
FREE = (
    *("data.cache", "data.compare", "data.duplicates"),
    *("data.threads", "data.workers"),
    *("checkpoint", "log", "mesh"),
)


def unchanged(settings: Record) -> Record:
    """Leave settings as they are."""
    return settings


def check(
    folder: Path,
    settings: Document,
    free: Sequence[str] = FREE,
    defaults: Record | None = None,
    traces: Sequence[str] = TRACES,
    renew: Callable[[Record], Record] = unchanged,
) -> Record | None:
    """Tell what a folder means to a run of these settings.

    Args:
        folder: The workdir; it need not exist.
        settings: See `config.to_dict`.
        free: Settings that may differ from an earlier start.
        defaults: What a setting meant before there was it: an earlier version did not
            write it down.
        traces: What such a run leaves in the folder, next to its config.
        renew: Function that brings settings of an earlier version to today's.

    Returns:
        The summary if this very run has been finished there, else None.

    Raises:
        ValueError: It is no folder, holds a training of other settings, or holds
            things that no training of this library left there.
    """
    paths.check(folder, "workdir")
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise ValueError(f"Workdir {str(folder)!r} is a file; expected a folder.")
    theirs = read(folder / CONFIG)
    if theirs is None:
        strange = [name for name in traces if (folder / name).exists()]
        if strange:
            raise ValueError(
                f"Workdir {str(folder)!r} holds {', '.join(strange)} but no {CONFIG}; "
                "expected a new folder, or that of an earlier start of this run."
            )
        return None
    theirs = _completed(renew(theirs), settings, defaults or {})
    options = settings.get("data", {}).get("options", {})
    known = config.to_dict(ConfigDict(presets.folder_options()))
    data = theirs.get("data")
    if isinstance(data, dict) and isinstance(data.get("options"), dict):
        added = {name: known[name] for name in options if name in known}
        theirs["data"] = data | {"options": added | data["options"]}
    differing = config.differences(settings, theirs, free)
    if differing:
        more = f" and {len(differing) - 8} more" if len(differing) > 8 else ""
        raise ValueError(
            f"Workdir {str(folder)!r} belongs to another config: "
            f"{'; '.join(differing[:8])}{more}. Expected another workdir, or the "
            "same config."
        )
    return read(folder / SUMMARY)


def _completed(theirs: Any, ours: Any, defaults: Document) -> Record:
    """Add the settings of ours that are missing in theirs, group by group."""
    found = dict(theirs)
    for name in defaults.keys() & ours.keys():
        value = defaults[name]
        if name not in found:
            found[name] = value
        elif all(isinstance(x, Mapping) for x in (value, found[name], ours[name])):
            found[name] = _completed(found[name], ours[name], value)
    return found


def read(path: Path) -> Record | None:
    """Read a document of a workdir; None where there is none."""
    try:
        document = documents.read_object(path, f"{WROTE}, or no such file")
    except FileNotFoundError:
        return None
    document.pop("not_finite", None)
    return document


@contextlib.contextmanager
def alone(folder: Path, doing: str = "training here") -> Iterator[None]:
    """Keep a workdir to this run as long as the block runs; it is made if need be.

    Of several processes of one run, the first holds the lock for all.

    Args:
        folder: The workdir.
        doing: What another run is doing there, for the sentence of the error.

    Raises:
        ValueError: Another run is there, or the folder cannot be written to.
    """
    with contextlib.ExitStack() as held:

        def lock() -> None:
            _make(folder)
            held.enter_context(locks.alone(folder / locks.LOCK, doing=doing))
            # Nobody else writes here now: these were left by a run that was killed.
            files.sweep(folder)

        mesh.first_does(lock, f"have {str(folder)!r} to itself")
        yield


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error


def _not_writable(folder: Path, error: OSError) -> ValueError:
    return ValueError(
        f"Workdir {str(folder)!r} cannot be written to ({error.strerror}); expected a "
        "place that can."
    )


def claim(
    folder: Path,
    settings: Document,
    parameters: str,
    classes: Sequence[str],
    now: Document | None = None,
    compare: str = "times",
) -> str:
    """Note in a folder which training it belongs to, and what that began with.

    All processes of a run call it; the first one writes.

    Args:
        folder: The workdir.
        settings: See `config.to_dict`.
        parameters: A table of them.
        classes: Names of the data's classes by label.
        now: See `origins.describe`.
        compare: See `origins.settle`.

    Returns:
        A sentence for people, or "".

    Raises:
        ValueError: It cannot be written to, or was begun with other classes, weights or
            data.
    """

    def write() -> str:
        _check_classes(folder, classes)
        notice = origins.note(folder, now, compare) if now else ""
        names = json.dumps(list(classes), indent=0)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files.write_text(folder / CLASSES, names + "\n")
            files.write_text(folder / PARAMETERS, parameters + "\n")
            files.write_text(folder / CONFIG, files.to_json(dict(settings)))
        except OSError as error:
            raise _not_writable(folder, error) from error
        return notice

    return mesh.first_does(write, f"go on in {str(folder)!r}") or ""


def lacking(folder: Path, summary: Record) -> list[str]:
    """List the files that a finished training has no longer in its workdir.

    Raises:
        ValueError: They are gone, and there is no checkpoint to make them from; or the
            weights are not those that the training wrote.
    """
    settings = summary.get("config")
    model = settings.get("model") if isinstance(settings, dict) else None
    decision = model.get("decision") if isinstance(model, dict) else None
    by_parts = isinstance(decision, dict) and bool(decision.get("name"))
    wanted = [exported.FILE, *([PARTS] if by_parts else [])]
    gone = [name for name in wanted if not (folder / name).is_file()]
    if gone and not checkpoint.steps(folder / checkpoint.FOLDER):
        raise ValueError(
            f"Workdir {str(folder)!r} says that the training is finished, but "
            f"{' and '.join(gone)} is gone, and no checkpoint is left to make it from; "
            "expected all that the training wrote, or another workdir."
        )
    known = summary.get("weights_sha256")
    if exported.FILE not in gone and known is not None:
        found = readers.sha256(folder / exported.FILE)
        if found != known:
            raise ValueError(
                f"{str(folder / exported.FILE)!r} has the hash {found[:12]}, and the "
                f"training wrote {str(known)[:12]}; expected the file as it was: "
                "delete it, and the same command makes it again from its checkpoint."
            )
    return gone


def made_again(folder: Path, gone: Sequence[str]) -> str:
    """Say that what `lacking` found is made again; "" where nothing is missing."""
    if not gone:
        return ""
    return (
        f"The training in {str(folder)!r} is finished, but {' and '.join(gone)} is "
        "gone: it is made again from the newest checkpoint."
    )


def classes_of(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read what the classes of a training are called, by label; () where unknown.

    Args:
        folder: The workdir, a folder of its checkpoints, or one of them.

    Raises:
        ValueError: It is written down, but not as `claim` does.
    """
    for place in (Path(folder), *Path(folder).resolve().parents[:2]):
        if not (place / CLASSES).is_file():
            continue
        found = documents.read_json(place / CLASSES, WROTE)
        if isinstance(found, list) and all(isinstance(name, str) for name in found):
            return tuple(found)
        raise ValueError(
            f"{str(place / CLASSES)!r} is no list of names; expected {WROTE}."
        )
    return ()


def training_pictures(folder: str | os.PathLike[str]) -> sources.Source:
    """Open the images that the network in a workdir was trained on.

    Raises:
        ValueError: They are not where they were, are others than then, or the folder
            does not say where.
    """
    try:
        settings = read(Path(folder) / CONFIG) or {}
        data = ConfigDict(settings["data"] | {"test": "", "cache": "none"})
        found = splits.open_splits(data).train
    except (
        *(ValueError, OSError, KeyError),
        *(TypeError, AttributeError, ImportError),
    ) as error:
        raise ValueError(
            f"The training images are not where they were: {error}"
        ) from error
    changed = origins.changed(Path(folder), "train", found)
    if changed:
        raise ValueError(f"The training images are not what they were: {changed}.")
    return found


def _check_classes(folder: Path, classes: Sequence[str]) -> None:
    """Refuse to continue where labels would mean other classes than before."""
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
