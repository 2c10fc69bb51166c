"""Places that people name: paths that may be none, and texts that may be very long."""

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

# What Linux, macOS and Windows let a name be, and Linux a whole path, in bytes.
MOST_OF_NAME, MOST_OF_PATH = 255, 4095
SHOWN = 60
# A text between quotes, as `repr` writes paths into sentences.
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")


def check(place: str | os.PathLike[str], argument: str) -> Path:
    """Refuse what cannot be the path of a file or folder.

    Args:
        place: As it was given.
        argument: What it was given as, for the sentence of the error.

    Returns:
        The path.

    Raises:
        ValueError: It is empty, has a NUL in it, is longer than file systems allow, or
            leads to itself by links.

    Example:
        >>> from unlir_jax.storage import paths
        >>> paths.check("runs/a", "workdir").name
        'a'
    """
    text = os.fspath(place)
    reason = _reason(text) or _loop(text)
    if reason:
        raise ValueError(
            f"`{argument}`={shown(text)} {reason}; expected a path of names of at most "
            f"{MOST_OF_NAME} bytes each."
        )
    return Path(text)


def _reason(text: str) -> str:
    """Say why a text is no path; "" if it may be one."""
    if not text:
        return "is empty"
    if "\0" in text:
        return "has a NUL in it"
    data = os.fsencode(text)
    longest = max(map(len, data.split(b"/")))
    if longest > MOST_OF_NAME:
        return f"has a name of {longest:,} bytes"
    if len(data) > MOST_OF_PATH:
        return f"is a path of {len(data):,} bytes, of at most {MOST_OF_PATH:,}"
    return ""


def _loop(text: str) -> str:
    try:
        os.stat(text)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "leads to itself by links"
    return ""


def is_folder(text: str | os.PathLike[str]) -> bool:
    """Tell whether a text, which may be anything, is the path of a folder."""
    text = os.fspath(text)
    return not _reason(text) and os.path.isdir(text)


def is_file(text: str | os.PathLike[str]) -> bool:
    """Tell whether a text, which may be anything, is the path of a file."""
    text = os.fspath(text)
    return not _reason(text) and os.path.isfile(text)


def shown(text: str) -> str:
    """Quote a text, of which only the beginning where it is long."""
    if len(text) <= SHOWN:
        return repr(text)
    return f"{text[:SHOWN]!r}… ({len(text):,} letters)"


def told(place: str | os.PathLike[str]) -> str:
    """Name a place for a record that may be published.

    A relative path stays as it was given. Of an absolute one the last name is left:
    the folders above it say who works where, and nothing of the results.

    Example:
        >>> from unlir_jax.storage import paths
        >>> paths.told("/home/ada/photos/cat.jpg"), paths.told("photos/cat.jpg")
        ('cat.jpg', 'photos/cat.jpg')
    """
    text = os.fspath(place)
    for kind in (PurePath, PureWindowsPath):
        if kind(text).is_absolute():
            return kind(text).name or text
    home = text.startswith("~")
    return PurePath(text).name if home else text


def without_folders(value: Any) -> Any:
    """Put `told` in the place of each absolute path in a document.

    In sentences these are the paths between quotes.

    Args:
        value: A text, or dictionaries and lists of some; anything else stays.

    Example:
        >>> from unlir_jax.storage import paths
        >>> paths.without_folders("'/home/ada/cat.jpg' cannot be read")
        "'cat.jpg' cannot be read"
    """
    if isinstance(value, Mapping):
        return {name: without_folders(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    if not isinstance(value, str):
        return value
    if "\n" not in value and told(value) != value:
        return told(value)
    return _QUOTED.sub(lambda found: _unquoted(found[0]), value)


def _unquoted(text: str) -> str:
    return f"{text[0]}{told(text[1:-1])}{text[-1]}"
