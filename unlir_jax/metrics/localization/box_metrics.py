"""Metrics of the box around the largest part of the map above its mean.

Zhang et al., *Opti-CAM*, CVIU 2024, Appendix B; Dabkowski & Gal, *Real
time image saliency for black box classifiers*, NeurIPS 2017.
"""

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import choices
from unlir_jax.metrics.localization import boxes as box
from unlir_jax.metrics.localization import components
from unlir_jax.metrics.localization.pixels import LocalizationMetric, scaled
from unlir_jax.metrics.spec import KEPT, NOTHING, Contract, metric
from unlir_jax.split import scores
from unlir_jax.types import Images, Labels, Metric, Saliency, SplitModel, Variables

BOX = Contract(
    NOTHING,
    NOTHING,
    NOTHING,
    "of parts with equally many pixels the first in row-major order",
    "above the mean of the enlarged map, largest part of {connectivity} neighbours",
    "no box: error 1",
    signs=KEPT,
)

SMALLEST_AREA = 0.05


@metric(
    title="Localisation error",
    better="lower",
    needs="boxes",
    family="localization",
    meaning=(
        "How far is the box around the largest part above the mean from the object's?"
    ),
    contract=BOX,
    fooled_by="a blob in the middle",
    passes="0",
    source="Dabkowski and Gal, NeurIPS 2017",
)
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

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from unlir_jax import metrics, saliency, split
        >>> model = split.from_functions(  # The logits are the mean colour.
        ...     lambda variables, images: images,
        ...     lambda variables, maps: maps.mean((1, 2)),
        ... )
        >>> images = jnp.zeros((1, 2, 2, 3)).at[0, 0, 1, 2].set(1)  # A blue pixel.
        >>> blue = jnp.asarray([2])
        >>> found = saliency.grad_cam(model)({}, images, blue)
        >>> boxes = np.asarray([[[1, 0, 1, 0]]])  # From x = 1, y = 0 to the same.
        >>> score = metrics.localization_error(model)
        >>> score({}, images, blue, found, boxes)["localization_error"].tolist()
        [0.0]
    """
    return _of_boxes(model, "localization_error", least, connectivity)


@metric(
    title="Official metric",
    better="lower",
    needs="boxes",
    family="localization",
    meaning=(
        "How far is the box from the object's, where the predicted class is the label?"
    ),
    contract=BOX._replace(score="predicted class, the first of equal ones"),
    fooled_by="a blob in the middle",
    passes="1 forward",
    source="Zhang et al., CVIU 248 (2024)",
    representative=True,
)
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
    # The likeliest class is that of one row of logits.
    compared = scores.NAMED["logit"] if name == "official_metric" else None

    def score(variables, images, labels, saliency, boxes, *, key=None):
        del key  # Nothing here is random.
        check_inputs(model, variables, images, labels, saliency, compared)
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


@metric(
    title="Saliency metric",
    better="lower",
    needs="map",
    family="localization",
    meaning=(
        "How small is the box around the map, and how probable is the class inside it?"
    ),
    contract=BOX._replace(
        mask_space="pixels in [0, 1], cut out and enlarged bilinearly",
        score="natural logarithm of: {score}",
        flat_map="the whole image is the box",
        unbounded="refused",
    ),
    fooled_by="the smallest box of a texture",
    passes="1 forward",
    source="Dabkowski and Gal, NeurIPS 2017",
    scale="number",
)
def saliency_metric(
    model: SplitModel,
    *,
    connectivity: components.Connectivity = 4,
    score: scores.ScoreLike = "softmax",
) -> Metric:
    """Compare the area of the predicted box with what the network says of its inside.

    `log max(0.05, area) - log p`: area as a share of the image, p the label's
    probability on the box, cut out and enlarged to the image. Lower is better. A flat
    map has the whole image as its box: `-log p` of the image. One pass.

    Dabkowski & Gal 2017, Eq. 3; the box is that of `localization_error`.

    Args:
        model: The cut network.
        connectivity: 4 or 8 neighbours.
        score: Probability `p`, see `scores.resolve`: `softmax` or `sigmoid`.

    Raises:
        ValueError: A score without bounds, or of a region of the whole image.

    Returns:
        A metric with `saliency_metric`, `[batch]`, at least `log 0.05`.

    Note:
        p is not below the smallest normal number, so that no value is infinite.
    """
    _check_connectivity(connectivity)
    network, compared = split.whole(model), scores.resolve(score)
    if compared.places or not compared.bounded:
        raise ValueError(
            f"`score`={compared.name!r} is no probability of a cut-out; expected "
            "'softmax' or 'sigmoid'."
        )

    @jax.jit
    def log_probability(variables, images, labels, found):
        logits = network(variables, _crop(images, found))
        if compared.name == "softmax":
            return scores.NAMED["log_softmax"](logits, labels)
        return compared.log_odds(logits, labels)[0]

    def measure(variables, images, labels, saliency, *, key=None):
        del key  # Nothing here is random.
        check_inputs(model, variables, images, labels, saliency, compared)
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

    return measure


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


def check_inputs(
    model: SplitModel,
    variables: Variables,
    images: Images,
    labels: Labels,
    saliency: Saliency,
    score: scores.Score | None = None,
) -> None:
    """Refuse a batch that is wrong, or traced.

    Raises:
        ValueError: An array that does not fit, or `jax.jit` around the metric.
    """
    if split.traced(images, labels, saliency):
        raise ValueError(
            "`saliency` is traced, but boxes are drawn on the host: call this metric "
            "outside jax.jit and other transformations."
        )
    split.check_batch(model, variables, images, labels, score)
    maps.check_saliency(saliency, images)


def _check_connectivity(connectivity: int) -> None:
    choices.check("connectivity", connectivity, components.Connectivity)
