"""Files of a run: complete files, complete folders, and the versions that made them."""

import contextlib
import importlib.metadata
import io
import json
import math
import os
import platform
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
from PIL import Image

import unlir_jax
from unlir_jax.core import console
from unlir_jax.core.document_types import Document
from unlir_jax.storage import documents, paths, staging

SCHEMA = 1
RESULTS = "results.json"
PAGES = {
    "report.html": r"report\.html|maps\.npz|[^/\x00]+__\w+\.png",
    "parts.html": r"parts\.(html|png)",
    "filters.html": r"filters\.html|(weights|filters|saliency)\.png",
    "retrieval.html": r"retrieval\.html",
    "detections.png": r"detections\.png|[^/\x00]+__boxes\.png",
}
"""The names that the files of a report have, by that of its page."""

write_bytes = staging.write_bytes
sweep = staging.sweep


def versions() -> dict[str, str]:
    """Name the versions, and the kind of device, that results depend on."""
    found = {"unlir_jax": unlir_jax.__version__}
    for name in ("jax", "jaxlib", "flax", "numpy", "pillow"):
        found[name] = importlib.metadata.version(name)
    return found | {
        "python": platform.python_version(),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
    }


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text as `write_bytes` does, with no letter that hides or acts.

    Raises:
        ValueError: It cannot be written there.
    """
    write_bytes(path, console.visible(text).encode("utf-8"))


def write_png(path: str | os.PathLike[str], image: Image.Image) -> None:
    """Write an image as `write_bytes` does.

    Raises:
        ValueError: It cannot be written there.
    """
    buffer = io.BytesIO()
    # A tenth larger than at the usual level, in less than half of the time.
    image.save(buffer, "PNG", compress_level=1)
    write_bytes(path, buffer.getvalue())


def to_json(document: Document) -> str:
    """Write a document as JSON that every reader accepts.

    JSON has no NaN and no infinity: they become null, and their number is added as
    `not_finite`, 0 for a healthy run. A text that UTF-8 cannot hold, such as a file
    name in another encoding, has its odd bytes replaced.
    """
    replaced = 0

    def clean(value: object) -> Any:
        nonlocal replaced
        if isinstance(value, dict):
            return {clean(str(name)): clean(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [clean(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            replaced += 1
            return None
        return readable(value) if isinstance(value, str) else value

    cleaned = clean(document)
    cleaned["not_finite"] = replaced
    return json.dumps(cleaned, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def readable(text: str) -> str:
    """Replace what cannot be written as UTF-8, as odd file names hold."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def check_folder(
    folder: str | os.PathLike[str], names: Iterable[str], *, overwrite: bool
) -> None:
    """Refuse a folder in which results could not be put without harm.

    Args:
        folder: Where results shall go; it need not exist.
        names: The files that shall be written there.
        overwrite: Whether the files of a previous report may be replaced.

    Raises:
        ValueError: `folder` is a file, or holds something without `overwrite`, or holds
            files of those names that no previous report wrote.
    """
    folder = paths.check(folder, "output")
    sweep(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"Output {str(folder)!r} is a file; expected a folder.")
    if not _entries(folder):
        return
    if not overwrite:
        raise ValueError(
            f"Output folder {str(folder)!r} exists and is not empty; expected a new "
            "one, or --overwrite to replace a previous report in it."
        )
    ours = _files_of_report(folder)
    for name in names:
        if name not in ours and (folder / name).exists():
            raise ValueError(
                f"Output folder {str(folder)!r} holds {name!r}, which no previous "
                "report wrote; expected another folder."
            )


@contextlib.contextmanager
def new_folder(
    folder: str | os.PathLike[str], *, overwrite: bool = False
) -> Iterator[Path]:
    """Give a place to write to, which becomes `folder` if all goes well.

    A new folder appears at once and complete. In an existing one, the files of the
    previous report are replaced or removed and all others are left alone; call
    `check_folder` first. It is looked at again before anything appears, since another
    process may have written there meanwhile. After an exception nothing has changed.

    Args:
        folder: Where results shall go.
        overwrite: Whether the files of a previous report may be replaced.

    Yields:
        A hidden folder on the same disk.

    Raises:
        ValueError: Nothing can be written there, or there are results by now.
    """
    folder = Path(folder).resolve()
    above = next(path for path in (folder, *folder.parents) if path.exists())
    for place in {above, folder.parent}:
        sweep(place)
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(staging.new_folder(above))
        except OSError as error:
            raise staging.refusal(folder, error) from error
        yield place
        try:
            _publish(place, folder, overwrite)
        except OSError as error:
            raise staging.refusal(folder, error) from error


def _publish(place: Path, folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(place, folder)
            return
        except OSError as error:
            # It is there by now: in between another process made it.
            if not folder.exists():
                raise
            if not folder.is_dir() or _entries(folder):
                raise ValueError(
                    f"Output folder {str(folder)!r} was made by another process "
                    "meanwhile, and nothing in it is replaced; expected a new one."
                ) from error
    names = sorted(path.name for path in place.iterdir())
    with staging.alone_in(folder):
        check_folder(folder, names, overwrite=overwrite)
        previous = _files_of_report(folder)
        # Whoever is killed in between has named all of it: the next may replace it.
        if RESULTS in names:
            _list_files(folder, previous.union(names))
        for name in names:
            if name != RESULTS:
                (place / name).replace(folder / name)
        for name in previous.difference(names):
            (folder / name).unlink(missing_ok=True)
        if RESULTS in names:
            (place / RESULTS).replace(folder / RESULTS)


def _list_files(folder: Path, names: Iterable[str]) -> None:
    """Name files in the list of a report, whose other numbers stay for now."""
    try:
        document = documents.read_object(folder / RESULTS)
    except (FileNotFoundError, ValueError):
        document = {}
    document |= {"schema": document.get("schema", SCHEMA), "files": sorted(names)}
    write_bytes(folder / RESULTS, to_json(document).encode("utf-8"))


def _entries(folder: Path) -> list[str]:
    """List what is in a folder next to what is just being written there."""
    return [name for name in os.listdir(folder) if not staging.is_temporary(name)]


def _files_of_report(folder: Path) -> set[str]:
    """List the files that a previous report in this folder says it wrote.

    Anybody can have written that list, so it counts only for names that a report of
    that kind has, and for what is no folder.
    """
    try:
        document = documents.read_json(folder / RESULTS)
    except (FileNotFoundError, ValueError):
        return set()
    files = document.get("files") if isinstance(document, dict) else None
    if not isinstance(files, list) or "schema" not in document:
        return set()
    names = {name for name in files if isinstance(name, str)}
    kinds = [kind for page, kind in PAGES.items() if page in names]
    return {
        name
        for name in names
        if (name == RESULTS or any(re.fullmatch(kind, name) for kind in kinds))
        # A name that is too long is of nothing that is there.
        and os.path.lexists(folder / name)
        and not os.path.isdir(folder / name)
    }
