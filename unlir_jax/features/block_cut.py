"""A backbone cut before the first block that learns; the part before runs once."""

import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.core import choices
from unlir_jax.models import channels
from unlir_jax.types import Array, Features, Module, Variables

CHUNK = 64
# Of the units, what comes before the cut unless another block is asked for.
BEFORE = 0.4


class Cut(NamedTuple):
    """Hold the two halves of a backbone.

    Attributes:
        before: `(variables, images) -> inner`; images themselves where nothing is cut.
        after: `(variables, inner) -> maps` of the whole backbone, of a transformer with
            the tokens that lead, for `pooling.describe`.
        at: Path of the module at whose output it is cut, "" for the images.
    """

    before: Callable[[Variables, Array], jax.Array]
    after: Callable[[Variables, Array], jax.Array | Features]
    at: str


def cut(module: Module, at: str, image_size: int) -> Cut:
    """Cut the backbone of a network at the output of a block.

    Args:
        module: A network with a method `features`.
        at: Path of the block, such as `block6`; "" for the images.
        image_size: Side in pixels of the images.
    """
    last = "last_features" if hasattr(module, "last_features") else "features"
    if not at:

        def whole(variables: Variables, images: Array) -> jax.Array | Features:
            return module.apply(dict(variables), images, method=last)

        return Cut(lambda variables, images: jnp.asarray(images), whole, at)

    def before(variables: Variables, images: Array) -> jax.Array:
        return split.run_to(module, at, variables, images, method="features")

    def after(variables: Variables, inner: Array) -> jax.Array | Features:
        return split.run_from(module, at, variables, inner, image_size, method=last)

    return Cut(before, after, at)


def units(module: Module, image_size: int) -> list[str]:
    """List the blocks of a backbone, and layers that are in none, in order."""
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    known = channels.blocks(module)
    paths = split.module_paths(module, images, method="features")
    return [path for path in paths if path in known]


def behind(
    module: Module, image_size: int, after: str = "auto", setting: str = "model.after"
) -> str:
    """Name the block behind which a backbone learns.

    Args:
        module: The network.
        image_size: Side in pixels of the images.
        after: A block, or "auto" for the last one of the first 40 per cent.
        setting: Name of its setting, for messages.

    Raises:
        ValueError: There is no such block, or nothing behind it.
    """
    known = units(module, image_size)
    if after == "auto" and len(known) > 1:
        return known[max(1, int(BEFORE * len(known))) - 1]
    wrong = f"`{setting}`={after!r} is no block with others behind it"
    return choices.pick(after, known[:-1], wrong, "expected 'auto' or one of {}")


def pattern(module: Module, image_size: int, after: str) -> str:
    """Give a pattern of the parameters of all blocks behind one."""
    known = units(module, image_size)
    names = known[known.index(after) + 1 :]
    return f"({'|'.join(map(re.escape, names))})/.*"


def last_pattern(module: Module, image_size: int) -> str:
    """Give a pattern of the parameters of the last block, and what comes after it."""
    known = units(module, image_size)
    return f"({'|'.join(map(re.escape, known[-2:]))})/.*"


def gather(
    half: Callable[[Variables, Array], jax.Array],
    variables: Variables,
    rows: Array | np.ndarray,
) -> np.ndarray:
    """Apply a compiled function to many rows, by chunks of one size.

    8-bit rows are pixels, and brought to [0, 1].
    """
    found = []
    for first in range(0, len(rows), CHUNK):
        some = np.asarray(rows[first : first + CHUNK])
        if some.dtype == np.uint8:
            some = some.astype(np.float32) / 255
        missing = CHUNK - len(some)
        padded = np.pad(some, [(0, missing)] + [(0, 0)] * (some.ndim - 1))
        found.append(np.asarray(half(variables, padded))[: len(some)])
    return np.concatenate(found)
