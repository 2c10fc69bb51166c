"""Similarity of two maps of one image.

The three measures of Adebayo et al., *Sanity checks for saliency maps*, NeurIPS 2018,
Section 3. A flat map is like nothing: each gives 0 where one of the two is flat, and
`flat` marks it, instead of perfect similarity or NaN.
"""

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps
from unlir_jax.metrics.sanity import hog
from unlir_jax.types import Saliency

WINDOW_DEVIATION = 1.5
WINDOW_RADIUS = 5
STABILITY = (0.01, 0.03)


def similarities(
    first: Saliency, second: Saliency, *, absolute: bool = False
) -> dict[str, jax.Array]:
    """Compare maps by `ssim`, `spearman` and `hog`.

    Args:
        first: Raw maps.
        second: Raw maps of the same images, as large.
        absolute: Whether signs are dropped first.

    Returns:
        The three, each `[batch]` in [-1, 1], and `flat`, whether one of the two is.
    """
    _check(first, second)
    one, other = (jnp.abs(m) if absolute else jnp.asarray(m) for m in (first, second))
    return _all(one, other)


def spearman(first: Saliency, second: Saliency) -> jax.Array:
    """Correlate the ranks of pixels; equal ones get the middle of their ranks.

    Returns:
        `[batch]` in [-1, 1]; 0 if one of the two maps is flat.
    """
    _check(first, second)
    return _spearman(jnp.asarray(first), jnp.asarray(second))


def ssim(first: Saliency, second: Saliency) -> jax.Array:
    """Measure structural similarity of the range-normalised maps.

    Gaussian windows of 11 pixels and standard deviation 1.5, averaged over those that
    lie inside the image. Wang, Bovik, Sheikh & Simoncelli, *Image quality assessment:
    from error visibility to structural similarity*, IEEE TIP 2004, Eq. 13.

    Returns:
        `[batch]` in [-1, 1]; 0 if one of the two maps is flat.

    Raises:
        ValueError: Maps smaller than a window: enlarge them by `maps.resize` first.
    """
    _check(first, second)
    return _ssim(jnp.asarray(first), jnp.asarray(second))


def _unless_flat(first: Saliency, second: Saliency, values: jax.Array) -> jax.Array:
    return jnp.where(maps.is_flat(first) | maps.is_flat(second), 0, values)


@jax.jit
def _spearman(first: Saliency, second: Saliency) -> jax.Array:
    return _unless_flat(first, second, _pearson(_ranks(first), _ranks(second)))


@jax.jit
def _ssim(first: Saliency, second: Saliency) -> jax.Array:
    if min(first.shape[1:]) <= 2 * WINDOW_RADIUS:
        raise ValueError(
            f"`first` has shape {first.shape}; expected maps of at least "
            f"{2 * WINDOW_RADIUS + 1} pixels a side: enlarge them by maps.resize."
        )
    x, y = maps.normalize(first, "range"), maps.normalize(second, "range")
    mean_x, mean_y = _window(x), _window(y)
    variances = _window(x * x) - mean_x**2 + _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    c1, c2 = (constant**2 for constant in STABILITY)
    alike = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    alike /= (mean_x**2 + mean_y**2 + c1) * (variances + c2)
    return _unless_flat(first, second, jnp.mean(alike, axis=(1, 2)))


@jax.jit
def _hog(first: Saliency, second: Saliency) -> jax.Array:
    one, other = (hog.descriptors(maps.normalize(m, "range")) for m in (first, second))
    return _unless_flat(first, second, _pearson(one, other))


@jax.jit
def _all(first: Saliency, second: Saliency) -> dict[str, jax.Array]:
    return {
        "ssim": _ssim(first, second),
        "spearman": _spearman(first, second),
        "hog": _hog(first, second),
        "flat": maps.is_flat(first) | maps.is_flat(second),
    }


def _ranks(saliency: Saliency) -> jax.Array:
    """Rank the pixels of each map from 1 on, in the middle of equal ones."""
    rows = saliency.reshape((len(saliency), -1))

    def rank(row: jax.Array) -> jax.Array:
        ordered = jnp.sort(row)
        below = jnp.searchsorted(ordered, row, side="left")
        up_to = jnp.searchsorted(ordered, row, side="right")
        return (below + up_to + 1).astype(row.dtype) / 2

    # Not finite: such a map is flat, and its ranks are not looked at.
    return jax.vmap(rank)(jnp.where(jnp.isfinite(rows), rows, 0))


def _pearson(first: jax.Array, second: jax.Array) -> jax.Array:
    one, other = (v - jnp.mean(v, axis=1, keepdims=True) for v in (first, second))
    # Ranks reach tens of thousands: their squares sum better when scaled.
    one, other = (
        v / jnp.maximum(jnp.max(jnp.abs(v), 1, keepdims=True), 1e-30)
        for v in (one, other)
    )
    product = jnp.sum(one**2, axis=1) * jnp.sum(other**2, axis=1)
    value = jnp.sum(one * other, axis=1) / jnp.sqrt(jnp.where(product > 0, product, 1))
    return jnp.clip(value, -1, 1)


def _window(pictures: jax.Array) -> jax.Array:
    """Average by a Gaussian window, where it lies inside."""
    offsets = np.arange(-WINDOW_RADIUS, WINDOW_RADIUS + 1)
    weights = np.exp(-0.5 * (offsets / WINDOW_DEVIATION) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        length = pictures.shape[axis] - 2 * WINDOW_RADIUS
        pictures = sum(
            (
                float(weight)
                * jax.lax.slice_in_dim(pictures, start, start + length, axis=axis)
                for start, weight in enumerate(weights)
            ),
            start=jnp.zeros((), pictures.dtype).reshape((1, 1, 1)),
        )
    return pictures


def _check(first: Saliency, second: Saliency) -> None:
    shape = jnp.shape(first)
    if len(shape) != 3 or shape != jnp.shape(second):
        raise ValueError(
            f"`first` and `second` have shapes {shape} and {jnp.shape(second)}; "
            "expected [batch, rows, columns] for both."
        )
