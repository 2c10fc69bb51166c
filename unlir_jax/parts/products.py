"""Inner products of what images' parts look like, without holding all of it at once.

A ridge regression and a whitening need no more than these, and both come back as one
kernel from descriptors: as a combination of the training images' descriptors.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from unlir_jax.types import Array, Module, Variables

CHUNK = 64
# Of what is held of descriptors at once; with more, images are gone through again.
BYTES = 2**30
# Weight of the finer maps; the last ones count for one.
FINER = 0.2


class Products(NamedTuple):
    """Hold inner products of descriptors, and a way back to the descriptors.

    Attributes:
        values: float64 `[images, images]`, of descriptors less `mean` over `scale`.
        mean: Mean descriptors, `[parts, length]`.
        scale: `[length]`.
        combine: From `[images, outputs]` to `[parts, length, outputs]`: the sum over
            images of descriptor times row.
    """

    values: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    combine: Callable[[np.ndarray], np.ndarray]


def chunks(maps: Array) -> Iterator[tuple[int, np.ndarray]]:
    """Read images by chunks of one size, the last one filled up."""
    for first in range(0, len(maps), CHUNK):
        rows = np.asarray(maps[first : first + CHUNK], np.float32)
        missing = CHUNK - len(rows)
        yield first, np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1))


def gather(module: Module, variables: Variables, maps: Array) -> Products:
    """Multiply the descriptors of all pairs of images, a block of parts at a time.

    With all of them at once, memory would grow with images times parts.

    Args:
        module: A `models.parts.PartNet` that decides by `descriptors`.
        variables: Its variables; whitening and parts are used.
        maps: What its `features` gave, `[images, rows, columns, channels]`; may lie
            on the disk.
    """
    head, pictures = module.classifier, len(maps)
    block = max(1, min(head.parts, BYTES // (4 * pictures * head.length)))
    starts = [min(first, head.parts - block) for first in range(0, head.parts, block)]

    @jax.jit
    def describe(variables: Variables, rows: Array, first: Array) -> Array:
        return module.apply(variables, rows, first, block, method="describe")

    @functools.lru_cache(maxsize=1)
    def descriptors(first: int) -> tuple[np.ndarray, np.ndarray]:
        found = np.empty((pictures, block, head.length), np.float32)
        for place, rows in chunks(maps):
            end = min(place + CHUNK, pictures)
            found[place:end] = np.asarray(describe(variables, rows, first))[
                : end - place
            ]
        usual = found.mean(0, dtype=np.float64).astype(np.float32)
        found -= usual
        return found, usual

    shape, channels = (head.parts, head.length), head.channels
    mean, layers = np.zeros(shape, np.float32), np.zeros((2, pictures, pictures))
    for number, first in enumerate(starts):
        found, mean[first : first + block] = descriptors(first)
        new = found[:, max(0, number * block - first) :]
        for layer, part in enumerate((new[..., :channels], new[..., channels:])):
            flat = part.reshape(pictures, -1)
            layers[layer] += flat @ flat.T
    scale, values = _scale(head, layers)

    def combine(rows: np.ndarray) -> np.ndarray:
        kernel = np.zeros((*shape, rows.shape[1]), np.float32)
        for first in reversed(starts):
            found, _ = descriptors(first)
            flat = (found / scale).reshape(pictures, -1).T @ rows.astype(np.float32)
            kernel[first : first + block] = flat.reshape(block, head.length, -1)
        return kernel

    return Products(values, mean, scale, combine)


def _scale(head: Module, layers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each layer its due in the inner products.

    Args:
        head: The decision.
        layers: Parts of descriptors from the last and the finer maps, `[2, images,
            images]`.

    Returns:
        What to divide descriptors by, `[length]`, so that entries of the last maps have
        std one and the finer maps together count `FINER` of them, however many
        channels they have; and the inner products of descriptors divided so.
    """
    pictures, others = layers.shape[1], head.length - head.channels
    entries = pictures * head.parts * head.channels
    last, finer = np.sqrt(np.trace(layers, axis1=1, axis2=2) / entries)
    least = np.finfo(np.float32).tiny
    last, finer = max(last, least), max(finer / np.sqrt(FINER), least)
    scale = np.repeat([last, finer], [head.channels, others]).astype(np.float32)
    # Twice each, as the square of the least number is zero.
    return scale, layers[0] / last / last + layers[1] / finer / finer
