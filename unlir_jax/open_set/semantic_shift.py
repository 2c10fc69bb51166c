"""Splits of the Semantic Shift Benchmark: of the field, and files in its format.

Vaze, Han, Vedaldi and Zisserman, *Open-Set Recognition: A Good Closed-Set Classifier is
All You Need*, ICLR 2022. Its last form counts medium classes as hard.
"""

import collections
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unlir_jax.open_set.classes import Division, checked
from unlir_jax.storage import documents, paths

SUFFIX = ".json"
KNOWN, UNKNOWN = "known_classes", "unknown_classes"
EASY = "easy"
LEVELS = (EASY, "medium", "hard")
FORM = (
    f"a JSON object with {KNOWN!r}, a list, and {UNKNOWN!r}, a list or an object of "
    "lists by Easy, Medium and Hard"
)

_CUB_EASY = (
    "1 4 6 14 16 20 33 35 41 46 47 52 54 57 68 75 86 100 105 108 109 113 138 139 148 "
    "159 165 173 180 182 187 188"
)
_CUB_HARD = (
    "2 3 8 10 13 21 22 24 25 29 32 36 37 45 49 58 59 60 62 63 65 66 71 73 78 83 85 90 "
    "92 96 101 102 103 104 107 110 112 114 115 117 118 120 122 125 127 128 130 132 "
    "140 142 145 151 152 153 155 156 160 164 169 170 175 181 183 185 191 192 194 195"
)
_AIRCRAFT_EASY = "34 35 40 42 62 72 74 75 80 81 83 84 89 90 91 93 94 96 97 98"
_AIRCRAFT_HARD = (
    "6 7 8 9 12 13 15 18 20 25 26 31 32 49 50 51 54 55 59 60 61 68 69 70 78 82 85 86 "
    "87 88"
)
_CARS_EASY = (
    "4 5 6 12 13 14 15 18 19 24 30 31 32 33 34 35 36 37 39 40 43 47 48 49 51 52 56 57 "
    "58 59 60 61 62 63 64 65 66 67 68 69 70 71 72 73 74 76 77 78 79 80 85 86 87 88 89 "
    "90 91 92 101 106 107 108 109 110 111 114 115 116 118 119 120 121 124 130 131 132"
)
_CARS_HARD = "3 8 10 17 21 23 27 29 42 45 55 83 94 96 99 103 113 126 128 179 183 190"

PROTOCOLS: Mapping[str, tuple[int, str, str]] = {
    "ssb_cub": (200, _CUB_EASY, _CUB_HARD),
    "ssb_aircraft": (100, _AIRCRAFT_EASY, _AIRCRAFT_HARD),
    "ssb_cars": (196, _CARS_EASY, _CARS_HARD),
}
"""Number of classes, easy and hard unknown ones; all others are known."""


def is_published(path: str) -> bool:
    """Tell a file in the published format, or a pickle of it, by its name."""
    return path.lower().endswith((SUFFIX, ".pkl", ".pickle"))


def read(path: str | os.PathLike[str], classes: Sequence[str]) -> Division:
    """Read known and unknown classes from a file in the published format, as JSON.

    `known_classes` is a list, without which all others are known. `unknown_classes` is
    a list, or has a list by `Easy`, `Medium` and `Hard`, of which the last two are the
    hard ones. A class is its label from 0, or its name. Other entries are not read.

    Args:
        path: The file; a pickle is never read, as that may run code.
        classes: Names of all classes by label.

    Raises:
        ValueError: No such file, a file of another kind, a class that the data does not
            have, that stands there twice or is known and unknown, or too few.
    """
    shown = repr(str(path))
    _check_kind(path, shown)
    document = documents.read_object(path, FORM)
    if UNKNOWN not in document:
        raise ValueError(f"{shown} has no {UNKNOWN!r}; expected {FORM}.")
    unknown = document[UNKNOWN]
    by_level = unknown if isinstance(unknown, dict) else {"": unknown}
    levels: dict[str, list[int]] = {}
    for level, found in by_level.items():
        if isinstance(unknown, dict) and level.lower() not in LEVELS:
            raise ValueError(
                f"{shown} has unknown classes {paths.shown(level)}; expected {FORM}."
            )
        levels.setdefault(level.lower(), []).extend(_labels(shown, found, classes))
    every = [label for each in levels.values() for label in each]
    if KNOWN in document:
        known = _labels(shown, document[KNOWN], classes)
    else:
        known = np.setdiff1d(np.arange(len(classes)), every).tolist()
    for labels in (every, known):
        counted = collections.Counter(labels)
        twice = [label for label, count in counted.items() if count > 1]
        if twice:
            raise ValueError(
                f"{shown} names class {paths.shown(classes[twice[0]])} more than once; "
                "expected each class once."
            )
    harder = [
        label for n, each in levels.items() if n not in ("", EASY) for label in each
    ]
    known, every, harder = (np.sort(np.asarray(n, int)) for n in (known, every, harder))
    by_hardness = isinstance(unknown, dict)
    division = Division(known, every, harder if by_hardness else None)
    return checked(division, classes, path)


def _check_kind(path: str | os.PathLike[str], shown: str) -> None:
    """Refuse what is not there, and pickles."""
    try:
        with Path(path).open("rb") as file:
            first = file.read(1)
    except OSError as error:
        raise ValueError(
            f"{paths.shown(str(path))} cannot be read ({error.strerror}); expected "
            f"{FORM}."
        ) from error
    if first == b"\x80":
        raise ValueError(
            f"{shown} is a pickle, which may run code when it is read; expected JSON, "
            "made from a pickle that you trust as docs/guides/open_set.md says."
        )


def _labels(shown: str, found: object, classes: Sequence[str]) -> list[int]:
    """Read a list of labels from 0 or of names."""
    if not isinstance(found, list):
        raise ValueError(f"{shown} has {found!r:.40} for classes; expected {FORM}.")
    places = {name: label for label, name in enumerate(classes)}
    labels = []
    for each in found:
        label = places.get(each) if isinstance(each, str) else each
        if type(label) is not int or not 0 <= label < len(classes):
            told = paths.shown(each) if isinstance(each, str) else f"{each!r:.40}"
            raise ValueError(
                f"{shown} has the class {told}, which is none of the data's "
                f"{len(classes)}; expected labels from 0 to {len(classes) - 1}, or "
                "names."
            )
        labels.append(label)
    return labels
