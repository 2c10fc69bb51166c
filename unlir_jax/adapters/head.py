"""Heads of adapters: descriptors in, logits out."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Float

from unlir_jax.parts import clustering
from unlir_jax.types import Array

HEADS = {"cosine": ("kernel",), "linear": ("kernel", "bias")}
"""Arrays of a head by its kind; a bias of cosines would count for nothing."""

SCALE = 15.0


def logits(
    kind: str,
    head: Mapping[str, Array],
    descriptors: Float[Array, "batch channels"],
    scale: float = SCALE,
) -> jax.Array:
    """Classify descriptors by a cosine or a linear head.

    Args:
        kind: `cosine` or `linear`, see `HEADS`.
        head: `kernel` `[channels, classes]`; a linear head has `bias` `[classes]` too.
        descriptors: Pooled maps of the images.
        scale: Factor of the cosines; a linear head has none.
    """
    if kind == "cosine":
        kernel = head["kernel"]
        length = jnp.linalg.norm(kernel, axis=0, keepdims=True)
        directions = kernel / jnp.maximum(length, 1e-12)
        return scale * clustering.unit(descriptors) @ directions
    return jnp.asarray(descriptors) @ head["kernel"] + head["bias"][None]
