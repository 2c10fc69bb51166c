"""The variables of an untrained network, drawn by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import tree
from unlir_jax.models.backbone import Network
from unlir_jax.models.shapes import shapes
from unlir_jax.types import Module, PyTree, Variables

POOL = "params/pool/"
LEARNED = frozenset(
    "position class_token distillation_token register_tokens latent table".split()
)
"""Names of what is neither kernel, bias nor scale, and is drawn with a deviation of
0.02: learned tokens, and positions."""


def example(network: Network) -> jax.ShapeDtypeStruct:
    """Give the shape of one image of the size that a network is made for."""
    size = network.image_size
    return jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)


def random_variables(module: Module, network: Network, seed: int = 0) -> Variables:
    """Draw the variables of an untrained backbone, normal as He et al.

    The same distribution as the module's own `init`, whose compilation takes from
    twenty seconds to minutes on CPU; kernels are drawn by NumPy instead.
    """
    generator = np.random.default_rng(seed)
    factor = getattr(getattr(module, "backbone", module), "scale", None) or 1.0
    pool = getattr(module, "draw", None)  # Of a network that pools by attention.
    drawn = {
        path: pool(generator, path, leaf)
        if pool and path.startswith(POOL)
        else leaf_of(generator, path, leaf, factor)
        for path, leaf in shapes(module, network.image_size).items()
    }
    return tree.unflatten(drawn)


def with_head(
    module: Module, variables: Variables, image_size: int, seed: int = 0
) -> Variables:
    """Give the variables of a network whose head has changed.

    What fits is kept, what is missing or has another shape is drawn.

    Args:
        module: The network.
        variables: Variables of the same network with another head.
        image_size: Side of its images in pixels.
        seed: Seed of what is drawn.
    """
    generator, known = np.random.default_rng(seed), tree.flatten(variables)
    leaves = {
        path: known[path]
        if path in known and np.shape(known[path]) == leaf.shape
        else leaf_of(generator, path, leaf)
        for path, leaf in sorted(shapes(module, image_size).items())
    }
    return tree.unflatten(leaves)


def leaf_of(
    generator: np.random.Generator, path: str, leaf: PyTree, factor: float = 1.0
) -> np.ndarray:
    """Draw one array.

    Args:
        generator: Source of the numbers.
        path: Path of the array, whose last name says what it is.
        leaf: Its shape.
        factor: At which layer scales start.
    """
    name = path.rpartition("/")[2]
    if name == "factor":
        return np.full(leaf.shape, factor, np.float32)
    if name in LEARNED:
        return generator.normal(0, 0.02, leaf.shape).astype(np.float32)
    if name != "kernel":
        ones = name in ("scale", "var", "temperature")
        return (np.ones if ones else np.zeros)(leaf.shape, np.float32)
    *space, incoming, outgoing = leaf.shape
    # Convolutions by what they feed, dense layers by what feeds them.
    fan = np.prod(space) * outgoing / 2 if space else incoming
    if space and incoming == 1:  # Depthwise: each filter feeds one channel.
        fan = np.prod(space) / 2
    return generator.normal(0, fan**-0.5, leaf.shape).astype(np.float32)
