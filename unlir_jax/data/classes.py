"""Find a class by what a person calls it."""

import difflib
import re
from collections.abc import Sequence


def find_class(label: str, names: Sequence[str]) -> int:
    """Find a class by index, name, or an unambiguous beginning or word of its name.

    Upper and lower case, and spaces, dashes, dots and underscores, are equal.

    Raises:
        ValueError: No class, or several; the message lists the nearest.
    """
    if re.fullmatch(r"[+-]?\d+", label.strip()):
        index = int(label)
        if not 0 <= index < len(names):
            raise ValueError(
                f"`label`={index} is not a class; expected 0 to {len(names) - 1}."
            )
        return index
    folded = [_fold(name) for name in names]
    wanted = _fold(label)
    matches = [index for index, name in enumerate(folded) if name == wanted]
    if not matches and wanted:
        # With beginnings alone, `cat` would be a catamaran and no cat ambiguous.
        matches = [
            index
            for index, name in enumerate(folded)
            if name.startswith(wanted) or f" {wanted} " in f" {name} "
        ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        shown = ", ".join(f"{names[i]} ({i})" for i in matches[:8])
        more = f" and {len(matches) - 8} more" if len(matches) > 8 else ""
        raise ValueError(
            f"`label`={label!r} could be {shown}{more}; expected one class."
        )
    near = [i for i, name in enumerate(folded) if wanted and wanted in name][:5]
    close = difflib.get_close_matches(wanted, folded, n=5, cutoff=0.5)
    near = list(dict.fromkeys(near + [folded.index(name) for name in close]))[:5]
    hint = ", ".join(f"{names[i]} ({i})" for i in near) or f"{names[0]} (0)"
    raise ValueError(
        f"`label`={label!r} is not a class; expected an index from 0 to "
        f"{len(names) - 1} or a name, such as {hint}."
    )


def _fold(name: str) -> str:
    return re.sub(r"[\s_.-]+", " ", name).strip().casefold()
