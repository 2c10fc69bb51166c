"""Describe images by their parts, learnt without labels."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from unlir_jax.parts import clustering, discovery, products
from unlir_jax.types import Array, Module, Variables

DIMENSIONS = 64
NEIGHBOURS = 5
SHRINKAGE = 0.1


class Encoder(NamedTuple):
    """Hold a linear map from the descriptors of parts to an encoding.

    Attributes:
        mean: Mean descriptor of the training images, `[parts, length]`.
        scale: Divisor, `[length]`.
        kernel: `[parts, length, dimensions]`.
    """

    mean: np.ndarray
    scale: np.ndarray
    kernel: np.ndarray


class Encoded(NamedTuple):
    """Hold an encoder, and the training images as it sees them.

    Attributes:
        encodings: `[images, dimensions]`, of mean zero; not of unit length.
        combinations: `[images, dimensions]`, what `products.combine` makes the
            encoder's kernel of.
    """

    encodings: np.ndarray
    combinations: np.ndarray


def whiten(
    values: Float[Array, "pictures pictures"],
    dimensions: int = DIMENSIONS,
    *,
    neighbours: int = NEIGHBOURS,
    shrinkage: float = SHRINKAGE,
) -> Encoded:
    """Whiten descriptors by what differs between neighbours, from inner products.

    `discovery.neighbour_whitening` after a principal component analysis, which inner
    products suffice for. No label is used.

    Args:
        values: Inner products of the training images' descriptors less their mean.
        dimensions: To keep, less than there are images.
        neighbours: See `neighbour_whitening`.
        shrinkage: See `neighbour_whitening`.

    Raises:
        ValueError: See `neighbour_whitening`; images that are all the same.
    """
    values = np.asarray(values, np.float64)
    discovery.check_neighbours(len(values), neighbours, shrinkage, 1)
    variances, vectors = np.linalg.eigh(values)
    kept = variances > 1e-10 * max(variances[-1], np.finfo(np.float64).tiny)
    kept[: -discovery.DIRECTIONS] = False
    if not kept.any():
        raise ValueError(
            f"{len(values)} images have the same descriptors; expected images that "
            "differ."
        )
    lengths = np.sqrt(variances[kept])
    rows = vectors[:, kept] * lengths
    matrix, _ = discovery.discriminate(
        rows, dimensions, neighbours=neighbours, shrinkage=shrinkage
    )
    return Encoded(rows @ matrix, (vectors[:, kept] / lengths) @ matrix)


def fit(
    module: Module,
    variables: Variables,
    maps: Array,
    dimensions: int = DIMENSIONS,
    *,
    neighbours: int = NEIGHBOURS,
    shrinkage: float = SHRINKAGE,
) -> Encoder:
    """Fit an encoder to training images; no label is used.

    Args:
        module: A `models.parts.PartNet` that decides by `descriptors`.
        variables: Its variables; whitening and parts are used.
        maps: What its `features` gave of training images.
        dimensions: See `whiten`.
        neighbours: See `whiten`.
        shrinkage: See `whiten`.

    Raises:
        ValueError: See `whiten`.
    """
    found = products.gather(module, variables, maps)
    white = whiten(found.values, dimensions, neighbours=neighbours, shrinkage=shrinkage)
    return Encoder(found.mean, found.scale, found.combine(white.combinations))


def encode(
    module: Module, variables: Variables, encoder: Encoder, maps: Array
) -> np.ndarray:
    """Encode images at unit length, `[images, dimensions]`.

    Args:
        module: Part network given to `fit`.
        variables: Variables given to `fit`.
        encoder: Result of `fit`.
        maps: Feature maps; may lie on the disk, and are read by chunks.
    """
    kernel = encoder.kernel / encoder.scale[None, :, None]

    @jax.jit
    def one(variables: Variables, rows: Array) -> jax.Array:
        found = module.apply(variables, rows, method="describe") - encoder.mean[None]
        return clustering.unit(jnp.einsum("bpw,pwd->bd", found, kernel))

    rows = [np.asarray(one(variables, rows)) for _, rows in products.chunks(maps)]
    return np.concatenate(rows)[: len(maps)]
