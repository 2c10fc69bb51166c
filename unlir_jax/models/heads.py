"""Carry a classifier from one list of classes to another, class by class."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from unlir_jax.data import classes
from unlir_jax.types import Array, PyTree

HEAD = "params/classifier/"
OWN, PARTS = ("kernel", "bias", "gates"), "parts/kernel"
MOST_SHOWN = 8


class Carried(NamedTuple):
    """Hold a classifier that is numbered as other classes are.

    Attributes:
        leaves: Its arrays by path; new classes keep the numbers that they had.
        taken: Names of the classes that it knows, in the new order.
        new: Names of those that it does not.
        by_order: Whether no names were known, and the order was taken instead.
    """

    leaves: dict[str, np.ndarray]
    taken: list[str]
    new: list[str]
    by_order: bool

    def sentence(self, source: str) -> str:
        """Say which classes were taken over."""
        if self.by_order:
            return (
                f"{source} does not name its {len(self.taken)} classes: they are taken "
                "for those of the data in their order."
            )
        if not self.taken:
            return f"{source} knows none of the classes: the classifier is new."
        known = f"the classifier of {source} is taken over by name"
        if not self.new:
            return f"{known}: {_listed(self.taken)}."
        return (
            f"{known} for {len(self.taken)} classes, {_listed(self.taken)}; new are "
            f"{_listed(self.new)}."
        )


def carry(
    theirs: Mapping[str, Array],
    fresh: Mapping[str, Array],
    their_names: Sequence[str],
    names: Sequence[str],
    *,
    blocks: bool = False,
) -> Carried:
    """Number the classes of a classifier as others are.

    Args:
        theirs: Its arrays by path; only those with a class for each of `their_names` on
            their `class_axes` are looked at.
        fresh: Arrays of a new one for `names`, by the same paths.
        their_names: What it calls its classes; what `classes.placeholders` makes are no
            names.
        names: What they are to be.
        blocks: Whether each class has parts of its own, which move with it.

    Raises:
        ValueError: Arrays that differ in more than the number of classes.
    """
    by_order = tuple(their_names) == classes.placeholders(len(their_names))
    if not by_order:
        places = classes.known_places(names, their_names)
    elif len(their_names) == len(names):
        places = np.arange(len(names))
    else:
        places = np.full(len(names), -1)
    leaves = {}
    for path, leaf in fresh.items():
        axes = class_axes(path, np.ndim(leaf), blocks)
        expected = _shape(np.shape(leaf), axes, len(names), len(their_names))
        if np.shape(theirs[path]) != expected:
            raise ValueError(
                f"`theirs`[{path!r}] has shape {np.shape(theirs[path])}; expected "
                f"{expected} for {len(their_names)} classes."
            )
        leaves[path] = _moved(np.asarray(theirs[path]), np.asarray(leaf), axes, places)
    taken = [name for name, place in zip(names, places, strict=True) if place >= 0]
    new = [name for name, place in zip(names, places, strict=True) if place < 0]
    return Carried(leaves, taken, new, by_order and not new)


def class_axes(path: str, axes: int, blocks: bool) -> tuple[int, ...]:
    """List the axes of an array, by its path, on which its classes lie.

    The last one of a classifier's own numbers; with blocks, its parts' axes as well,
    so many for each class.
    """
    name = path.removeprefix(HEAD)
    if name == path or axes < 1:
        return ()
    if name in OWN:
        return (0, axes - 1) if blocks and axes > 1 else (axes - 1,)
    return (axes - 1,) if blocks and name == PARTS else ()


def shapes(
    leaves: Mapping[str, PyTree], classes: int, others: int, *, blocks: bool = False
) -> dict[str, tuple[int, ...]]:
    """Give the shapes that arrays would have with another number of classes.

    Args:
        leaves: Anything with a shape, by path.
        classes: The number that they have.
        others: The number that they would have.
        blocks: See `carry`.
    """
    return {
        path: _shape(
            tuple(leaf.shape),
            class_axes(path, len(leaf.shape), blocks),
            classes,
            others,
        )
        for path, leaf in leaves.items()
    }


def is_same(their_names: Sequence[str], names: Sequence[str]) -> bool:
    """Tell whether classes are the same ones in the same order."""
    places = classes.known_places(names, their_names)
    return len(their_names) == len(names) and bool(
        (places == np.arange(len(names))).all()
    )


def _shape(
    shape: tuple[int, ...], axes: Sequence[int], classes: int, others: int
) -> tuple[int, ...]:
    return tuple(
        side // classes * others if axis in axes else side
        for axis, side in enumerate(shape)
    )


def _moved(
    theirs: np.ndarray, fresh: np.ndarray, axes: Sequence[int], places: np.ndarray
) -> np.ndarray:
    known = np.flatnonzero(places >= 0)
    target, source = [], []
    for axis, side in enumerate(fresh.shape):
        block = side // len(places) if axis in axes else 1
        here, there = (known, places[known]) if axis in axes else (np.arange(side),) * 2
        within = np.arange(block)
        target.append((here[:, None] * block + within).ravel())
        source.append((there[:, None] * block + within).ravel())
    moved = fresh.copy()
    moved[np.ix_(*target)] = theirs[np.ix_(*source)]
    return moved


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:MOST_SHOWN]))
    more = len(names) - MOST_SHOWN
    return shown + (f" and {more} more" if more > 0 else "")
