"""Values of settings as they stand on a command line, read as types."""

import ast
from collections.abc import Sequence
from typing import Any

from unlir_jax.core.document_types import Record
from unlir_jax.storage import paths

EXPECTED = {
    bool: "true or false",
    int: "an int",
    float: "a float",
    str: "a str",
    tuple: "a tuple such as (1, 2)",
    list: "a list such as [1, 2]",
}


def convert(option: str, value: str, kind: type, like: Any, optional: bool) -> object:
    """Read a value as a type; `like` tells a sequence what its elements are.

    Raises:
        ValueError: It is of another type.
    """
    if optional and value.lower() == "none":
        return None
    expected = EXPECTED.get(kind, "nothing: it is set in the config file only")
    if kind in (tuple, list) and like:
        expected = f"a {kind.__name__} such as {like!r}"
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[value.lower()]
        if kind is float:
            return float(value)
        if kind is int or kind is str:
            return kind(value)
        if kind is tuple or kind is list:
            return kind(_elements(value, like or ()))
        if kind is type(None):
            return _literal(value)
        raise ValueError("a setting of another type")
    except (KeyError, ValueError, SyntaxError, TypeError) as error:
        optionally = " or none" if optional else ""
        raise ValueError(
            f"{option}={paths.shown(value)} is of another type; expected "
            f"{expected}{optionally}."
        ) from error


def _elements(value: str, like: Sequence[object]) -> list[object]:
    items = ast.literal_eval(value.strip())
    if not isinstance(items, tuple | list):
        raise ValueError("not a sequence")
    kinds = {type(item) for item in like}
    if kinds == {float}:
        items = [float(item) if type(item) is int else item for item in items]
    if len(kinds) == 1 and {type(item) for item in items} - kinds:
        raise ValueError("elements of another type")
    return list(items)


def _literal(value: str) -> object:
    """Read a value of which no type is known: Python's, or else text."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def group(option: str, value: str) -> Record:
    """Read all of a group, written as a dictionary of Python.

    Raises:
        ValueError: It is none, or its names are no texts.
    """
    try:
        found = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError) as error:
        raise ValueError(
            f"{option}={paths.shown(value)} is no literal; expected a group such as "
            "{'momentum': 0.9}."
        ) from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError(
            f"{option}={paths.shown(value)} is no group; expected one such as "
            "{'momentum': 0.9}."
        )
    return found
