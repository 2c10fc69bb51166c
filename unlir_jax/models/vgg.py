"""VGG networks, with and without batch normalisation.

Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image
Recognition, ICLR 2015; the variants with norms are torchvision's.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.models import backbone, layers, pooling
from unlir_jax.models.channels import Graph, Group
from unlir_jax.models.layers import ConvNorm, Style
from unlir_jax.types import Array
from unlir_jax.weights import layouts

REPEATS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
WIDTHS = (64, 128, 256, 512, 512)
POOLED = 7


class VGG(nn.Module):
    """Classify images in [0, 1] by five groups of convolutions and three layers.

    Submodules `conv1_1` … `conv5_4` (with their ReLU), `hidden1`, `hidden2`,
    `classifier`; the last convolution, before its pooling, is where maps are explained
    by default. Images of other sizes are pooled to 7 x 7 cells as in torchvision.
    `widths` gives the width of every convolution.
    """

    repeats: tuple[int, ...]
    normalized: bool = False
    num_classes: int = 1000
    dropout: float = 0.5
    mean: tuple[float, ...] = backbone.IMAGENET_MEAN
    deviation: tuple[float, ...] = backbone.IMAGENET_DEVIATION
    style: Style = Style()
    widths: tuple[int, ...] | None = None

    def setup(self) -> None:
        widths = iter(layers.each_width(self.widths, sum(self.repeats)))
        self.standardize = layers.Standardize(self.mean, self.deviation, self.style)
        self.groups = [
            [
                ConvNorm(
                    next(widths) or width,
                    3,
                    activation=nn.relu,
                    normalized=self.normalized,
                    bias=True,
                    style=self.style,
                    name=f"conv{group}_{index + 1}",
                )
                for index in range(repeats)
            ]
            for group, (width, repeats) in enumerate(
                zip(WIDTHS, self.repeats, strict=True), start=1
            )
        ]
        dtype = self.style.dtype
        precision = self.style.precision
        self.hidden = [
            nn.Dense(4096, dtype=dtype, precision=precision, name=f"hidden{i}")
            for i in (1, 2)
        ]
        self.dropout_layer = nn.Dropout(self.dropout, name="dropout")
        self.classifier = nn.Dense(self.num_classes, precision=precision)

    def features(self, images: Array, train: bool = False) -> jax.Array:
        """Compute the maps of the last convolution, 1/16 of the image's size."""
        maps = self.standardize(images)
        for number, group in enumerate(self.groups):
            if number:
                maps = layers.max_pool(maps, 2, 2)
            for convolution in group:
                maps = convolution(maps, train)
        return maps

    def head(self, maps: Array, train: bool = False) -> jax.Array:
        """Pool the maps to 7 x 7 cells and classify."""
        maps = layers.max_pool(maps, 2, 2)
        maps = pooling.cells(maps, POOLED)
        values = maps.reshape((maps.shape[0], -1))
        for layer in self.hidden:
            values = nn.relu(layer(values))
            values = self.dropout_layer(values, deterministic=not train)
        values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
        return self.classifier(values)

    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        """Compute logits, `[batch, num_classes]`."""
        return self.head(self.features(images, train), train)

    @nn.nowrap
    def channel_graph(self) -> Graph:
        """Say which channels may go: those after every convolution."""
        usual = [
            width
            for width, repeats in zip(WIDTHS, self.repeats, strict=True)
            for _ in range(repeats)
        ]
        widths, names = self.widths or usual, _names(self.repeats)
        inner = [
            Group((made,), reader, width)
            for made, reader, width in zip(names, names[1:], widths, strict=False)
        ]
        inner.append(Group((names[-1],), "hidden1", widths[-1], POOLED**2))
        dense = ("hidden1", "hidden2", "classifier")
        return Graph(type(self).__name__, tuple(inner), (), dense)


def _names(repeats: Sequence[int]) -> list[str]:
    return [
        f"conv{group}_{place + 1}"
        for group, count in enumerate(repeats, start=1)
        for place in range(count)
    ]


def _network(
    repeats: tuple[int, ...], normalized: bool, parameters: int
) -> backbone.Network:
    convolutions: layouts.Prefixes = {}
    activations, index = {}, 0
    for name in _names(repeats):
        if index and name.endswith("_1"):
            index += 1  # the pooling
        convolutions |= layouts.pair(name, f"features.{index}", f"features.{index + 1}")
        # Convolution, norm where there is one, and ReLU.
        index += 3 if normalized else 2
        activations[f"features.{index - 1}"] = name
    vision = {"hidden1": "classifier.0", "hidden2": "classifier.3"}
    timm = {"hidden1": "pre_logits.fc1", "hidden2": "pre_logits.fc2"}
    return backbone.Network(
        functools.partial(VGG, repeats, normalized),
        f"conv5_{repeats[-1]}",
        parameters,
        {
            "torchvision": convolutions | vision | {"classifier": "classifier.6"},
            "timm": convolutions | timm | {"classifier": "head.fc"},
        },
        activations,
        stages=tuple(f"conv{group}_1" for group in range(2, len(repeats) + 1)),
    )


for _depth, _plain, _normalized in (
    (11, 132_863_336, 132_868_840),
    (13, 133_047_848, 133_053_736),
    (16, 138_357_544, 138_365_992),
    (19, 143_667_240, 143_678_248),
):
    backbone.register(f"vgg{_depth}", _network(REPEATS[_depth], False, _plain))
    backbone.register(f"vgg{_depth}_bn", _network(REPEATS[_depth], True, _normalized))
