"""ConvNeXt: Liu et al., A ConvNet for the 2020s, CVPR 2022; V2: Woo et al., CVPR 2023.

V2 has no layer scale, and normalises the response of each channel over the image.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.models import (
    backbone,
    channels,
    convnext_names,
    layers,
    transformer,
)
from unlir_jax.models.layers import Style
from unlir_jax.types import Array


class ResponseNorm(nn.Module):
    """Multiply each channel by its share of the response over the image (Eq. 1–3)."""

    style: Style = Style()

    @nn.compact
    def __call__(self, maps: jax.Array) -> jax.Array:
        zeros = nn.initializers.zeros
        gain, bias = (
            self.param(name, zeros, (maps.shape[-1],)).reshape(1, 1, 1, -1)
            for name in ("gain", "bias")
        )
        wide = maps.astype(jnp.promote_types(maps.dtype, jnp.float32))
        squares = jnp.sum(wide**2, axis=(1, 2), keepdims=True)
        # The root of zero has no derivative.
        known = squares > 0
        response = jnp.where(known, jnp.sqrt(jnp.where(known, squares, 1)), 0)
        share = response / (response.mean(axis=-1, keepdims=True) + 1e-6)
        return (wide + gain * wide * share + bias).astype(maps.dtype)


class Block(nn.Module):
    """Add a depthwise convolution and a perceptron behind a norm to the maps.

    Submodules `depthwise`, `norm`, `expand`, `activation`, `contract`, and `grn` or
    `scale`.
    """

    width: int
    scale: float | None
    style: Style = Style()
    inner: int | None = None

    @nn.compact
    def __call__(self, maps: jax.Array) -> jax.Array:
        width, style = self.width, self.style
        depthwise = {"groups": width, "bias": True, "style": style}
        inner = layers.Convolution(width, 7, **depthwise, name="depthwise")(maps)
        inner = transformer.norm(style, 1e-6, "norm")(inner)
        inner = transformer.dense(self.inner or 4 * width, style, "expand")(inner)
        inner = transformer.Gelu(name="activation")(inner)
        if self.scale is None:
            inner = ResponseNorm(style, name="grn")(inner)
        inner = transformer.dense(width, style, "contract")(inner)
        if self.scale is not None:
            inner = transformer.LayerScale(self.scale, name="scale")(inner)
        return maps + inner


class Stage(nn.Module):
    """Halve the sides of the maps, but in the first stage, and apply blocks.

    Submodules `norm` and `reduce`, but in the first stage, and `block0` ….
    """

    width: int
    depth: int
    first: bool
    scale: float | None
    style: Style = Style()
    widths: tuple[int | None, ...] | None = None

    @nn.compact
    def __call__(self, maps: jax.Array) -> jax.Array:
        if not self.first:
            maps = transformer.norm(self.style, 1e-6, "norm")(maps)
            reduce = transformer.Patches(self.width, 2, style=self.style, name="reduce")
            maps = reduce(_fitting(maps, 2))
        for index, inner in enumerate(self.widths or (None,) * self.depth):
            own = self.width, self.scale, self.style, inner
            maps = Block(*own, name=f"block{index}")(maps)
        return maps


class ConvNeXt(nn.Module):
    """Classify images in [0, 1].

    Submodules `patches`, `norm0`, `stage0` … `stage3`, `norm` and `classifier`.

    Attributes:
        depths: Number of blocks of each stage.
        dims: Channels of each stage.
        scale: Start of the layer scales; None for V2, which normalises responses.
        epsilon: Epsilon of the last norm; the others have 1e-6.
        num_classes: Number of classes; 0 for the pooled vector itself.
        mean: Colour in [0, 1] that the network sees as zero.
        deviation: By which colours are divided.
        pooling: Way in which the head pools.
        widths: Neurons of each block; None for the usual ones.
        style: What all layers have in common.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    dims: tuple[int, ...] = (96, 192, 384, 768)
    scale: float | None = 1e-6
    epsilon: float = 1e-6
    num_classes: int = 1000
    mean: tuple[float, ...] = backbone.IMAGENET_MEAN
    deviation: tuple[float, ...] = backbone.IMAGENET_DEVIATION
    pooling: str = "average"
    widths: tuple[int, ...] | None = None
    style: Style = Style()

    signed = True

    def setup(self) -> None:
        style = self.style
        self.standardize = layers.Standardize(self.mean, self.deviation, style)
        self.patches = transformer.Patches(self.dims[0], 4, style=style)
        self.norm0 = transformer.norm(style, 1e-6, "norm0")
        each = iter(layers.each_width(self.widths, sum(self.depths)))
        self.stages = [
            Stage(
                *(width, depth, not index, self.scale, style),
                tuple(itertools.islice(each, depth)),
                name=f"stage{index}",
            )
            for index, (width, depth) in enumerate(
                zip(self.dims, self.depths, strict=True)
            )
        ]
        wide = style._replace(dtype=None)
        self.norm = transformer.norm(wide, self.epsilon, "norm")
        if self.num_classes:
            self.classifier = nn.Dense(self.num_classes, precision=style.precision)

    @nn.nowrap
    def channel_graph(self) -> channels.Graph:
        """Say which channels may go: neurons; in V2 none, which norms share out."""
        each = iter(layers.each_width(self.widths, sum(self.depths)))
        inner, tied, units = [], [], ["patches"]
        following = [("patches", "norm0")]
        for index, (width, depth) in enumerate(
            zip(self.dims, self.depths, strict=True)
        ):
            first = f"stage{index}/reduce" if index else "patches"
            blocks = [f"stage{index}/block{place}" for place in range(depth)]
            units += [first, *blocks] if index else blocks
            tied.append((first, *(f"{block}/contract" for block in blocks)))
            for block in blocks:
                neurons = next(each) or 4 * width
                ends = (f"{block}/expand",), f"{block}/contract"
                free = self.scale is not None
                inner.append(channels.Group(*ends, neurons, free=free))
                tied.append((f"{block}/depthwise",))
                following.append((f"{block}/depthwise", f"{block}/norm"))
        dense = ("classifier",) if self.num_classes else ()
        return channels.Graph(
            *(type(self).__name__, tuple(inner), tuple(tied), dense, True),
            *(tuple(following), tuple(units)),
        )

    def features(self, images: Array, train: bool = False) -> jax.Array:
        """Compute the maps of the last stage, `[batch, rows, columns, channels]`."""
        del train
        maps = self.patches(_fitting(self.standardize(images), 4))
        maps = self.norm0(maps)
        for stage in self.stages:
            maps = stage(maps)
        return maps

    def head(self, maps: Array, train: bool = False) -> jax.Array:
        """Pool, normalise and classify maps."""
        del train
        pooled = self.normalize_pooled(layers.pool(maps, self.pooling))
        return self.classifier(pooled) if self.num_classes else pooled

    def normalize_pooled(self, pooled: jax.Array) -> jax.Array:
        """Normalise a pooled vector, as the classifier takes it."""
        return self.norm(pooled)

    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        """Compute logits, `[batch, num_classes]`."""
        return self.head(self.features(images, train), train)


def _fitting(maps: jax.Array, size: int) -> jax.Array:
    """Leave out last rows and columns that fill no patch, as strides do."""
    rows, columns = (side // size * size for side in maps.shape[1:3])
    return maps[:, :rows, :columns] if rows and columns else maps


def network(
    depths: tuple[int, ...],
    dims: tuple[int, ...],
    scale: float | None = 1e-6,
    image_size: int = 224,
) -> backbone.Network:
    """Describe a ConvNeXt, see `ConvNeXt`."""
    build = functools.partial(ConvNeXt, depths, dims, scale)
    tables = convnext_names.tables(depths, scale is None)
    theirs = [name for name in tables if name.startswith("transformers")]
    return backbone.Network(
        build,
        f"stage{len(depths) - 1}",
        parameters(depths, dims, scale, 1000),
        tables,
        convnext_names.aliases(depths),
        image_size=image_size,
        interpolation="bicubic",
        # Behind the stem, and behind each reduction.
        stages=("stage0", *(f"stage{n}/block0" for n in range(1, len(depths) - 1))),
        attributes={name: {"epsilon": 1e-12} for name in theirs},
    )


def parameters(
    depths: tuple[int, ...], dims: tuple[int, ...], scale: float | None, classes: int
) -> int:
    """Count the parameters of a network."""
    found = 48 * dims[0] + 3 * dims[0] + (dims[-1] + 1) * classes + 2 * dims[-1]
    for depth, width in zip(depths, dims, strict=True):
        # Depthwise, norm, both dense layers; and scales of one kind or the other.
        block = 50 * width + 2 * width + 8 * width**2 + 5 * width
        found += depth * (block + (8 * width if scale is None else width))
    for narrow, width in zip(dims, dims[1:], strict=False):
        found += 2 * narrow + 4 * narrow * width + width
    return found


_SIZES = {
    "atto": ((2, 2, 6, 2), 40),
    "femto": ((2, 2, 6, 2), 48),
    "pico": ((2, 2, 6, 2), 64),
    "nano": ((2, 2, 8, 2), 80),
    "tiny": ((3, 3, 9, 3), 96),
    "small": ((3, 3, 27, 3), 96),
    "base": ((3, 3, 27, 3), 128),
    "large": ((3, 3, 27, 3), 192),
    "xlarge": ((3, 3, 27, 3), 256),
    "huge": ((3, 3, 27, 3), 352),
}

for _size, (_depths, _width) in _SIZES.items():
    _dims = tuple(_width * 2**power for power in range(4))
    if _size != "huge":
        backbone.register(f"convnext_{_size}", network(_depths, _dims))
    if _size != "xlarge":
        backbone.register(f"convnextv2_{_size}", network(_depths, _dims, None))
