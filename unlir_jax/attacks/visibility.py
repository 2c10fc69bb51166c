"""Visibility of changes: structural similarity and colour difference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from unlir_jax.types import Images, PyTree

WINDOW, DEVIATION = 11, 1.5
"""Width of the Gaussian window, and its standard deviation, in pixels."""
STABLE = (0.01**2, 0.03**2)
"""Constants C1 and C2 for values in [0, 1]."""
PRIMARIES = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
"""X, Y, Z of linear red, green and blue (ITU-R BT.709)."""
WHITE = (0.95047, 1.0, 1.08883)
"""X, Y, Z of the standard light D65."""


@jax.jit
def ssim(images: Images, others: Images) -> jax.Array:
    """Measure structural similarity, the mean over channels and windows, `[batch]`.

    Windows are Gaussian, 11 x 11 pixels, and lie inside the image. In smaller images
    they have the largest odd width that fits. 1 means equal.

    Args:
        images: `[batch, height, width, channels]` in [0, 1].
        others: The same shape.

    References:
        Wang et al., *Image Quality Assessment: From Error Visibility to Structural
        Similarity*, TIP 2004, Eq. 13.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax.attacks import visibility
        >>> black = jnp.zeros((1, 16, 16, 1))
        >>> visibility.ssim(black, black).tolist()
        [1.0]
    """
    smallest = min(images.shape[1:3])
    width = min(WINDOW, smallest - 1 + smallest % 2)
    offsets = np.arange(width) - width // 2
    weights = np.exp(-(offsets**2) / (2 * DEVIATION**2))
    mean = functools.partial(_filtered, weights=weights / weights.sum())
    # Variances do not depend on a shift, and round less around zero.
    one, other = images - 0.5, others - 0.5
    first, second = mean(one), mean(other)
    variances = mean(one * one) - first**2 + mean(other * other) - second**2
    covariance = mean(one * other) - first * second
    first, second = first + 0.5, second + 0.5
    luminance = (2 * first * second + STABLE[0]) / (first**2 + second**2 + STABLE[0])
    structure = (2 * covariance + STABLE[1]) / (variances + STABLE[1])
    return jnp.mean(luminance * structure, axis=(1, 2, 3))


def _filtered(images: PyTree, weights: np.ndarray) -> jax.Array:
    """Filter rows and columns of each channel, where the window fits."""
    batch, height, width, channels = images.shape
    flat = jnp.moveaxis(images, 3, 1).reshape((batch * channels, height, width, 1))
    for shape in ((-1, 1, 1, 1), (1, -1, 1, 1)):
        kernel = jnp.asarray(weights, images.dtype).reshape(shape)
        flat = lax.conv_general_dilated(
            flat,
            kernel,
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision="highest",
        )
    found = flat.reshape((batch, channels, *flat.shape[1:3]))
    return jnp.moveaxis(found, 1, 3)


@jax.jit
def ciede2000(images: Images, others: Images) -> jax.Array:
    """Measure the mean colour difference of the pixels, `[batch]`, 0 or more.

    1 is about what people notice next to each other. Images are sRGB, or grey.

    Args:
        images: `[batch, height, width, 1 or 3]` in [0, 1].
        others: The same shape.

    References:
        Sharma et al., *The CIEDE2000 Color-Difference Formula: Implementation Notes,
        Supplementary Test Data, and Mathematical Observations*, 2005.
    """
    return jnp.mean(difference(lab(images), lab(others)), axis=(1, 2))


def lab(images: Images) -> jax.Array:
    """Convert sRGB in [0, 1], or grey, to CIELAB in the light D65, `[..., 3]`."""
    images = jnp.broadcast_to(images, (*images.shape[:-1], 3))
    bright = images > 0.04045
    powers = ((jnp.where(bright, images, 1) + 0.055) / 1.055) ** 2.4
    linear = jnp.where(bright, powers, images / 12.92)
    matrix = np.asarray(PRIMARIES) / np.asarray(WHITE)[:, None]
    tristimulus = jnp.einsum(
        "...c,xc->...x", linear, jnp.asarray(matrix, images.dtype), precision="highest"
    )
    roots = jnp.cbrt(tristimulus)
    roots = jnp.where(tristimulus > 0.008856, roots, 7.787 * tristimulus + 16 / 116)
    x, y, z = roots[..., 0], roots[..., 1], roots[..., 2]
    return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def difference(one: jax.Array, other: jax.Array) -> jax.Array:
    """Give the CIEDE2000 difference of colours in CIELAB, `[..., 3]` to `[...]`.

    These are equations 2 to 22 of Sharma et al.; comments give their names.
    """
    lightness, a, b = (jnp.stack([one[..., i], other[..., i]]) for i in range(3))
    chroma = jnp.mean(jnp.hypot(a, b), axis=0)
    a = a * (1.5 - 0.5 * _heavy(chroma))[None]  # a'
    chroma = jnp.hypot(a, b)  # C'
    hue = jnp.where(chroma > 0, jnp.arctan2(b, a) % (2 * jnp.pi), 0)  # h'
    grey = chroma[0] * chroma[1] == 0
    turn = hue[1] - hue[0]
    turn = turn - 2 * jnp.pi * jnp.sign(turn) * (jnp.abs(turn) > jnp.pi)
    turn = jnp.where(grey, 0, turn)  # Delta h'
    total = hue[0] + hue[1]
    around = jnp.where(total < 2 * jnp.pi, total + 2 * jnp.pi, total - 2 * jnp.pi)
    far = jnp.abs(hue[1] - hue[0]) > jnp.pi
    middle = jnp.where(grey, total, jnp.where(far, around, total) / 2)  # mean h'
    brightness, colour = jnp.mean(lightness, axis=0), jnp.mean(chroma, axis=0)
    wave = (
        1
        - 0.17 * jnp.cos(middle - jnp.deg2rad(30))
        + 0.24 * jnp.cos(2 * middle)
        + 0.32 * jnp.cos(3 * middle + jnp.deg2rad(6))
        - 0.20 * jnp.cos(4 * middle - jnp.deg2rad(63))
    )  # T
    off = (brightness - 50) ** 2
    lightness_term = (lightness[1] - lightness[0]) / (
        1 + 0.015 * off / jnp.sqrt(20 + off)
    )
    chroma_term = (chroma[1] - chroma[0]) / (1 + 0.045 * colour)
    hue_term = 2 * jnp.sqrt(chroma[0] * chroma[1]) * jnp.sin(turn / 2)  # Delta H'
    hue_term = hue_term / (1 + 0.015 * colour * wave)
    blue = jnp.exp(-(((jnp.rad2deg(middle) - 275) / 25) ** 2))
    rotation = -jnp.sin(2 * jnp.deg2rad(30) * blue) * 2 * _heavy(colour)  # R_T
    squares = lightness_term**2 + chroma_term**2 + hue_term**2
    return jnp.sqrt(jnp.maximum(squares + rotation * chroma_term * hue_term, 0))


def _heavy(chroma: jax.Array) -> jax.Array:
    """Give `sqrt(C^7 / (C^7 + 25^7))`."""
    power = (chroma / 25) ** 7
    return jnp.sqrt(power / (power + 1))
