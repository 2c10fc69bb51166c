"""Gaussian blur of any width, the same program for all."""

import jax
import jax.numpy as jnp

from unlir_jax.types import Images, PyTree


@jax.jit
def blur(images: Images, sigma: PyTree) -> jax.Array:
    """Blur with a Gaussian of `sigma` pixels, its weights adding to 1 at the border.

    A standard deviation of 0 leaves the image as it is.
    """
    images = jnp.asarray(images)
    wide = jnp.promote_types(images.dtype, jnp.float32)

    def weights(length: int) -> jax.Array:
        place = jnp.arange(length, dtype=wide)
        distance = (place[:, None] - place[None]) ** 2
        # Its neighbours' weights are exp(-5e5).
        narrow = jnp.maximum(jnp.asarray(sigma, wide), 1e-3)
        return jax.nn.softmax(-distance / (2 * narrow**2)).astype(images.dtype)

    rows, columns = weights(images.shape[1]), weights(images.shape[2])
    down = jnp.einsum("hr,brwc->bhwc", rows, images, precision="highest")
    return jnp.einsum("vw,bhwc->bhvc", columns, down, precision="highest")
