"""Vision transformers on patches: ViT, DeiT, DeiT-III, DINO, DINOv2, CLIP and SigLIP.

Dosovitskiy et al., An Image Is Worth 16x16 Words, ICLR 2021, and what came after it.
All are one module: they differ in tokens, scales, gates, pooling, and in their files.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.core import compilation
from unlir_jax.models import backbone, channels, layers, transformer
from unlir_jax.models.layers import Style
from unlir_jax.models.registers import NOTHING, Moved
from unlir_jax.types import Array, Features

Pooled = Literal["token", "mean", "attention"]
NORM = "norm"
"""Path of the last norm."""


class VisionTransformer(nn.Module):
    """Classify images in [0, 1] by a transformer on their patches.

    Submodules `patches`, `tokens`, `block0` …, `norm`, `classifier`. Each block maps
    tokens `[batch, leading + rows x columns, width]`, of which the first are the class
    token, the distillation token and registers, where there are some.

    Attributes:
        patch_size: Side of a patch in pixels.
        width: Channels of a token.
        depth: Number of blocks.
        heads: Number of attention heads of a block.
        inner: Width of the perceptrons.
        class_token: Whether a class token leads.
        registers: Number of register tokens, see Darcet et al., ICLR 2024.
        distilled: Whether there is a distillation token with a classifier of its own;
            the logits are the mean of both, as DeiT's.
        pooled: What is classified: the `token`, the `mean` of the grid, or what the
            `attention` of a learned query takes from it.
        norm_before: Whether a norm follows the patches, as in CLIP.
        norm_after: Whether the last norm follows the pooling, instead of preceding it.
        scale: Start of the layer scales; None for none.
        gated: Whether perceptrons have a gate.
        normalized: Whether queries and keys are normalised.
        bias: Whether queries, keys and values have a bias.
        patch_bias: Whether the projection of patches has one.
        head_bias: Whether the classifier has one.
        activation: Kind of GELU.
        epsilon: Epsilon of the norms.
        crops: Whether last rows and columns that fill no patch are left out.
        num_classes: Number of classes; 0 for the pooled vector itself.
        mean: Colour in [0, 1] that the network sees as zero.
        deviation: By which colours are divided.
        pooling: What is classified instead of `pooled`: some of `ways`, joined by `+`,
            such as `token+average`; "" for `pooled`.
        widths: Heads and neurons of each block in turn; None for the usual ones.
        style: What all layers have in common.
        moved: Neurons whose activation goes to registers, see `registers`.
    """

    patch_size: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    inner: int = 3072
    class_token: bool = True
    registers: int = 0
    distilled: bool = False
    pooled: Pooled = "token"
    norm_before: bool = False
    norm_after: bool = False
    scale: float | None = None
    gated: bool = False
    normalized: bool = False
    bias: bool = True
    patch_bias: bool = True
    head_bias: bool = True
    activation: transformer.Activation = "erf"
    epsilon: float = 1e-6
    crops: bool = False
    num_classes: int = 1000
    mean: tuple[float, ...] = backbone.IMAGENET_MEAN
    deviation: tuple[float, ...] = backbone.IMAGENET_DEVIATION
    pooling: str = ""
    widths: tuple[int, ...] | None = None
    style: Style = Style()
    moved: Moved = NOTHING

    halves = "descriptors", "decide"
    signed = True

    def setup(self) -> None:
        style = self.style
        self.standardize = layers.Standardize(self.mean, self.deviation, style)
        self.patches = transformer.Patches(
            self.width, self.patch_size, self.patch_bias, style
        )
        self.tokens = transformer.Tokens(
            self.class_token, self.distilled, self.registers
        )
        if self.norm_before:
            self.norm_before_blocks = transformer.norm(style, self.epsilon, "norm0")
        self.blocks = [
            transformer.Block(
                *(heads, inner, self.bias, self.normalized, self.gated),
                *(self.activation, self.scale, self.epsilon, style),
                moved=self.moved.of(index),
                head_width=self.width // self.heads,
                name=f"block{index}",
            )
            for index, (heads, inner) in enumerate(self._each_width())
        ]
        self.norm = transformer.norm(style, self.epsilon, NORM)
        if "attention" in (self.pooling or self.pooled).split("+"):
            self.pool = transformer.AttentionPool(
                *(self.heads, self.inner, self.activation, self.epsilon, style)
            )
        named = {"precision": style.precision, "use_bias": self.head_bias}
        if self.num_classes:
            self.classifier = nn.Dense(self.num_classes, **named)
        if self.num_classes and self.distilled and not self.pooling:
            self.distilled_classifier = nn.Dense(self.num_classes, **named)

    @property
    def leading(self) -> int:
        """Count the tokens before the grid."""
        return self.class_token + self.distilled + self.registers

    @property
    def ways(self) -> tuple[str, ...]:
        """List the ways to pool that can be joined, the network's own first.

        `token` is the class token, `attention` the pool of a learned query; `average`
        and `max` are of the grid.
        """
        own = {"token": "token", "attention": "attention", "mean": "average"}
        token = ("token",) if self.class_token else ()
        return tuple(dict.fromkeys((own[self.pooled], *token, "average", "max")))

    @nn.nowrap
    def _each_width(self) -> list[tuple[int, int]]:
        """Give the heads and the neurons of each block."""
        found = layers.each_width(self.widths, 2 * self.depth)
        pairs = zip(found[::2], found[1::2], strict=True)
        return [(heads or self.heads, inner or self.inner) for heads, inner in pairs]

    @nn.nowrap
    def channel_graph(self) -> channels.Graph:
        """Say which channels may go: heads and neurons; tokens keep their width."""
        inner, added, size = [], ["patches"], self.width // self.heads
        for index, (heads, neurons) in enumerate(self._each_width()):
            own = transformer.groups(
                f"block{index}", heads, size, neurons, gated=self.gated
            )
            inner += own
            added += [group.reader for group in own]
        tied = [tuple(added)]
        if "attention" in (self.pooling or self.pooled).split("+"):
            names = "query key value output mlp/expand mlp/contract".split()
            tied.append(tuple(f"pool/{name}" for name in names))
        dense = ("classifier",) if self.num_classes else ()
        if self.num_classes and self.distilled and not self.pooling:
            dense += ("distilled_classifier",)
        units = ("patches", *(f"block{index}" for index in range(self.depth)), NORM)
        return channels.Graph(
            type(self).__name__, tuple(inner), tuple(tied), dense, True, units=units
        )

    @nn.nowrap
    def cuts(self) -> tuple[str, ...]:
        """List the layers at which `features_at` cuts, and computes nothing twice."""
        blocks = range(self.depth)
        outputs = (f"block{index}" for index in blocks)
        return (*outputs, *(f"block{index}/norm1" for index in blocks), NORM)

    def features_at(self, images: Array, layer: str) -> Features:
        """Compute the grid of a layer of `cuts`, and all that the head needs besides.

        Returns:
            Maps `[batch, rows, columns, width]`; the context holds the tokens that
            lead, and behind a norm of a block the tokens that go around it.
        """
        tokens, grid = self._begin(images)
        name, _, inside = layer.partition("/")
        last = self.depth if name == NORM else int(name.removeprefix("block"))
        for block in self.blocks[:last]:
            tokens = block(tokens)
        around: tuple[jax.Array, ...] = ()
        if inside:
            around, tokens = (tokens,), self.blocks[last].norm1(tokens)
        elif name == NORM:
            tokens = tokens if self.norm_after else self.norm(tokens)
        else:
            tokens = self.blocks[last](tokens)
        maps = tokens[:, self.leading :].reshape(len(tokens), *grid, self.width)
        return Features(maps, (tokens[:, : self.leading], *around))

    def head_at(self, features: Features, layer: str) -> jax.Array:
        """Compute logits of what `features_at` gives."""
        tokens, around = self._joined(features), features.context[1:]
        name, _, inside = layer.partition("/")
        if name == NORM:
            return self._classify(tokens)
        first = int(name.removeprefix("block"))
        if inside:
            tokens = self.blocks[first].behind_norm(around[0], tokens)
        for block in self.blocks[first + 1 :]:
            tokens = block(tokens)
        return self._classify(tokens if self.norm_after else self.norm(tokens))

    def features(self, images: Array, train: bool = False) -> Array:
        """Compute the grid of the last norm, for heads that take maps."""
        del train
        return self.features_at(images, NORM).maps

    def last_features(self, images: Array, train: bool = False) -> Features:
        """Compute the grid of the last norm, and the tokens that lead."""
        del train
        return self.features_at(images, NORM)

    def head(self, maps: Array, train: bool = False) -> jax.Array:
        """Pool and classify the grid of a network that needs no other token.

        Raises:
            ValueError: It classifies by a class token, which is not in the grid.
        """
        del train
        if self.pooled == "token" or self.leading:
            raise ValueError(
                "`head` takes the grid alone, but this network has tokens before it; "
                "expected `head_at` with what `features_at` gives, or pooled='mean' "
                "and no such token."
            )
        return self.head_at(Features(maps, (jnp.zeros_like(maps[:, 0, :0]),)), NORM)

    def descriptors(self, images: Array, train: bool = False) -> jax.Array:
        """Compute what `decide` classifies, `[batch, ways, 1, width]`."""
        del train
        return self.describe(images, self.pooling)

    def describe(self, images: Array, how: str) -> jax.Array:
        """Pool the last tokens in several ways, `[batch, ways, 1, width]`.

        Args:
            images: `[batch, height, width, 3]` in [0, 1].
            how: Some of `ways`, joined by `+`; "" for the network's own.
        """
        tokens = self._joined(self.features_at(images, NORM))
        return self._pool(tokens, how)[:, :, None]

    def decide(self, descriptors: Array, train: bool = False) -> jax.Array:
        """Classify what `descriptors` gives."""
        del train
        return self._decide(jnp.asarray(descriptors)[:, :, 0])

    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        """Compute logits, `[batch, num_classes]`."""
        del train
        return self.head_at(self.features_at(images, NORM), NORM)

    def classify_mean(self, tokens: jax.Array) -> jax.Array:
        """Classify the mean of all tokens of a block, as LeGrad does."""
        if self.pooled == "attention":
            return self._classify(tokens if self.norm_after else self.norm(tokens))
        pooled = self.norm(tokens.mean(axis=1))
        if not self.num_classes:
            return pooled
        # A head of several ways to pool is given the mean in place of each.
        ways = len(self.pooling.split("+"))
        return self.classifier(jnp.tile(pooled, (1, ways)))

    def _begin(self, images: Array) -> tuple[jax.Array, tuple[int, int]]:
        """Give the tokens before the first block, and rows and columns of the grid."""
        images = self.standardize(images)
        if self.crops:
            rows, columns = (side % self.patch_size for side in images.shape[1:3])
            images = images[:, : images.shape[1] - rows, : images.shape[2] - columns]
        maps = self.patches(images)
        tokens = self.tokens(maps)
        tokens = self.norm_before_blocks(tokens) if self.norm_before else tokens
        _, rows, columns, _ = maps.shape
        return tokens, (rows, columns)

    def _joined(self, features: Features) -> jax.Array:
        """Give the tokens that lead, and the grid's."""
        leading = features.context[0]
        cells = features.maps.reshape(len(leading), -1, self.width)
        return jnp.concatenate([leading, cells], axis=1)

    def _classify(self, tokens: jax.Array) -> jax.Array:
        """Pool and classify, in float32 or more."""
        return self._decide(self._pool(tokens, self.pooling))

    def _pool(self, tokens: jax.Array, how: str) -> jax.Array:
        """Pool tokens in several ways, `[batch, ways, width]`."""
        wide = jnp.promote_types(tokens.dtype, jnp.float32)
        tokens = compilation.separate(tokens).astype(wide)
        if self.distilled and not how:
            return tokens[:, :2]
        grid = tokens[:, self.leading :]
        found = []
        for way in how.split("+") if how else self.ways[:1]:
            if way == "token":
                found.append(tokens[:, 0])
            elif way == "attention":
                found.append(self.pool(tokens))
            else:
                mean = way == "average"
                found.append(grid.mean(1) if mean else compilation.largest(grid, (1,)))
        pooled = jnp.stack(found, axis=1)
        return self.norm(pooled) if self.norm_after else pooled

    def _decide(self, pooled: jax.Array) -> jax.Array:
        """Classify what was pooled, `[batch, ways, width]`."""
        if self.distilled and not self.pooling:
            first = self.classifier(pooled[:, 0])
            return (first + self.distilled_classifier(pooled[:, 1])) / 2
        joined = pooled.reshape(len(pooled), -1)
        return self.classifier(joined) if self.num_classes else joined
