"""Metrics whose threshold is chosen for all images at once, and not for one.

Each gives a curve over thresholds for every image; `thresholds.at_chosen` makes one
value of it. Choe et al., *Evaluating weakly supervised object localization methods
right*, CVPR 2020, Sections 3 and 4.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from unlir_jax import split
from unlir_jax.core import choices
from unlir_jax.metrics.localization import box_overlap, boxes
from unlir_jax.metrics.localization.pixels import (
    REGION,
    LocalizationMetric,
    Scaling,
    pixel_average_precision,
)
from unlir_jax.metrics.localization.thresholds import ChosenOn, check_chosen_on
from unlir_jax.metrics.spec import NOTHING, metric
from unlir_jax.types import SplitModel

OPTIMAL = REGION._replace(
    score="at the threshold that is best in the mean of {chosen_on} images",
    ties="values equal to a threshold are taken",
    flat_map="zeros: all at threshold 0, nothing above",
)


BEST = metric(
    title="IoU at the best threshold",
    better="higher",
    needs="masks",
    family="localization",
    meaning="How well do map and object overlap, at one threshold for all images?",
    contract=OPTIMAL,
    fooled_by="a blob in the middle",
    passes="0",
    source="Choe et al., CVPR 2020",
    quick={"thresholds": 20},
    curves=("max_iou_curve",),
    at_threshold=True,
)


@BEST
def max_iou(
    model: SplitModel,
    *,
    thresholds: int = 100,
    scaling: Scaling = "range",
    chosen_on: ChosenOn = "other_half",
) -> LocalizationMetric:
    """Divide what the map and the object share by what either has, at every threshold.

    Args:
        model: The cut network.
        thresholds: Number of them, at 0, 1 / thresholds, ..., and 1; the map is where
            it is at least as high.
        scaling: As in `pixels.energy_pointing_game`.
        chosen_on: Which images choose the threshold, see `thresholds.at_chosen`.

    Returns:
        A metric `(variables, images, labels, saliency, regions, *, key)` with
        `max_iou_curve`, `[batch, thresholds + 1]`, NaN for an image without an object.
        Void pixels are left out, see `pixels`.
    """

    def divide(inside: jax.Array, outside: jax.Array, area: jax.Array) -> jax.Array:
        return inside / jnp.maximum(area + outside, 1)

    check_chosen_on(chosen_on)
    return _of_counts(model, "max_iou", thresholds, scaling, divide)


@BEST._replace(
    title="F1 at the best threshold",
    meaning="How precise and complete is the map, at one threshold for all images?",
    curves=("max_f1_curve",),
)
def max_f1(
    model: SplitModel,
    *,
    thresholds: int = 100,
    scaling: Scaling = "range",
    chosen_on: ChosenOn = "other_half",
) -> LocalizationMetric:
    """Combine precision and recall of the map's pixels, at every threshold.

    `2 P R / (P + R)` of pixels that are on or off; `pixels.f1` needs no threshold. As
    `max_iou` in all else.
    """

    def combine(inside: jax.Array, outside: jax.Array, area: jax.Array) -> jax.Array:
        return 2 * inside / jnp.maximum(inside + outside + area, 1)

    check_chosen_on(chosen_on)
    return _of_counts(model, "max_f1", thresholds, scaling, combine)


@BEST._replace(
    title="MaxBoxAccV2",
    needs="boxes",
    meaning=(
        "Do boxes around the map overlap the object's, at one threshold for all images?"
    ),
    contract=OPTIMAL._replace(
        ties="values equal to the threshold are outside",
        flat_map="no box: 0",
        void=NOTHING,
    ),
    curves=("max_box_accuracy_v2_curve",),
)
def max_box_accuracy_v2(
    model: SplitModel,
    *,
    thresholds: int = 100,
    overlaps: Sequence[float | int] = box_overlap.OVERLAPS,
    contours: box_overlap.Contours = "all",
    convention: box_overlap.Convention = "pixels",
    scaling: Scaling = "range",
    chosen_on: ChosenOn = "other_half",
) -> LocalizationMetric:
    """Measure the best overlap of predicted and true boxes at every threshold.

    An image's value is the share of `overlaps` that it reaches, each at the threshold
    at which most images reach it; their mean is MaxBoxAccV2.

    Args:
        model: The cut network.
        thresholds: Number of thresholds; the authors' 1000 take ten times as long.
        overlaps: What counts as found.
        contours: See `box_overlap.box_accuracy`.
        convention: See `box_overlap.box_overlaps`.
        scaling: See there.
        chosen_on: Which images choose the thresholds, see `thresholds.at_chosen`.

    Returns:
        A metric `(variables, images, labels, saliency, boxes, *, key)` with
        `max_box_accuracy_v2_curve`, `[batch, thresholds]`.
    """
    check_chosen_on(chosen_on)
    box_overlap.check_overlaps(overlaps)
    overlap = box_overlap.box_overlaps(
        model,
        thresholds=thresholds,
        contours=contours,
        convention=convention,
        scaling=scaling,
    )

    def score(*arguments: Any, **named: Any) -> dict[str, jax.Array]:
        found = overlap(*arguments, **named)
        return {"max_box_accuracy_v2_curve": found["box_overlaps"]}

    return score


def _of_counts(
    model: SplitModel,
    name: str,
    thresholds: int,
    scaling: Scaling,
    measure: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
) -> LocalizationMetric:
    """Measure by the numbers of pixels that reach each threshold."""
    choices.check("scaling", scaling, Scaling)
    counting = pixel_average_precision(model, thresholds=thresholds, scaling=scaling)

    @split.guarded(model)
    def score(*arguments: Any, **named: Any) -> dict[str, jax.Array]:
        found = counting(*arguments, **named)
        inside, outside = (
            found[f"pixels_{where}"].astype(jnp.float32)
            for where in ("inside", "outside")
        )
        region, _ = boxes.told(jnp.asarray(arguments[4]))
        area = jnp.sum(region, axis=(1, 2), dtype=jnp.float32)[:, None]
        curve = measure(inside, outside, area)
        return {f"{name}_curve": jnp.where(area > 0, curve, jnp.nan)}

    return score
