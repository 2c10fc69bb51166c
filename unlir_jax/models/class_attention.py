"""Networks whose class token comes late: blocks see the grid, and then it reads them.

Touvron et al., Going Deeper with Image Transformers, ICCV 2021. The class token is
learned, so that the grid behind the last block is all that the logits depend on.
"""

from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.core import compilation
from unlir_jax.models import backbone, layers, transformer
from unlir_jax.models.layers import Style
from unlir_jax.types import Array, Features
from unlir_jax.weights.layouts import Prefixes

EPSILON = 1e-6
LAYER = "class_block"
"""What the layers that have a class token are called, before their number."""


class ClassAttention(nn.Module):
    """Attend from the first token to all: `[batch, 1, channels]`.

    Submodules `query`, `key`, `value`, `weights` and `output`.
    """

    heads: int
    style: Style = Style()

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        batch, _, width = tokens.shape
        shape = batch, -1, self.heads, width // self.heads
        query, key, value = (
            transformer.dense(width, self.style, name)(seen).reshape(shape)
            for name, seen in (
                ("query", tokens[:, :1]),
                ("key", tokens),
                ("value", tokens),
            )
        )
        weigh = transformer.AttentionWeights(name="weights")
        mixed = transformer.attend(query, key, value, weigh, self.style.precision)
        return transformer.dense(width, self.style, "output")(mixed)


class LateClassToken(nn.Module):
    """Compute and cut a network of grid blocks, class blocks, a norm and a classifier.

    A network derives from it, and gives `start`, `step`, `block` and `class_block`.
    Between blocks there are maps, `[batch, rows, columns, channels]`, and between class
    blocks tokens, the class token first.

    Attributes:
        patch_size: Side of a patch in pixels.
        width: Channels of a token.
        depth: Number of blocks of the grid.
        heads: Number of attention heads of a block.
        inner: Width of the perceptrons.
        class_depth: Number of blocks that read the grid by the class token.
        scale: Start of the layer scales.
        num_classes: Number of classes; 0 for the class token itself.
        mean: Colour in [0, 1] that the network sees as zero.
        deviation: By which colours are divided.
        style: What all layers have in common.
    """

    patch_size: int = 16
    width: int = 192
    depth: int = 24
    heads: int = 4
    inner: int = 768
    class_depth: int = 2
    scale: float = 1e-5
    num_classes: int = 1000
    mean: tuple[float, ...] = backbone.IMAGENET_MEAN
    deviation: tuple[float, ...] = backbone.IMAGENET_DEVIATION
    style: Style = Style()

    leading: ClassVar[int] = 0

    def setup(self) -> None:
        style, normal = self.style, nn.initializers.normal(0.02)
        self.standardize = layers.Standardize(self.mean, self.deviation, style)
        self.blocks = [self.block(f"block{index}") for index in range(self.depth)]
        self.class_token = self.param("class_token", normal, (1, 1, self.width))
        self.class_blocks = [
            self.class_block(f"{LAYER}{index}") for index in range(self.class_depth)
        ]
        self.norm = transformer.norm(style, EPSILON, "norm")
        if self.num_classes:
            self.classifier = nn.Dense(self.num_classes, precision=style.precision)

    @nn.nowrap
    def block(self, name: str) -> nn.Module:
        """Make a block of the grid."""
        raise NotImplementedError

    @nn.nowrap
    def class_block(self, name: str) -> nn.Module:
        """Make a block that reads the grid by the class token."""
        raise NotImplementedError

    def start(self, images: Array, train: bool = False) -> jax.Array:
        """Compute the maps before the first block."""
        raise NotImplementedError

    def step(self, index: int, maps: jax.Array, train: bool = False) -> jax.Array:
        """Apply a block to maps."""
        raise NotImplementedError

    @nn.nowrap
    def cuts(self) -> tuple[str, ...]:
        """List the layers at which `features_at` cuts, and computes nothing twice."""
        blocks = (f"block{index}" for index in range(self.depth))
        # Nothing reads the grid behind the last class block.
        readers = (f"{LAYER}{index}" for index in range(self.class_depth - 1))
        return (*blocks, *readers)

    @nn.nowrap
    def leading_at(self, layer: str) -> int:
        """Count the tokens before the grid at a layer."""
        return int(layer.startswith(LAYER))

    def features_at(
        self, images: Array, layer: str, train: bool = False
    ) -> Features | jax.Array:
        """Compute the grid of a layer of `cuts`, and all that the head needs besides.

        Returns:
            Maps `[batch, rows, columns, width]`; behind a class block they are in
            `Features`, whose context is the class token.
        """
        maps = self.start(images, train)
        name, number = _numbered(layer)
        last = number + 1 if name == "block" else self.depth
        for index in range(last):
            maps = self.step(index, maps, train)
        if name == "block":
            return maps
        tokens = self._tokens(maps)
        for block in self.class_blocks[: number + 1]:
            tokens = block(tokens)
        return Features(tokens[:, 1:].reshape(maps.shape), (tokens[:, :1],))

    def head_at(
        self, features: Features | Array, layer: str, train: bool = False
    ) -> jax.Array:
        """Compute logits of what `features_at` gives."""
        number = _numbered(layer)[1]
        if isinstance(features, Features):
            cells = features.maps.reshape(len(features.maps), -1, self.width)
            tokens = jnp.concatenate([*features.context, cells], axis=1)
            first = number + 1
        else:
            maps, first = jnp.asarray(features), 0
            for index in range(number + 1, self.depth):
                maps = self.step(index, maps, train)
            tokens = self._tokens(maps)
        for block in self.class_blocks[first:]:
            tokens = block(tokens)
        return self._classify(tokens[:, 0])

    def features(self, images: Array, train: bool = False) -> Array:
        """Compute the maps of the last block, `[batch, rows, columns, width]`."""
        maps = self.start(images, train)
        for index in range(self.depth):
            maps = self.step(index, maps, train)
        return maps

    def head(self, maps: Array, train: bool = False) -> jax.Array:
        """Read maps by the class token, and classify it."""
        return self.head_at(maps, f"block{self.depth - 1}", train)

    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        """Compute logits, `[batch, num_classes]`."""
        return self.head(self.features(images, train), train)

    def classify_mean(self, tokens: jax.Array) -> jax.Array:
        """Classify the mean of all tokens of a block, as LeGrad does."""
        return self._classify(tokens.mean(axis=1))

    def _tokens(self, maps: jax.Array) -> jax.Array:
        """Put the class token before the cells of maps."""
        batch, *_, width = maps.shape
        token = self.class_token.astype(maps.dtype)
        token = jnp.broadcast_to(token, (batch, 1, width))
        return jnp.concatenate([token, maps.reshape(batch, -1, width)], axis=1)

    def _classify(self, token: jax.Array) -> jax.Array:
        """Normalise a token, and classify it in float32 or more."""
        pooled = compilation.separate(self.norm(token))
        pooled = pooled.astype(jnp.promote_types(pooled.dtype, jnp.float32))
        return self.classifier(pooled) if self.num_classes else pooled


def block_names(
    module: LateClassToken,
    blocks: tuple[str, Mapping[str, str]],
    class_blocks: tuple[str, Mapping[str, str]],
) -> Prefixes:
    """Name the layers of all blocks as another library does.

    Args:
        module: The network.
        blocks: What blocks of the grid are called before their number, and names of
            the layers of one.
        class_blocks: The same of class blocks.
    """
    found = {}
    for ours, (theirs, names), depth in (
        ("block", blocks, module.depth),
        (LAYER, class_blocks, module.class_depth),
    ):
        for index in range(depth):
            for inner, name in names.items():
                found[f"{ours}{index}/{inner}"] = f"{theirs}.{index}.{name}"
    return found


def aliases(module: LateClassToken, class_blocks: str) -> dict[str, str]:
    """Give our names of the layers that people of other libraries ask for.

    Args:
        module: The network.
        class_blocks: What they call the class blocks, before their number.
    """
    found = {"norm": "norm", "patch_embed": "patches"}
    for ours, theirs, depth in (
        ("block", "blocks", module.depth),
        (LAYER, class_blocks, module.class_depth),
    ):
        for index in range(depth):
            found[f"{theirs}.{index}"] = f"{ours}{index}"
            found[f"{theirs}.{index}.attn"] = f"{ours}{index}/attention"
            for name in ("norm1", "norm2", "mlp"):
                found[f"{theirs}.{index}.{name}"] = f"{ours}{index}/{name}"
    return found


def _numbered(layer: str) -> tuple[str, int]:
    """Part the name of a layer from its number."""
    name = layer.rstrip("0123456789")
    return name, int(layer.removeprefix(name))
