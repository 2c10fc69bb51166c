"""Names of classes in a file, one a line."""

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np

from unlir_jax.data import classes, preprocessing
from unlir_jax.storage import paths

IMAGENET = "imagenet"
MOST_BYTES = 1 << 22


def read(path: str | os.PathLike[str]) -> list[str]:
    """Read the lines of a file that name classes.

    Empty lines and lines that begin with `#` are left out.

    Args:
        path: The file, UTF-8.

    Raises:
        ValueError: It cannot be read, is larger than 4 MiB or no text.
    """
    shown = repr(str(path))
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(
            f"{paths.shown(str(path))} cannot be read ({error.strerror}); expected a "
            "file with the name of a class on each line."
        ) from error
    if len(text) > MOST_BYTES:
        raise ValueError(
            f"{shown} has more than {MOST_BYTES:,} bytes; expected the name of a class "
            "on each line."
        )
    try:
        lines = text.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{shown} is no UTF-8 text; expected the name of a class on each line."
        ) from error
    stripped = (line.strip() for line in lines)
    return [line for line in stripped if line and not line.startswith("#")]


def check_once(names: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Raise ValueError if a file names a class more than once."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"{str(path)!r} names {paths.shown(twice[0])} more than once; "
            "expected each class once."
        )


def every(name: str | os.PathLike[str]) -> tuple[str, ...]:
    """Give all classes that data may have, in the usual order.

    Args:
        name: "imagenet" for its 1,000 classes, or a file, see `read`.

    Raises:
        ValueError: It cannot be read, names no class or one twice.
    """
    if name == IMAGENET:
        return preprocessing.imagenet_classes()
    names = read(name)
    if not names:
        raise ValueError(
            f"`classes`={str(name)!r} names no class; expected the name of "
            f"a class on each line, or {IMAGENET!r}."
        )
    check_once(names, name)
    return classes.in_order(names)


def places(
    found: Sequence[str],
    names: Sequence[str],
    where: str,
    given: str | os.PathLike[str],
) -> np.ndarray:
    """Find the classes of data among all: int32 `[classes of the data]`.

    Args:
        found: Names of the data's classes.
        names: See `every`.
        where: The data, for messages.
        given: What `every` was asked for.

    Raises:
        ValueError: The data has no classes, or one that is not among them.
    """
    if not found:
        raise ValueError(
            f"`classes`={str(given)!r} is for images with classes, but "
            f"{where} has none; expected no `classes`."
        )
    listed = f"`classes`={str(given)!r}"
    return classes.match(
        found, names, data=where[:1].upper() + where[1:], network=listed
    ).places
