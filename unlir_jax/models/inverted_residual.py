"""Networks of inverted residual blocks, the body of MobileNetV2 and EfficientNet-Lite.

Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from flax import linen as nn

from unlir_jax.models import layers
from unlir_jax.models.channels import Graph, Group
from unlir_jax.models.layers import ConvNorm, Style
from unlir_jax.types import Array
from unlir_jax.weights import layouts

LAYERS = ("expand", "depthwise", "project")
"""Of a block; one without an expansion lacks the first."""


class Stage(NamedTuple):
    """Describe blocks of one width: the first has the stride, all the same kernel."""

    expansion: int
    filters: int
    repeats: int
    stride: int
    size: int = 3


class Block(NamedTuple):
    """Name a block, here and in timm, and its layers."""

    name: str
    timm: str
    layers: tuple[str, ...]


def blocks(stages: Sequence[Stage]) -> list[Block]:
    """List the blocks of all stages."""
    found: list[Block] = []
    for index, stage in enumerate(stages):
        inside = LAYERS[1:] if stage.expansion == 1 else LAYERS
        for place in range(stage.repeats):
            name = f"block{len(found) + 1}"
            found.append(Block(name, f"blocks.{index}.{place}", inside))
    return found


def stage_starts(stages: Sequence[Stage]) -> tuple[str, ...]:
    """List the blocks that are given the stem's maps, or the last of some size."""
    first, found = 1, ["block1"]
    for stage in stages:
        found += [f"block{first}"] if stage.stride > 1 else []
        first += stage.repeats
    return tuple(dict.fromkeys(found))


def timm_layout(stages: Sequence[Stage]) -> layouts.Prefixes:
    """Name the layers of a network as timm does."""
    table = layouts.pair("stem", "conv_stem", "bn1")
    table |= layouts.pair("top", "conv_head", "bn2") | {"classifier": "classifier"}
    known = {2: ("conv_dw", "conv_pw"), 3: ("conv_pw", "conv_dw", "conv_pwl")}
    for block in blocks(stages):
        names = known[len(block.layers)]
        for place, (layer, name) in enumerate(zip(block.layers, names, strict=True)):
            theirs = f"{block.timm}.{name}", f"{block.timm}.bn{place + 1}"
            table |= layouts.pair(f"{block.name}/{layer}", *theirs)
    return table


def timm_aliases(stages: Sequence[Stage]) -> dict[str, str]:
    """Give timm's names of modules, and ours."""
    found = {block.timm: block.name for block in blocks(stages)}
    return found | {"conv_stem": "stem", "conv_head": "top"}


class InvertedResidual(nn.Module):
    """Expand, convolve each channel alone, project; add the input if `residual`.

    `inner` is the width between expansion and projection, by default `expansion` times
    that of the input, which it always is without an expansion.
    """

    filters: int
    expansion: int
    size: int
    stride: int
    style: Style
    residual: bool
    inner: int | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        incoming = images.shape[-1]
        hidden = incoming * self.expansion
        maps = images
        if self.expansion != 1:
            hidden = self.inner or hidden
            maps = ConvNorm(
                hidden, 1, activation=layers.relu6, style=self.style, name="expand"
            )(maps, train)
        maps = ConvNorm(
            hidden,
            self.size,
            self.stride,
            groups=hidden,
            activation=layers.relu6,
            style=self.style,
            name="depthwise",
        )(maps, train)
        maps = ConvNorm(self.filters, 1, style=self.style, name="project")(maps, train)
        if self.residual:
            maps = maps + images
        return maps


class InvertedResidualNet(nn.Module):
    """Classify images in [0, 1] by a stem, blocks, a top and a linear layer.

    Submodules `stem`, `block1` … `blockN`, `top`, `classifier`; `top` is the last
    ReLU6 before average pooling, where maps are explained by default. `widths` gives
    the inner width of every block; for a first block without an expansion that is the
    width of the stem. `pooling` is one of `layers.POOLS`. Small images have a stem with
    `stride` 1.
    """

    stages: tuple[Stage, ...]
    stem: int = 32
    top: int = 1280
    num_classes: int = 1000
    dropout: float = 0.2
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    deviation: tuple[float, ...] = (0.229, 0.224, 0.225)
    style: Style = Style()
    widths: tuple[int, ...] | None = None
    pooling: str = "average"
    stride: int = 2

    def setup(self) -> None:
        relu6, style = layers.relu6, self.style
        count = sum(stage.repeats for stage in self.stages)
        widths = layers.each_width(self.widths, count)
        stem = self.stem
        if self.stages[0].expansion == 1:
            stem = widths[0] or stem
        self.standardize = layers.Standardize(self.mean, self.deviation, style)
        blocks: list[nn.Module] = []
        self.stem_layer = ConvNorm(
            stem, 3, self.stride, activation=relu6, style=style, name="stem"
        )
        # A narrower stem must not look like the input of a sum.
        incoming = self.stem
        for stage in self.stages:
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                residual = stride == 1 and incoming == stage.filters
                incoming = stage.filters
                blocks.append(
                    InvertedResidual(
                        stage.filters,
                        stage.expansion,
                        stage.size,
                        stride,
                        style,
                        residual,
                        widths[len(blocks)],
                        name=f"block{len(blocks) + 1}",
                    )
                )
        self.blocks = blocks
        self.top_layer = ConvNorm(
            self.top, 1, activation=relu6, style=style, name="top"
        )
        self.dropout_layer = nn.Dropout(self.dropout, name="dropout")
        self.classifier = nn.Dense(self.num_classes, precision=style.precision)

    def features(self, images: Array, train: bool = False) -> jax.Array:
        """Compute the maps of `top`, with strides of 2 1/32 of the image's size."""
        maps = self.stem_layer(self.standardize(images), train)
        for block in self.blocks:
            maps = block(maps, train)
        return self.top_layer(maps, train)

    def head(self, maps: Array, train: bool = False) -> jax.Array:
        """Pool the maps and classify."""
        pooled = layers.pool(maps, self.pooling)
        return self.classifier(self.dropout_layer(pooled, deterministic=not train))

    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        """Compute logits, `[batch, num_classes]`."""
        return self.head(self.features(images, train), train)

    @nn.nowrap
    def channel_graph(self) -> Graph:
        """Say which channels may go: those between expansion and projection.

        Where the first block has no expansion these are the channels of the stem. What
        is summed, and `top`, keeps its width.
        """
        widths = iter(self.widths or (None,) * sum(s.repeats for s in self.stages))
        inner, sums, incoming = [], [["stem"]], self.stem
        names = iter(blocks(self.stages))
        for stage in self.stages:
            for repeat in range(stage.repeats):
                block, width = next(names).name, next(widths)
                depthwise, project = f"{block}/depthwise", f"{block}/project"
                added = (repeat > 0 or stage.stride == 1) and incoming == stage.filters
                if stage.expansion != 1:
                    makers = (f"{block}/expand", depthwise)
                    hidden = width or incoming * stage.expansion
                    inner.append(Group(makers, project, hidden))
                elif block == "block1":
                    # The stem's channels go straight through: free, unless added.
                    hidden = width or self.stem
                    sums = sums if added else []
                    makers = ("stem", depthwise)
                    inner.append(Group(makers, project, hidden, free=not added))
                else:
                    inner.append(Group((depthwise,), project, incoming, free=False))
                if added:
                    sums[-1].append(project)
                else:
                    sums.append([project])
                incoming = stage.filters
        tied = (*map(tuple, sums), ("top",))
        return Graph(type(self).__name__, tuple(inner), tied)
