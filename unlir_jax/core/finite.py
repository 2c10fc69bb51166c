"""Numbers that were measured: finite, or whoever measured them fails."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from unlir_jax.core.document_types import Document

MOST_NAMED = 5


def check(
    values: Document,
    where: str,
    examples: Sequence[str] = (),
    advice: str = "",
) -> None:
    """Refuse measured numbers that are none.

    Args:
        values: By name; lists and mappings are looked into, what is no number is left
            alone.
        where: What they were measured on or by, as in "the test split".
        examples: Names of those that have to do with it.
        advice: What may help, the end of the sentence.

    Raises:
        FloatingPointError: Names each value that is not finite, and where it is from.

    Example:
        >>> from unlir_jax.core import finite
        >>> finite.check({"test/loss": 0.5, "name": "a"}, "the test split")
    """
    broken = [name for name, value in values.items() if not is_finite(value)]
    if not broken:
        return
    more = f" and {len(broken) - 8} more" if len(broken) > 8 else ""
    word = "is not a finite number" if len(broken) == 1 else "are not finite numbers"
    raise FloatingPointError(
        f"{', '.join(broken[:8])}{more} of {where} {word}{named(examples)}"
        f"{'; ' if advice else ''}{advice}."
    )


def check_rows(
    values: object, what: str, names: Sequence[str], counted: np.ndarray | None = None
) -> None:
    """Refuse what was measured of each example where it is not finite.

    Args:
        values: `[examples, …]`.
        what: What they are, as in "the logits of resnet50": several where the second
            word ends in s.
        names: Names of the examples.
        counted: Which of them count; all by default.

    Raises:
        FloatingPointError: Names what it is, and the examples.
    """
    found = np.asarray(values)
    broken = ~np.isfinite(found).reshape(len(found), -1).all(1)
    if counted is not None:
        broken &= counted
    if not broken.any():
        return
    which = [*dict.fromkeys(names[row] for row in np.flatnonzero(broken).tolist())]
    verb = "are" if what.split()[1].endswith("s") else "is"
    raise FloatingPointError(
        f"{what[0].upper()}{what[1:]} {verb} not finite{named(which)}; expected "
        "numbers: look at the weights, or leave these images out."
    )


def named(examples: Sequence[str]) -> str:
    """Name some examples, as a part of a sentence; "" where there are none."""
    if not examples:
        return ""
    more = len(examples) - MOST_NAMED
    rest = f" and {more} more" if more > 0 else ""
    return f", on {', '.join(map(repr, examples[:MOST_NAMED]))}{rest}"


def is_finite(value: object) -> bool:
    """Tell whether a value has no number in it that is not finite."""
    if isinstance(value, Mapping):
        return all(map(is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
