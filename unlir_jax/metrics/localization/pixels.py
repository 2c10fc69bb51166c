"""Agreement of the map with the pixels of the object.

The metrics here take one argument more, `regions`: which pixels belong to the object,
as booleans or as a mask of classes with void, see `boxes.Regions`. An image without any
has nothing to point to: its value is NaN, to be left out and counted.

Void pixels, of which nobody says what they are, count neither for a map nor against it,
as in Pascal VOC, COCO and PxAP. Every metric is what it would be of the other pixels
alone: the map's maximum, its mean, its range and whether it is flat are theirs.

Zhang, Bargal, Lin, Brandt, Shen & Sclaroff, *Top-down neural attention by excitation
backprop*, IJCV 2018 (pointing game); Wang et al., *Score-CAM*, CVPR Workshops 2020
(energy); Zhang et al., *Opti-CAM*, CVIU 2024, Appendix B (F1); Choe et al., *Evaluating
weakly supervised object localization methods right*, CVPR 2020 (PxAP).
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Integer

from unlir_jax import maps, split
from unlir_jax.core import choices
from unlir_jax.metrics.localization import boxes
from unlir_jax.metrics.localization.boxes import Inside, Regions
from unlir_jax.metrics.spec import MAP, ORDER_ONLY, RANKED, ROW_MAJOR, Output, metric
from unlir_jax.types import Array, Images, Saliency, SplitModel

REGION = MAP._replace(
    void="left out: of the counts, and of the map's maximum, mean and range"
)

LocalizationMetric = Callable[..., dict[str, jax.Array]]
"""A `Metric` whose fifth argument tells where the object is."""

Scaling = Literal["range", "max", "none"]
Counts = Integer[Array, "batch thresholds"]
Found = dict[str, jax.Array]


POINTING = metric(
    title="Pointing game",
    better="higher",
    needs="masks",
    family="localization",
    meaning="Does the map's maximum lie on the object?",
    contract=REGION._replace(
        ties=ROW_MAJOR,
        normalization=ORDER_ONLY,
        flat_map="points nowhere: a miss",
        signs=RANKED,
    ),
    fooled_by="the centre of the image",
    passes="0",
    source="Zhang et al., IJCV 2018",
)


@POINTING
def pointing_game(
    model: SplitModel, *, tolerance: float | int = 15
) -> LocalizationMetric:
    """Tell whether the map's maximum lies on the object, or close to it: 1 or 0.

    Of several maxima of the enlarged map the first in row-major order points. A flat
    map points nowhere, which is a miss. Void pixels never point: the maximum is that
    of the others.

    Args:
        model: The cut network.
        tolerance: A distance below this many pixels is a hit too; 15 is what is used
            for images of about 500 pixels.

    Returns:
        A metric with `pointing_game`, `[batch]`, and `pointing_distance`, `[batch]`,
        in pixels to the nearest one of the object (of a flat map infinite).
    """
    if not tolerance >= 0:
        raise ValueError(f"`tolerance`={tolerance}; expected 0 pixels or more.")

    def play(saliency: Saliency, regions: Inside, known: Inside) -> Found:
        del known  # Void pixels hold the least value, which points only if all is flat.
        flat, columns = maps.is_flat(saliency), saliency.shape[2]
        place = jnp.argmax(saliency.reshape((len(saliency), -1)), axis=1)
        y, x = (axis[:, None, None] for axis in jnp.divmod(place, columns))
        down = jnp.arange(saliency.shape[1])[None, :, None] - y
        across = jnp.arange(columns)[None, None] - x
        away = jnp.where(regions, (down**2 + across**2).astype(saliency.dtype), jnp.inf)
        distance = jnp.sqrt(jnp.min(away, axis=(1, 2)))
        distance = jnp.where(flat, jnp.inf, distance)
        hit = ((distance < tolerance) | (distance == 0)).astype(saliency.dtype)
        return {"pointing_game": hit, "pointing_distance": distance}

    return _metric(model, play, "none")


@POINTING._replace(
    title="Energy pointing game",
    meaning="Which share of the map lies on the object?",
    contract=REGION,
    fooled_by="a single pixel in the middle",
    source="Wang et al., CVPR Workshops 2020",
)
def energy_pointing_game(
    model: SplitModel, *, scaling: Scaling = "max"
) -> LocalizationMetric:
    """Measure the share of the map that lies on the object.

    Higher is better; the share of the image that the object takes is what a constant
    map would have. Flat maps are 0.

    Args:
        model: The cut network.
        scaling: `max` takes the enlarged map as it is, without its negative values;
            `range` subtracts the minimum first (Opti-CAM).

    Returns:
        A metric with `energy_pointing_game`, `[batch]` in [0, 1].
    """

    def share(saliency: Saliency, regions: Inside, known: Inside) -> Found:
        return {"energy_pointing_game": _precision(saliency, regions, known)}

    return _metric(model, share, scaling)


@POINTING._replace(
    title="F1",
    meaning=(
        "How much of the map lies on the object, and how much of the object does it "
        "cover?"
    ),
    contract=REGION,
    fooled_by="a blob in the middle",
    source="Zhang et al., CVIU 248 (2024)",
)
def f1(model: SplitModel, *, scaling: Scaling = "range") -> LocalizationMetric:
    """Combine the share of the map on the object and how much of it the map covers.

    `2 P R / (P + R)` of `P = sum_U s / sum s` and `R = sum_U s / |U|`, s in [0, 1]
    (Opti-CAM, Appendix B). Higher is better; flat maps are 0.

    Args:
        model: The cut network.
        scaling: How the enlarged map is brought into [0, 1]; see
            `energy_pointing_game`.

    Returns:
        A metric with `f1`, `precision` and `recall`, each `[batch]` in [0, 1].
    """

    def combine(saliency: Saliency, regions: Inside, known: Inside) -> Found:
        precision = _precision(saliency, regions, known)
        area = jnp.sum(regions, axis=(1, 2))
        inside = jnp.sum(jnp.where(regions, saliency, 0), axis=(1, 2))
        recall = inside / jnp.maximum(area, 1)
        total = precision + recall
        both = 2 * precision * recall / jnp.where(total > 0, total, 1)
        return {"f1": both, "precision": precision, "recall": recall}

    return _metric(model, combine, scaling)


@POINTING._replace(
    title="IoU",
    meaning="How well do the map above its mean and the object overlap?",
    contract=REGION._replace(
        ties="values equal to the threshold are outside", flat_map="nowhere: 0"
    ),
    fooled_by="a blob in the middle",
    source="Jaccard index",
    representative=True,
)
def iou(
    model: SplitModel, *, threshold: float | None = None, scaling: Scaling = "range"
) -> LocalizationMetric:
    """Divide what the map and the object share by what either has.

    Args:
        model: The cut network.
        threshold: The map is where it is above this, in [0, 1); above its own mean
            without it. Choose it on images that are not evaluated.
        scaling: As in `energy_pointing_game`.

    Returns:
        A metric with `iou`, `[batch]` in [0, 1]; flat maps are nowhere: 0.
    """
    if threshold is not None and not 0 <= threshold < 1:
        raise ValueError(
            f"`threshold`={threshold}; expected a value in [0, 1) or None."
        )

    def divide(saliency: Saliency, regions: Inside, known: Inside) -> Found:
        mean = jnp.mean(saliency, axis=(1, 2), keepdims=True, where=known)
        marked = known & (saliency > (mean if threshold is None else threshold))
        shared = jnp.sum(marked & regions, axis=(1, 2))
        either = jnp.sum(marked | regions, axis=(1, 2))
        return {"iou": shared / jnp.maximum(either, 1).astype(saliency.dtype)}

    return _metric(model, divide, scaling)


@POINTING._replace(
    title="Average precision of pixels",
    meaning="How well do the map's values tell the object's pixels from others?",
    contract=REGION._replace(
        ties="values equal to a threshold are taken", flat_map="zeros: all at once"
    ),
    fooled_by="a blob in the middle",
    source="Choe et al., CVPR 2020",
    quick={"thresholds": 50},
    representative=True,
    outputs={"pxap": Output("PxAP", "higher")},
    curves=("pixels_inside", "pixels_outside"),
)
def pixel_average_precision(
    model: SplitModel, *, thresholds: int = 1000, scaling: Scaling = "range"
) -> LocalizationMetric:
    """Average the precision of pixels over their recall, by thresholds.

    `sum_l P(t_l) (R(t_l) - R(t_(l-1)))` for thresholds falling from 1 to 0, where
    pixels of at least `t_l` are taken. Higher is better. `pooled_average_precision`
    gives PxAP, which counts the pixels of all images together.

    Args:
        model: The cut network.
        thresholds: Number of them, at 0, 1 / thresholds, ..., and 1.
        scaling: As in `energy_pointing_game`; `none` for maps that are in [0, 1].

    Returns:
        A metric with `pixel_average_precision`, `[batch]` in [0, 1], and the numbers of
        pixels on and off the object at each threshold from 0 to 1, `pixels_inside` and
        `pixels_outside`, `[batch, thresholds + 1]`.

    Note:
        Choe et al. scale the map by all its pixels, and leave void out of the counts
        only. That differs where the map's extremes are void, unless `scaling="none"`.
    """
    if thresholds < 1:
        raise ValueError(f"`thresholds`={thresholds}; expected 1 or more.")
    cuts = np.append(np.arange(thresholds) / thresholds, 1.0)

    def count(saliency: Saliency, regions: Inside, known: Inside) -> Found:
        levels = jnp.asarray(cuts, saliency.dtype)
        inside, outside = (
            _at_least(
                jnp.where(some, saliency, -jnp.inf).reshape((len(saliency), -1)), levels
            )
            for some in (regions, known & ~regions)
        )
        return {
            "pixel_average_precision": _average_precision(
                inside, outside, saliency.dtype
            ),
            "pixels_inside": inside,
            "pixels_outside": outside,
        }

    return _metric(model, count, scaling)


def pooled_average_precision(inside: Counts, outside: Counts) -> float:
    """Give PxAP of a data set, from what `pixel_average_precision` counts.

    Args:
        inside: `pixels_inside` of all images.
        outside: `pixels_outside` of all images.

    Returns:
        In [0, 1], NaN without any pixel of an object.

    Note:
        As Choe et al. define it: large objects count more.
    """
    one, other = (np.asarray(c, np.float64).sum(0)[::-1] for c in (inside, outside))
    taken, found = one + other, np.diff(one, prepend=0)
    precision = np.divide(one, taken, out=np.zeros_like(one), where=taken > 0)
    return float(np.sum(precision * found) / one[-1]) if one[-1] else float("nan")


def _precision(saliency: Saliency, regions: Inside, known: Inside) -> jax.Array:
    inside = jnp.sum(jnp.where(regions, saliency, 0), axis=(1, 2))
    total = jnp.sum(jnp.where(known, saliency, 0), axis=(1, 2))
    return inside / jnp.where(total > 0, total, 1)


def _at_least(values: jax.Array, levels: jax.Array) -> jax.Array:
    """Count the values of each row that reach each level."""
    below = jax.vmap(lambda row: jnp.searchsorted(row, levels, side="left"))
    return values.shape[1] - below(jnp.sort(values, axis=1))


def _average_precision(inside: jax.Array, outside: jax.Array, dtype: Any) -> jax.Array:
    one, other = (counts[:, ::-1] for counts in (inside, outside))
    precision = one / jnp.maximum(one + other, 1).astype(dtype)
    found = jnp.diff(one, axis=1, prepend=0)
    return jnp.sum(precision * found, axis=1) / jnp.maximum(one[:, -1], 1)


def _metric(
    model: SplitModel,
    measure: Callable[[Saliency, Inside, Inside], Found],
    scaling: Scaling,
) -> LocalizationMetric:
    """Enlarge and scale maps, measure, and mark what has no object."""
    choices.check("scaling", scaling, Scaling)

    @jax.jit
    def run(images: Images, saliency: Saliency, regions: Regions) -> Found:
        inside, void = boxes.told(regions)
        ready = scaled(saliency, images.shape[1:3], scaling, void)
        known = jnp.ones_like(inside) if void is None else ~void
        found = measure(ready, inside, known)
        empty = ~jnp.any(inside, axis=(1, 2))
        return {
            name: jnp.where(empty, jnp.nan, value) if value.ndim == 1 else value
            for name, value in found.items()
        }

    @split.guarded(model)
    def score(variables, images, labels, saliency, regions, *, key=None):
        del key  # Nothing here is random.
        boxes.check_regions(regions, images)
        return run(images, saliency, jnp.asarray(regions))

    return score


def scaled(
    saliency: Saliency,
    size: tuple[int, ...],
    scaling: Scaling,
    void: Inside | None = None,
) -> jax.Array:
    """Enlarge maps and bring them into [0, 1]; flat ones are zeros.

    Args:
        saliency: Raw maps.
        size: Height and width of the images.
        scaling: `range` or `max` as in `maps.normalize`; `none` leaves values as they
            are.
        void: Pixels that say nothing; they get the least value of the others, which
            leaves range and flatness to these.
    """
    enlarged = maps.resize(saliency, size)
    if void is not None:
        least = jnp.min(enlarged, (1, 2), keepdims=True, where=~void, initial=jnp.inf)
        enlarged = jnp.where(void, jnp.where(jnp.isinf(least), 0, least), enlarged)
    if scaling != "none":
        return maps.normalize(enlarged, scaling)
    return jnp.where(maps.is_flat(enlarged)[:, None, None], 0, enlarged)
