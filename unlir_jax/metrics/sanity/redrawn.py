"""Networks that have lost what they learned, layer by layer.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt & Kim, *Sanity checks for saliency maps*,
NeurIPS 2018, Sections 4 and 5.
"""

import math
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from unlir_jax import tree
from unlir_jax.types import RandomKey, Variables

ONES = ("scale", "var")


def layers(variables: Variables, order: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Assign every leaf to a layer: the deepest path of `order` that it lies under.

    Args:
        variables: The network's.
        order: Paths of modules or parts of them from the image to the head, such as
            `split.module_paths` lists or `("stem", "layer1", ..., "classifier")`;
            without the name of the collection.

    Returns:
        Paths of leaves by layer, in the order given; layers without leaves are left
        out.

    Raises:
        ValueError: A leaf lies under no path.
    """
    found: dict[str, list[str]] = {path: [] for path in order}
    lost = []
    for leaf in tree.flatten(variables):
        # "params/conv/kernel" lies under "conv", and so does "conv/kernel".
        names = (leaf, leaf.partition("/")[2])
        homes = [
            path
            for path in order
            if any(name == path or name.startswith(f"{path}/") for name in names)
        ]
        if homes:
            found[max(homes, key=len)].append(leaf)
        else:
            lost.append(leaf)
    if lost:
        raise ValueError(
            f"`order` has no layer for {', '.join(lost[:5])}"
            f"{' and others' if len(lost) > 5 else ''}; expected paths that cover all "
            f"parameters, got {', '.join(order) or 'none'}."
        )
    return {path: tuple(leaves) for path, leaves in found.items() if leaves}


def redraw(variables: Variables, key: RandomKey) -> Variables:
    """Draw variables that have learned nothing, each leaf from its own key.

    Kernels are normal with variance `2 / fan_in` (He et al. 2015); vectors and scalars
    called `scale` or `var` are 1 and all others 0, as networks start.

    Args:
        variables: Variables with the structure and shapes of the result.
        key: The same key gives the same variables, whatever the order of leaves.
    """

    def draw(path: str, leaf: Any) -> jax.Array:
        leaf = jnp.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        if leaf.ndim < 2 or not jnp.issubdtype(leaf.dtype, jnp.floating):
            ones = path.rpartition("/")[2] in ONES
            return jnp.ones_like(leaf) if ones else jnp.zeros_like(leaf)
        own = jax.random.fold_in(key, zlib.crc32(path.encode()))
        deviation = math.sqrt(2 / math.prod(leaf.shape[:-1]))
        return deviation * jax.random.normal(own, leaf.shape, leaf.dtype)

    return tree.map_with_path(draw, variables)
