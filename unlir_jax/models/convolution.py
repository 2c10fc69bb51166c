"""Convolutions written the way that each kind of processor runs them fastest."""

import functools
import operator
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from unlir_jax.models import trained_convolution
from unlir_jax.types import Array

Pads = tuple[tuple[int, int], tuple[int, int]]
Padding = Literal["same", "symmetric"]


def pads(padding: Padding, size: tuple[int, ...], kernel: int, stride: int) -> Pads:
    """Work out the zeros before and after each axis.

    `same` is TensorFlow's rule, which depends on the image and pads the far side
    more; `symmetric` is PyTorch's `(kernel - 1) // 2` on all sides.
    """
    if padding == "symmetric":
        margin = (kernel - 1) // 2
        return ((margin, margin), (margin, margin))
    totals = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in size]
    (top, bottom), (left, right) = ((t // 2, t - t // 2) for t in totals)
    return ((top, bottom), (left, right))


def convolve(
    images: Array,
    kernel: Array,
    *,
    stride: int = 1,
    padding: Padding = "symmetric",
    groups: int = 1,
    precision: str | None = None,
    shifted: bool | None = None,
    train: bool = False,
) -> jax.Array:
    """Convolve `[batch, height, width, in]` with `[k, k, in / groups, out]`.

    On CPU a depthwise convolution becomes a sum of shifted products and a 1 x 1
    convolution a matrix product: XLA's grouped convolution there takes five times as
    long. `shifted` forces (True) or forbids (False) this; None decides by the default
    backend. The results agree to rounding.

    With `train`, another convolution on one CPU has quick derivatives by its kernel,
    and none in forward mode; see `trained_convolution`.
    """
    size = kernel.shape[0]
    margins = pads(padding, images.shape[1:3], size, stride)
    if shifted is None:
        shifted = jax.default_backend() == "cpu"
    if shifted and size == 1 and groups == 1:
        if stride > 1:
            images = images[:, ::stride, ::stride]
        product = "bhwi,io->bhwo"
        return jnp.einsum(product, images, kernel[0, 0], precision=precision)
    if shifted and groups == images.shape[-1] == kernel.shape[-1]:
        return _depthwise(images, kernel[:, :, 0], stride, margins)
    if shifted and train and groups == 1 and jax.device_count() == 1:
        given = jnp.asarray(images), jnp.asarray(kernel)
        return trained_convolution.convolve(*given, stride, margins)
    return lax.conv_general_dilated(
        jnp.asarray(images),
        jnp.asarray(kernel),
        (stride, stride),
        margins,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision=precision,
    )


def _depthwise(images: Array, kernel: Array, stride: int, margins: Pads) -> jax.Array:
    """Sum shifted products, with a derivative that is again such a sum.

    Plain differentiation would pad each of the k * k slices back on its own; the
    tangent below is written so that its transpose pads once and then slices.
    """

    @jax.custom_jvp
    def apply(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return _gather(images, kernel, stride, margins)

    @apply.defjvp
    def _(primals, tangents):
        (images, kernel), (images_dot, kernel_dot) = primals, tangents
        return apply(images, kernel), (
            _scatter(images_dot, kernel, stride, margins)
            + _gather(images, kernel_dot, stride, margins)
        )

    return apply(images, kernel)


def _gather(images: Array, kernel: Array, stride: int, margins: Pads) -> jax.Array:
    size = kernel.shape[0]
    padded = jnp.pad(images, ((0, 0), *margins, (0, 0)))
    rows, columns = ((n - size) // stride + 1 for n in padded.shape[1:3])
    terms = []
    for i in range(size):
        for j in range(size):
            window = padded[
                :,
                i : i + stride * (rows - 1) + 1 : stride,
                j : j + stride * (columns - 1) + 1 : stride,
            ]
            terms.append(window * kernel[None, None, None, i, j])
    return functools.reduce(operator.add, terms)


def _scatter(images: Array, kernel: Array, stride: int, margins: Pads) -> jax.Array:
    """Compute what `_gather` computes, as products that are padded, summed and cut."""
    size = kernel.shape[0]
    zero = jnp.zeros((), images.dtype)
    terms = []
    for i in range(size):
        for j in range(size):
            shifts = ((size - 1 - i, i, 0), (size - 1 - j, j, 0))
            term = lax.pad(
                images * kernel[None, None, None, i, j],
                zero,
                ((0, 0, 0), *shifts, (0, 0, 0)),
            )
            terms.append(term)
    total = functools.reduce(operator.add, terms)
    # `total[y + size - 1]` holds the window that starts at row y of the images.
    outputs = [
        (n + sum(margin) - size) // stride + 1
        for n, margin in zip(images.shape[1:3], margins, strict=True)
    ]
    cuts = []
    for n, (low, _), count in zip(images.shape[1:3], margins, outputs, strict=True):
        start = size - 1 - low
        stop = start + stride * (count - 1) + 1
        cuts.append((start, stop, n + size - 1))
    crop = [(-start, stop - length, 0) for start, stop, length in cuts]
    cropped = lax.pad(total, zero, ((0, 0, 0), *crop, (0, 0, 0)))
    return cropped[:, ::stride, ::stride]
