"""Places of boxes by the votes of the boxes around them."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Num

from unlir_jax.detection import boxes as box
from unlir_jax.types import Array

THRESHOLD = 0.5


def vote(
    boxes: Num[Array, "boxes 4"],
    scores: Float[Array, "boxes classes"],
    *,
    threshold: float = THRESHOLD,
) -> jax.Array:
    """Replace each box by the mean of those that overlap it, weighed by their scores.

    Windows lie on a grid, and the best one is seldom the best place. The mean over its
    neighbours lies between them. Scores stay as they are.

    Args:
        boxes: `x0, y0, x1, y1`; they are the same for all classes.
        scores: Weights, 0 or more, of each box and class.
        threshold: Least intersection over union of a box that votes, in (0, 1]. A box
            always overlaps itself.

    Returns:
        `[boxes, classes, 4]`. Where all votes are 0, the box itself.

    Raises:
        ValueError: A wrong shape or threshold.

    References:
        Gidaris and Komodakis, *Object detection via a multi-region and semantic
        segmentation-aware CNN model*, ICCV 2015, Section 5, with all boxes in place of
        those that score well.

    Example:
        >>> import numpy as np
        >>> from unlir_jax import detection
        >>> boxes = np.asarray([[0.0, 0, 4, 4], [1, 0, 5, 4], [9, 9, 12, 12]])
        >>> scores = np.asarray([[3.0], [1.0], [2.0]])
        >>> detection.vote(boxes, scores, threshold=0.5)[:, 0].tolist()[0]
        [0.25, 0.0, 4.25, 4.0]
    """
    box.check_boxes(boxes)
    if not 0 < threshold <= 1:
        raise ValueError(f"`threshold`={threshold}; expected a value in (0, 1].")
    boxes, scores = jnp.asarray(boxes), jnp.asarray(scores)
    near = (box.overlaps(boxes, boxes) >= threshold).astype(scores.dtype)
    places = scores[:, :, None] * boxes[:, None]
    sums = jnp.einsum("ab,bcd->acd", near, places, precision="highest")
    total = jnp.matmul(near, scores, precision="highest")[:, :, None]
    return jnp.where(total > 0, sums / jnp.where(total > 0, total, 1), boxes[:, None])
