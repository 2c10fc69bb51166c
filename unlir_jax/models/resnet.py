"""Residual networks for ImageNet and for CIFAR.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016; the stride sits on
the 3 x 3 convolution of a bottleneck, as in torchvision ("v1.5").
"""

import itertools
from typing import Literal

import jax
from flax import linen as nn

from unlir_jax.models import layers
from unlir_jax.models.layers import ConvNorm, Style
from unlir_jax.types import Array


class Basic(nn.Module):
    """Add two 3 x 3 convolutions to the input; `inner` is the width between them."""

    filters: int
    stride: int
    style: Style
    inner: tuple[int | None, ...] = (None,)
    growth = 1

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        relu, style = nn.relu, self.style
        width = self.inner[0] or self.filters
        maps = ConvNorm(
            width, 3, self.stride, activation=relu, style=style, name="conv1"
        )(images, train)
        maps = ConvNorm(self.filters, 3, style=style, name="conv2")(maps, train)
        return nn.relu(maps + _shortcut(images, maps, self.stride, style, train))


class Bottleneck(nn.Module):
    """Add a 1 x 1, a 3 x 3 and a 1 x 1 convolution to the input.

    `inner` gives the widths after the first and after the second.
    """

    filters: int
    stride: int
    style: Style
    inner: tuple[int | None, ...] = (None, None)
    growth = 4

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        relu, style = nn.relu, self.style
        first, second = (width or self.filters for width in self.inner)
        maps = ConvNorm(first, 1, activation=relu, style=style, name="conv1")(
            images, train
        )
        maps = ConvNorm(
            second, 3, self.stride, activation=relu, style=style, name="conv2"
        )(maps, train)
        maps = ConvNorm(self.filters * self.growth, 1, style=style, name="conv3")(
            maps, train
        )
        return nn.relu(maps + _shortcut(images, maps, self.stride, style, train))


Block = type[Basic] | type[Bottleneck]


def inner_layers(block: Block) -> int:
    """Count the convolutions of a block whose outputs no sum takes."""
    return 1 if block is Basic else 2


def _shortcut(
    images: Array, maps: jax.Array, stride: int, style: Style, train: bool
) -> Array:
    """Project the input where its shape differs from the block's output."""
    if images.shape == maps.shape:
        return images
    project = ConvNorm(maps.shape[-1], 1, stride, style=style, name="downsample")
    return project(images, train)


class Stage(nn.Module):
    """Chain blocks of one width, the first with a stride."""

    block: Block
    filters: int
    repeats: int
    stride: int
    style: Style
    inner: tuple[int | None, ...]

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        each = len(self.inner) // self.repeats
        for repeat in range(self.repeats):
            stride = self.stride if repeat == 0 else 1
            inner = self.inner[repeat * each : (repeat + 1) * each]
            images = self.block(
                self.filters, stride, self.style, inner, name=f"block{repeat}"
            )(images, train)
        return images


class ResNet(nn.Module):
    """Classify pictures in [0, 1] by a stem, three or four stages and a linear layer.

    Submodules `stem`, `layer1` … `layer4` with `block0` …, `classifier`; the last
    stage is where maps are explained by default. The `cifar` stem keeps the size of
    the picture, the `imagenet` stem divides it by four. `widths` gives, block by block,
    the width after every convolution but a block's last; `pooling` is one of
    `layers.POOLS`.
    """

    block: Block
    repeats: tuple[int, ...]
    width: int = 64
    stem: Literal["imagenet", "cifar"] = "imagenet"
    num_classes: int = 1000
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    deviation: tuple[float, ...] = (0.229, 0.224, 0.225)
    style: Style = Style()
    widths: tuple[int, ...] | None = None
    pooling: str = "average"

    def setup(self) -> None:
        style = self.style
        each = inner_layers(self.block)
        widths = layers.each_width(self.widths, sum(self.repeats) * each)
        ends = [each * end for end in itertools.accumulate(self.repeats, initial=0)]
        self.standardize = layers.Standardize(self.mean, self.deviation, style)
        size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        self.stem_layer = ConvNorm(
            self.width, size, stride, activation=nn.relu, style=style, name="stem"
        )
        self.stages = [
            Stage(
                self.block,
                self.width * 2**index,
                repeats,
                1 if index == 0 else 2,
                style,
                widths[ends[index] : ends[index + 1]],
                name=f"layer{index + 1}",
            )
            for index, repeats in enumerate(self.repeats)
        ]
        self.classifier = nn.Dense(self.num_classes, precision=style.precision)

    def features(self, images: Array, train: bool = False) -> Array:
        """Compute the maps of the last stage."""
        maps: Array = self.stem_layer(self.standardize(images), train)
        if self.stem == "imagenet":
            maps = layers.max_pool(maps, 3, 2, margin=1)
        for stage in self.stages:
            maps = stage(maps, train)
        return maps

    def head(self, maps: Array, train: bool = False) -> jax.Array:
        """Pool the maps and classify."""
        del train
        return self.classifier(layers.pool(maps, self.pooling))

    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        """Compute logits, `[batch, num_classes]`."""
        return self.head(self.features(images, train), train)
