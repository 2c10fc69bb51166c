"""Write torchvision.npz next to this file: boxes that torchvision's nms keeps.

    python make_suppression.py

README.md names the versions. Coordinates are quarters and scores have few values, so
that overlaps are exact and many scores are equal.
"""

import pathlib

import numpy as np
import torch
from torchvision import ops

HERE = pathlib.Path(__file__).parent
THRESHOLDS = (0.0, 0.3, 0.4, 0.5, 0.7, 1.0)


def made(seed: int, count: int, digits: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    start = random.integers(0, 200, (count, 2)) / 4
    side = random.integers(0, 100, (count, 2)) / 4
    boxes = np.concatenate([start, start + side], axis=1).astype(np.float32)
    boxes[count // 2 : count // 2 + 5] = boxes[:5]
    return boxes, random.random(count).round(digits).astype(np.float32)


def by_hand() -> tuple[np.ndarray, np.ndarray]:
    """Overlaps of exactly 0.3 and 0.5 with the first box, equal boxes, no area."""
    rows = [
        [0, 0, 10, 10],
        [0, 0, 10, 3],
        [0, 0, 10, 5],
        [20, 0, 20, 10],
        [20, 0, 20, 10],
        [2, 2, 2, 2],
        [30, 30, 40, 40],
        [30, 30, 40, 40],
    ]
    scores = [0.9, 0.8, 0.85, 0.5, 0.5, 0.1, 0.7, 0.7]
    return np.asarray(rows, np.float32), np.asarray(scores, np.float32)


def main() -> None:
    cases = {"by_hand": by_hand(), "tied": made(0, 150, 1), "apart": made(1, 150, 6)}
    found = {}
    for name, (boxes, scores) in cases.items():
        found |= {f"{name}/boxes": boxes, f"{name}/scores": scores}
        for threshold in THRESHOLDS:
            kept = ops.nms(torch.tensor(boxes), torch.tensor(scores), threshold)
            found[f"{name}/{threshold}"] = kept.numpy().astype(np.int16)
    np.savez_compressed(HERE / "torchvision.npz", **found)


if __name__ == "__main__":
    main()
