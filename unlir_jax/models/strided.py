"""The small network of provable defences: two strided convolutions, and no norm.

Wong & Kolter, Provable Defenses against Adversarial Examples via the Convex Outer
Adversarial Polytope, ICML 2018; the variant for 32 x 32 pixels in colour is that of
locuslab/convex_adversarial, which has weights of it.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.models import backbone, layers, pooling
from unlir_jax.models.channels import Graph, Group
from unlir_jax.models.layers import ConvNorm, Style
from unlir_jax.types import Array
from unlir_jax.weights import layouts

CELLS, WIDTHS, HIDDEN = 8, (16, 32), 100
DEVIATION = (0.225, 0.225, 0.225)


class Strided(nn.Module):
    """Classify images in [0, 1] by two convolutions of stride 2 and two layers.

    Submodules `conv1` and `conv2` (with their ReLU), `hidden`, `classifier`; `conv2` is
    where maps are explained by default. Maps of images of another size than 32
    pixels are averaged to 8 x 8 cells. `widths` gives the widths of the convolutions.
    """

    # No field: `channels.norms` asks whether norms follow.
    normalized = False

    num_classes: int = 10
    mean: tuple[float, ...] = backbone.IMAGENET_MEAN
    deviation: tuple[float, ...] = DEVIATION
    style: Style = Style()
    widths: tuple[int, ...] | None = None

    def setup(self) -> None:
        style, widths = self.style, layers.each_width(self.widths, len(WIDTHS))
        self.standardize = layers.Standardize(self.mean, self.deviation, style)
        self.convolutions = [
            ConvNorm(
                *(own or usual, 4, 2),
                activation=nn.relu,
                normalized=False,
                bias=True,
                style=style,
                name=f"conv{number}",
            )
            for number, (own, usual) in enumerate(
                zip(widths, WIDTHS, strict=True), start=1
            )
        ]
        precision = style.precision
        self.hidden = nn.Dense(HIDDEN, dtype=style.dtype, precision=precision)
        self.classifier = nn.Dense(self.num_classes, precision=precision)

    def features(self, images: Array, train: bool = False) -> jax.Array:
        """Compute the maps of the second convolution, a quarter of the image's size."""
        maps = self.standardize(images)
        for convolution in self.convolutions:
            maps = convolution(maps, train)
        return maps

    def head(self, maps: Array, train: bool = False) -> jax.Array:
        """Bring the maps to 8 x 8 cells and classify."""
        del train
        maps = pooling.cells(jnp.asarray(maps), CELLS)
        values = nn.relu(self.hidden(maps.reshape((maps.shape[0], -1))))
        values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
        return self.classifier(values)

    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        """Compute logits, `[batch, num_classes]`."""
        return self.head(self.features(images, train), train)

    @nn.nowrap
    def channel_graph(self) -> Graph:
        """Say which channels may go: those after each convolution."""
        first, second = self.widths or WIDTHS
        inner = Group(("conv1",), "conv2", first)
        last = Group(("conv2",), "hidden", second, CELLS**2)
        return Graph(type(self).__name__, (inner, last), (), ("hidden", "classifier"))


backbone.register(
    "cifar_strided",
    backbone.Network(
        Strided,
        "conv2",
        214_918,
        {
            "convex_adversarial": layouts.pair("conv1", "0", "1")
            | layouts.pair("conv2", "2", "3")
            | {"hidden": "5", "classifier": "7"},
        },
        {"1": "conv1", "3": "conv2"},
        image_size=32,
        crop=1.0,
        classes=10,
        stages=("conv2",),
    ),
)
