"""Regions that all images share, and how maps describe them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from unlir_jax import detection
from unlir_jax.core.document_types import Document
from unlir_jax.types import Array

SIDE = 1000
"""Height and width of the frame in which regions are places."""
FACTOR = 1.8
"""Brings descriptions to the order of 1, for rates of learning."""

Describe = Callable[[Float[Array, "rows columns dimensions"]], jax.Array]


class Regions(NamedTuple):
    """Hold the regions of an image that is stretched to a square.

    Attributes:
        windows: `[regions, 4]` in a frame of `SIDE` by `SIDE`.
        overlaps: Overlap of all pairs, `[regions, regions]`.
        describe: `maps -> [regions, filters]`, of one image; linear in the maps.
        stand_out: The same with the exponent of attention.
    """

    windows: np.ndarray
    overlaps: np.ndarray
    describe: Describe
    stand_out: Describe


def make(settings: Document) -> Regions:
    """Lay windows over the square, see the group `windows` of the settings.

    Raises:
        ValueError: A setting out of its range.
    """
    context = settings["context"]
    if not context >= 1:
        raise ValueError(f"`windows.context`={context}; expected 1 or more.")
    windows = detection.dense_windows(
        (SIDE, SIDE),
        scales=tuple(settings["scales"]),
        ratios=tuple(settings["ratios"]),
        step=settings["step"],
    )
    overlaps = np.asarray(detection.overlaps(windows, windows))
    describe, stand_out = (
        _describer(windows, context, exponent)
        for exponent in (settings["exponent"], settings["attention"])
    )
    return Regions(windows, overlaps, describe, stand_out)


def _describer(windows: np.ndarray, context: float, exponent: float) -> Describe:
    """Describe a region by how it differs from its surroundings.

    The difference of means times a power of the area is largest for the box that holds
    all of an object and nothing else. A part of the object has it around, and a larger
    box thins it out. With the exponent 0.5 it is a t-statistic. Larger ones prefer
    larger boxes.
    """
    sides = windows[:, 2:] - windows[:, :2]
    margin = (context - 1) / 2 * sides
    grown = np.concatenate([windows[:, :2] - margin, windows[:, 2:] + margin], axis=1)
    grown = np.clip(grown, 0, SIDE).astype(np.float32)
    area = np.prod(sides, axis=1)[:, None]
    whole = np.prod(grown[:, 2:] - grown[:, :2], axis=1)[:, None]
    ring = np.maximum(whole - area, 0)
    divisor = np.where(ring > 0, ring, 1)
    weight = FACTOR * (area / SIDE**2) ** exponent

    def shares(rows: int, columns: int) -> np.ndarray:
        """Say how much each cell counts in each description."""
        cells = np.eye(rows * columns, dtype=np.float32).reshape(rows, columns, -1)

        def mean(boxes: np.ndarray) -> np.ndarray:
            found = detection.region_features(cells, boxes, (SIDE, SIDE))
            return np.asarray(found).reshape(len(boxes), -1)

        with jax.ensure_compile_time_eval():
            inside = mean(windows)
            # Without surroundings it is compared with the mean of all cells, 0.
            around = (mean(grown) * whole - inside * area) / divisor
        return weight * (inside - np.where(ring > 0, around, 0))

    def describe(maps: Array) -> jax.Array:
        rows, columns, dimensions = maps.shape
        table = jnp.asarray(shares(rows, columns), maps.dtype)
        return table @ maps.reshape(rows * columns, dimensions)

    return describe
