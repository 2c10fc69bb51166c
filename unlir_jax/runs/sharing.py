"""A workdir that several runs of one config may share: what they make is the same.

Evaluations and few shots keep each piece of work in a file of its own, complete or not
there, so that two at once do no harm, but for work done twice. What says whose a
workdir is, and what is written at the end, is written by one at a time.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from unlir_jax.core.document_types import Document, Record
from unlir_jax.runs import origins, workdir
from unlir_jax.runtime import mesh
from unlir_jax.storage import files, locks, staging


class Place(NamedTuple):
    """Hold a workdir, and whose it is.

    Attributes:
        folder: The workdir.
        settings: See `config.to_dict`.
        free: Settings that may differ from an earlier start.
        defaults: See `workdir.check`.
        traces: What such a run leaves in it, next to its config.
        renew: Function that brings settings of an earlier version to today's.
    """

    folder: Path
    settings: Document
    free: Sequence[str]
    defaults: Record
    traces: Sequence[str]
    renew: Callable[[Record], Record] = workdir.unchanged


def check(place: Place) -> Record | None:
    """Tell what a workdir means to this run, see `workdir.check`."""
    arguments = place.free, place.defaults, place.traces, place.renew
    return workdir.check(place.folder, place.settings, *arguments)


def compare(place: Place, now: Document, how: str) -> str:
    """Refuse other weights or data than a workdir was begun with, if it was begun.

    Args:
        place: The workdir.
        now: See `origins.describe`.
        how: The setting `data.compare`.

    Returns:
        A sentence for people, or "".
    """
    (begun,) = mesh.agree(int((place.folder / workdir.CONFIG).exists()))
    return origins.settle(place.folder, now, how) if begun else ""


def claim(place: Place, now: Document, how: str) -> str:
    """Note in a workdir whose it is and what it begins with; all processes call it.

    Args:
        place: The workdir, which is made if need be.
        now: See `origins.describe`.
        how: The setting `data.compare`.

    Returns:
        A sentence for people, or "".

    Raises:
        ValueError: Another run has claimed it meanwhile, or it cannot be written to.
    """

    def write() -> str:
        with alone(place.folder):
            # Since it was looked at, another run may have come.
            check(place)
            # One that was killed as it began had left no settings to know it by.
            files.sweep(place.folder)
            notice = origins.note(place.folder, now, how)
            note_settings(place)
        return notice

    return mesh.first_does(write, f"claim {str(place.folder)!r}") or ""


def sweep(place: Place, *inner: str) -> None:
    """Remove what killed runs left half written in a workdir that was begun.

    Args:
        place: The workdir.
        inner: Names of folders in it where such things may lie too.
    """
    if not (place.folder / workdir.CONFIG).is_file():
        return
    for folder in (place.folder, *(place.folder / name for name in inner)):
        files.sweep(folder)


def note_settings(place: Place) -> None:
    """Write the settings of this run to its workdir."""
    with writing(place.folder):
        text = files.to_json(dict(place.settings))
        files.write_text(place.folder / workdir.CONFIG, text)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other run writes what all share, and keep it so for the block."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locks.alone(folder / locks.LOCK, wait=True):
        yield


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say of what goes wrong with the disk in a block where, and what may help.

    Raises:
        ValueError: The folder cannot be written to, or the disk is full.
    """
    try:
        yield
    except staging.NotWrittenError as error:
        raise ValueError(
            f"{str(error).removesuffix('.')}: what is complete in {str(folder)!r} "
            "stays, and the same command goes on."
        ) from error
    except OSError as error:
        raise ValueError(
            f"Workdir {str(folder)!r} cannot be written to ({error.strerror or error});"
            " expected a place that can, with room: what is complete there stays, and "
            "the same command goes on."
        ) from error


def check_writable(folder: Path) -> None:
    """Refuse a workdir that cannot be written to, before any work is done.

    Raises:
        ValueError: The folder belongs to another run.
    """
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise ValueError(
            f"Workdir {str(folder)!r} cannot be written to, for {str(above)!r} cannot; "
            "expected a place that can."
        )
