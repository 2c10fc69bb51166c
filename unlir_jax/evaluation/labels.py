"""Which class of a network each picture of a data set is of."""

import re
from collections.abc import Sequence

import numpy as np

from unlir_jax.data import classes
from unlir_jax.data.source import Source

NUMBERED = re.compile(r"(\d+)[_.\- ]")


def of_source(
    source: Source, names: Sequence[str], count: int
) -> tuple[np.ndarray, str]:
    """Find the network's class of every example.

    In this order: classes with the network's own names; classes that are numbers, the
    network's indices; names by which `find_class` knows the network's; as many classes
    as the network has, in order; and without classes, pictures whose names begin with
    the index of their class, as in `281_cat.jpg`.

    Args:
        source: The examples.
        names: Of the network's classes; may be empty.
        count: Number of the network's classes.

    Returns:
        int32 `[size]`, -1 for all where nothing is known, and how they were found.

    Raises:
        ValueError: Classes that the network does not have.
    """
    if source.labels is None or not source.classes:
        return _by_file_name(source, count)
    labels = np.asarray(source.labels, np.int32)
    if tuple(names) == source.classes:
        return labels, "names of classes"
    if all(name.isdecimal() for name in source.classes):
        found = np.asarray([int(name) for name in source.classes])
        _check(found, source.classes, count)
        return _mapped(labels, found), "numbers of classes"
    matched = _by_name(source.classes, names)
    if matched is not None:
        return _mapped(labels, matched), "names of classes"
    if len(source.classes) == count:
        return labels, "order of classes"
    shown = ", ".join(source.classes[:3])
    raise ValueError(
        f"The data has {len(source.classes)} classes ({shown}, …), and the network "
        f"{count}; expected its own classes by name, index or order, or "
        "--config.labels=predicted."
    )


def _by_name(wanted: Sequence[str], names: Sequence[str]) -> np.ndarray | None:
    """Find all classes by what a person calls them; None where one is not found."""
    found = []
    for name in wanted:
        try:
            found.append(classes.find_class(name, names))
        except ValueError:
            return None
    return np.asarray(found) if len(set(found)) == len(found) else None


def _mapped(labels: np.ndarray, found: np.ndarray) -> np.ndarray:
    known = np.where(labels < 0, 0, labels)
    return np.where(labels < 0, -1, found[known]).astype(np.int32)


def _check(found: np.ndarray, shown: Sequence[str], count: int) -> None:
    beyond = np.flatnonzero(found >= count)
    if len(beyond):
        raise ValueError(
            f"The data has the class {shown[beyond[0]]!r}, but the network has {count} "
            f"classes; expected 0 to {count - 1}."
        )


def _by_file_name(source: Source, count: int) -> tuple[np.ndarray, str]:
    names = [source.name(index).rsplit("/", 1)[-1] for index in range(source.size)]
    matches = [NUMBERED.match(name) for name in names]
    if not all(matches):
        return np.full(source.size, -1, np.int32), "none"
    found = np.asarray([int(match[1]) for match in matches if match])
    _check(found, names, count)
    return found.astype(np.int32), "numbers in file names"
