"""Answers to commands whose work was finished before, without importing JAX.

A command notes what it was asked, and the state of all that its answer depends on:
config file, package, workdir, weights and data. If all is the same when the same is
asked again, so is the answer. Whatever differs is looked at by the job itself.
"""

import ast
import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import unlir_jax
from unlir_jax.core.document_types import Document
from unlir_jax.runtime import config, programs
from unlir_jax.storage import documents, staging

MOST_FILES = 200_000
"""More than these would take too long to look at."""
REMOTE = ("tfds", "elpv")
"""Sources of data that lie where a config does not say."""
PROCESSES = ("UNLIR_COORDINATOR", "UNLIR_PROCESSES", "UNLIR_DISTRIBUTED")
UNSURE = "cannot be looked at now"
"""What a job says where it could not compare with what a run began with."""
_KNOWN = {"unlir_jax", "ml_collections", *sys.stdlib_module_names}


def answer(asked: Document, workdir: str) -> str:
    """Repeat what was said at the end of a command; "" where that is not known.

    Args:
        asked: All arguments of the command, as JSON knows them.
        workdir: Its workdir.
    """
    file = _file(workdir)
    if file is None or not file.is_file():
        return ""
    try:
        noted = documents.read_json(file)
        same = noted["asked"] == _here(asked)
        paths, state, message = [*noted["paths"]], noted["state"], noted["message"]
    except (ValueError, OSError, KeyError, TypeError):
        return ""  # Whatever is there, the job looks for itself.
    same = same and all(isinstance(each, str) for each in (message, *paths))
    return message if same and _state(asked, workdir, paths) == state else ""


def note(
    asked: Document,
    workdir: str,
    message: str,
    before: str,
    paths: Sequence[str] | None = (),
) -> None:
    """Keep what a command said when all was done, if it is sure of it.

    Args:
        asked: All arguments of the command.
        workdir: Its workdir.
        message: What it said: "Done: …", or what a later start says.
        before: Beginning of what a later start says.
        paths: Files and folders that the answer depends on, besides the workdir; None
            where they are not all known.
    """
    sure = message.startswith(("Done: ", before)) and UNSURE not in message
    file = _file(workdir)
    if file is None or paths is None or not sure:
        return
    state = _state(asked, workdir, paths)
    if state is None or not os.access(_above(file), os.W_OK):
        return
    repeated = before + message.removeprefix("Done: ").removeprefix(before)
    text = json.dumps(
        {"asked": _here(asked), "paths": paths, "state": state, "message": repeated}
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    staging.write_bytes(file, text.encode("utf-8"))


def _above(file: Path) -> Path:
    return next(path for path in file.parents if path.exists())


def places(settings: Document) -> list[str] | None:
    """List the files and folders that settings name; None where not all are here."""
    found = []
    for name, value in _leaves(settings):
        remote = name == "source" and value in REMOTE
        if remote or value.startswith("hf:") or (name == "name" and ":" in value):
            return None
        if value and "\0" not in value and os.path.exists(value):
            found.append(value)
    return list(dict.fromkeys(found))


def _leaves(settings: Document) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str):
                yield name, each


def _here(asked: Document) -> str:
    return json.dumps({**asked, "folder": os.getcwd()})


def _file(workdir: str) -> Path | None:
    """Name the file of a workdir; None where nothing is kept."""
    base = programs.root()
    if base is None or any(os.environ.get(name) for name in PROCESSES):
        return None
    digest = hashlib.sha256(os.fsencode(os.path.realpath(workdir))).hexdigest()
    return base / programs.FINISHED / f"{digest[:32]}.json"


def _state(asked: Document, workdir: str, paths: Sequence[str]) -> str | None:
    """Digest all that an answer depends on; None where that cannot be told."""
    digest = hashlib.sha256()
    try:
        file = config.find(asked["config"].partition(":")[0])
        text = file.read_bytes()
        if not is_self_contained(text):
            return None
        digest.update(text)
        plugins = importlib.metadata.entry_points(group="unlir_jax")
        digest.update(f"{unlir_jax.__version__} {sorted(map(str, plugins))}".encode())
        package = str(Path(unlir_jax.__file__).parent)
        count = 0
        for root in (package, workdir, *paths):
            for line in _looked_at(root):
                digest.update(line)
                count += 1
                if count > MOST_FILES:
                    return None
    except (OSError, ValueError, SyntaxError):
        return None  # Gone or unreadable: the job says more.
    return digest.hexdigest()


def is_self_contained(text: bytes) -> bool:
    """Tell whether a config file depends on nothing but itself and the package."""
    found: list[Any] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names]
        if isinstance(node, ast.ImportFrom):
            found.append(node.module if not node.level else None)
    return all(name and name.partition(".")[0] in _KNOWN for name in found)


def _looked_at(root: str) -> Iterator[bytes]:
    """Give size and time of a file, or of each in a folder but for hidden ones."""
    if not os.path.isdir(root):
        yield _line(root)
        return
    seen = set()
    for above, folders, names in os.walk(root, followlinks=True):
        place = os.stat(above)
        folders[:] = sorted(f for f in folders if f[0] != "." and f != "__pycache__")
        if (place.st_dev, place.st_ino) in seen:
            folders.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        yield os.fsencode(above)
        for name in sorted(name for name in names if name[0] != "."):
            yield _line(os.path.join(above, name))


def _line(path: str) -> bytes:
    found = os.stat(path)
    return b"%s %d %d\n" % (os.fsencode(path), found.st_size, found.st_mtime_ns)
