"""Time a forward pass by the number of images, and a product of matrices.

    taskset -c 0 python benchmarks/forward.py --weights FILE

MobileNetV2, 224 x 224, float32, norms folded: 0.3 G multiply-adds an image. The product
is NumPy's of square matrices of 1,024. Prints the least of the calls, for what other
work takes away is never given back.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from unlir_jax.models import pretrained

MULTIPLY_ADDS, SIDE = 300.8e6, 1024


def least(call: Callable[[], Any], calls: int) -> float:
    """Give the seconds of the processor that the fastest call takes."""
    found = []
    for _ in range(calls):
        begun = time.process_time()
        call()
        found.append(time.process_time() - begun)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", help="default: those at hand")
    parser.add_argument("--calls", type=int, default=20)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    matrix = random.random((SIDE, SIDE), np.float32)
    seconds = least(lambda: matrix @ matrix, options.calls)
    print(f"product of matrices: {2 * SIDE**3 / seconds / 1e9:.0f} GFLOP/s")
    p = pretrained.load("mobilenet_v2", options.weights, fold=True)
    forward = jax.jit(lambda images: p.module.apply(p.variables, images))
    for count in (1, 2, 4, 8, 16, 32):
        images = jax.numpy.asarray(random.random((count, 224, 224, 3), np.float32))

        def call(images: jax.Array = images) -> None:
            forward(images).block_until_ready()

        call()
        seconds = least(call, options.calls) / count
        speed = 2 * MULTIPLY_ADDS / seconds / 1e9
        print(f"{count:2d} images: {1000 * seconds:.2f} ms each, {speed:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
