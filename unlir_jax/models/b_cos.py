"""B-cos networks, whose explanation is exact: each logit is a sum over the pixels.

Böhle et al., B-cos Networks: Alignment Is All We Need for Interpretability, CVPR 2022,
and B-cos Alignment for Inherently Interpretable CNNs and Vision Transformers, TPAMI
2024. They show whether explainers and metrics find what is known to be right.

Note: the norms are the second paper's. Both papers train by binary cross-entropies;
our trainer's softmax does not see the bias, which all logits share.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.models import backbone, layers
from unlir_jax.models.layers import Style
from unlir_jax.types import Array, Images, Labels, Variables

TINY = 1e-6


class Held(nn.Module):
    """Give back a value, so that `contributions` finds it under a name."""

    kind: str

    def __call__(self, values: jax.Array) -> jax.Array:
        return values


class UncenteredNorm(nn.Module):
    """Divide each filter by its standard deviation over the batch, times a scale.

    Nothing is subtracted or added, so that with running statistics it is linear in
    its input without a bias: the official `BatchNormUncentered2d` without bias.

    Attributes:
        style: What all layers have in common.
    """

    style: Style = Style()

    @nn.compact
    def __call__(self, maps: jax.Array, train: bool = False) -> jax.Array:
        filters = (maps.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, filters)
        running = self.variable("batch_stats", "var", jnp.ones, filters)
        variance = running.value
        if train:
            variance = self._variance(maps)
            if not self.is_initializing():
                share = self.style.momentum
                running.value = share * running.value + (1 - share) * variance
        factor = scale * jax.lax.rsqrt(variance + self.style.epsilon)
        return maps * factor.astype(maps.dtype).reshape(1, 1, 1, -1)

    def _variance(self, maps: jax.Array) -> jax.Array:
        """Compute it in float32 or more, over the batch of all devices."""

        def mean(values: jax.Array) -> jax.Array:
            own = jnp.mean(values, axis=(0, 1, 2), keepdims=True)
            axis = self.style.axis_name
            return own if axis is None else jax.lax.pmean(own, axis)

        wide = maps.astype(jnp.promote_types(maps.dtype, jnp.float32))
        return mean(jnp.square(wide - mean(wide))).reshape(-1)


class BCos(nn.Module):
    """Convolve by unit kernels, times |cos|^(power - 1) of the angle to each patch.

    Attributes:
        filters: Number of filters.
        size: Side of the kernels.
        stride: Step between locations.
        power: The B, at least 1; 1 is a convolution.
        normalized: Whether a norm follows. The cosines of one layer after another make
            maps ever smaller, and too small to be trained.
        style: What all layers have in common.
    """

    filters: int
    size: int = 3
    stride: int = 1
    power: float = 2.0
    normalized: bool = False
    style: Style = Style()

    @nn.compact
    def __call__(self, maps: jax.Array, train: bool = False) -> jax.Array:
        shape = (self.size, self.size, maps.shape[-1], self.filters)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        length = jnp.linalg.norm(kernel.reshape(-1, self.filters), axis=0)
        unit = (kernel / length.reshape(1, 1, 1, -1)).astype(maps.dtype)
        linear = self._convolve(maps, unit)
        ones = jnp.ones((*shape[:3], 1), maps.dtype)
        patch = jnp.sqrt(self._convolve(jnp.square(maps), ones) + TINY)
        cosine = jnp.abs(linear) / patch
        # At power 2 there is no root whose slope ends nowhere at 0.
        scale = cosine if self.power == 2 else (cosine + TINY) ** (self.power - 1)
        maps = Held("scale", name="scale")(scale) * linear
        if self.normalized:
            maps = UncenteredNorm(self.style, name="norm")(maps, train)
        return maps

    def _convolve(self, maps: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            maps,
            kernel,
            (self.stride, self.stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=self.style.precision,
        )


class Block(nn.Module):
    """Add two B-cos layers to the maps, or to what one of size 1 makes of them.

    Attributes:
        filters: Number of filters.
        stride: Step between locations.
        power: The B of all layers.
        style: What all layers have in common.
    """

    filters: int
    stride: int
    power: float
    style: Style

    @nn.compact
    def __call__(self, maps: jax.Array, train: bool = False) -> jax.Array:
        def layer(size: int, stride: int, name: str) -> BCos:
            shape = self.filters, size, stride
            return BCos(*shape, self.power, True, self.style, name=name)

        added = layer(3, self.stride, "conv1")(maps, train)
        added = layer(3, 1, "conv2")(added, train)
        if maps.shape != added.shape:
            maps = layer(1, self.stride, "downsample")(maps, train)
        return maps + added


class BCosNet(nn.Module):
    """Classify images in [0, 1] by B-cos layers, and the mean of what they find.

    Images become six colours, x and 1 - x, so that no colour is nothing. There is no
    other activation, and no bias but -log(classes - 1) of each logit, as published.
    All layers but the last have a norm. Submodules `colours`, `stem`, `layer1` …,
    `classifier`: with its three layers it is a ResNet-8 for small images.

    Attributes:
        num_classes: Number of classes, at least 2.
        widths: Filters of each layer, a block; all but the first halve the maps' sides.
        power: The B of all layers.
        style: What all layers have in common.
    """

    num_classes: int
    widths: tuple[int, ...] = (16, 32, 64)
    power: float = 2.0
    style: Style = Style()

    mean, deviation = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def setup(self) -> None:
        self.colours = Held("colours")
        shared = self.power, self.style
        self.stem = BCos(self.widths[0], 3, 1, self.power, True, self.style)
        self.blocks = [
            Block(width, 1 + (index > 0), *shared, name=f"layer{index + 1}")
            for index, width in enumerate(self.widths)
        ]
        self.classifier = BCos(self.num_classes, 1, 1, self.power, style=self.style)

    def features(self, images: Array, train: bool = False) -> jax.Array:
        """Compute the maps of the last layer."""
        images = jnp.asarray(images, self.style.dtype)
        maps = self.colours(jnp.concatenate([images, 1 - images], axis=-1))
        maps = self.stem(maps, train)
        for block in self.blocks:
            maps = block(maps, train)
        return maps

    def head(self, maps: Array, train: bool = False) -> jax.Array:
        """Compute logits, `[batch, num_classes]`."""
        del train
        return layers.pool(self.classifier(jnp.asarray(maps)), "average") + self.bias

    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        """Compute logits, `[batch, num_classes]`."""
        return self.head(self.features(images, train), train)

    @property
    def bias(self) -> float:
        """Give what is added to each logit, whatever the image is."""
        return -math.log(max(self.num_classes - 1, 1))


def contributions(module: BCosNet) -> Callable[..., jax.Array]:
    """Make an explainer of what each pixel adds to a logit, exactly.

    With all scales held, the network is linear in the six colours: the map is their
    product with the gradient, summed over colours.

    Args:
        module: The network.

    Returns:
        `(variables, images, labels, *, key=None) -> [batch, height, width]`, with
        signs; over the pixels it adds up to the label's logit less `module.bias`.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> from unlir_jax.models import b_cos
        >>> module = b_cos.BCosNet(3, widths=(4, 4))
        >>> images = np.full((1, 8, 8, 3), 0.5, np.float32)
        >>> variables = module.init(jax.random.key(0), images)
        >>> b_cos.contributions(module)(variables, images, np.asarray([1])).shape
        (1, 8, 8)
    """

    @jax.jit
    def compute(variables: Variables, images: Images, labels: Labels) -> jax.Array:
        def total(added: jax.Array) -> tuple[jax.Array, jax.Array]:
            seen = []

            def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
                kind = getattr(context.module, "kind", "")
                if context.method_name != "__call__" or not kind:
                    return call(*args, **kwargs)
                found = call(*args, **kwargs)
                if kind == "scale":
                    return jax.lax.stop_gradient(found)
                seen.append(found)
                return found + added

            with nn.intercept_methods(intercept):
                logits = jnp.asarray(module.apply(variables, images))
            own = jnp.take_along_axis(logits, jnp.asarray(labels)[:, None], axis=1)
            return jnp.sum(own), seen[0]

        colours = jnp.zeros((*images.shape[:3], 2 * images.shape[3]), images.dtype)
        slope, colours = jax.grad(total, has_aux=True)(colours)
        return jnp.sum(slope * colours, axis=-1)

    def explain(
        variables: Variables, images: Images, labels: Labels, *, key: object = None
    ) -> jax.Array:
        del key
        return compute(variables, images, labels)

    return explain


backbone.register(
    "b_cos_small",
    backbone.Network(
        functools.partial(BCosNet, num_classes=10),
        "layer3",
        78_128,
        image_size=32,
        crop=1.0,
        classes=10,
    ),
)
