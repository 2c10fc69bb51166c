"""Time derivatives of convolutions by their kernels, by XLA and as in trainings.

taskset -c 0 python benchmarks/kernel_derivative.py

prints milliseconds of the processor, medians of five calls.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The benchmark times the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.models import convolution, trained_convolution

# Images, side, channels, filters, stride and size of the kernel.
CASES = (
    (64, 32, 16, 16, 1, 3),
    (16, 56, 64, 64, 1, 3),
    (8, 112, 32, 64, 1, 3),
    (16, 28, 128, 128, 1, 3),
    (16, 7, 512, 512, 1, 3),
    (8, 224, 3, 64, 2, 7),
)


def milliseconds(run: Callable[..., Any], *arguments: Any) -> float:
    jax.block_until_ready(run(*arguments))
    found = []
    for _ in range(5):
        begin = time.process_time()
        jax.block_until_ready(run(*arguments))
        found.append(1000 * (time.process_time() - begin))
    return statistics.median(found)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    random = np.random.default_rng(0)
    print("images, side, channels, filters, stride, size | XLA | ours")
    for case in CASES:
        count, side, channels, filters, stride, size = case
        images = jnp.asarray(random.normal(size=(count, side, side, channels)), "f4")
        kernel = jnp.asarray(random.normal(size=(size, size, channels, filters)), "f4")
        margins = convolution.pads("symmetric", (side, side), size, stride)

        def plain(kernel: jax.Array, images: jax.Array, stride: int = stride) -> Any:
            return convolution.convolve(images, kernel, stride=stride)

        @jax.jit
        def derived(
            images: jax.Array, slopes: jax.Array, of: Any = plain, like: Any = kernel
        ) -> Any:
            return jax.vjp(lambda varied: of(varied, images), like)[1](slopes)[0]

        @jax.jit
        def ours(
            images: jax.Array,
            slopes: jax.Array,
            of: tuple[Any, ...] = (stride, margins, size),
        ) -> Any:
            return trained_convolution.by_kernel(images, slopes, *of)

        given = images, plain(kernel, images)
        print(
            f"{case} | {milliseconds(derived, *given):.1f} | "
            f"{milliseconds(lambda *of, run=ours: run(*of), *given):.1f}"
        )


if __name__ == "__main__":
    main()
