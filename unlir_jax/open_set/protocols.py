"""Splits that the field compares on, by the numbers of the classes.

Classes have the numbers of the original data sets, from 0; TinyImageNet counts its
sorted folders.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from unlir_jax.core import choices
from unlir_jax.open_set import semantic_shift
from unlir_jax.open_set.classes import LEAST_KNOWN, Division
from unlir_jax.storage import paths

_CIFAR_KNOWN = (
    (4, 7, 9, 1),
    (6, 7, 1, 9),
    (9, 6, 1, 7),
    (6, 4, 9, 1),
    (1, 0, 9, 8),
)
_PLUS_10 = (
    "30 25 1 9 8 0 46 52 49 71",
    "41 9 49 40 73 60 48 30 95 71",
    "8 9 49 40 73 60 48 95 30 71",
    "95 60 30 73 46 49 68 99 8 71",
    "33 2 3 97 46 21 64 63 88 43",
)
_PLUS_50 = (
    "27 94 29 77 88 26 69 48 75 5 59 93 39 57 45 40 78 20 98 47 66 70 91 76 41 83 99 "
    "32 53 72 2 95 21 73 84 68 35 11 55 60 30 25 1 9 8 0 46 52 49 71",
    "65 97 86 24 45 67 2 3 91 98 79 29 62 82 33 76 0 35 5 16 54 11 99 52 85 1 25 66 "
    "28 84 23 56 75 46 21 72 55 68 8 69 41 9 49 40 73 60 48 30 95 71",
    "20 83 65 97 94 2 93 16 67 29 62 33 24 98 5 86 35 54 0 91 52 66 85 84 56 11 1 76 "
    "25 55 21 99 72 41 23 75 28 68 69 46 8 9 49 40 73 60 48 95 30 71",
    "92 82 77 64 5 33 62 56 70 0 20 28 67 14 84 53 91 29 85 2 52 83 75 35 11 21 72 98 "
    "55 1 41 76 25 66 69 9 48 54 40 23 95 60 30 73 46 49 68 99 8 71",
    "47 6 19 0 62 93 59 65 54 70 34 55 23 38 72 76 53 31 78 96 77 27 92 18 82 50 98 "
    "32 1 75 83 4 51 35 80 11 74 66 36 42 33 2 3 97 46 21 64 63 88 43",
)
_TINY = (
    "108 147 17 58 193 123 72 144 75 167 134 14 81 171 44 197 152 66 1 133",
    "198 161 91 59 57 134 61 184 90 35 29 23 199 38 133 19 186 18 85 67",
    "177 0 119 26 78 80 191 46 134 92 31 152 27 60 114 50 51 133 162 93",
    "98 36 158 177 189 157 170 191 82 196 138 166 43 13 152 11 75 174 193 190",
    "95 6 145 153 0 143 31 23 189 81 20 21 89 26 36 170 102 177 108 169",
)

CUB = 200
"""Number of species of CUB-200-2011."""


class Protocol(NamedTuple):
    """Describe splits.

    Attributes:
        classes: Number of classes of the data.
        known: Known classes of each split.
        added: Unknown classes of each split, of another set; () where the unknown ones
            are all others of the data.
        others: Number of classes of that set.
        hard: Hard unknown classes of each split; () where the field names none.
        numbered: Whether classes are known by a number before their name, from 1 on:
            their order without it is another one.
    """

    classes: int
    known: Sequence[Sequence[int]]
    added: Sequence[Sequence[int]] = ()
    others: int = 0
    hard: Sequence[Sequence[int]] = ()
    numbered: bool = False


def _numbers(lines: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, line.split())) for line in lines)


def _shifted(classes: int, easy: str, hard: str) -> Protocol:
    """Describe the one split of a data set of the Semantic Shift Benchmark."""
    unknown = _numbers((easy, hard))
    known = np.setdiff1d(np.arange(classes), np.concatenate(unknown))
    # Species of CUB are called 001.Black_footed_Albatross and so on.
    numbered = classes == CUB
    return Protocol(
        classes, (tuple(known.tolist()),), hard=unknown[1:], numbered=numbered
    )


PROTOCOLS: Mapping[str, Protocol] = {
    "mnist": Protocol(
        10,
        (
            (2, 4, 5, 9, 8, 3),
            (3, 2, 6, 9, 4, 0),
            (5, 8, 3, 2, 4, 6),
            (3, 7, 8, 4, 0, 5),
            (6, 3, 4, 9, 8, 2),
        ),
    ),
    "svhn": Protocol(
        10,
        (
            (5, 3, 7, 2, 8, 6),
            (3, 8, 7, 6, 2, 5),
            (8, 9, 4, 7, 2, 1),
            (3, 8, 2, 5, 0, 6),
            (4, 9, 2, 7, 1, 0),
        ),
    ),
    "cifar10": Protocol(
        10,
        (
            (0, 6, 4, 9, 1, 7),
            (7, 6, 4, 9, 0, 1),
            (1, 5, 7, 3, 9, 4),
            (8, 6, 1, 9, 0, 7),
            (2, 4, 1, 7, 9, 6),
        ),
    ),
    "cifar10+10": Protocol(10, _CIFAR_KNOWN, _numbers(_PLUS_10), 100),
    "cifar10+50": Protocol(10, _CIFAR_KNOWN, _numbers(_PLUS_50), 100),
    "tinyimagenet": Protocol(200, _numbers(_TINY)),
    **{name: _shifted(*given) for name, given in semantic_shift.PROTOCOLS.items()},
}
"""By name; each has five splits (Neal et al., ECCV 2018, as Vaze et al. use them), and
those of the Semantic Shift Benchmark have one (Vaze et al., ICLR 2022)."""


def find(name: str) -> Protocol:
    """Find a protocol.

    Raises:
        ValueError: There is no such one.
    """
    choices.pick(name, PROTOCOLS, f"`protocol`={name!r} is unknown")
    return PROTOCOLS[name]


def of_data(name: str, names: Sequence[str], splits: int) -> list[Division]:
    """Give a protocol's splits of some data, or of what they have of its classes.

    Where classes are known by a number before their name, as the species of CUB, the
    data may have fewer: each keeps the side and the hardness that it has among all.

    Args:
        name: One of `PROTOCOLS`.
        names: Names of the classes of the data.
        splits: See `divisions`.

    Raises:
        ValueError: As `divisions`; a name has no number, or none is known or unknown.
    """
    own = find(name)
    if not own.numbered:
        return divisions(name, len(names), splits)
    numbers = [_number(name, each, own.classes) for each in names]
    if len(set(numbers)) < len(numbers):
        raise ValueError(
            f"`protocol`={name!r}: {len(numbers)} classes have "
            f"{len(set(numbers))} numbers; expected another for each."
        )
    (whole,) = divisions(name, own.classes, splits)
    places = {number: label for label, number in enumerate(numbers)}

    def there(labels: np.ndarray | None) -> np.ndarray:
        found = [] if labels is None else labels.tolist()
        return np.asarray(sorted(places[n] for n in found if n in places), int)

    known, unknown, hard = map(there, whole)
    if len(known) < LEAST_KNOWN or not len(unknown):
        raise ValueError(
            f"`protocol`={name!r}: of {len(names)} classes of the data {len(known)} "
            f"are known and {len(unknown)} unknown; expected {LEAST_KNOWN} or more "
            "known, and 1 or more unknown."
        )
    return [Division(known, unknown, hard)]


def notice(name: str, classes: int) -> str:
    """Say that the data have a part of a protocol's classes; "" if they have all.

    The name "" stands for no protocol.
    """
    own = find(name) if name else None
    if own is None or classes == own.classes:
        return ""
    return (
        f"The data have {classes} of the {own.classes} classes of {name!r}: figures "
        "are not the protocol's."
    )


def _number(protocol: str, name: str, classes: int) -> int:
    """Read the number of a class from 0 on, by what stands before its name."""
    found = re.match(r"(\d{1,4})(?=\D)", name)
    number = int(found[1]) - 1 if found else -1
    if not 0 <= number < classes:
        raise ValueError(
            f"`protocol`={protocol!r} goes by the numbers of classes, but the data "
            f"have {paths.shown(name)}; expected names such as "
            f"001.Black_footed_Albatross, with 1 to {classes}."
        )
    return number


def divisions(name: str, classes: int, splits: int) -> list[Division]:
    """Give the known and unknown classes of a protocol's splits.

    Args:
        name: One of `PROTOCOLS`.
        classes: Number of classes of the data.
        splits: The first so many splits; a protocol with one has that.

    Raises:
        ValueError: There is no such protocol, the data has another number of classes,
            or there are fewer splits.
    """
    own = find(name)
    if classes != own.classes:
        raise ValueError(
            f"`protocol`={name!r} is of {own.classes} classes, but the data has "
            f"{classes}; expected the data set of the protocol."
        )
    splits = 1 if len(own.known) == 1 else splits
    if splits > len(own.known):
        raise ValueError(
            f"`splits`={splits}, but `protocol`={name!r} has {len(own.known)}; "
            "expected at most as many."
        )
    every = np.arange(classes)
    found = [np.sort(np.asarray(known)) for known in own.known[:splits]]
    empty = np.empty(0, int)
    hard = [np.sort(np.asarray(each)) for each in own.hard] or [None] * splits
    return [
        Division(known, empty if own.added else np.setdiff1d(every, known), harder)
        for known, harder in zip(found, hard, strict=True)
    ]
