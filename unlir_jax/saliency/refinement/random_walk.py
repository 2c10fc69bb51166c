"""Maps that spread along pixels of one colour, as a random walk does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps
from unlir_jax.saliency.refinement import pixels
from unlir_jax.types import Images, Saliency


def transitions(
    images: Images, *, radius: float | int = 0.1, colour: float | int = 0.1
) -> jax.Array:
    """Give the probabilities of steps between pixels: near ones of like colours.

    `T_ij` is proportional to `exp(-|I_i - I_j|² / 2 colour²)` for pixels whose places
    are at most `radius` apart, itself among them, and 0 for others; each row sums to 1.

    Args:
        images: `[batch, rows, columns, channels]`, of the maps' size.
        radius: Longest step, as a share of the longer side.
        colour: Distance of colours that are alike, in [0, 1].

    Returns:
        `[batch, pixels, pixels]`, pixels in row-major order.

    Raises:
        ValueError: A setting out of its range, or too many pixels for all pairs.
    """
    _check(radius, colour)
    size = jnp.shape(images)[1:3]
    pixels.check_count("images", size)
    near = jnp.asarray(_near(size, float(radius)))
    one = functools.partial(_step, near=near, colour=float(colour))
    return jax.lax.map(one, jnp.asarray(images))


def _near(size: tuple[int, ...], radius: float) -> np.ndarray:
    # A little more, so that a distance which is the radius up to rounding counts.
    return pixels.squared_steps(size) <= (radius * (1 + 1e-6)) ** 2


def _step(image: jax.Array, *, near: jax.Array, colour: float) -> jax.Array:
    alike = jnp.exp(-pixels.squared_distances(image) / (2 * colour**2))
    weights = jnp.where(near, alike, 0)
    return weights / weights.sum(1, keepdims=True)


def random_walk(
    images: Images,
    saliency: Saliency,
    *,
    steps: int = 32,
    radius: float | int = 0.1,
    colour: float | int = 0.1,
) -> jax.Array:
    """Replace each pixel by the mean of the map where a random walk from it ends.

    `T^steps s`, with `T` as in `transitions`. A constant map stays as it is, and no
    value leaves the range of the map.

    Args:
        images: `[batch, height, width, 3]`; averaged down to the maps' size if larger.
        saliency: Maps, at most as large as the images.
        steps: Length of the walk, 0 or more.
        radius: See `transitions`.
        colour: See there.

    Returns:
        Maps of the same shape.

    Raises:
        ValueError: Shapes that do not fit, or a setting out of its range.

    References:
        Ahn and Kwak, *Learning pixel-level semantic affinity with image-level
        supervision*, CVPR 2018, Eq. 6-7. Difference: affinities follow colours,
        which nothing has to learn.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import saliency
        >>> images = jnp.asarray([[[[0.0] * 3, [0.0] * 3, [1.0] * 3, [1.0] * 3]]])
        >>> seeds = jnp.asarray([[[1.0, 0.0, 0.0, 0.0]]])
        >>> saliency.random_walk(images, seeds, radius=0.3).round(2).tolist()
        [[[0.5, 0.5, 0.0, 0.0]]]
    """
    maps.check_saliency(saliency, images)
    _check(radius, colour)
    if steps < 0:
        raise ValueError(f"`steps`={steps}; expected 0 or more.")
    small = pixels.shrunk(images, saliency.shape[1:3])
    if small.shape[:3] != saliency.shape:
        raise ValueError(
            f"`saliency` has shape {saliency.shape}; expected maps that are not larger "
            f"than the images, {jnp.shape(images)[1:3]}."
        )
    pixels.check_count("saliency", saliency.shape[1:3])
    near = _near(saliency.shape[1:3], float(radius))
    return _walked(small, jnp.asarray(saliency), near, steps, float(colour))


def _check(radius: float, colour: float) -> None:
    for name, value in (("radius", radius), ("colour", colour)):
        if not value > 0:
            raise ValueError(f"`{name}`={value}; expected a distance above 0.")


@functools.partial(jax.jit, static_argnums=(3, 4))
def _walked(
    images: jax.Array, saliency: jax.Array, near: jax.Array, steps: int, colour: float
) -> jax.Array:
    def one(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        image, before = pair
        step = _step(image, near=near, colour=colour)

        def walk(_: jax.Array, now: jax.Array) -> jax.Array:
            return jnp.matmul(step, now, precision="highest")

        return jax.lax.fori_loop(0, steps, walk, before.ravel()).reshape(before.shape)

    return jax.lax.map(one, (images, saliency))
