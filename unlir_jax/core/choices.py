"""A name out of those that there are, or a sentence with the one that was meant."""

import difflib
from collections.abc import Iterable
from typing import Any, get_args


def pick(
    value: str, known: Iterable[str], wrong: str, expected: str = "known: {}"
) -> str:
    """Give back a name that is known.

    Args:
        value: The name.
        known: All there are, in the order in which they are listed.
        wrong: The beginning of the sentence that refuses it, such as "`kind`='foldr' is
            not a kind of data".
        expected: The end of it; `{}` stands for all there are.

    Raises:
        ValueError: It is none of them.

    Example:
        >>> from unlir_jax.core import choices
        >>> choices.pick("cat", ["cat", "dog"], "`pet`='cat' is no pet")
        'cat'
    """
    names = list(known)
    if value in names:
        return value
    listed = expected.replace("{}", ", ".join(names))
    raise ValueError(f"{wrong}; {meant(value, names)}{listed}.")


def meant(value: str, known: Iterable[str], count: int = 1) -> str:
    """Ask for the nearest names, with a space behind; "" if none is near."""
    names = near(value, known, count)
    return f"did you mean {', '.join(map(repr, names))}? " if names else ""


def near(value: str, known: Iterable[str], count: int = 1) -> list[str]:
    """Give the names that are spelt alike, the nearest first."""
    return difflib.get_close_matches(value, list(known), count)


def check(setting: str, value: Any, known: Any) -> None:
    """Refuse a value of a setting that its type does not list.

    Args:
        setting: Name of the setting.
        value: Its value.
        known: Its type, a `Literal` of all values.

    Raises:
        ValueError: It is none of them.

    Example:
        >>> from typing import Literal
        >>> from unlir_jax.core import choices
        >>> choices.check("pet", "cat", Literal["cat", "dog"])
    """
    values = get_args(known)
    if value not in values:
        likely = meant(str(value), map(str, values))
        raise ValueError(
            f"`{setting}`={value!r} is unknown; {likely}expected one of {values}."
        )
