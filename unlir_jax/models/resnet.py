"""Residual networks for ImageNet and for CIFAR.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016; the stride sits on
the 3 x 3 convolution of a bottleneck, as in torchvision ("v1.5").
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.models import backbone, layers
from unlir_jax.models.channels import Graph, Group
from unlir_jax.models.layers import ConvNorm, Style
from unlir_jax.types import Array
from unlir_jax.weights import layouts, preparation

Shortcut = Literal["projection", "padding"]
"""How a block's input reaches its output where the shape changes: options B and A."""


class Basic(nn.Module):
    """Add two 3 x 3 convolutions to the input; `inner` is the width between them."""

    filters: int
    stride: int
    style: Style
    inner: tuple[int | None, ...] = (None,)
    shortcut: Shortcut = "projection"
    growth = 1

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        relu, style = nn.relu, self.style
        width = self.inner[0] or self.filters
        maps = ConvNorm(
            width, 3, self.stride, activation=relu, style=style, name="conv1"
        )(images, train)
        maps = ConvNorm(self.filters, 3, style=style, name="conv2")(maps, train)
        shortcut = PATHS[self.shortcut](images, maps, self.stride, style, train)
        return nn.relu(maps + shortcut)


class Bottleneck(nn.Module):
    """Add a 1 x 1, a 3 x 3 and a 1 x 1 convolution to the input.

    `inner` gives the widths after the first and after the second.
    """

    filters: int
    stride: int
    style: Style
    inner: tuple[int | None, ...] = (None, None)
    shortcut: Shortcut = "projection"
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
        shortcut = PATHS[self.shortcut](images, maps, self.stride, style, train)
        return nn.relu(maps + shortcut)


Block = type[Basic] | type[Bottleneck]


def inner_layers(block: Block) -> int:
    """Count the convolutions of a block whose outputs no sum takes."""
    return 1 if block is Basic else 2


def _projection(
    images: Array, maps: jax.Array, stride: int, style: Style, train: bool
) -> Array:
    """Project the input where its shape differs from the block's output."""
    if images.shape == maps.shape:
        return images
    project = ConvNorm(maps.shape[-1], 1, stride, style=style, name="downsample")
    return project(images, train)


def _padding(
    images: Array, maps: jax.Array, stride: int, style: Style, train: bool
) -> Array:
    """Take every `stride`-th pixel, and put as many zero channels on either side."""
    del style, train
    more = maps.shape[-1] - images.shape[-1]
    sides = ((0, 0),) * 3 + ((more // 2, more - more // 2),)
    return jnp.pad(images[:, ::stride, ::stride], sides)


PATHS = {"projection": _projection, "padding": _padding}


class Stage(nn.Module):
    """Chain blocks of one width, the first with a stride."""

    block: Block
    filters: int
    repeats: int
    stride: int
    style: Style
    inner: tuple[int | None, ...]
    shortcut: Shortcut

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        each = len(self.inner) // self.repeats
        for repeat in range(self.repeats):
            stride = self.stride if repeat == 0 else 1
            inner = self.inner[repeat * each : (repeat + 1) * each]
            given = self.filters, stride, self.style, inner, self.shortcut
            images = self.block(*given, name=f"block{repeat}")(images, train)
        return images


class ResNet(nn.Module):
    """Classify images in [0, 1] by a stem, three or four stages and a linear layer.

    Submodules `stem`, `layer1` … `layer4` with `block0` …, `classifier`; the last
    stage is where maps are explained by default. The `cifar` stem keeps the size of
    the image, the `imagenet` stem divides it by four. `widths` gives, block by block,
    the width after every convolution but a block's last; `pooling` is one of
    `layers.POOLS`. `shortcut` says how a block's input reaches its output where the
    shape changes: by a `projection` (option B of the paper), or by `padding` with
    zero channels (option A), which has no parameters.
    """

    block: Block
    repeats: tuple[int, ...]
    width: int = 64
    stem: Literal["imagenet", "cifar"] = "imagenet"
    num_classes: int = 1000
    mean: tuple[float, ...] = backbone.IMAGENET_MEAN
    deviation: tuple[float, ...] = backbone.IMAGENET_DEVIATION
    style: Style = Style()
    widths: tuple[int, ...] | None = None
    pooling: str = "average"
    shortcut: Shortcut = "projection"

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
                self.shortcut,
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

    @nn.nowrap
    def channel_graph(self) -> Graph:
        """Say which channels may go: those after any convolution but a block's last."""
        each = inner_layers(self.block)
        widths = iter(self.widths or (None,) * sum(self.repeats) * each)
        inner, sums, incoming = [], [["stem"]], self.width
        for index, repeats in enumerate(self.repeats):
            filters = self.width * 2**index
            for repeat in range(repeats):
                block = f"layer{index + 1}/block{repeat}"
                for place in range(1, each + 1):
                    made, reader = f"{block}/conv{place}", f"{block}/conv{place + 1}"
                    inner.append(Group((made,), reader, next(widths) or filters))
                outgoing = filters * self.block.growth
                if repeat == 0 and (index or incoming != outgoing):
                    project = self.shortcut == "projection"
                    sums.append([f"{block}/downsample"] if project else [])
                sums[-1].append(f"{block}/conv{each + 1}")
                incoming = outgoing
        return Graph(type(self).__name__, tuple(inner), tuple(map(tuple, sums)))


def _layouts(repeats: Sequence[int], block: Block) -> dict[str, layouts.Prefixes]:
    """Name the layers as torchvision and timm do, and as two CIFAR repositories."""
    vision = layouts.pair("stem", "conv1", "bn1") | {"classifier": "fc"}
    cifar = layouts.pair("stem", "conv1", "bn1") | {"classifier": "linear"}
    cifar100 = layouts.pair("stem", "conv1.0", "conv1.1") | {"classifier": "fc"}
    for stage, count in enumerate(repeats, start=1):
        for place in range(count):
            ours, theirs = f"layer{stage}/block{place}", f"layer{stage}.{place}"
            other = f"conv{stage + 1}_x.{place}"
            for index in range(1, inner_layers(block) + 2):
                names = f"{theirs}.conv{index}", f"{theirs}.bn{index}"
                vision |= layouts.pair(f"{ours}/conv{index}", *names)
                cifar |= layouts.pair(f"{ours}/conv{index}", *names)
                step = f"{other}.residual_function"
                names = f"{step}.{3 * index - 3}", f"{step}.{3 * index - 2}"
                cifar100 |= layouts.pair(f"{ours}/conv{index}", *names)
            for table, name in (
                (vision, f"{theirs}.downsample"),
                (cifar, f"{theirs}.shortcut"),
                (cifar100, f"{other}.shortcut"),
            ):
                names = f"{name}.0", f"{name}.1"
                table |= layouts.pair(f"{ours}/downsample", *names)
    return {"torchvision": vision, "pytorch-cifar": cifar, "pytorch-cifar100": cifar100}


def _network(
    build: Callable[..., ResNet], parameters: int, **facts: Any
) -> backbone.Network:
    net = build()
    aliases = {f"conv{n + 2}_x": f"layer{n + 1}" for n in range(len(net.repeats))}
    for stage, count in enumerate(net.repeats, start=1):
        for place in range(count):
            aliases[f"layer{stage}.{place}"] = f"layer{stage}/block{place}"
    tables, last = _layouts(net.repeats, net.block), f"layer{len(net.repeats)}"
    stages = tuple(f"layer{n + 1}" for n in range(len(net.repeats)))
    return backbone.Network(
        build, last, parameters, tables, aliases, stages=stages, **facts
    )


def _cifar_network(
    block: Block, repeats: tuple[int, ...], width: int, parameters: int, **facts: Any
) -> backbone.Network:
    build = functools.partial(
        *(ResNet, block, repeats, width, "cifar"),
        num_classes=10,
        mean=backbone.CIFAR_MEAN,
        deviation=backbone.CIFAR_DEVIATION,
    )
    return _network(build, parameters, image_size=32, crop=1.0, classes=10, **facts)


def _padded(repeats: tuple[int, ...], parameters: int) -> backbone.Network:
    """Describe a network of the paper, whose shortcuts have no parameters.

    Colours are as in akamaster/pytorch_resnet_cifar10, which has weights of it.
    """
    build = functools.partial(
        *(ResNet, Basic, repeats, 16, "cifar"), num_classes=10, shortcut="padding"
    )
    return _network(build, parameters, image_size=32, crop=1.0, classes=10)


def _relative(padded: str, names: Iterable[str]) -> str:
    """Tell a file without any shortcut's tensors in the names of pytorch-cifar."""
    has_shortcuts = has_head = has_blocks = False
    for name in names:
        has_shortcuts |= ".downsample." in name or ".shortcut." in name
        has_head |= name.endswith("linear.weight")
        has_blocks |= name.endswith("layer3.0.conv1.weight")
    return padded if has_head and has_blocks and not has_shortcuts else ""


for _depth, _block, _repeats, _imagenet, _cifar, _digits in (
    (18, Basic, (2, 2, 2, 2), 11_689_512, 11_173_962, ""),
    (34, Basic, (3, 4, 6, 3), 21_797_672, 21_282_122, ""),
    (50, Bottleneck, (3, 4, 6, 3), 25_557_032, 23_520_842, "11ad3fa6"),
    (101, Bottleneck, (3, 4, 23, 3), 44_549_160, 0, "cd907fc2"),
    (152, Bottleneck, (3, 8, 36, 3), 60_192_808, 0, "f82ba261"),
):
    backbone.register(
        f"resnet{_depth}",
        _network(
            functools.partial(ResNet, _block, _repeats),
            _imagenet,
            prepared={_digits: preparation.TORCHVISION_V2} if _digits else {},
        ),
    )
    if _cifar:
        backbone.register(
            f"cifar_resnet{_depth}", _cifar_network(_block, _repeats, 64, _cifar)
        )
# ResNet-8 is the family's smallest, for tests and first steps.
for _depth, _cifar, _paper in (
    (8, 78_042, 75_290),
    (20, 272_474, 269_722),
    (32, 466_906, 464_154),
    (44, 661_338, 658_586),
    (56, 855_770, 853_018),
    (110, 1_730_714, 1_727_962),
):
    _thirds, _name = ((_depth - 2) // 6,) * 3, f"cifar_resnet{_depth}"
    _option_a = f"{_name}_option_a"
    _tell = functools.partial(_relative, _option_a)
    backbone.register(_name, _cifar_network(Basic, _thirds, 16, _cifar, relative=_tell))
    backbone.register(_option_a, _padded(_thirds, _paper))
