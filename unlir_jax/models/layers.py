"""The bricks of every backbone: a convolution with its norm, and what goes around."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import dtypes
from jax.typing import DTypeLike

from unlir_jax.core import compilation
from unlir_jax.models import convolution, pooling
from unlir_jax.types import Array, Module

POOLS = ("average", "max", "gem")
"""Ways of heads to pool; a single cell comes out as it is, if it is not negative."""


class Style(NamedTuple):
    """Say what all layers of one network have in common.

    Attributes:
        norm: False where the norms have been folded into the convolutions.
        epsilon: Added to the variance by the norms.
        momentum: Share of the old running statistics kept at a training step.
        padding: `same` (TensorFlow) or `symmetric` (PyTorch).
        precision: Precision of products in float32. Accelerators round their factors to
            fewer bits unless told not to (TF32 on GPU, bfloat16 on TPU), which moves
            logits by more than our references allow; `default` gives that speed back.
        dtype: Type of the computation, `bfloat16` for example; None takes that of
            images and parameters. Parameters stay float32, logits are never less.
        axis_name: Axis over which `pmap` averages the norms' statistics.
    """

    norm: bool = True
    epsilon: float = 1e-5
    momentum: float = 0.9
    padding: convolution.Padding = "symmetric"
    precision: str = "highest"
    dtype: DTypeLike | None = None
    axis_name: str | None = None


class Convolution(nn.Module):
    """Convolve with a learned kernel, `[size, size, in / groups, filters]`."""

    filters: int
    size: int
    stride: int = 1
    groups: int = 1
    bias: bool = False
    style: Style = Style()

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        dtype = self.style.dtype
        shape = (self.size, self.size, images.shape[-1] // self.groups, self.filters)
        scale = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        kernel = self.param("kernel", scale, shape)
        images, kernel = dtypes.promote_dtype(images, kernel, dtype=dtype)
        images = convolution.convolve(
            images,
            kernel,
            stride=self.stride,
            padding=self.style.padding,
            groups=self.groups,
            precision=self.style.precision,
            train=train,
        )
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.filters,))
            images = images + bias.astype(images.dtype).reshape((1, 1, 1, -1))
        return images


class ConvNorm(nn.Module):
    """Convolve, normalise over the batch, activate.

    Without `normalized`, or in a network whose norms are folded, the convolution has
    a bias and no norm follows; `bias` gives it one before a norm as well.
    """

    filters: int
    size: int
    stride: int = 1
    groups: int = 1
    activation: Callable[[jax.Array], jax.Array] | None = None
    normalized: bool = True
    bias: bool = False
    style: Style = Style()

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        norm = self.normalized and self.style.norm
        images = Convolution(
            self.filters,
            self.size,
            self.stride,
            self.groups,
            bias=self.bias or not norm,
            style=self.style,
            name="conv",
        )(images, train)
        if norm:
            images = nn.BatchNorm(
                use_running_average=not train,
                epsilon=self.style.epsilon,
                momentum=self.style.momentum,
                dtype=self.style.dtype,
                axis_name=self.style.axis_name if train else None,
                name="norm",
            )(images)
        return images if self.activation is None else self.activation(images)


class Standardize(nn.Module):
    """Subtract the mean and divide by the std that the weights expect."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    style: Style = Style()

    def __call__(self, images: Array) -> jax.Array:
        """Map images in [0, 1] to what the first convolution sees."""
        images = jnp.asarray(images)
        mean = jnp.asarray(self.mean, images.dtype).reshape((1, 1, 1, -1))
        deviation = jnp.asarray(self.deviation, images.dtype).reshape((1, 1, 1, -1))
        images = (images - mean) / deviation
        return images if self.style.dtype is None else images.astype(self.style.dtype)


def relu6(values: jax.Array) -> jax.Array:
    """Clip to [0, 6]; the gradient is zero at both ends, as in PyTorch."""
    low, high = (jnp.asarray(bound, values.dtype) for bound in (0, 6))
    return jax.lax.clamp(low, values, high)


def each_width(widths: tuple[int, ...] | None, count: int) -> tuple[int | None, ...]:
    """Give the inner width of each place, None where it is the network's usual one.

    Raises:
        ValueError: There are not `count` widths, or one is below 1.
    """
    if widths is None:
        return (None,) * count
    if len(widths) != count or min(widths) < 1:
        raise ValueError(
            f"`widths`={widths} has {len(widths)} numbers; expected {count}, all from "
            "1, or None for the usual ones."
        )
    return tuple(widths)


def pool(maps: Array, how: str) -> jax.Array:
    """Pool over space by one of `POOLS`, in float32 or more: `[batch, filters]`."""
    maps = compilation.separate(jnp.asarray(maps))
    wide = maps.astype(jnp.promote_types(maps.dtype, jnp.float32))
    return compilation.separate(pooling.POOLINGS[how](wide))


def max_pool(maps: Array, size: int, stride: int, margin: int = 0) -> jax.Array:
    """Take the largest of each window of `size` x `size` cells."""
    margins = ((margin, margin), (margin, margin))
    pooled = nn.max_pool(
        compilation.separate(maps),
        (size, size),
        (stride, stride),
        margins,  # pyright: ignore[reportArgumentType]
    )
    return compilation.separate(pooled)


def pooling_of(module: Module) -> str:
    """Give the way in which a network's head pools; "" where it is the usual one."""
    how = getattr(module, "pooling", POOLS[0])
    return "" if how == POOLS[0] and not hasattr(module, "ways") else how


def ways(module: Module) -> tuple[str, ...]:
    """List the ways in which a network's head can pool; none where it does not."""
    if not hasattr(module, "pooling"):
        return ()
    return getattr(module, "ways", POOLS)


def knows_pooling(module: Module, how: str) -> bool:
    """Tell whether a network's head can pool in a way, or in several joined by `+`.

    Only heads that take descriptors, as in vision transformers, join several.
    """
    known, asked = ways(module), how.split("+")
    joins = hasattr(module, "ways") or len(asked) == 1
    return joins and len(set(asked)) == len(asked) and set(asked) <= set(known)


def with_pooling(module: Module, how: str) -> Module:
    """Copy a network of ours whose head pools in another way; "" leaves it as it is.

    A vision transformer takes several, such as `token+average`: its classifier is then
    as many times as wide.

    Raises:
        ValueError: There is no such way, or the network does not pool to one vector.
    """
    if not how or how == getattr(module, "pooling", None):
        return module
    if not hasattr(module, "pooling"):
        known = ", ".join(POOLS)
        if how not in POOLS:
            raise ValueError(
                f"`pooling`={how!r}; expected one of {known}, or '' for the network's "
                "own."
            )
        raise ValueError(
            f"`pooling`={how!r}, but a {type(module).__name__} has a head of its own "
            "that does not pool to one vector; expected ''."
        )
    if not knows_pooling(module, how):
        joined = ", or several joined by +" if hasattr(module, "ways") else ""
        raise ValueError(
            f"`pooling`={how!r}; expected one of {', '.join(ways(module))}{joined}, or "
            "'' for the network's own."
        )
    return module.clone(pooling=how)


def with_style(module: Module, style: Style) -> Module:
    """Copy a network of ours with another style; a part network passes it on."""
    if hasattr(module, "backbone"):
        return module.clone(backbone=module.backbone.clone(style=style))
    return module.clone(style=style)


def with_dropout(module: Module, share: float) -> Module:
    """Copy a network of ours with another share of dropout.

    Raises:
        ValueError: It is no share, or the network drops nothing.
    """
    if not 0 <= share < 1:
        raise ValueError(
            f"`model.dropout`={share}; expected a share in [0, 1), or none."
        )
    if hasattr(module, "dropout"):
        return module.clone(dropout=share)
    if share:
        raise ValueError(
            f"`model.dropout`={share}, but a {type(module).__name__} drops nothing; "
            "expected 0 or none."
        )
    return module
