"""Thresholds of maps, chosen on images that are not evaluated.

Peers choose the threshold on the images that they then evaluate, which bounds from
above what can be had; that is what happens here without a validation part, and the
result says so.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from unlir_jax.core import choices
from unlir_jax.types import Array

Overlaps = Float[Array, "pictures thresholds"]
OtherOverlaps = Float[Array, "others other_thresholds"]

ChosenOn = Literal["other_half", "evaluated"]


class AtChosen(NamedTuple):
    """Hold each image's value, and where the map was cut.

    Attributes:
        values: `[images]`, NaN where the curve is.
        thresholds: Indices along the curve: one for each overlap and half.
    """

    values: np.ndarray
    thresholds: tuple[tuple[int, ...], ...]

    def places(self, count: int, overlap: int = 0) -> np.ndarray:
        """Give the index at which each of `count` images is cut, for one overlap."""
        own = self.thresholds[overlap]
        return np.asarray(own)[np.arange(count) % len(own)]


class BoxAccuracy(NamedTuple):
    """Hold a box accuracy and how it came about.

    Attributes:
        accuracy: Mean over overlaps, in [0, 1].
        of_overlap: For each overlap, the share of images that reach it.
        threshold: For each overlap, where the map was cut, in [0, 1).
        chosen_on: "validation", or "evaluated" if the images chose for themselves.
        left_out: Number of images without boxes.
    """

    accuracy: float
    of_overlap: tuple[float, ...]
    threshold: tuple[float, ...]
    chosen_on: str
    left_out: int


def max_box_accuracy(
    curves: Overlaps,
    validation: OtherOverlaps | None = None,
    *,
    overlaps: Sequence[float | int] = (0.3, 0.5, 0.7),
) -> BoxAccuracy:
    """Choose one threshold for all images, for each overlap that counts as found.

    MaxBoxAccV2 with all contours and the three overlaps; MaxBoxAcc with the largest
    contour and `overlaps=(0.5,)` (Choe et al. 2020, Section 4.1).

    Args:
        curves: What `box_overlaps` gives for the images to evaluate.
        validation: The same for other images, which choose the thresholds; without
            it, the peers' convention. The lowest of equally good thresholds is taken.
        overlaps: Intersections over unions to reach, in (0, 1].

    Raises:
        ValueError: No image with boxes, different numbers of thresholds, or no overlap.
    """
    table, left_out = _with_boxes("curves", curves)
    choosing, _ = (
        (table, 0) if validation is None else _with_boxes("validation", validation)
    )
    if choosing.shape[1] != table.shape[1]:
        raise ValueError(
            f"`validation` has {choosing.shape[1]} thresholds; expected "
            f"{table.shape[1]}, those of `curves`."
        )
    if not len(overlaps):
        raise ValueError("`overlaps` is empty; expected some, such as (0.3, 0.5, 0.7).")
    places = [int(np.argmax((choosing >= each).mean(0))) for each in overlaps]
    found = [
        float((table[:, place] >= each).mean())
        for place, each in zip(places, overlaps, strict=True)
    ]
    return BoxAccuracy(
        float(np.mean(found)),
        tuple(found),
        tuple(place / table.shape[1] for place in places),
        "evaluated" if validation is None else "validation",
        left_out,
    )


def at_chosen(
    curves: Array,
    chosen_on: ChosenOn = "other_half",
    overlaps: Sequence[float | int] | None = None,
) -> AtChosen:
    """Take each image's value at the threshold that is best in the mean of images.

    Args:
        curves: `[images, thresholds]`, more is better; rows of NaN are left out.
        chosen_on: `other_half`: images at even places are cut where those at odd
            places are best, and the other way around, so that no image helps to
            choose its own threshold; `evaluated`: all choose for themselves, the
            peers' convention, which bounds from above what can be had.
        overlaps: Where given, a value is the share of these that the curve reaches,
            with one threshold for each.

    Note:
        The lowest of equally good thresholds is taken. A half without any image to
        choose by takes the other's threshold.

    Raises:
        ValueError: Another number of axes, or an unknown `chosen_on`.
    """
    check_chosen_on(chosen_on)
    table = np.asarray(curves, np.float64)
    if table.ndim != 2 or not table.shape[1]:
        raise ValueError(
            f"`curves` has shape {table.shape}; expected [images, thresholds]."
        )
    known = ~np.isnan(table).any(axis=1)
    wanted = [table] if overlaps is None else [table >= each for each in overlaps]
    found = [_cut(np.asarray(each, float), known, chosen_on) for each in wanted]
    values = np.mean([values for values, _ in found], axis=0)
    return AtChosen(
        np.where(known, values, np.nan), tuple(places for _, places in found)
    )


def _cut(
    table: np.ndarray, known: np.ndarray, chosen_on: str
) -> tuple[np.ndarray, tuple[int, ...]]:
    even = np.arange(len(table)) % 2 == 0
    halves = (even, ~even) if chosen_on == "other_half" else (np.ones_like(even),)
    values, places = np.full(len(table), np.nan), []
    for half in halves:
        choosing = known & (~half if chosen_on == "other_half" else half)
        choosing = choosing if choosing.any() else known
        place = int(np.argmax(table[choosing].mean(0))) if choosing.any() else 0
        values[half] = table[half, place]
        places.append(place)
    return values, tuple(places)


def check_chosen_on(chosen_on: str) -> None:
    """Refuse what `at_chosen` does not know."""
    choices.check("chosen_on", chosen_on, ChosenOn)


def _with_boxes(name: str, curves: Array) -> tuple[np.ndarray, int]:
    table = np.asarray(curves)
    kept = ~np.isnan(table).any(axis=1)
    if not kept.any():
        raise ValueError(f"`{name}` has no image with boxes; expected some.")
    return table[kept], int((~kept).sum())
