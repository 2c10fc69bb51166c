"""JSON documents, as anybody may have written them: read by one function."""

import json
import os
from pathlib import Path
from typing import Any

from unlir_jax.core.document_types import Record

# What a document may take in memory besides its own text: 64 MB, or 8 times its size.
FREE_BYTES, FREE_RATIO = 48 << 20, 3
# Brackets in brackets. Python's own limit is another in each version, and who looks
# through a document may need more of the stack than its parser does.
MOST_DEPTH = 200
# Bytes that CPython 3.12 takes for the smallest of each, with what points to it.
LIST_BYTES, DICT_BYTES, ITEM_BYTES, TEXT_BYTES = 64, 72, 40, 64


def read_json(path: str | os.PathLike[str], expected: str = "JSON") -> Any:
    """Read a file of JSON, whoever wrote it.

    Args:
        path: The file.
        expected: What it should be, for the sentence of an error.

    Returns:
        What `json.loads` returns.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read: no file, not UTF-8, no JSON, nested too deeply,
            or of so many small parts that they would take far more memory than the
            file has bytes.

    Example:
        >>> import pathlib, tempfile
        >>> from unlir_jax.storage import documents
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.json"
        >>> path.write_text("[1, 2]")
        6
        >>> documents.read_json(path)
        [1, 2]
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(
            f"{str(path)!r} cannot be read ({error.strerror}); expected {expected}."
        ) from error
    return parse_json(data, repr(str(path)), expected)


def parse_json(
    data: bytes | str, name: str, expected: str = "JSON", within: int | None = None
) -> Any:
    """Parse JSON, whoever wrote it.

    Args:
        data: The text, or its UTF-8.
        name: What it is, the subject of the sentence of an error.
        expected: What it should be.
        within: Bytes that it may take in memory; by default what a document of this
            size may.

    Returns:
        What `json.loads` returns.

    Raises:
        ValueError: See `read_json`.
    """
    if within is None:
        within = FREE_BYTES + FREE_RATIO * len(data)
    if isinstance(data, str):
        opened, braces, items, quotes = (data.count(mark) for mark in '[{,"')
    else:
        marks = b"[", b"{", b",", b'"'
        opened, braces, items, quotes = (data.count(mark) for mark in marks)
    needed = LIST_BYTES * opened + DICT_BYTES * braces + ITEM_BYTES * items
    needed += TEXT_BYTES * (quotes // 2)
    if needed > within:
        raise ValueError(
            f"{name} has {len(data):,} bytes of so many small parts that they take "
            f"{needed >> 20:,} MB of memory; expected {expected}."
        )
    try:
        document = json.loads(data)
        if opened + braces > MOST_DEPTH and _is_deep(document):
            raise RecursionError
        return document
    except RecursionError as error:
        raise ValueError(
            f"{name} is nested too deeply; expected {expected}."
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{name} is no JSON ({error}); expected {expected}."
        ) from error


def _is_deep(document: object) -> bool:
    """Tell whether there are more than `MOST_DEPTH` brackets in each other."""
    level = [document] if isinstance(document, dict | list) else []
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def read_object(
    path: str | os.PathLike[str], expected: str = "a JSON object"
) -> Record:
    """Read a file of JSON that holds an object, by name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, see `read_json`, or holds something else.
    """
    document = read_json(path, expected)
    if not isinstance(document, dict):
        raise ValueError(f"{str(path)!r} is no JSON object; expected {expected}.")
    return document
