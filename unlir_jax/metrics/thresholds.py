"""Where to cut a map, chosen on pictures that are not evaluated.

Peers choose the threshold on the pictures that they then evaluate, which bounds from
above what can be had; that is what happens here without a validation part, and the
result says so.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from unlir_jax.types import Array

Overlaps = Float[Array, "pictures thresholds"]
OtherOverlaps = Float[Array, "others other_thresholds"]


class BoxAccuracy(NamedTuple):
    """Hold a box accuracy and how it came about.

    Attributes:
        accuracy: Mean over overlaps, in [0, 1].
        of_overlap: For each overlap, the share of pictures that reach it.
        threshold: For each overlap, where the map was cut, in [0, 1).
        chosen_on: "validation", or "evaluated" if the pictures chose for themselves.
        left_out: Number of pictures without boxes.
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
    """Choose one threshold for all pictures, for each overlap that counts as found.

    MaxBoxAccV2 with all contours and the three overlaps; MaxBoxAcc with the largest
    contour and `overlaps=(0.5,)` (Choe et al. 2020, Section 4.1).

    Args:
        curves: What `box_overlaps` gives for the pictures to evaluate.
        validation: The same for other pictures, which choose the thresholds; without
            it, the peers' convention. The lowest of equally good thresholds is taken.
        overlaps: Intersections over unions to reach, in (0, 1].

    Raises:
        ValueError: No picture with boxes, different numbers of thresholds, or no
            overlap.
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


def _with_boxes(name: str, curves: Array) -> tuple[np.ndarray, int]:
    table = np.asarray(curves)
    kept = ~np.isnan(table).any(axis=1)
    if not kept.any():
        raise ValueError(f"`{name}` has no picture with boxes; expected some.")
    return table[kept], int((~kept).sum())
