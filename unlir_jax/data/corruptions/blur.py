"""Blurs: out of focus, behind frosted glass, in motion, and zooming."""

import numpy as np
from scipy import ndimage

DISKS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
"""Radius of the disk, and deviation of the Gaussian that smooths its edge."""
PANES = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
"""Deviation of the Gaussian, farthest move in pixels, and number of rounds."""
MOTIONS = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
"""Radius in pixels, and deviation of the weights along the way."""
ZOOMS = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))
"""End of the factors, which begin with 1, and their distance."""
WIDEST = 45
"""Largest angle of a motion with the rows, in degrees."""


def defocus_blur(
    image: np.ndarray, random: np.random.Generator, severity: int
) -> np.ndarray:
    """Average over a disk with a smooth edge."""
    del random
    return convolved(image, disk(*DISKS[severity - 1]))


def disk(radius: int, deviation: float) -> np.ndarray:
    """Make a disk that adds up to 1."""
    reach = max(8, radius)
    offsets = np.arange(-reach, reach + 1)
    inside = offsets[:, None] ** 2 + offsets[None] ** 2 <= radius**2
    size = 3 if radius <= 8 else 5
    kernel = gaussian(size, deviation)
    smooth = ndimage.convolve(inside / inside.sum(), kernel, mode="constant")
    return smooth / smooth.sum()


def gaussian(size: int, deviation: float) -> np.ndarray:
    """Make a Gaussian of `size` by `size` pixels that adds up to 1."""
    offsets = np.arange(size) - size // 2
    line = np.exp(-(offsets**2) / (2 * deviation**2))
    found = line[:, None] * line[None]
    return found / found.sum()


def convolved(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve each channel; beyond its edges the image is mirrored."""
    return ndimage.convolve(image, kernel[:, :, None], mode="mirror")


def smoothed(image: np.ndarray, deviation: float) -> np.ndarray:
    """Blur each channel with a Gaussian."""
    return ndimage.gaussian_filter(image, (deviation, deviation, 0), mode="nearest")


def glass_blur(
    image: np.ndarray, random: np.random.Generator, severity: int
) -> np.ndarray:
    """Blur, put near pixels in the place of each, and blur again.

    The benchmark means to exchange pixels. Its code copies one over the other, which
    is done here too, row by row from the lower right corner.
    """
    deviation, reach, rounds = PANES[severity - 1]
    found = smoothed(image, deviation)
    height, width = image.shape[:2]
    rows = range(height - reach, reach, -1)
    columns = range(width - reach, reach, -1)
    for _ in range(rounds):
        moves = random.integers(-reach, reach, (len(rows), len(columns), 2))
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                down, right = moves[i, j]
                found[row, column] = found[row + down, column + right]
    return np.clip(smoothed(found, deviation), 0, 1)


def motion_blur(
    image: np.ndarray, random: np.random.Generator, severity: int
) -> np.ndarray:
    """Average along a way in a random direction."""
    radius, deviation = MOTIONS[severity - 1]
    angle = random.uniform(-WIDEST, WIDEST)
    return np.clip(moved(image, radius, deviation, angle), 0, 1)


def moved(image: np.ndarray, radius: int, deviation: float, angle: float) -> np.ndarray:
    """Average copies that are moved step by step, the first with the largest weight.

    Args:
        image: `[height, width, channels]`.
        radius: Length of the way in pixels.
        deviation: Width of the weights, a half of a Gaussian.
        angle: Angle of the way, in degrees.
    """
    steps = np.arange(min(2 * radius + 1, max(image.shape[:2])))
    weights = np.exp(-(steps**2) / (2 * deviation**2))
    turn = np.deg2rad(angle)
    found = np.zeros_like(image)
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        down, right = (round(step * part) for part in (np.sin(turn), np.cos(turn)))
        found += weight * shifted(image, down, right)
    return found


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Move an image by whole pixels; its edge is repeated where nothing comes in."""
    rows = np.clip(np.arange(image.shape[0]) - down, 0, image.shape[0] - 1)
    columns = np.clip(np.arange(image.shape[1]) - right, 0, image.shape[1] - 1)
    return image[rows][:, columns]


def zoom_blur(
    image: np.ndarray, random: np.random.Generator, severity: int
) -> np.ndarray:
    """Average the image and its enlargements."""
    del random
    end, step = ZOOMS[severity - 1]
    factors = np.arange(1, end, step)
    total = image + sum(enlarged(image, factor) for factor in factors)
    return np.clip(total / (len(factors) + 1), 0, 1)


def enlarged(image: np.ndarray, factor: float) -> np.ndarray:
    """Enlarge the middle of an image linearly, and cut it to its size.

    As in the benchmark the middle has whole pixels, and its outer pixels stay its outer
    pixels.
    """
    places = np.meshgrid(
        *(_magnified(side, factor) for side in image.shape[:2]), indexing="ij"
    )
    channels = [
        ndimage.map_coordinates(image[:, :, each], places, order=1, mode="nearest")
        for each in range(image.shape[2])
    ]
    return np.stack(channels, axis=2)


def _magnified(side: int, factor: float) -> np.ndarray:
    """Give the places along a side that an enlargement shows, `[side]`."""
    kept = int(np.ceil(side / factor))
    whole = round(kept * factor)
    first, cut = (side - kept) // 2, (whole - side) // 2
    return first + (np.arange(side) + cut) * (kept - 1) / max(whole - 1, 1)
