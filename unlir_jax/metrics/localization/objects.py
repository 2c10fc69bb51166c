"""Masks and boxes of objects, drawn from maps."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from unlir_jax.core import choices
from unlir_jax.metrics.localization import boxes as box
from unlir_jax.metrics.localization import components
from unlir_jax.metrics.localization.pixels import Scaling, scaled
from unlir_jax.types import Array, Explainer, Saliency

Masks = Bool[Array, "batch height width"]


class Located(NamedTuple):
    """Hold where the objects of some images are.

    Attributes:
        saliency: Raw maps.
        masks: Bool `[batch, height, width]`, as large as the images.
        boxes: Int `[batch, boxes, 4]`, see `object_boxes`.
    """

    saliency: Array
    masks: np.ndarray
    boxes: np.ndarray


def object_masks(
    saliency: Saliency,
    size: tuple[int, ...],
    *,
    threshold: float,
    scaling: Scaling = "range",
) -> np.ndarray:
    """Mark what lies above a threshold in the enlarged and scaled map.

    Args:
        saliency: Raw maps of any explainer, or of parts.
        size: Height and width of the images.
        threshold: In [0, 1). Choose it on other images, see `thresholds`.
        scaling: As in `pixels.energy_pointing_game`.

    Returns:
        Bool `[batch, height, width]`, nowhere for a flat map.

    Raises:
        ValueError: Another threshold or scaling.

    Example:
        >>> import numpy as np
        >>> from unlir_jax import metrics
        >>> saliency = np.asarray([[[0.0, 2.0, 4.0]]], np.float32)
        >>> metrics.object_masks(saliency, (1, 3), threshold=0.4).tolist()
        [[[False, True, True]]]
    """
    check_threshold(threshold)
    choices.check("scaling", scaling, Scaling)
    return np.asarray(scaled(saliency, size, scaling)) > threshold


def object_boxes(
    masks: Masks,
    *,
    most: int = 1,
    least: float | int = 0.0,
    connectivity: components.Connectivity = 8,
) -> np.ndarray:
    """Draw a box around each connected part of a mask, the largest parts first.

    Args:
        masks: Where objects are.
        most: Number of boxes of an image.
        least: Share of the largest part's pixels that a part needs, in [0, 1].
        connectivity: 4 or 8 neighbours.

    Returns:
        Int `[batch, most, 4]`, `x0, y0, x1, y1` with both ends, by falling number of
        pixels, equal numbers in row-major order. Rows of `[0, 0, -1, -1]`, which are no
        box, behind the last part, so that an empty mask has these alone.

    Raises:
        ValueError: Another shape, or a setting out of its range.

    Example:
        >>> import numpy as np
        >>> from unlir_jax import metrics
        >>> mask = np.asarray([[[1, 0, 1, 1]]], bool)
        >>> metrics.object_boxes(mask, most=3).tolist()
        [[[2, 0, 3, 0], [0, 0, 0, 0], [0, 0, -1, -1]]]
    """
    if np.ndim(masks) != 3 or np.asarray(masks).dtype != bool:
        raise ValueError(
            f"`masks` are {np.asarray(masks).dtype} of shape {np.shape(masks)}; "
            "expected booleans [batch, height, width]."
        )
    if most < 1:
        raise ValueError(f"`most`={most}; expected 1 or more.")
    if not 0 <= least <= 1:
        raise ValueError(f"`least`={least}; expected a share in [0, 1].")
    choices.check("connectivity", connectivity, components.Connectivity)
    found = np.tile(np.asarray(box.NONE), (len(masks), most, 1))
    for rows, mask in zip(found, np.asarray(masks), strict=True):
        own, sizes = components.boxes_of_parts(mask, connectivity)
        order = np.argsort(-sizes, kind="stable")[:most]
        order = order[sizes[order] >= least * sizes.max(initial=0)]
        rows[: len(order)] = own[order]
    return found


def locator(
    explain: Explainer,
    *,
    threshold: float,
    scaling: Scaling = "range",
    most: int = 1,
    least: float | int = 0.0,
    connectivity: components.Connectivity = 8,
) -> Callable[..., Located]:
    """Make a function from images and classes to masks and boxes of the objects.

    Args:
        explain: Any explainer; `parts.attribution.class_map` of a part network is one.
        threshold: See `object_masks`, as is `scaling`.
        scaling: See there.
        most: See `object_boxes`, as are the others.
        least: See there.
        connectivity: See there.

    Returns:
        `(variables, images, labels, *, key) -> Located`.

    Raises:
        ValueError: A setting out of its range.
    """
    check_threshold(threshold)
    drawn = {"most": most, "least": least, "connectivity": connectivity}
    object_boxes(np.zeros((0, 1, 1), bool), **drawn)  # So that it looks at them now.

    def locate(variables, images, labels, *, key=None):
        saliency = explain(variables, images, labels, key=key)
        size = images.shape[1:3]
        masks = object_masks(saliency, size, threshold=threshold, scaling=scaling)
        return Located(saliency, masks, object_boxes(masks, **drawn))

    return locate


def check_threshold(threshold: float) -> None:
    """Refuse a threshold above which no scaled map can be, or all of each is."""
    if not 0 <= threshold < 1:
        raise ValueError(f"`threshold`={threshold}; expected a value in [0, 1).")
