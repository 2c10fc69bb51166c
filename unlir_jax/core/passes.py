"""Numbers of passes: the settings that hold them, and what a method takes in all.

`steps` is a name of every such setting, and so is each of `SPELLINGS`. A factory keeps
the name that its paper has, and that is the one written down.
"""

import ast
import functools
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

SPELLINGS = ("steps", "samples", "masks", "regions", "stages")
"""Names of a setting that is a number of passes."""

_DEFAULT = re.compile(r"(`\w+`) \([\d,]+\)")
_TERM = re.compile(
    r"(?:(?P<first>\d+) \+ )?(?P<times>.+?) (?:× \(forward \+ backward\)"
    r"|(?P<each>a \w+))"
)
_UNITS = {
    "forward": "forwards",
    "forwards": "forwards",
    "head": "heads",
    "explanation": "explanations",
    "explanations": "explanations",
}


class Passes(NamedTuple):
    """Hold what a map or a value takes, for one image.

    Attributes:
        forwards: Passes from the image to the logits.
        backwards: Passes back to the image, each after a forward pass that counts too.
        heads: Passes from the cut to the logits.
        explanations: Maps of the method that is measured.
    """

    forwards: int = 0
    backwards: int = 0
    heads: int = 0
    explanations: int = 0


def setting(known: Collection[str]) -> str:
    """Name the one of a factory's settings that is its number of passes, or give ""."""
    return next((name for name in SPELLINGS if name in known), "")


def aliases(known: Collection[str]) -> tuple[str, ...]:
    """List the other names of the setting that is a factory's number of passes."""
    return tuple(s for s in SPELLINGS if s not in known) if setting(known) else ()


def renamed(
    known: Collection[str], given: Mapping[str, Any], where: str = ""
) -> dict[str, Any]:
    """Call the number of passes as a factory does, whatever it was called.

    Args:
        known: Names of the settings that the factory has.
        given: Settings by name.
        where: Place of the settings, for the sentence of the error: "rise.".

    Raises:
        ValueError: The number stands there twice, under two names.

    Example:
        >>> from unlir_jax.core import passes
        >>> passes.renamed(["masks", "cells"], {"steps": 100})
        {'masks': 100}
    """
    own, others = setting(known), aliases(known)
    used = [name for name in given if name == own or name in others]
    if len(used) > 1:
        first, second = (f"`{where}{name}`" for name in used[:2])
        raise ValueError(
            f"{first} and {second} are two names of one setting, the number of passes; "
            f"expected `{where}{own}` alone."
        )
    return {(own if name in others else name): given[name] for name in given}


def takes_steps[**P, R](factory: Callable[P, R]) -> Callable[P, R]:
    """Let a factory take its number of passes under any of `SPELLINGS`.

    Raises:
        ValueError: When called with two of them.
    """
    known = inspect.signature(factory).parameters
    if not setting(known):
        return factory

    @functools.wraps(factory)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        given: Any = renamed(known, kwargs)
        return factory(*args, **given)  # pyright: ignore[reportCallIssue]

    return called


def count(
    text: str, settings: Mapping[str, Any], sizes: Mapping[str, int]
) -> Passes | None:
    """Count the passes that a spec states in words.

    Args:
        text: Words of a spec, such as "1 + `steps` (100) × (forward + backward)": terms
            joined by ", " or " and ".
        settings: Settings of the method, of which tuples count by their length.
        sizes: Number of what a network or an image has several of: `filter`, `window`.

    Returns:
        The passes for one image, or None where the words are others than these.

    Example:
        >>> from unlir_jax.core import passes
        >>> passes.count("1 + `steps` × (forward + backward)", {"steps": 5}, {})
        Passes(forwards=6, backwards=5, heads=0, explanations=0)
    """
    total = Passes()
    for term in re.split(r", | and ", _DEFAULT.sub(r"\1", text)):
        found = _term(term, settings, sizes)
        if found is None:
            return None
        total = Passes(*(a + b for a, b in zip(total, found, strict=True)))
    return total


def _term(
    term: str, settings: Mapping[str, Any], sizes: Mapping[str, int]
) -> Passes | None:
    if term == "0":
        return Passes()
    if term == "1 forward + backward":
        return Passes(1, 1)
    number, _, unit = term.rpartition(" ")
    if unit in _UNITS:
        value = _value(number, settings)
        return None if value is None else Passes(**{_UNITS[unit]: value})
    found = _TERM.fullmatch(term)
    if not found:
        return None
    times, unit = found["times"], "forwards"
    if times.endswith((" head", " heads")):
        times, unit = times.rpartition(" ")[0], "heads"
    value, first = _value(times, settings), int(found["first"] or 0)
    if value is None:
        return None
    if not found["each"]:
        return Passes(first + value, value)
    many = sizes.get(found["each"].removeprefix("a "))
    return (
        None
        if many is None
        else Passes(first)._replace(
            **{unit: (first if unit == "forwards" else 0) + value * many}
        )
    )


def _value(text: str, settings: Mapping[str, Any]) -> int | None:
    """Compute a sum or product of numbers and settings."""

    def number(found: re.Match[str]) -> str:
        value = settings.get(found[1])
        return str(len(value) if isinstance(value, tuple | list) else value)

    plain = re.sub(r"`(\w+)`", number, text).replace("×", "*")
    try:
        return _computed(ast.parse(plain, mode="eval").body)
    except (SyntaxError, ValueError):
        return None


def _computed(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
        left, right = _computed(node.left), _computed(node.right)
        return left + right if isinstance(node.op, ast.Add) else left * right
    raise ValueError(f"{ast.dump(node)} is neither a number nor a sum or product.")
