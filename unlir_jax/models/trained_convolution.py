"""Convolutions whose derivatives by the kernel take little time on a CPU.

XLA's own derivative by a kernel is a convolution with kernels as large as images, which
takes up to 13 times as long on some CPUs. Here it is one matrix product an image. The
three functions are each other's derivatives, so any number of derivatives is quick.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]
Shape = tuple[int, int]
MOST_WINDOWS = 1 << 20
"""Numbers that the windows of one product have at most; they stay in a cache."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(
    images: jax.Array, kernel: jax.Array, stride: int, margins: Pads
) -> jax.Array:
    """Convolve `[batch, height, width, in]` with `[k, k, in, out]`.

    Has derivatives in reverse mode only.
    """
    return lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        margins,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def by_images(
    slopes: jax.Array, kernel: jax.Array, stride: int, margins: Pads, shape: Shape
) -> jax.Array:
    """Derive by the images, of height and width `shape`; `slopes` are by the output."""
    size = kernel.shape[0]
    # The kernel is turned, and meets outputs that are `stride` apart.
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    pads = []
    for n, count, (low, _) in zip(shape, slopes.shape[1:3], margins, strict=True):
        before = size - 1 - low
        pads.append((before, n + size - 1 - before - ((count - 1) * stride + 1)))
    return lax.conv_general_dilated(
        slopes,
        turned,
        (1, 1),
        pads,
        lhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def by_kernel(
    images: jax.Array, slopes: jax.Array, stride: int, margins: Pads, size: int
) -> jax.Array:
    """Derive by the kernel, `size` wide; sums are float32 at least."""
    channels, (rows, columns) = images.shape[-1], slopes.shape[1:3]
    padded = jnp.pad(images, ((0, 0), *margins, (0, 0)))
    bands = _bands(rows, columns * size * size * channels)
    height = rows // bands
    reach = (height - 1) * stride + 1
    across = (columns - 1) * stride + 1
    wide = jnp.promote_types(images.dtype, jnp.float32)

    def product(number: jax.Array | int) -> jax.Array:
        image, band = number // bands, number % bands
        start = image, band * height * stride, 0, 0
        extent = 1, reach + size - 1, padded.shape[2], channels
        seen = lax.dynamic_slice(padded, start, extent)[0]
        windows = [
            seen[i : i + reach : stride, j : j + across : stride]
            for i in range(size)
            for j in range(size)
        ]
        start = image, band * height, 0, 0
        extent = 1, height, columns, slopes.shape[-1]
        weights = lax.dynamic_slice(slopes, start, extent)[0]
        # In this order the slopes are transposed, not the windows, which are larger.
        return jnp.einsum(
            "hwo,hwi->oi",
            weights,
            jnp.concatenate(windows, axis=-1),
            preferred_element_type=wide,
        )

    total = lax.fori_loop(
        1,
        len(images) * bands,
        lambda number, total: total + product(number),
        product(0),
    )
    shape = size, size, channels, slopes.shape[-1]
    return total.T.reshape(shape).astype(images.dtype)


def _bands(rows: int, numbers: int) -> int:
    """Cut an output into bands of equal height, whose windows are few enough.

    Args:
        rows: Height of the output.
        numbers: How many the windows of one row have.
    """
    for bands in range(1, rows):
        if rows % bands == 0 and rows // bands * numbers <= MOST_WINDOWS:
            return bands
    return rows


def _with_inputs(function: Callable[..., jax.Array]) -> Callable[..., Any]:
    """Make the forward half of a rule: it keeps the two arrays that it was given."""

    def forward(first: jax.Array, second: jax.Array, *settings: Any) -> Any:
        return function(first, second, *settings), (first, second)

    return forward


def _convolve_back(
    stride: int,
    margins: Pads,
    given: tuple[jax.Array, jax.Array],
    slopes: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    images, kernel = given
    shape = images.shape[1], images.shape[2]
    return (
        by_images(slopes, kernel, stride, margins, shape),
        by_kernel(images, slopes, stride, margins, len(kernel)),
    )


def _by_images_back(
    stride: int,
    margins: Pads,
    shape: Shape,
    given: tuple[jax.Array, jax.Array],
    images: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    del shape
    slopes, kernel = given
    return (
        convolve(images, kernel, stride, margins),
        by_kernel(images, slopes, stride, margins, len(kernel)),
    )


def _by_kernel_back(
    stride: int,
    margins: Pads,
    size: int,
    given: tuple[jax.Array, jax.Array],
    kernel: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    del size
    images, slopes = given
    shape = images.shape[1], images.shape[2]
    return (
        by_images(slopes, kernel, stride, margins, shape),
        convolve(images, kernel, stride, margins),
    )


convolve.defvjp(_with_inputs(convolve), _convolve_back)
by_images.defvjp(_with_inputs(by_images), _by_images_back)
by_kernel.defvjp(_with_inputs(by_kernel), _by_kernel_back)
