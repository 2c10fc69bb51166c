"""Gradients of the loss by the pixels, and how far two of them are apart."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from unlir_jax.core import choices
from unlir_jax.objectives import losses
from unlir_jax.types import Array, Images, Logits, PerImage, PyTree

Distance = Literal[
    "cosine",
    "mean_absolute",
    "mean_squared",
    "histogram_intersection",
    "normalized_histogram_intersection",
]
Run = Callable[[Images], tuple[Logits, PyTree]]
"""`images -> (logits, anything)`."""
TINY = 1e-12


def check_images(name: str, inputs: str) -> None:
    """Refuse an objective that needs pixels where features are kept.

    Raises:
        ValueError: They are.
    """
    if inputs != "image":
        raise ValueError(
            f"`objective.name`={name!r} needs pixels, but this network is trained on "
            "cached features; expected features.cache=False."
        )


def differentiated(
    run: Run, images: Images, targets: Logits, weight: PerImage
) -> tuple[jax.Array, tuple[PerImage, Logits, PyTree]]:
    """Differentiate the sum of the rows' cross-entropies by the pixels.

    Where norms see the batch, a row's gradient is that of all rows' losses. A row of
    weight 0 adds nothing to others.

    Args:
        run: The network.
        images: `[batch, height, width, channels]` in [0, 1].
        targets: Distributions over classes, `[batch, classes]`.
        weight: `[batch]`.

    Returns:
        The gradient, of the shape of the images; and each row's cross-entropy, the
        logits, and what else `run` gives.
    """

    def total(images: Images) -> tuple[jax.Array, tuple[PerImage, Logits, PyTree]]:
        logits, more = run(images)
        rows = losses.cross_entropy(logits, targets)
        counted = jnp.sum(jnp.where(weight > 0, rows, 0))
        return counted, (rows, logits, more)

    return jax.grad(total, has_aux=True)(images)


def distance(
    kind: Distance,
    plain: Float[Array, "batch height width channels"],
    guided: Float[Array, "batch height width channels"],
) -> PerImage:
    """Measure how far two gradients of each image are apart.

    With a and b the gradients as vectors of length d:

    - `cosine`: 1 - <a, b> / (‖a‖ ‖b‖), in [0, 2].
    - `mean_absolute`: ‖a - b‖₁ / d.
    - `mean_squared`: ‖a - b‖² / d.
    - `histogram_intersection`: - Σ min(|aᵢ|, |bᵢ|) / (‖a‖₁ ‖b‖₁).
    - `normalized_histogram_intersection`: 1 - Σ min(|aᵢ| / ‖a‖₁, |bᵢ| / ‖b‖₁).

    The last two are two readings of one name of the paper, which has no formula for it.

    Returns:
        `[batch]`, at least float32. A gradient of zeros has the cosine 0 with any.

    Raises:
        ValueError: An unknown kind.

    References:
        Torres Figueroa et al., *A Learning Paradigm for Interpretable Gradients*,
        VISAPP 2024.
    """
    choices.check("distance", kind, Distance)
    first, second = _rows(plain), _rows(guided)
    if kind == "cosine":
        return 1 - cosine(plain, guided)
    if kind == "mean_absolute":
        return jnp.mean(jnp.abs(first - second), axis=1)
    if kind == "mean_squared":
        return jnp.mean(jnp.square(first - second), axis=1)
    first, second = jnp.abs(first), jnp.abs(second)
    sums = [jnp.sum(rows, axis=1, keepdims=True) + TINY for rows in (first, second)]
    if kind == "histogram_intersection":
        shared = jnp.sum(jnp.minimum(first, second), axis=1)
        return -shared / (sums[0] * sums[1])[:, 0]
    return 1 - jnp.sum(jnp.minimum(first / sums[0], second / sums[1]), axis=1)


def cosine(
    plain: Float[Array, "batch height width channels"],
    guided: Float[Array, "batch height width channels"],
) -> PerImage:
    """Compute the cosine of the angle between two gradients of each image.

    Returns:
        `[batch]` in [-1, 1]; 0 where one of them is zero everywhere.
    """
    first, second = _unit(_rows(plain)), _unit(_rows(guided))
    return jnp.sum(first * second, axis=1)


def alignment(
    images: Images, gradient: Float[Array, "batch height width channels"]
) -> PerImage:
    """Compute the length of the image's projection on a gradient, |<x, g>| / ‖g‖.

    Of a linear network without biases and with one logit it is the distance of the
    image to the boundary.

    Args:
        images: `[batch, height, width, channels]` in [0, 1]; black is the origin.
        gradient: Gradient of the predicted class's logit by the pixels.

    Returns:
        `[batch]`, from 0 to the length of the image; 0 where the gradient is zero.

    References:
        Etmann, Lunz, Maass & Schönlieb, *On the Connection Between Adversarial
        Robustness and Saliency Map Interpretability*, ICML 2019, definition of the
        alignment with several classes.
    """
    return jnp.abs(jnp.sum(_rows(images) * _unit(_rows(gradient)), axis=1))


def total_variation(
    gradient: Float[Array, "batch height width channels"],
) -> PerImage:
    """Compute how rough a gradient is, at a largest magnitude of 1.

    The mean of |g - its neighbour below| and |g - its neighbour to the right|, over
    max |g|.

    Returns:
        `[batch]` in [0, 2]: near 0 where it is smooth or nearly nothing but few peaks;
        0 where it is zero everywhere.
    """
    wide = _wide(gradient)
    largest = jnp.max(jnp.abs(wide), axis=(1, 2, 3))
    steps = [jnp.abs(jnp.diff(wide, axis=axis)) for axis in (1, 2)]
    total = sum(jnp.sum(each, axis=(1, 2, 3)) for each in steps)
    count = max(sum(each[0].size for each in steps), 1)
    return total / (count * jnp.where(largest > 0, largest, 1))


def _unit(rows: jax.Array) -> jax.Array:
    """Scale rows to norm 1; no square of a tiny number is lost, and zeros stay."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(rows), axis=1, keepdims=True))
    scaled = rows / jnp.where(largest > 0, largest, 1)
    squares = jnp.sum(jnp.square(scaled), axis=1, keepdims=True)
    # Rows of zeros would have a derivative that is no number.
    return scaled * jax.lax.rsqrt(jnp.where(squares > 0, squares, 1))


def _rows(gradient: Array) -> jax.Array:
    return _wide(gradient).reshape(len(gradient), -1)


def _wide(gradient: Array) -> jax.Array:
    return jnp.asarray(gradient, jnp.promote_types(gradient.dtype, jnp.float32))
