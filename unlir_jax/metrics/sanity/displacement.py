"""Displacement of a map: how far two maps of one image are apart.

The measures of Ghorbani, Abid & Zou, *Interpretation of Neural Networks is Fragile*,
AAAI 2019, Section 2.
"""

import functools
import math

import jax
import jax.numpy as jnp

from unlir_jax import maps
from unlir_jax.metrics.sanity import similarity
from unlir_jax.types import Saliency


def displacement(
    first: Saliency,
    second: Saliency,
    *,
    share: float = 0.1,
    signs: maps.Signs = "relu",
) -> dict[str, jax.Array]:
    """Compare maps by the ranks, the highest pixels and the centres.

    Args:
        first: Raw maps, `[batch, rows, columns]`.
        second: Raw maps of the same images, as large.
        share: Share of the pixels that are the highest, see `maps.top`.
        signs: What becomes of negative values before a centre is taken, see
            `maps.mask`.

    Returns:
        `[batch]` each: `spearman` in [-1, 1]; `top_iou`, the intersection over union of
        the highest pixels, in [0, 1]; `centre_distance`, the distance of the centres of
        mass in diagonals, in [0, 1]; and `flat`, whether one of the two maps is flat or
        has no mass. Where it is, the others are 0, 0 and 1.

    Raises:
        ValueError: Other shapes, a `share` that is none, or unknown `signs`.

    Note:
        The paper counts the intersection alone, and measures centres in pixels.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax.metrics.sanity.displacement import displacement
        >>> one = jnp.zeros((1, 3, 4)).at[0, 0, 0].set(1)
        >>> other = jnp.zeros((1, 3, 4)).at[0, 2, 0].set(1)
        >>> found = displacement(one, other)
        >>> float(found["top_iou"][0]), round(float(found["centre_distance"][0]), 6)
        (0.0, 0.4)
    """
    ranks = similarity.spearman(first, second)
    return _measured(jnp.asarray(first), jnp.asarray(second), ranks, share, signs)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _measured(
    first: jax.Array,
    second: jax.Array,
    ranks: jax.Array,
    share: float,
    signs: maps.Signs,
) -> dict[str, jax.Array]:
    size = first.shape[1:]
    masks = [maps.mask(each, size, signs) for each in (first, second)]
    flat = maps.is_flat(masks[0]) | maps.is_flat(masks[1])
    flat = flat | maps.is_flat(first) | maps.is_flat(second)
    one, other = (maps.top(each, share) for each in (first, second))
    common, either = (jnp.sum(each, (1, 2)) for each in (one & other, one | other))
    apart = jnp.linalg.norm(_centre(masks[0]) - _centre(masks[1]), axis=1)
    diagonal = math.hypot(*size)
    return {
        "spearman": jnp.where(flat, 0, ranks),
        "top_iou": jnp.where(flat, 0, common / jnp.maximum(either, 1)),
        "centre_distance": jnp.where(flat, 1, apart / diagonal),
        "flat": flat,
    }


def _centre(masks: jax.Array) -> jax.Array:
    """Give the centre of mass in pixels, `[batch, 2]`."""
    total = jnp.sum(masks, axis=(1, 2))
    weights = masks / jnp.where(total > 0, total, 1)[:, None, None]
    places = [jnp.arange(length, dtype=masks.dtype) for length in masks.shape[1:]]
    down = jnp.sum(jnp.sum(weights, axis=2) * places[0][None], axis=1)
    across = jnp.sum(jnp.sum(weights, axis=1) * places[1][None], axis=1)
    return jnp.stack([down, across], axis=1)
