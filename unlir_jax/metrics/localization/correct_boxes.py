"""Correct boxes: CorLoc, and top-1 and top-5 localisation.

The box is drawn around the largest part of the map above a threshold, which is one for
all images and chosen on others, see `thresholds.at_chosen`. Deselaers, Alexe and
Ferrari, *Weakly supervised localization and learning with generic knowledge*, IJCV 2012
(CorLoc); Russakovsky et al., *ImageNet large scale visual recognition challenge*, IJCV
2015 (top-5 localisation); Choe et al., CVPR 2020 (maps of the label).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.metrics.localization import box_overlap
from unlir_jax.metrics.localization.optimal_threshold import BEST, OPTIMAL
from unlir_jax.metrics.localization.pixels import LocalizationMetric, Scaling
from unlir_jax.metrics.localization.thresholds import ChosenOn, check_chosen_on
from unlir_jax.metrics.spec import NOTHING
from unlir_jax.types import SplitModel

HALF = (0.5,)

CORRECT = BEST._replace(
    title="CorLoc",
    needs="boxes",
    meaning="Does the box around the map's largest part overlap an object's by half?",
    contract=OPTIMAL._replace(
        ties="values equal to the threshold are outside",
        flat_map="no box: 0",
        void=NOTHING,
    ),
    source="Deselaers et al., IJCV 2012",
    quick={"thresholds": 10},
    curves=("corloc_curve",),
)


@CORRECT
def corloc(
    model: SplitModel,
    *,
    thresholds: int = 100,
    overlaps: tuple[float, ...] = HALF,
    scaling: Scaling = "range",
    chosen_on: ChosenOn = "other_half",
) -> LocalizationMetric:
    """Measure the overlap of one box with the best true one, at every threshold.

    An image is right, 1, where it reaches the overlap; the mean is CorLoc, which is
    also called localisation with known class, and MaxBoxAcc if `chosen_on="evaluated"`.

    Args:
        model: The cut network.
        thresholds: Number of thresholds, at 0, 1 / thresholds, ...
        overlaps: What counts as right, by intersection over union.
        scaling: As in `pixels.energy_pointing_game`.
        chosen_on: Which images choose the threshold, see `thresholds.at_chosen`.

    Returns:
        A metric `(variables, images, labels, saliency, boxes, *, key)` with
        `corloc_curve`, `[batch, thresholds]`, NaN for an image without boxes.
    """
    return _among("corloc", model, None, thresholds, overlaps, scaling, chosen_on)


@CORRECT._replace(
    title="Top-1 localisation",
    meaning="Is the label predicted, and the box right?",
    contract=CORRECT.contract._replace(
        score=f"{OPTIMAL.score}; the label is the likeliest class"
    ),
    passes="1 forward",
    source="Russakovsky et al., IJCV 2015",
    curves=("top1_localization_curve",),
)
def top1_localization(
    model: SplitModel,
    *,
    thresholds: int = 100,
    overlaps: tuple[float, ...] = HALF,
    scaling: Scaling = "range",
    chosen_on: ChosenOn = "other_half",
) -> LocalizationMetric:
    """Measure as `corloc`, with 0 where the label is not the likeliest class.

    Of equally likely classes the first is predicted. With `labels=predicted` every
    label is, and the result that of `corloc`. One pass.

    Returns:
        A metric with `top1_localization_curve`.
    """
    settings = thresholds, overlaps, scaling, chosen_on
    return _among("top1_localization", model, 1, *settings)


@CORRECT._replace(
    title="Top-5 localisation",
    meaning="Is the label among the five likeliest classes, and the box right?",
    contract=CORRECT.contract._replace(
        score=f"{OPTIMAL.score}; the label among the 5 likeliest classes"
    ),
    passes="1 forward",
    source="Russakovsky et al., IJCV 2015",
    curves=("top5_localization_curve",),
)
def top5_localization(
    model: SplitModel,
    *,
    thresholds: int = 100,
    overlaps: tuple[float, ...] = HALF,
    scaling: Scaling = "range",
    chosen_on: ChosenOn = "other_half",
) -> LocalizationMetric:
    """Measure as `corloc`, with 0 where the label is not among five classes. One pass.

    The box is that of the label's map, whichever of the five the label is.

    Returns:
        A metric with `top5_localization_curve`.
    """
    settings = thresholds, overlaps, scaling, chosen_on
    return _among("top5_localization", model, 5, *settings)


def _among(
    name: str,
    model: SplitModel,
    count: int | None,
    thresholds: int,
    overlaps: tuple[float, ...],
    scaling: Scaling,
    chosen_on: ChosenOn,
) -> LocalizationMetric:
    """Set overlaps to 0 where the label is not among the `count` likeliest classes."""
    check_chosen_on(chosen_on)
    box_overlap.check_overlaps(overlaps)
    overlap = box_overlap.box_overlaps(
        model, thresholds=thresholds, contours="largest", scaling=scaling
    )
    network = split.whole(model)

    def score(*arguments: Any, **named: Any) -> dict[str, jax.Array]:
        curve = np.asarray(overlap(*arguments, **named)["box_overlaps"])
        if count is not None:
            variables, images, labels = arguments[:3]
            logits = np.asarray(network(variables, jnp.asarray(images)))
            known = _rank(logits, np.asarray(labels)) < count
            curve = curve * np.where(np.isnan(logits).any(1), np.nan, known)[:, None]
        return {f"{name}_curve": jnp.asarray(curve)}

    return score


def _rank(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count the classes that come before the label; of equal ones the first ones do."""
    own = np.take_along_axis(logits, labels[:, None], 1)
    before = np.arange(logits.shape[1])[None] < labels[:, None]
    return ((logits > own) | ((logits == own) & before)).sum(1)
