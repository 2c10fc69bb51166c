"""Whether a box around the salient part is the object's.

Zhang et al., *Opti-CAM*, CVIU 2024, Appendix B; Choe et al., *Evaluating weakly
supervised object localization methods right*, CVPR 2020, and the authors' code;
Dabkowski & Gal, *Real time image saliency for black box classifiers*, NeurIPS 2017.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import memoize
from unlir_jax.metrics import boxes as box
from unlir_jax.metrics import components
from unlir_jax.metrics.pixels import LocalizationMetric, Scaling, scaled
from unlir_jax.types import (
    Images,
    Labels,
    Metric,
    RandomKey,
    Saliency,
    SplitModel,
    Variables,
)

Contours = Literal["all", "largest"]
Convention = Literal["pixels", "opencv"]
OVERLAPS = (0.3, 0.5, 0.7)
SMALLEST_AREA = 0.05


@memoize.remember
def localization_error(
    model: SplitModel,
    *,
    least: float | None = None,
    connectivity: components.Connectivity = 4,
) -> LocalizationMetric:
    """Measure what the predicted box misses of the best true one: `1 - max IoU`.

    The box is drawn around the largest connected part of the enlarged map above its
    mean. Lower is better; a flat map has no box: 1; an image without boxes is NaN.

    Args:
        model: The cut network.
        least: An overlap above this is no error and any other a whole one, as in the
            code of Dabkowski & Gal's successors (0.5); None for the soft error.
        connectivity: 4 or 8 neighbours.

    Returns:
        A metric `(variables, images, labels, saliency, boxes, *, key)` with
        `localization_error`, `[batch]` in [0, 1].
    """
    return _of_boxes(model, "localization_error", least, connectivity)


@memoize.remember
def official_metric(
    model: SplitModel,
    *,
    least: float | None = None,
    connectivity: components.Connectivity = 4,
) -> LocalizationMetric:
    """Measure the localization error, which is 1 for a class that is not the label.

    `1 - max IoU 1[predicted = label]`, where the likeliest class is predicted; else as
    `localization_error`. One pass.

    Returns:
        A metric with `official_metric`, `[batch]` in [0, 1].
    """
    return _of_boxes(model, "official_metric", least, connectivity)


def _of_boxes(
    model: SplitModel,
    name: str,
    least: float | None,
    connectivity: components.Connectivity,
) -> LocalizationMetric:
    _check_connectivity(connectivity)
    if least is not None and not 0 <= least < 1:
        raise ValueError(f"`least`={least}; expected an overlap in [0, 1) or None.")
    network = split.whole(model)

    def score(
        variables: Variables,
        images: Images,
        labels: Labels,
        saliency: Saliency,
        boxes: box.Boxes,
        *,
        key: RandomKey | None = None,
    ) -> dict[str, jax.Array]:
        del key  # Nothing here is random.
        _check(model, variables, images, labels, saliency)
        box.check_boxes(boxes, images)
        found = predicted_boxes(saliency, images.shape[1:3], connectivity)
        best = np.asarray(
            [
                box.overlap(one[None], true).max(initial=0)
                for one, true in zip(found, np.asarray(boxes), strict=True)
            ]
        )
        right = best if least is None else best > least
        if name == "official_metric":
            logits = np.asarray(network(variables, jnp.asarray(images)))
            right = right * (np.argmax(logits, axis=1) == np.asarray(labels))
            right = np.where(np.isnan(logits).any(axis=1), np.nan, right)
        nothing = ~box.exists(boxes).any(axis=1)
        return {name: jnp.asarray(np.where(nothing, np.nan, 1.0 - right))}

    return score


@memoize.remember
def saliency_metric(
    model: SplitModel, *, connectivity: components.Connectivity = 4
) -> Metric:
    """Compare the area of the predicted box with what the network says of its inside.

    `log max(0.05, area) - log p`: area as a share of the image, p the label's
    probability on the box, cut out and enlarged to the image. Lower is better. A flat
    map has the whole image as its box: `-log p` of the image. One pass.

    Dabkowski & Gal 2017, Eq. 3; the box is that of `localization_error`.

    Args:
        model: The cut network.
        connectivity: 4 or 8 neighbours.

    Returns:
        A metric with `saliency_metric`, `[batch]`, at least `log 0.05`.

    Note:
        p is not below the smallest normal number, so that no value is infinite.
    """
    _check_connectivity(connectivity)
    network = split.whole(model)

    @jax.jit
    def log_probability(
        variables: Variables, images: Images, labels: Labels, found: jax.Array
    ) -> jax.Array:
        logits = network(variables, _crop(images, found))
        return jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)[:, 0]

    def score(
        variables: Variables,
        images: Images,
        labels: Labels,
        saliency: Saliency,
        *,
        key: RandomKey | None = None,
    ) -> dict[str, jax.Array]:
        del key  # Nothing here is random.
        _check(model, variables, images, labels, saliency, probability=True)
        images, size = jnp.asarray(images), images.shape[1:3]
        found = predicted_boxes(saliency, size, connectivity)
        everything = np.asarray([0, 0, size[1] - 1, size[0] - 1])
        found = np.where(box.exists(found)[:, None], found, everything[None])
        area = np.prod(found[:, 2:] - found[:, :2] + 1, axis=1) / np.prod(size)
        chance = log_probability(
            variables, images, jnp.asarray(labels), jnp.asarray(found)
        )
        least = float(np.log(np.finfo(np.float32).tiny))
        logarithm = jnp.asarray(np.log(np.maximum(area, SMALLEST_AREA)), chance.dtype)
        return {"saliency_metric": logarithm - jnp.maximum(chance, least)}

    return score


@memoize.remember
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
        threshold: In [0, 1) of the scaled map. Choose it on other pictures: by
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

    def score(
        variables: Variables,
        images: Images,
        labels: Labels,
        saliency: Saliency,
        boxes: box.Boxes,
        *,
        key: RandomKey | None = None,
    ) -> dict[str, jax.Array]:
        del key  # Nothing here is random.
        _check(model, variables, images, labels, saliency)
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
        thresholds: How many, at 0, 1 / thresholds, ...
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

    def score(
        variables: Variables,
        images: Images,
        labels: Labels,
        saliency: Saliency,
        boxes: box.Boxes,
        *,
        key: RandomKey | None = None,
    ) -> dict[str, jax.Array]:
        del key  # Nothing here is random.
        _check(model, variables, images, labels, saliency)
        box.check_boxes(boxes, images)
        settings = cuts, contours, convention, scaling
        best = _overlaps(saliency, images.shape[1:3], boxes, *settings)
        return {"box_overlaps": jnp.asarray(best)}

    return score


def predicted_boxes(
    saliency: Saliency,
    size: tuple[int, ...],
    connectivity: components.Connectivity = 4,
) -> np.ndarray:
    """Draw a box around the largest part of each enlarged map above its mean.

    Returns:
        Int `[batch, 4]` with both ends; `boxes.NONE` of a flat map.
    """
    ready = np.asarray(scaled(saliency, size, "range"))
    above = [
        components.largest(one > one.mean(dtype=np.float64), connectivity)
        for one in ready
    ]
    return box.around(np.stack(above))


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


def _crop(images: Images, found: jax.Array) -> jax.Array:
    """Enlarge each image's box to the image, bilinearly with half-pixel centres."""

    def weights(first: jax.Array, last: jax.Array, length: int) -> jax.Array:
        first, last = first[:, None], last[:, None]
        centres = (jnp.arange(length)[None] + 0.5) / length
        place = jnp.clip(first + centres * (last - first + 1) - 0.5, first, last)
        return jnp.maximum(
            1 - jnp.abs(place[..., None] - jnp.arange(length)[None, None]), 0
        )

    height, width = images.shape[1:3]
    down = weights(found[:, 1], found[:, 3], height).astype(images.dtype)
    across = weights(found[:, 0], found[:, 2], width).astype(images.dtype)
    highest = jax.lax.Precision.HIGHEST
    rows = jnp.einsum("bih,bhwc->biwc", down, images, precision=highest)
    return jnp.einsum("bjw,biwc->bijc", across, rows, precision=highest)


def _check(
    model: SplitModel,
    variables: Variables,
    images: Images,
    labels: Labels,
    saliency: Saliency,
    *,
    probability: bool = False,
) -> None:
    if split.traced(images, labels, saliency):
        raise ValueError(
            "`saliency` is traced, but boxes are drawn on the host: call this metric "
            "outside jax.jit and other transformations."
        )
    split.check_batch(model, variables, images, labels, probability=probability)
    maps.check_saliency(saliency, images)


def _check_connectivity(connectivity: int) -> None:
    if connectivity not in get_args(components.Connectivity):
        raise ValueError(
            f"`connectivity`={connectivity}; expected one of "
            f"{get_args(components.Connectivity)}."
        )


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
        if value not in get_args(known):
            raise ValueError(
                f"`{name}`={value!r} is unknown; expected one of {get_args(known)}."
            )
