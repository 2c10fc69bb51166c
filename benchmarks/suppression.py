"""Time non-maximum suppression of many classes against a loop in NumPy.

taskset -c 0 python benchmarks/suppression.py

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
import numpy as np

from unlir_jax import detection

THRESHOLD = 0.4


def by_loop(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """Keep the best box, drop what overlaps it, and continue with the others."""
    left, top, right, bottom = boxes.T
    areas = (right - left) * (bottom - top)
    order, kept = np.argsort(-scores, kind="stable"), []
    while order.size:
        best, others = order[0], order[1:]
        kept.append(int(best))
        across = np.minimum(right[best], right[others])
        across -= np.maximum(left[best], left[others])
        down = np.minimum(bottom[best], bottom[others])
        down -= np.maximum(top[best], top[others])
        shared = np.maximum(across, 0) * np.maximum(down, 0)
        overlaps = shared / (areas[best] + areas[others] - shared)
        order = others[overlaps <= THRESHOLD]
    return kept


def milliseconds(run: Callable[..., Any]) -> float:
    run()
    found = []
    for _ in range(5):
        begin = time.process_time()
        run()
        found.append(1000 * (time.process_time() - begin))
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boxes", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=20)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    start = random.random((options.boxes, 2)) * 400
    sides = 20 + random.random((options.boxes, 2)) * 180
    boxes = np.concatenate([start, start + sides], axis=1).astype(np.float32)
    scores = random.random((options.boxes, options.classes)).astype(np.float32)

    def ours() -> jax.Array:
        kept = detection.nms(boxes, scores, threshold=THRESHOLD)
        return jax.block_until_ready(kept.order)

    def loop() -> list[list[int]]:
        return [by_loop(boxes, each) for each in scores.T]

    same = [row[row >= 0].tolist() for row in np.asarray(ours()).T] == loop()
    mine, theirs = milliseconds(ours), milliseconds(loop)
    print(f"ours {mine:.1f} | NumPy {theirs:.1f} | {theirs / mine:.1f} | same: {same}")


if __name__ == "__main__":
    main()
