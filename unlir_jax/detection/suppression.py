"""Suppression of boxes that overlap a box with a higher score."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import core
from jaxtyping import Float, Num

from unlir_jax.detection import boxes as box
from unlir_jax.types import Array

THRESHOLD = 0.5
BITS = 32


class Kept(NamedTuple):
    """Say which boxes are left.

    Attributes:
        mask: Whether each box is kept, bool with the shape of the scores.
        order: Indices of the kept boxes by falling score, then -1; int, same shape.
    """

    mask: jax.Array
    order: jax.Array


def nms(
    boxes: Num[Array, "boxes 4"],
    scores: Float[Array, " boxes"] | Float[Array, "boxes classes"],
    *,
    threshold: float = THRESHOLD,
) -> Kept:
    """Keep boxes that overlap no kept box with a higher score (NMS).

    A box is suppressed where its intersection over union with a kept box is strictly
    greater than the threshold. Of equal scores the first box comes first. A box without
    area is never suppressed. Classes are independent.

    Args:
        boxes: `x0, y0, x1, y1`; they are the same for all classes.
        scores: One number a box, or one for each class. A box with `-inf` is not there:
            it fills up a table, is not kept and suppresses nothing.
        threshold: Largest overlap that two kept boxes may have, in [0, 1].

    Returns:
        Masks and orders, with the shape of `scores`. Memory is quadratic in the number
        of boxes: a few bytes for each pair.

    Raises:
        ValueError: A wrong shape or threshold, or where it can be seen, a score that is
            NaN or `inf`. Under `jax.jit` a box whose score is NaN is not there.

    References:
        Felzenszwalb, Girshick, McAllester and Ramanan, *Object detection with
        discriminatively trained part-based models*, 2010, Section 7.

    Example:
        >>> import numpy as np
        >>> from unlir_jax import detection
        >>> boxes = np.asarray([[0.0, 0, 4, 4], [0, 0, 4, 5], [6, 6, 9, 9]])
        >>> kept = detection.nms(boxes, np.asarray([0.3, 0.9, 0.5]), threshold=0.5)
        >>> kept.order.tolist()
        [1, 2, -1]
    """
    _check(boxes, scores, threshold)
    boxes, scores = jnp.asarray(boxes), jnp.asarray(scores)
    kind = jnp.result_type(boxes.dtype, jnp.float32)
    limit = below(threshold, kind)
    return _suppress(boxes.astype(kind), scores, limit)


def below(threshold: float, kind: np.dtype) -> float:
    """Give the largest number of a kind that is not above a threshold.

    A float32 is greater than 0.3 where it is greater than this, though 0.3 itself
    rounds up to a greater float32.
    """
    rounded = np.asarray(threshold, kind)
    if float(rounded) > threshold:
        rounded = np.nextafter(rounded, np.asarray(-math.inf, kind))
    return float(rounded)


@functools.partial(jax.jit, static_argnames="limit")
def _suppress(boxes: jax.Array, scores: jax.Array, limit: float) -> Kept:
    over = box.overlaps(boxes, boxes) > limit
    # Rounding may differ between the orders of a pair; no box suppresses itself.
    over = (over | over.T) & ~jnp.eye(len(boxes), dtype=bool)
    rows = _packed(over)
    if scores.ndim == 1:
        return _one(rows, scores)
    return jax.vmap(_one, in_axes=(None, 1), out_axes=1)(rows, scores)


def _one(rows: jax.Array, scores: jax.Array) -> Kept:
    order = jnp.argsort(scores, stable=True, descending=True)

    def visit(rank: jax.Array, left: jax.Array) -> jax.Array:
        top = order[rank]
        kept = left[top // BITS] >> (top % BITS).astype(jnp.uint32) & 1
        return left & ~jnp.where(kept == 1, rows[top], 0)

    # No box that is kept overlaps an earlier one: it would have been suppressed.
    words = jax.lax.fori_loop(0, len(scores), visit, _packed(scores > -jnp.inf))
    bits = words[:, None] >> jnp.arange(BITS, dtype=jnp.uint32)[None] & 1
    left = bits.reshape(-1)[: len(scores)] == 1
    # A stable sort keeps the order of scores within kept boxes.
    last = jnp.argsort(~left[order], stable=True)
    kept = jnp.where(jnp.arange(len(scores)) < left.sum(), order[last], -1)
    return Kept(left, kept)


def _packed(flags: jax.Array) -> jax.Array:
    """Put 32 flags of the last axis into a word, which makes the loop fast on CPU."""
    lacking = -flags.shape[-1] % BITS
    padded = jnp.pad(flags, [(0, 0)] * (flags.ndim - 1) + [(0, lacking)])
    table = padded.reshape(*flags.shape[:-1], -1, BITS).astype(jnp.uint32)
    places = jax.lax.broadcasted_iota(jnp.uint32, table.shape, table.ndim - 1)
    return jnp.sum(table << places, axis=-1, dtype=jnp.uint32)


def _check(boxes: Array, scores: Array, threshold: float) -> None:
    box.check_boxes(boxes)
    shape = jnp.shape(scores)
    if len(shape) not in (1, 2) or shape[0] != jnp.shape(boxes)[0]:
        raise ValueError(
            f"`scores` has shape {shape}; expected [boxes] or [boxes, classes] with "
            f"{jnp.shape(boxes)[0]} boxes."
        )
    if not 0 <= threshold <= 1:
        raise ValueError(f"`threshold`={threshold}; expected a value in [0, 1].")
    if isinstance(scores, core.Tracer):
        return
    table = np.asarray(scores)
    if np.isnan(table).any() or (table == math.inf).any():
        raise ValueError(
            "`scores` holds NaN or inf; expected numbers, or -inf for no box."
        )
