"""Overlap of the object's boxes with boxes of the map above a threshold.

Choe et al., *Evaluating weakly supervised object localization methods right*, CVPR
2020, and the authors' code.
"""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np

from unlir_jax.core import choices, memoize
from unlir_jax.metrics.localization import boxes as box
from unlir_jax.metrics.localization import components
from unlir_jax.metrics.localization.box_metrics import check_inputs
from unlir_jax.metrics.localization.pixels import LocalizationMetric, Scaling, scaled
from unlir_jax.metrics.spec import MAP, metric
from unlir_jax.types import Saliency, SplitModel

Contours = Literal["all", "largest"]
Convention = Literal["pixels", "opencv"]
OVERLAPS = (0.3, 0.5, 0.7)


@metric(
    title="Box accuracy",
    better="higher",
    needs="boxes",
    family="localization",
    meaning="Do boxes around the map above a fixed threshold overlap the object's?",
    contract=MAP._replace(
        ties="values equal to the threshold are outside", flat_map="no box: 0"
    ),
    fooled_by="a blob in the middle",
    passes="0",
    source="Choe et al., CVPR 2020",
)
def box_accuracy(
    model: SplitModel,
    *,
    threshold: float = 0.2,
    overlaps: Sequence[float | int] = OVERLAPS,
    contours: Contours = "all",
    convention: Convention = "pixels",
    scaling: Scaling = "range",
) -> LocalizationMetric:
    """Tell how well boxes around what lies above a fixed threshold overlap true ones.

    The share of `overlaps` that the best pair of a predicted and a true box reaches.
    Higher is better; a flat map reaches none; an image without boxes is NaN.

    Args:
        model: The cut network.
        threshold: In [0, 1) of the scaled map. Choose it on other images: by
            `box_overlaps` and `max_box_accuracy` of a validation part.
        overlaps: What counts as found, by intersection over union.
        contours: `all` looks at the box of every contour (MaxBoxAccV2), `largest` at
            that of the largest alone (MaxBoxAcc).
        convention: See `box_overlaps`.
        scaling: See `box_overlaps`.

    Returns:
        A metric `(variables, images, labels, saliency, boxes, *, key)` with
        `box_accuracy`, and `box_overlap`, the best intersection over union, each
        `[batch]` in [0, 1].
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"`threshold`={threshold}; expected a value in [0, 1).")
    wanted = check_overlaps(overlaps)
    _check_choices(contours, convention, scaling)

    def score(variables, images, labels, saliency, boxes, *, key=None):
        del key  # Nothing here is random.
        check_inputs(model, variables, images, labels, saliency)
        box.check_boxes(boxes, images)
        settings = np.asarray([threshold]), contours, convention, scaling
        best = _overlaps(saliency, images.shape[1:3], boxes, *settings)[:, 0]
        reached = np.mean(best[:, None] >= np.asarray(wanted)[None], axis=1)
        reached = np.where(np.isnan(best), np.nan, reached)
        return {"box_accuracy": jnp.asarray(reached), "box_overlap": jnp.asarray(best)}

    return score


@memoize.remember
def box_overlaps(
    model: SplitModel,
    *,
    thresholds: int = 1000,
    contours: Contours = "all",
    convention: Convention = "pixels",
    scaling: Scaling = "range",
) -> LocalizationMetric:
    """Measure the best overlap of predicted and true boxes at every threshold.

    What `max_box_accuracy` makes MaxBoxAcc and MaxBoxAccV2 of.

    Args:
        model: The cut network.
        thresholds: Number of them, at 0, 1 / thresholds, ...
        contours: `all` or `largest`; see `box_accuracy`.
        convention: `pixels` takes the map as it is, and boxes as in `boxes`; `opencv`
            does as the code of Choe et al.: 256 levels, thresholds as a share of the
            highest, rounded down, predicted boxes one pixel too long, and the first
            pixel where nothing lies above the threshold.
        scaling: `range` or `max`; `none` for maps that are in [0, 1].

    Returns:
        A metric `(variables, images, labels, saliency, boxes, *, key)` with
        `box_overlaps`, `[batch, thresholds]` in [0, 1], NaN without boxes.
    """
    if thresholds < 1:
        raise ValueError(f"`thresholds`={thresholds}; expected 1 or more.")
    _check_choices(contours, convention, scaling)
    cuts = np.arange(thresholds) / thresholds

    def score(variables, images, labels, saliency, boxes, *, key=None):
        del key  # Nothing here is random.
        check_inputs(model, variables, images, labels, saliency)
        box.check_boxes(boxes, images)
        settings = cuts, contours, convention, scaling
        best = _overlaps(saliency, images.shape[1:3], boxes, *settings)
        return {"box_overlaps": jnp.asarray(best)}

    return score


def _overlaps(
    saliency: Saliency,
    size: tuple[int, ...],
    boxes: box.Boxes,
    cuts: np.ndarray,
    contours: Contours,
    convention: Convention,
    scaling: Scaling,
) -> np.ndarray:
    ready = np.asarray(scaled(saliency, size, scaling))
    best = np.full((len(ready), len(cuts)), np.nan)
    for row, values, true in zip(best, ready, np.asarray(boxes), strict=True):
        true = true[box.exists(true)]
        if not len(true):
            continue
        levels = cuts
        if convention == "opencv":
            values = (values * 255).astype(np.uint8)
            levels = np.floor(cuts * values.max())
        found = components.boxes_of_cuts(values, levels, every=contours == "all")
        if convention == "opencv":
            ends = np.asarray(size[::-1]) - 1
            found = [_too_long(each, ends) for each in found]
        row[:] = [box.overlap(each, true).max(initial=0) for each in found]
    return best


def _too_long(found: np.ndarray, ends: np.ndarray) -> np.ndarray:
    if not len(found):
        return np.zeros((1, 4), int)
    return np.concatenate([found[:, :2], np.minimum(found[:, 2:] + 1, ends)], axis=1)


def check_overlaps(overlaps: Sequence[float | int]) -> tuple[float, ...]:
    """Refuse overlaps that no pair of boxes has."""
    wanted = tuple(float(each) for each in overlaps)
    if not wanted or not all(0 < each <= 1 for each in wanted):
        raise ValueError(f"`overlaps`={wanted}; expected some, each in (0, 1].")
    return wanted


def _check_choices(contours: str, convention: str, scaling: str) -> None:
    for name, value, known in (
        ("contours", contours, Contours),
        ("convention", convention, Convention),
        ("scaling", scaling, Scaling),
    ):
        choices.check(name, value, known)
