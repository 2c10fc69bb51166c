"""Labels of a data set's images among a network's classes."""

import re
from collections.abc import Sequence

import numpy as np

from unlir_jax.data import classes
from unlir_jax.data import source as sources
from unlir_jax.data.source import Source

NUMBERED = re.compile(r"(\d+)[_.\- ](.*)")
WORD = re.compile(r"[^\W\d_]{2,}")
FILES, NOTHING = "numbers in file names", "none"
SETTING = ", or --config.labels=predicted"


def of_source(
    source: Source, names: Sequence[str], count: int, *, numbered: bool = False
) -> tuple[np.ndarray, str]:
    """Find the network's class of every example.

    Classes are found by name, as `data.classes.match` says. Images without classes
    may have names that begin with the index of their class, as in `281_tabby.jpg`. That
    it is no counter shows where numbers come twice, or where the words behind them are
    most often words of that class's name.

    Args:
        source: The examples.
        names: Names of the network's classes; may be empty.
        count: Number of the network's classes.
        numbered: Whether numbers of file names are classes whatever follows them.

    Returns:
        int32 `[size]`, -1 for all where nothing is known, and how they were found.

    Raises:
        ValueError: Classes that the network does not have, or numbers in file names of
            which nothing says that they are classes.
    """
    if not source.classes or numbered:
        return _by_file_name(source, names, count, numbered)
    found = np.asarray(sources.labelled(source).labels, np.int32)
    matched = classes.match(source.classes, names, count=count, otherwise=SETTING)
    known = np.where(found < 0, 0, found)
    return np.where(found < 0, -1, matched.places[known]), matched.how


def explained(
    which: str, source: Source, names: Sequence[str], count: int
) -> tuple[np.ndarray, str]:
    """Give the class that the setting `labels` explains, -1 for the predicted one.

    Args:
        which: The setting.
        source: The examples.
        names: Names of the network's classes.
        count: Number of the network's classes.

    Returns:
        See `of_source`.

    Raises:
        ValueError: An image has no class.
    """
    if which == "predicted":
        return np.full(source.size, -1, np.int32), "prediction"
    found, how = of_source(source, names, count, numbered=which == "numbers")
    _check(found)
    return found, how


def check_some(which: str, source: Source) -> None:
    """Refuse data without any class, where one is wanted, before a network is loaded.

    Raises:
        ValueError: Neither folders, tables nor names of files say one.
    """
    files = (source.name(index) for index in range(source.size))
    numbered = any(NUMBERED.match(file.rsplit("/", 1)[-1]) for file in files)
    if which == "true" and not (source.classes or numbered):
        _check(np.full(source.size, -1))


def _check(found: np.ndarray) -> None:
    if (found < 0).any():
        raise ValueError(
            f"{int((found < 0).sum())} of {found.size} images have no class; expected "
            "class folders, a table index.csv, file names such as 281_tabby.jpg"
            f"{SETTING}."
        )


def said(how: str) -> str:
    """Say how classes were found where that is no proof; "" for names and numbers."""
    if how == classes.ORDER:
        return (
            "The network has no names of classes: those of the data were taken for its "
            "own in their order."
        )
    if how == FILES:
        return "The classes are the numbers that the names of the images begin with."
    return ""


def _by_file_name(
    source: Source, names: Sequence[str], count: int, numbered: bool
) -> tuple[np.ndarray, str]:
    files = [source.name(index).rsplit("/", 1)[-1] for index in range(source.size)]
    matches = [match for match in map(NUMBERED.match, files) if match]
    if len(matches) < len(files) or not files:
        if numbered:
            shown = next((f for f in files if not NUMBERED.match(f)), "nothing")
            raise ValueError(
                f"The image {shown!r} has no number in front; expected all to have "
                "one for `labels`='numbers', as in 281_tabby.jpg."
            )
        return np.full(source.size, -1, np.int32), NOTHING
    found = np.asarray([int(match[1]) for match in matches])
    beyond = np.flatnonzero(found >= count)
    if len(beyond):
        raise ValueError(
            f"The image {files[beyond[0]]!r} begins with a number, but the network "
            f"has {count} classes; expected 0 to {count - 1}{SETTING}."
        )
    # A counter gives no number twice.
    sure = numbered or len(set(found.tolist())) < len(found)
    if not sure and not _told_by_words(found, [str(m[2]) for m in matches], names):
        raise ValueError(
            f"The images have numbers in front, such as {files[0]!r}, which may be "
            "classes or a counter; expected --config.labels=numbers or "
            "--config.labels=predicted to say which."
        )
    return found.astype(np.int32), FILES


def _told_by_words(
    found: np.ndarray, texts: Sequence[str], names: Sequence[str]
) -> bool:
    """Tell whether most images are called as the class of their number is."""
    if not names:
        return False
    right = [
        bool(_words(text.rpartition(".")[0]) & _words(names[place]))
        for place, text in zip(map(int, found), texts, strict=True)
    ]
    return 2 * sum(right) > len(right)


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.casefold()))
