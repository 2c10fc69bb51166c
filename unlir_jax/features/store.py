"""A folder of arrays that is filled row by row, checked, and then only read.

What has been written has a checksum, from memory and not from the disk. Whatever does
not fit when it is opened is moved aside, said, and made again.
"""

import contextlib
import errno
import json
import math
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unlir_jax.core.document_types import Document, Record
from unlir_jax.storage import documents, locks, staging

ABOUT, DONE, SUMS = "about.json", "done", "sums"
FLUSH_EVERY = 20
# Rows are checked so many bytes at a time.
CHUNK = 16 << 20
Rows = Mapping[str, np.ndarray]


@contextlib.contextmanager
def alone(final: Path) -> Iterator[None]:
    """Wait for another run that computes the same, and keep others waiting.

    Raises:
        ValueError: The folder around it cannot be written to.
    """
    with contextlib.ExitStack() as held:
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            lock = final.with_name(f"{final.name}.lock")
            held.enter_context(locks.alone(lock, wait=True))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(
                f"Features cannot be kept in {str(final.parent)!r} ({reason}); "
                "expected `features.folder` to be a folder that can be written to."
            ) from error
        yield


def partial_of(final: Path) -> Path:
    """Name the folder in which it is made."""
    return final.with_name(f"{final.name}.partial")


def rows_done(final: Path, described: Document, parts: Iterable[str], size: int) -> int:
    """Count the rows that are there and as they were written.

    The caller holds the lock. What does not fit is moved aside or, half done, removed.

    Args:
        final: The folder.
        described: What its rows follow from.
        parts: Names of the arrays.
        size: Number of rows in the end.
    """
    partial, parts = partial_of(final), tuple(parts)
    if final.is_dir():
        fault = _fault(final, described, parts, size)
        if not fault:
            shutil.rmtree(partial, ignore_errors=True)
            return size
        aside = _set_aside(final)
        warnings.warn(
            f"Features in {str(final)!r} {fault}: they were moved to {str(aside)!r} "
            "and are computed again.",
            stacklevel=2,
        )
    notes = _notes(partial)
    done = notes.get(DONE, 0)
    if not isinstance(done, int) or not 0 < done <= size:
        done = 0
    fault = _differing(partial, notes.get(SUMS), parts, size, done) if done else ""
    if fault:
        warnings.warn(
            f"Features half computed in {str(partial)!r} {fault}: they are computed "
            "again.",
            stacklevel=2,
        )
    if fault or not done:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        return 0
    return done


def _notes(partial: Path) -> Record:
    try:
        found = documents.read_json(partial / DONE)
    except (OSError, ValueError):
        # Nothing was noted, so nothing counts.
        return {}
    return found if isinstance(found, dict) else {}


def _fault(final: Path, described: Document, parts: tuple[str, ...], size: int) -> str:
    """Say what does not fit, "" if all does."""
    try:
        about = documents.read_object(final / ABOUT)
    except (OSError, ValueError) as error:
        return f"do not say what they are ({_said(error)})"
    sums = about.pop(SUMS, None)
    if about != documents.parse_json(json.dumps(described), "What is wanted"):
        return "are of another network or other images"
    if sums is None:
        return _adopt(final, about, parts, size)
    return _differing(final, sums, parts, size, size)


def _adopt(final: Path, about: dict, parts: tuple[str, ...], size: int) -> str:
    """Give checksums to what was kept before there were any."""
    try:
        sums = {part: _sum(opened(final / f"{part}.npy"), size) for part in parts}
    except Exception as error:
        return f"cannot be read ({_said(error)})"
    if any(found["shape"][0] != size or not found["finite"] for found in sums.values()):
        return "are incomplete or not finite"
    _write_json(final / ABOUT, about | {SUMS: sums})
    return ""


def _differing(
    folder: Path, sums: Any, parts: tuple[str, ...], size: int, done: int
) -> str:
    """Say in what the first rows differ from their checksums, "" if in nothing."""
    for part in parts:
        try:
            array = opened(folder / f"{part}.npy")
            found = _sum(array, done)
        # Whatever is wrong with it, it is no array of ours.
        except Exception as error:
            return f"cannot be read ({part}.npy: {_said(error)})"
        expected = sums.get(part) if isinstance(sums, dict) else None
        if len(array) != size or found != expected:
            return f"have changed since they were written ({part}.npy)"
    return ""


def opened(path: Path) -> np.ndarray:
    """Open an array of the disk without reading it."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _sum(array: np.ndarray, rows: int) -> Record:
    """Describe the first rows of an array."""
    total, step = _first(array), max(CHUNK // max(array[:1].nbytes, 1), 1)
    for start in range(0, rows, step):
        total = _added(total, np.asarray(array[start : min(start + step, rows)]))
    return total


def _first(array: np.ndarray) -> Record:
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.str,
        "crc32": 0,
        "finite": True,
    }


def _added(total: Record, rows: np.ndarray) -> Record:
    """Continue with a checksum."""
    finite = total["finite"] and bool(np.isfinite(rows).all())
    crc = zlib.crc32(np.ascontiguousarray(rows), total["crc32"])
    return total | {"crc32": crc, "finite": finite}


def _set_aside(folder: Path) -> Path:
    place, copy = folder.with_name(f"damaged_{folder.name}"), 0
    while place.exists():
        copy += 1
        place = folder.with_name(f"damaged_{folder.name}_{copy}")
    return folder.rename(place)


def write(
    batches: Iterable[Rows],
    final: Path | None,
    parts: Iterable[str],
    done: int,
    size: int,
    progress: Callable[[float], None],
) -> None:
    """Put the rows of each batch in their place, and note now and then how many.

    Args:
        batches: Rows by name, with an `index` that is negative for padding.
        final: The folder; None where another process writes.
        parts: Which of the rows are kept.
        done: How many are there already, as `rows_done` says.
        size: Final number of rows.
        progress: Told the share that is done.

    Raises:
        FloatingPointError: A row is not finite.
        ValueError: Nothing can be written there; the text says how much room it takes.
    """
    partial = None if final is None else partial_of(final)
    files: dict[str, np.memmap] = {}
    sums = _notes(partial).get(SUMS, {}) if partial is not None and done else {}
    try:
        for number, batch in enumerate(batches, 1):
            real = batch["index"] >= 0
            if partial is None:
                continue
            kept = {part: batch[part][real] for part in parts}
            for part, rows in kept.items():
                if not np.isfinite(rows).all():
                    raise FloatingPointError(
                        f"The features of images {done} to {done + len(rows) - 1} "
                        "are not finite; expected a network that gives numbers, or "
                        "`model.dtype`=float32."
                    )
                if part not in files:
                    files[part] = _open(partial / f"{part}.npy", rows, size, done)
                files[part][done : done + len(rows)] = rows
            for part, rows in kept.items():
                sums[part] = _added(sums.get(part) or _first(files[part]), rows)
            done += int(real.sum())
            if number % FLUSH_EVERY == 0:
                _note(partial, files, sums, done)
            progress(done / size)
    finally:
        if partial is not None and files:
            _note(partial, files, sums, done)


def publish(final: Path, described: Document) -> None:
    """Give a folder whose rows are all there its name."""
    partial = partial_of(final)
    _write_json(partial / ABOUT, {**described, SUMS: _notes(partial)[SUMS]})
    (partial / DONE).unlink()
    partial.rename(final)


def _open(path: Path, rows: np.ndarray, size: int, done: int) -> np.memmap:
    if done:
        return np.lib.format.open_memmap(path, "r+")
    shape = (size, *rows.shape[1:])
    try:
        file = np.lib.format.open_memmap(path, "w+", rows.dtype, shape)
        _reserve(path)
    except OSError as error:
        needed = math.prod(shape) * rows.dtype.itemsize
        raise staging.refusal(path, error, needed) from error
    return file


def _reserve(path: Path) -> None:
    """Have the disk keep room for a whole file, where it can.

    Of one that has holes, a full disk shows when a hole is written to: the system ends
    the process then (SIGBUS), without an error that could be told.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise


def _note(
    partial: Path, files: Mapping[str, np.memmap], sums: Document, done: int
) -> None:
    for file in files.values():
        file.flush()
    _write_json(partial / DONE, {DONE: done, SUMS: sums})


def _write_json(path: Path, document: Any) -> None:
    staging.write_bytes(path, json.dumps(document, indent=1).encode("utf-8"))


def _said(error: Exception) -> str:
    """Give the words of an error, without the system's number and the path again."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
