"""A class is its name: how the classes of data become a network's.

`match` is the one place that decides it, and everything that maps classes asks it.
"""

import difflib
import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlir_jax.core import choices
from unlir_jax.data import preprocessing
from unlir_jax.data.source import Source, relabelled

NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?")
WORDNET = re.compile(r"(n[0-9]{8})(?:[\s_.\-].*)?", re.IGNORECASE)
SEPARATORS = r"[\s_.:/\\-]+"
NAMES, NUMBERS, ORDER = "names of classes", "numbers of classes", "order of classes"
SPELLING, SYNSETS = "names in another spelling", "WordNet ids of classes"
MOST_SHOWN = 5


class Match(NamedTuple):
    """Say which class of a network each class of data is.

    Attributes:
        places: int32 `[classes of the data]`, indices of the network's classes.
        how: By what they were found, such as `"names of classes"`.
    """

    places: np.ndarray
    how: str


def match(
    wanted: Sequence[str],
    names: Sequence[str],
    *,
    count: int | None = None,
    data: str = "The data",
    network: str = "the network",
    otherwise: str = "",
) -> Match:
    """Find each class of data among a network's classes, by name.

    Each by itself, in this order: the very name; the same number, as `10.0` is `10`;
    the name without case, then without separators; the WordNet id of ImageNet, which
    may begin a name (`n02085620-Chihuahua`) and stands for ImageNet's own name. If all
    are numbers and none of the network's names is one, they are indices. If the
    network has no names at all, as many classes are taken in their order. Nothing is
    ever found by a part of a name.

    Args:
        wanted: Names of the data's classes.
        names: Class names of the network; names by `placeholders` count as none.
        count: Number of the network's classes, where it has no names.
        data: What the classes are of, for messages.
        network: Whose classes they are to be, for messages.
        otherwise: What else may be done, for messages: `", or --x"`.

    Raises:
        ValueError: A class that the network does not have, one that could be several,
            or two that would be one; the sentence has the names.
    """
    count = len(names) if count is None else count
    names = names or placeholders(count)
    places, hows, several = _look_up(wanted, names)
    if (places < 0).any() and not several:
        others = _without_names(wanted, names, places, data, network)
        places, hows = (places, hows) if others is None else others
    _check_found(wanted, names, places, several, data, network, otherwise)
    _check_apart(wanted, names, places, data, network)
    return Match(places, " and ".join(dict.fromkeys(hows)))


def known_places(wanted: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Find each class as `match` does: int32 `[wanted]`, -1 if it is not there.

    What could be several classes, or would be one with another, is not there either.
    """
    places, _, _ = _look_up(wanted, names)
    if (places < 0).all() and not _any_number(names):
        indices = [_as_index(name, len(names)) for name in wanted]
        places = np.asarray([-1 if i is None else i for i in indices], np.int32)
    found, counts = np.unique(places, return_counts=True)
    return np.where(np.isin(places, found[counts > 1]), -1, places).astype(np.int32)


def find_class(label: str, names: Sequence[str]) -> int:
    """Find the class that a person names.

    As `match` does for one class: the very name first. Then an index, unless all names
    are numbers; then an unambiguous beginning or word of a name.

    Raises:
        ValueError: No class, or several; the message lists the nearest.
    """
    places, _, several = _look_up([label], names)
    if not several and places[0] < 0 and label.strip() != label:
        places, _, several = _look_up([label.strip()], names)
    if places[0] >= 0:
        return int(places[0])
    matches = several.get(label, several.get(label.strip(), []))
    if not matches and number(label) is not None and not _all_numbers(names):
        index = _as_index(label, len(names))
        if index is None:
            raise ValueError(
                f"`label`={label} is not a class; expected 0 to {len(names) - 1}."
            )
        return index
    folded = [_fold(name) or name for name in names]
    wanted = _fold(label) or ""
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


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort names of classes alike for every layout of data.

    Numbers by value; all of ImageNet's, by its indices; others by their letters.
    """
    found = sorted(set(names))
    if found and _all_numbers(found):
        return tuple(sorted(found, key=lambda name: (number(name), name)))
    known = preprocessing.imagenet_classes()
    return known if found == sorted(known) else tuple(found)


def ordered(source: Source) -> Source:
    """Number the classes of a source as `in_order` sorts them.

    Raises:
        ValueError: Two classes have one name.
    """
    names = in_order(source.classes)
    if len(names) != len(source.classes):
        twice = next(name for name in names if source.classes.count(name) > 1)
        raise ValueError(
            f"The data has two classes {twice!r}; expected names that differ."
        )
    if names == source.classes:
        return source
    place = {name: index for index, name in enumerate(names)}
    places = np.asarray([place[name] for name in source.classes], np.int32)
    return relabelled(source, places, names)


def number(name: str) -> Fraction | None:
    """Read a name that is a number, such as `7`, `007` or `10.0`; None for others."""
    text = name.strip()
    return Fraction(text.rstrip(".")) if NUMBER.fullmatch(text) else None


def plain_number(name: str) -> str:
    """Write a whole number without the `.0` that tables put behind it."""
    return re.sub(r"^([+-]?[0-9]+)\.0*$", r"\1", name)


def placeholders(count: int) -> tuple[str, ...]:
    """Name the classes of a network of which no names are known."""
    return tuple(f"class {index}" for index in range(count))


@functools.cache
def wordnet_ids() -> tuple[str, ...]:
    """List the WordNet ids of ImageNet's 1,000 classes in the order of the indices.

    They come from timm 1.0.31 (`timm/data/_info/imagenet_synsets.txt`), equal to
    the list of tensorflow-datasets 4.9.10 (`datasets/imagenet2012/labels.txt`).
    """
    file = Path(__file__).with_name("imagenet_wordnet_ids.txt")
    return tuple(file.read_text("utf-8").split())


def _all_numbers(names: Iterable[str]) -> bool:
    return all(number(name) is not None for name in names)


def _any_number(names: Iterable[str]) -> bool:
    return any(number(name) is not None for name in names)


def _as_index(name: str, count: int) -> int | None:
    """Read a name as the index of one of so many classes; None if it is none."""
    value = number(name)
    if value is None or value.denominator != 1 or not 0 <= value < count:
        return None
    return int(value)


def _fold(name: str) -> str | None:
    """Leave out case, and make separators alike; None for numbers."""
    if number(name) is not None:
        return None
    # Some file systems part a letter from its accent.
    text = unicodedata.normalize("NFKC", name).replace("’", "'")
    return re.sub(SEPARATORS, " ", text).strip().casefold() or None


def _join(name: str) -> str | None:
    """Leave out separators too, but for those between digits: 1-2 is not 12."""
    folded = _fold(name)
    return folded and re.sub(r"(?<![0-9]) | (?![0-9])", "", folded.replace("'", ""))


def _synset(name: str) -> str | None:
    """Give the WordNet id that a name is, begins with, or is ImageNet's name of."""
    found = WORDNET.fullmatch(name.strip())
    return found[1].lower() if found else _synsets().get(name)


@functools.cache
def _synsets() -> dict[str, str]:
    names = preprocessing.imagenet_classes()
    return dict(zip(names, wordnet_ids(), strict=True))


KEYS: tuple[tuple[str, Callable[[str], object]], ...] = (
    (NAMES, lambda name: name),
    (SPELLING, number),
    (SPELLING, _fold),
    (SPELLING, _join),
    (SYNSETS, _synset),
)


def _look_up(
    wanted: Sequence[str], names: Sequence[str]
) -> tuple[np.ndarray, list[str], dict[str, list[int]]]:
    """Find names by each of `KEYS` in turn.

    Returns:
        Places, -1 for those not found; how they were; and what could be several.
    """
    places = np.full(len(wanted), -1, np.int32)
    hows, several = [], {}
    left = list(range(len(wanted)))
    for how, key in KEYS:
        if not left:
            break
        table: dict[object, list[int]] = {}
        for index, name in enumerate(names):
            found = key(name)
            if found is not None:
                table.setdefault(found, []).append(index)
        still = []
        for place in left:
            matches = table.get(key(wanted[place]), [])
            if len(matches) == 1:
                places[place] = matches[0]
                hows.append(how)
            elif matches:
                several[wanted[place]] = matches
            else:
                still.append(place)
        left = still
    return places, hows, several


def _without_names(
    wanted: Sequence[str],
    names: Sequence[str],
    places: np.ndarray,
    data: str,
    network: str,
) -> tuple[np.ndarray, list[str]] | None:
    """Take numbers for indices, or the order where there are no names."""
    count = len(names)
    if _all_numbers(wanted) and not _any_number(names):
        found = [_as_index(name, count) for name in wanted]
        if None in found:
            raise ValueError(
                f"{data} has the class {wanted[found.index(None)]!r}, but {network} "
                f"has {count} classes; expected 0 to {count - 1}, or its names."
            )
        return np.asarray(found, np.int32), [NUMBERS]
    nameless = tuple(names) == placeholders(count) and not (places >= 0).any()
    if nameless and len(wanted) == count:
        return np.arange(count, dtype=np.int32), [ORDER]
    return None


def _check_found(
    wanted: Sequence[str],
    names: Sequence[str],
    places: np.ndarray,
    several: dict[str, list[int]],
    data: str,
    network: str,
    otherwise: str,
) -> None:
    for name, matches in several.items():
        shown = " or ".join(f"{names[i]!r} ({i})" for i in matches[:MOST_SHOWN])
        raise ValueError(
            f"{data} has the class {name!r}, which could be {shown} of {network}; "
            f"expected one of its names as it is written{otherwise}."
        )
    strange = [wanted[place] for place in np.flatnonzero(places < 0).tolist()]
    if not strange:
        return
    hints = []
    for name in strange[:MOST_SHOWN]:
        words = f" {_fold(name)} "
        near = [other for other in names if words in f" {_fold(other)} "]
        near = near or choices.near(name, names)
        hints.append(f"{name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    more = len(strange) - len(hints)
    shown = ", ".join(hints) + (f" and {more} more" if more > 0 else "")
    own = ", ".join(map(repr, names[:3])) + (", …" if len(names) > 3 else "")
    raise ValueError(
        f"{data} has {len(wanted)} classes, of which {len(strange)} "
        f"{'is' if len(strange) == 1 else 'are'} not among the {len(names)} of "
        f"{network} ({own}): {shown}; expected its names, ImageNet's WordNet ids or "
        f"indices from 0{otherwise}."
    )


def _check_apart(
    wanted: Sequence[str],
    names: Sequence[str],
    places: np.ndarray,
    data: str,
    network: str,
) -> None:
    taken: dict[int, str] = {}
    for name, place in zip(wanted, places.tolist(), strict=True):
        other = taken.setdefault(place, name)
        if other != name:
            raise ValueError(
                f"{data} has the classes {other!r} and {name!r}, which would both be "
                f"{names[place]!r} of {network}; expected one class for each."
            )
