"""Levels of stored images: rounding that survives PNG and keeps the budget."""

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.attacks import norms
from unlir_jax.attacks.checks import levels_of
from unlir_jax.types import Images, PyTree

TOLERANCE = 1e-3
"""Share of a level by which float32 may miss it."""


def rounded(images: Images, levels: int = 256) -> jax.Array:
    """Round images in [0, 1] to levels, such as the 256 of a PNG.

    Values are rounded, never cut: 13.999999 levels are 14.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax.attacks import quantisation
        >>> image = jnp.full((1, 1, 1, 1), 13.999999 / 255)
        >>> float(quantisation.rounded(image)[0, 0, 0, 0] * 255)
        14.0
    """
    numbers = jnp.round(jnp.clip(images, 0, 1) * (levels - 1))
    return _values(numbers, levels, images.dtype)


def _values(numbers: jax.Array, levels: int, dtype: PyTree) -> jax.Array:
    """Give the values of levels, exactly those that a stored image has when it is read.

    A compiled division by 255 may be a product with 1/255, which rounds otherwise.
    """
    most = levels - 1
    table = np.arange(levels, dtype=dtype) / np.asarray(most, dtype)
    return jnp.asarray(table)[jnp.clip(numbers, 0, most).astype(jnp.int32)]


def within(
    images: Images,
    originals: Images,
    quantise: bool | int,
    norm: str,
    epsilon: float,
) -> jax.Array:
    """Round images to levels, and keep them within `epsilon` of the originals.

    For `linf` each pixel takes the nearest level inside its interval. For other norms
    images that rounding takes out of the ball are rounded toward the original instead,
    which never goes further from an original that has levels itself.

    Args:
        images: Within `epsilon` of the originals.
        originals: In [0, 1].
        quantise: Number of levels; True stands for 256, False for no rounding.
        norm: `linf`, `l2` or `l1`.
        epsilon: Radius.
    """
    levels = levels_of(quantise)
    if not levels:
        return jnp.asarray(images)
    most = levels - 1
    exact, centre = images * most, originals * most
    nearest = jnp.round(exact)
    if norm == "linf":
        low = jnp.ceil(centre - epsilon * most - TOLERANCE)
        high = jnp.floor(centre + epsilon * most + TOLERANCE)
        return _values(jnp.clip(nearest, low, high), levels, images.dtype)
    down, up = jnp.floor(exact + TOLERANCE), jnp.ceil(exact - TOLERANCE)
    inward = jnp.where(exact > centre, down, up)
    kept = _values(nearest, levels, images.dtype)
    far = norms.length(kept - originals, norm) > epsilon * (1 + 1e-6)
    inner = _values(inward, levels, images.dtype)
    return jnp.where(far[:, None, None, None], inner, kept)
