"""Networks small enough to know by heart."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from unlir_jax import split

GOLDEN = Path(__file__).parent / "golden" / "toy_float64.npz"


def golden():
    """Read the float64 network's weights, images and reference outputs."""
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file.files}


def golden_models():
    """Give the float64 network cut at its first and at its second layer."""

    def layer(stride, name):
        def apply(variables, maps):
            kernel, bias = variables[f"{name}_kernel"], variables[f"{name}_bias"]
            maps = lax.conv_general_dilated(
                maps,
                kernel,
                (stride, stride),
                ((1, 1), (1, 1)),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            return jax.nn.relu(maps + bias[None, None, None])

        return apply

    def head(variables, maps):
        pooled = maps.mean((1, 2))
        return pooled @ variables["dense_kernel"] + variables["dense_bias"][None]

    first, second = layer(1, "conv1"), layer(2, "conv2")
    return (
        split.from_functions(first, lambda v, maps: head(v, second(v, maps))),
        split.from_functions(lambda v, images: second(v, first(v, images)), head),
    )


class Plain(nn.Module):
    """Three convolutions of equal cost, pooled and classified."""

    classes: int = 5

    @nn.compact
    def __call__(self, images, train=False):
        for index in range(3):
            images = nn.relu(nn.Conv(8, (3, 3), name=f"conv{index}")(images))
        return nn.Dense(self.classes, name="dense")(jnp.mean(images, (1, 2)))


class Skipping(nn.Module):
    """A network whose input also bypasses its only convolution."""

    @nn.compact
    def __call__(self, images):
        maps = nn.Conv(3, (3, 3), name="conv")(images)
        return nn.Dense(4, name="dense")(jnp.mean(maps + images, (1, 2)))


class Shared(nn.Module):
    """A network that runs one convolution twice."""

    @nn.compact
    def __call__(self, images):
        conv = nn.Conv(3, (3, 3), name="conv")
        return jnp.mean(conv(conv(images)), (1, 2))


class Halves(nn.Module):
    """A network with two methods, as our own backbones."""

    def setup(self):
        self.conv = nn.Conv(6, (3, 3))
        self.dense = nn.Dense(4)

    def features(self, images):
        return nn.relu(self.conv(images))

    def head(self, maps):
        return self.dense(jnp.mean(maps, (1, 2)))

    def __call__(self, images):
        return self.head(self.features(images))


def random_variables(module, images, seed=0):
    """Initialise a module, and give each leaf values that are not special."""
    # The generator `rbg` compiles much faster than the default.
    key = jax.random.key(seed, impl="rbg")
    variables = jax.jit(module.init)(key, jnp.asarray(images))
    leaves, structure = jax.tree.flatten(variables)
    keys = jax.random.split(key, len(leaves))
    moved = [
        leaf + 0.1 * jax.random.uniform(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, moved)
