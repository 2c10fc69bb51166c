"""Networks as newcomers have them, each by a factory for `--model own_networks:NAME`.

Weights are drawn by NumPy, so that nothing but the networks is compiled.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

import unlir_jax
from unlir_jax import split

SIZE, CLASSES = 16, 5
IMAGES = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)


def drawn(shapes):
    """Draw numbers for a tree of shapes."""
    random = np.random.default_rng(0)

    def draw(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return np.zeros(leaf.shape, leaf.dtype)
        fan = np.sqrt(np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 3
        start = 1 if len(leaf.shape) == 1 else 0
        values = start + random.standard_normal(leaf.shape) * 1.4 / fan
        return np.abs(values).astype(np.float32) if start else values.astype(np.float32)

    return jax.tree.map(draw, shapes)


def linen_variables(module, **arguments):
    initialise = functools.partial(module.init, jax.random.key(0), **arguments)
    return drawn(jax.eval_shape(initialise, IMAGES))


def nnx_module(make):
    """Make an NNX module whose arrays are drawn by NumPy."""
    graph, shapes = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    module = nnx.merge(graph, drawn(shapes))
    module.eval()
    return module


class LinenCNN(nn.Module):
    """Two convolutions with norms, and dropout before the classifier."""

    classes: int = CLASSES

    @nn.compact
    def __call__(self, images, train=False):
        for index in range(2):
            images = nn.Conv(8, (3, 3), (2, 2), name=f"conv{index}")(images)
            norm = nn.BatchNorm(use_running_average=not train, name=f"norm{index}")
            images = nn.relu(norm(images))
        pooled = nn.Dropout(0.5, deterministic=not train)(images.mean((1, 2)))
        return nn.Dense(self.classes, name="dense")(pooled)


def linen_cnn():
    module = LinenCNN()
    model = split.from_linen(module, "conv1>relu", train=False)
    return unlir_jax.wrap(
        model,
        linen_variables(module),
        image_size=SIZE,
        mean=(0.5, 0.4, 0.3),
        std=0.25,
        class_names=("ant", "bee", "cat", "dog", "eel"),
        layer="conv1, after the ReLU",
    )


class NNXCNN(nnx.Module):
    """Convolutions in a list, with norms and dropout."""

    def __init__(self, rngs, classes=CLASSES):
        self.convs = nnx.List(
            [nnx.Conv(n, 8, (3, 3), 2, rngs=rngs) for n in (3, 8)],
        )
        self.norms = nnx.List([nnx.BatchNorm(8, rngs=rngs) for _ in range(2)])
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(8, classes, rngs=rngs)

    def __call__(self, images):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            images = nnx.relu(norm(conv(images)))
        return self.dense(self.drop(images.mean((1, 2))))


def nnx_cnn():
    model, variables = split.from_nnx(nnx_module(NNXCNN), at="norms/1")
    return unlir_jax.wrap(model, variables, image_size=SIZE, layer="norms/1")


class Encoder(nnx.Module):
    """A block of a transformer: attention and two layers, with residuals."""

    def __init__(self, channels, rngs):
        self.norm = nnx.LayerNorm(channels, use_fast_variance=False, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, channels, decode=False, rngs=rngs)
        self.inner = nnx.Linear(channels, 2 * channels, rngs=rngs)
        self.outer = nnx.Linear(2 * channels, channels, rngs=rngs)

    def __call__(self, tokens):
        tokens = tokens + self.attention(self.norm(tokens))
        return tokens + self.outer(nnx.silu(self.inner(tokens)))


class ViT(nnx.Module):
    """Patches, a class token and a register token, and blocks in a list."""

    def __init__(self, rngs, channels=8, patch=4, leading=2):
        self.patches = nnx.Conv(3, channels, (patch,) * 2, patch, rngs=rngs)
        self.leading = nnx.Param(rngs.params.normal((1, leading, channels)))
        count = leading + (SIZE // patch) ** 2
        self.places = nnx.Param(rngs.params.normal((1, count, channels)))
        self.blocks = nnx.List([Encoder(channels, rngs) for _ in range(2)])
        self.dense = nnx.Linear(channels, CLASSES, rngs=rngs)

    def __call__(self, images):
        maps = self.patches(images)
        tokens = maps.reshape(len(maps), -1, maps.shape[-1])
        leading = jnp.tile(self.leading[...], (len(maps), 1, 1))
        tokens = jnp.concatenate([leading, tokens], 1) + self.places[...]
        for block in self.blocks:
            tokens = block(tokens)
        return self.dense(tokens[:, 0])


def nnx_vit():
    model, variables = split.from_nnx(
        nnx_module(ViT), at="blocks/0", tokens=(2, "square"), mean=(0.5, 0.5, 0.5)
    )
    return unlir_jax.wrap(model, variables, image_size=SIZE, layer="blocks/0")


def equinox_cnn():
    import equinox as eqx

    keys = jax.random.split(jax.random.key(0), 2)
    network = (
        eqx.nn.Conv2d(3, 8, 3, stride=2, key=keys[0]),
        eqx.nn.Linear(8, CLASSES, key=keys[1]),
    )
    # Arrays are variables; what else a module holds stays in the functions.
    arrays, rest = eqx.partition(network, eqx.is_array)

    def features(arrays, images):
        conv, _ = eqx.combine(arrays, rest)
        # Equinox has one image at a time, channels first.
        maps = jax.vmap(conv)(images.transpose(0, 3, 1, 2))
        return jax.nn.relu(maps).transpose(0, 2, 3, 1)

    def head(arrays, maps):
        _, dense = eqx.combine(arrays, rest)
        return jax.vmap(dense)(maps.mean((1, 2)))

    model = split.from_functions(features, head)
    return unlir_jax.wrap(model, arrays, image_size=SIZE)


def convolution(variables, images):
    maps = jax.lax.conv_general_dilated(
        images,
        variables["kernel"],
        (2, 2),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return jax.nn.relu(maps)


def plain_variables(outputs=CLASSES):
    shapes = {"kernel": (3, 3, 3, 8), "dense": (8, outputs)}
    return drawn({k: jax.ShapeDtypeStruct(s, jnp.float32) for k, s in shapes.items()})


def plain_function():
    model = split.from_functions(
        convolution, lambda variables, maps: maps.mean((1, 2)) @ variables["dense"]
    )
    return unlir_jax.wrap(model, plain_variables(), image_size=SIZE)


def multi_label():
    """Give logits of labels of which several may hold: for `score="sigmoid"`."""
    return plain_function()


def regression():
    """Give one number: for `score="logit"`."""
    model = split.from_functions(
        convolution, lambda variables, maps: maps.mean((1, 2)) @ variables["dense"]
    )
    return unlir_jax.wrap(model, plain_variables(1), image_size=SIZE)


def segmentation():
    """Give logits of each place, `[batch, rows, columns, classes]`: for a region."""
    model = split.from_functions(
        convolution, lambda variables, maps: maps @ variables["dense"]
    )
    return unlir_jax.wrap(model, plain_variables(3), image_size=SIZE)


class TwoOutputs(nn.Module):
    """Logits and an embedding."""

    @nn.compact
    def __call__(self, images):
        maps = nn.relu(nn.Conv(8, (3, 3), (2, 2), name="conv")(images))
        self.sow("intermediates", "maps", maps)
        pooled = maps.mean((1, 2))
        return {"logits": nn.Dense(CLASSES)(pooled), "embedding": nn.Dense(4)(pooled)}


def two_outputs():
    module = TwoOutputs()
    model = split.from_linen(module, "maps", output="logits")
    return unlir_jax.wrap(model, linen_variables(module), image_size=SIZE)
