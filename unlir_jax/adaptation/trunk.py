"""A trunk cut before the first block that learns: what is before is computed once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from unlir_jax import split
from unlir_jax.types import Array, Variables

CHUNK = 64


class Cut(NamedTuple):
    """Hold the two halves of a trunk.

    Attributes:
        before: `(variables, images) -> inner`; images themselves where nothing is cut.
        after: `(variables, inner) -> maps` of the whole trunk.
        at: Path of the module at whose output it is cut, "" for the images.
    """

    before: Callable[[Variables, Array], jax.Array]
    after: Callable[[Variables, Array], jax.Array]
    at: str


def cut(module: Any, at: str, image_size: int) -> Cut:
    """Cut the trunk of a network at the output of a block.

    Args:
        module: A network with a method `features`.
        at: Path of the block, such as `block6`; "" for the images.
        image_size: Side in pixels of the pictures.
    """
    if not at:

        def whole(variables: Variables, images: Array) -> jax.Array:
            return module.apply(dict(variables), images, method="features")

        return Cut(lambda variables, images: jnp.asarray(images), whole, at)

    def before(variables: Variables, images: Array) -> jax.Array:
        return split.run_to(module, at, variables, images, method="features")

    def after(variables: Variables, inner: Array) -> jax.Array:
        return split.run_from(
            module, at, variables, inner, image_size, method="features"
        )

    return Cut(before, after, at)


def gather(
    half: Callable[[Variables, Array], jax.Array],
    variables: Variables,
    rows: Array | np.ndarray,
) -> np.ndarray:
    """Apply a compiled function to many rows, by chunks of one size."""
    found = []
    for first in range(0, len(rows), CHUNK):
        some = np.asarray(rows[first : first + CHUNK])
        missing = CHUNK - len(some)
        padded = np.pad(some, [(0, missing)] + [(0, 0)] * (some.ndim - 1))
        found.append(np.asarray(half(variables, padded))[: len(some)])
    return np.concatenate(found)


def as_images(pixels: np.ndarray) -> Float[np.ndarray, "batch height width 3"]:
    """Bring 8-bit pixels to [0, 1]."""
    return pixels.astype(np.float32) / 255
