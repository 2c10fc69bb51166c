"""Settings of single methods, as `METHOD.SETTING=VALUE` on a command line."""

import ast
import inspect
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from unlir_jax import saliency
from unlir_jax.core import choices, passes
from unlir_jax.core.document_types import Record
from unlir_jax.storage import paths

WORDS = {"true": True, "false": False, "none": None}
LARGEST = 2**31 - 1
"""What an int32 counts, as the programs do."""
_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a name",
}

Options = Mapping[str, Mapping[str, Any]]
"""Settings by method and name."""


def parse(texts: Sequence[str]) -> dict[str, Record]:
    """Read what stands behind `--set`.

    Args:
        texts: Assignments such as "opti_cam.steps=50". A value is a literal of Python,
            true, false or none; anything else is a text.

    Returns:
        Values by method and setting.

    Raises:
        ValueError: A text is none, or a setting is given twice.

    Example:
        >>> from unlir_jax.explanation import method_options
        >>> method_options.parse(["rise.masks=200", "lime.baseline=blur"])
        {'rise': {'masks': 200}, 'lime': {'baseline': 'blur'}}
    """
    found: dict[str, Record] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        method, dot, setting = place.strip().partition(".")
        if not (equals and dot and method and setting and value.strip()):
            raise ValueError(
                f"`set`={paths.shown(text)} sets nothing; expected "
                "METHOD.SETTING=VALUE, such as opti_cam.steps=50."
            )
        method = saliency.SYNONYMS.get(method, method)
        own = found.setdefault(method, {})
        if setting in own:
            raise ValueError(
                f"`set`={paths.shown(text)} gives {method}.{setting} again; expected "
                "one value."
            )
        own[setting] = _literal(value.strip())
    return found


def _literal(text: str) -> Any:
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    # What is no literal, or a hostile one, is a text.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def named(options: Options) -> dict[str, Mapping[str, Any]]:
    """Call methods as this library does."""
    return {saliency.SYNONYMS.get(name, name): own for name, own in options.items()}


def check_methods(options: Options, methods: Sequence[str]) -> None:
    """Refuse settings of what is unknown, or not among the methods of a report.

    Raises:
        ValueError: There is such a setting.
    """
    for method in options:
        if method in methods:
            continue
        wrong = f"`set` has {', '.join(_places(method, options[method]))}"
        choices.pick(
            method,
            saliency.METHODS,
            f"{wrong}, but {method!r} is not an explainer",
        )
        raise ValueError(
            f"{wrong}, but the methods are {', '.join(methods)}; expected a setting of "
            f"one of them, or {method} among them."
        )


def _places(method: str, own: Mapping[str, Any]) -> list[str]:
    return [f"{method}.{setting}" for setting in own]


def checked(method: str, given: Mapping[str, Any]) -> Record:
    """Check settings of a method against the types of its factory.

    Args:
        method: Name in `saliency.METHODS`; the settings of anything else are refused.
        given: Values by name; a number of passes has several, see `core.passes`, and
            `score` was `target` in version 0.1.

    Returns:
        Values by the names that the factory has, a whole number as a float and a list
        as a tuple where that is the type.

    Raises:
        ValueError: The method has no such setting, or the value is of another type.
    """
    known = _settings(method)
    if "score" in known and "target" not in known:
        given = {("score" if n == "target" else n): given[n] for n in given}
    found = {}
    for setting, value in passes.renamed(known, given, f"{method}.").items():
        if setting not in known:
            near = choices.meant(setting, known)
            usual = ", ".join(f"{n}={p.default!r}" for n, p in known.items())
            raise ValueError(
                f"`set` has {method}.{setting}, which is no setting of {method}; "
                f"{near}its settings: {usual or 'none'}."
            )
        kind = _kind(saliency.METHODS[method], known[setting])
        fits, made = _converted(value, kind)
        if not fits:
            raise ValueError(
                f"`set` has {method}.{setting}={value!r}; expected {_said(kind)}, "
                f"such as the default, {known[setting].default!r}."
            )
        found[setting] = made
    return found


def _settings(method: str) -> dict[str, inspect.Parameter]:
    if method not in saliency.METHODS:
        return {}
    _, *own = inspect.signature(saliency.METHODS[method]).parameters.values()
    return {setting.name: setting for setting in own}


def _kind(factory: Any, setting: inspect.Parameter) -> Any:
    """Give the type of a setting: the annotated one, else that of its default."""
    try:
        # Of a factory in a module whose annotations are texts.
        annotated = typing.get_type_hints(factory).get(setting.name)
    except (NameError, TypeError):
        annotated = None
    if annotated is not None:
        return annotated
    return Any if setting.default is None else type(setting.default)


def _converted(value: Any, kind: Any) -> tuple[bool, Any]:
    """Tell whether a value is of a type, and give it as one."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return True, value
    if origin is Literal:
        # A choice may be called "none", as the word for no value is.
        value = "none" if value is None and "none" in inner else value
        return any(value == each and type(value) is type(each) for each in inner), value
    if origin in (Union, types.UnionType):
        tried = (_converted(value, each) for each in inner)
        return next((found for found in tried if found[0]), (False, value))
    if kind in (None, types.NoneType):
        return value is None, value
    if kind is int:
        return type(value) is int and abs(value) <= LARGEST, value
    if kind is float:
        number = type(value) in (int, float) and abs(value) <= LARGEST
        return number and math.isfinite(value), float(value) if number else value
    if tuple in (kind, origin):
        return _converted_sequence(value, inner)
    if origin is Sequence:
        return _converted_sequence(value, (*inner, ...))
    # A text names a score, and functions have no literal.
    return isinstance(kind, type) and type(value) is kind, value


def _converted_sequence(value: Any, inner: tuple[Any, ...]) -> tuple[bool, Any]:
    if type(value) not in (list, tuple):
        return False, value
    kinds = inner[:1] * len(value) if inner[-1:] == (...,) else inner
    kinds = kinds or (Any,) * len(value)
    pairs = [_converted(each, kind) for each, kind in zip(value, kinds, strict=False)]
    fits = len(kinds) == len(value) and all(fits for fits, _ in pairs)
    return fits, tuple(made for _, made in pairs)


def _said(kind: Any) -> str:
    """Say which values a type has."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if origin in (Union, types.UnionType):
        said = dict.fromkeys(_said(each) for each in inner)
        return " or ".join(text for text in said if text)
    if kind in (None, types.NoneType):
        return "none"
    if tuple in (kind, origin) or origin is Sequence:
        several = origin is Sequence or inner[-1:] == (...,) or not inner
        return "a list of numbers" if several else f"{len(inner)} numbers in a list"
    return _NAMES.get(kind, "")
