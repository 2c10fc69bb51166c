"""What a run leaves on disk: complete files, complete folders, and who made them."""

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax

import unlir_jax
from unlir_jax import places

SCHEMA = 1
RESULTS = "results.json"


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


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file that is complete or, should anything go wrong, not there."""
    path = Path(path)
    temporary = path.with_name(f".unlir-{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def to_json(document: dict[str, Any]) -> str:
    """Write a document as JSON that every reader accepts.

    JSON has no NaN and no infinity: they become null, and their number is added as
    `not_finite`, 0 for a healthy run. A text that UTF-8 cannot hold, such as a file
    name in another encoding, has its odd bytes replaced.
    """
    replaced = 0

    def clean(value: Any) -> Any:
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
    folder = places.check(folder, "output")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"Output {str(folder)!r} is a file; expected a folder.")
    if not any(folder.iterdir()):
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
def new_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a place to write to, which becomes `folder` if all goes well.

    A new folder appears at once and complete. In an existing one, the files of the
    previous report are replaced or removed and all others are left alone; call
    `check_folder` first. After an exception nothing has changed.

    Yields:
        A hidden folder on the same disk.

    Raises:
        ValueError: Nothing can be written there.
    """
    folder = Path(folder).resolve()
    above = next(path for path in (folder, *folder.parents) if path.exists())
    staging = above / f".unlir-{secrets.token_hex(6)}"
    try:
        staging.mkdir()
    except OSError as error:
        raise ValueError(
            f"Output folder {str(folder)!r} cannot be written to ({error.strerror}); "
            "expected a place that can."
        ) from error
    try:
        yield staging
        _publish(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _publish(staging: Path, folder: Path) -> None:
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging.replace(folder)
        return
    previous = _files_of_report(folder)
    written = sorted(path.name for path in staging.iterdir())
    # The list of files goes last: until then the previous one still names what is ours.
    for name in sorted(written, key=lambda name: name == RESULTS):
        (staging / name).replace(folder / name)
    for name in previous.difference(written):
        (folder / name).unlink(missing_ok=True)


def _files_of_report(folder: Path) -> set[str]:
    """List the files that a previous report in this folder says it wrote."""
    try:
        document = json.loads((folder / RESULTS).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return set()
    files = document.get("files") if isinstance(document, dict) else None
    if not isinstance(files, list) or "schema" not in document:
        return set()
    # A name with a folder in it would reach out of the report.
    return {name for name in files if isinstance(name, str) and Path(name).name == name}
