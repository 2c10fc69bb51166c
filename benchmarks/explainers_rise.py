"""RISE, insertion and deletion as the code of RISE computes them, on a CPU.

Written again after github.com/eclique/RISE (commit d91ea00), which needs CUDA: same
order of work, same batches, same arrays, without its calls of `.cuda()`, its progress
bars and its file of masks. Petsiuk et al., BMVC 2018.
"""

# pyright: reportMissingImports=false

from collections.abc import Callable
from typing import Any

import numpy as np

CELLS, SHARE, BATCH = 7, 0.5, 100


class Rise:
    """Explain by masks that are drawn once, as theirs are."""

    def __init__(self, network: Any, side: int, count: int):
        import torch

        self.torch, self.network, self.side = torch, network, side
        random = np.random.default_rng(0)
        cell = -(-side // CELLS)
        grid = (random.random((count, CELLS, CELLS)) < SHARE).astype(np.float32)
        large = torch.nn.functional.interpolate(
            torch.from_numpy(grid)[:, None], size=(CELLS + 1) * cell, mode="bilinear"
        )
        shifts = random.integers(0, cell, (count, 2))
        self.masks = torch.stack(
            [
                mask[:, x : x + side, y : y + side]
                for mask, (x, y) in zip(large, shifts, strict=True)
            ]
        )

    def __call__(self, image: Any) -> Any:
        stack = self.masks * image
        found = [self.network(part) for part in stack.split(BATCH)]
        scores = self.torch.cat(found).T
        summed = scores @ self.masks.view(len(self.masks), -1)
        return summed.view(-1, self.side, self.side) / len(self.masks) / SHARE


def curves(network: Any, steps: int) -> Callable[[Any, np.ndarray], list[np.ndarray]]:
    """Make `(images, maps) -> areas` of insertion from a blur and deletion to zeros."""
    import torch
    from scipy.ndimage import gaussian_filter

    impulse = np.zeros((11, 11))
    impulse[5, 5] = 1
    kernel = np.zeros((3, 3, 11, 11), np.float32)
    kernel[range(3), range(3)] = gaussian_filter(impulse, 5)
    weight = torch.from_numpy(kernel)

    def run(images: Any, maps: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            large = torch.nn.functional.interpolate(
                torch.from_numpy(maps)[:, None], size=images.shape[2:], mode="bilinear"
            )
            blurred = torch.nn.functional.conv2d(images, weight, padding=5)
            shown = large.numpy()
            zeros = torch.zeros_like(images)
            return [
                _area(network, blurred, images, shown, steps, images),
                _area(network, images, zeros, shown, steps, images),
            ]

    return run


def _area(
    network: Any, start: Any, finish: Any, maps: np.ndarray, steps: int, images: Any
) -> np.ndarray:
    count, pixels = len(images), images.shape[-2] * images.shape[-1]
    rows = np.arange(count)[:, None]
    top = network(images).numpy().argmax(-1)
    order = np.flip(np.argsort(maps.reshape(-1, pixels), axis=1), axis=-1)
    now = start.clone().contiguous()
    target = finish.contiguous().numpy().reshape(count, 3, pixels)
    step = -(-pixels // steps)
    scores = np.empty((steps + 1, count))
    for index in range(steps + 1):
        scores[index] = network(now).numpy()[range(count), top]
        places = order[:, step * index : step * (index + 1)]
        flat = now.numpy().reshape(count, 3, pixels)
        flat[rows, :, places] = target[rows, :, places]
    return (scores.sum(0) - scores[0] / 2 - scores[-1] / 2) / steps
