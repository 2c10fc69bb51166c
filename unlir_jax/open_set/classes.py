"""Known and unknown classes: drawn, or named in a file."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unlir_jax.core import choices
from unlir_jax.data import class_lists
from unlir_jax.open_set.scores.neighbours import unit
from unlir_jax.storage import paths

LEAST_KNOWN = 2


class Division(NamedTuple):
    """Hold which classes are known, as labels in rising order.

    Attributes:
        known: `[classes]`.
        unknown: Unknown ones of the data; none where sets of others stand for them.
        hard: Hard ones among the unknown; None where nobody says which are.
    """

    known: np.ndarray
    unknown: np.ndarray
    hard: np.ndarray | None = None


def draw(count: int, share: float, seed: int, number: int) -> Division:
    """Draw the known classes of a split.

    Args:
        count: Number of all classes.
        share: Share of them that is known, in (0, 1).
        seed: Seed of all splits.
        number: Number of the split.

    Raises:
        ValueError: Fewer than two classes would be known, or none unknown.
    """
    known = round(share * count)
    if not (0 < share < 1) or known < LEAST_KNOWN or known >= count:
        raise ValueError(
            f"`known`={share:g} of {count} classes leaves {known} known and "
            f"{count - known} unknown; expected 2 or more known, and 1 or more unknown."
        )
    order = np.random.default_rng([seed, number]).permutation(count)
    return Division(np.sort(order[:known]), np.sort(order[known:]))


def named(
    path: str | os.PathLike[str],
    classes: Sequence[str],
    known: str | os.PathLike[str] = "",
) -> Division:
    """Read the names of unknown classes, one a line.

    Empty lines and lines that begin with `#` are left out.

    Args:
        path: The file.
        classes: Names of all classes by label.
        known: A file with the names of known classes; "": all others are known.

    Raises:
        ValueError: No such file, a name that is no class, that stands there twice or is
            known and unknown, no name, or fewer than two known classes.
    """
    unknown = _labels(path, classes)
    others = np.setdiff1d(np.arange(len(classes)), unknown)
    division = Division(_labels(known, classes) if known else others, unknown)
    return checked(division, classes, path)


def _labels(path: str | os.PathLike[str], classes: Sequence[str]) -> np.ndarray:
    """Read the labels of classes that a file names, in rising order."""
    names = class_lists.read(path)
    strange = [name for name in names if name not in classes]
    if strange:
        raise ValueError(
            f"{str(path)!r} names {paths.shown(strange[0])}, which is no class of "
            f"the data; {choices.meant(strange[0], classes)}expected names of "
            f"its {len(classes)} classes, one a line."
        )
    class_lists.check_once(names, path)
    places = {name: label for label, name in enumerate(classes)}
    return np.sort(np.asarray([places[name] for name in names], int))


def checked(
    division: Division, classes: Sequence[str], path: str | os.PathLike[str]
) -> Division:
    """Give a division back if its sides are apart and large enough.

    Args:
        division: Known and unknown classes.
        classes: Names of all classes by label.
        path: The file that says so, for messages.

    Raises:
        ValueError: A class is on both sides, fewer than two are known or none unknown.
    """
    both = np.intersect1d(division.known, division.unknown)
    if len(both):
        raise ValueError(
            f"By {str(path)!r} class {paths.shown(classes[int(both[0])])} and "
            f"{len(both) - 1} others are known and unknown; expected classes that are "
            "one or the other."
        )
    if len(division.known) < LEAST_KNOWN or not len(division.unknown):
        raise ValueError(
            f"By {str(path)!r} {len(division.known)} of {len(classes)} classes are "
            f"known and {len(division.unknown)} unknown; expected 2 or more known, and "
            "1 or more unknown."
        )
    return division


def hard(features: np.ndarray, labels: np.ndarray, division: Division) -> np.ndarray:
    """List the half of the unknown classes that is most like a known class.

    The likeness of a class is the largest cosine between the mean of its features and
    the mean of a known class, both less the mean of known classes.

    Args:
        features: Features of training images of all classes, `[images, channels]`.
        labels: Their classes.
        division: Known and unknown classes.

    Returns:
        Labels in rising order; of an odd number the larger half.
    """
    every = np.concatenate([division.known, division.unknown])
    means = np.stack([features[labels == label].mean(0) for label in every])
    means = unit(means - means[: len(division.known)].mean(0))
    known, unknown = np.split(means, [len(division.known)])
    likeness = (unknown @ known.T).max(1)
    order = np.argsort(-likeness, kind="stable")[: (len(unknown) + 1) // 2]
    return np.sort(division.unknown[order])
