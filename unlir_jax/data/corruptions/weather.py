"""Weather: snow, frost and fog."""

import math

import numpy as np

from unlir_jax.data.corruptions import blur

SNOWS = (
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
"""Mean and deviation of flakes, zoom, threshold, radius and deviation of their motion,
and the weight of the image."""
FROSTS = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
"""Weights of the image and of the frost."""
FOGS = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))
"""Amount, and factor by which smaller clouds are weaker."""
GREY = (0.299, 0.587, 0.114)
FALLING = -135, -45


def snow(image: np.ndarray, random: np.random.Generator, severity: int) -> np.ndarray:
    """Whiten the image, and add flakes that fall in a random direction."""
    mean, deviation, zoom, least, radius, spread, weight = SNOWS[severity - 1]
    flakes = random.normal(mean, deviation, image.shape[:2])[:, :, None]
    flakes = blur.enlarged(flakes, zoom)
    flakes = np.clip(np.where(flakes < least, 0, flakes), 0, 1)
    angle = random.uniform(*FALLING)
    flakes = np.clip(blur.moved(flakes, radius, spread, angle), 0, 1)
    white = np.maximum(image, grey(image) * 1.5 + 0.5)
    found = weight * image + (1 - weight) * white
    return np.clip(found + flakes + flakes[::-1, ::-1], 0, 1)


def grey(image: np.ndarray) -> np.ndarray:
    """Give the brightness of pixels, `[height, width, 1]`."""
    if image.shape[2] == 1:
        return image
    return (image @ np.asarray(GREY))[:, :, None]


def frost(image: np.ndarray, random: np.random.Generator, severity: int) -> np.ndarray:
    """Lay crystals of ice over the image."""
    own, other = FROSTS[severity - 1]
    ice = crystals(random, image.shape[:2])[:, :, None]
    return np.clip(own * image + other * ice, 0, 1)


def crystals(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Draw frost: fine ridges where clouds of many sizes cross their middle."""
    clouds = plasma(random, max(size), 1.3)[: size[0], : size[1]]
    ridges = 1 - np.abs(2 * plasma(random, max(size), 1.14) - 1)[: size[0], : size[1]]
    return np.clip(0.35 + 0.65 * ridges**2 * (0.5 + clouds), 0, 1)


def fog(image: np.ndarray, random: np.random.Generator, severity: int) -> np.ndarray:
    """Add clouds, and scale back to the brightness that the image had at most."""
    amount, decay = FOGS[severity - 1]
    size = image.shape[:2]
    clouds = plasma(random, max(size), decay)[: size[0], : size[1], None]
    most = image.max()
    scale = most / (most + amount)
    return np.clip((image + amount * clouds) * scale, 0, 1)


def plasma(random: np.random.Generator, side: int, decay: float) -> np.ndarray:
    """Draw clouds by diamonds and squares, from 0 to 1.

    Each round halves the distance of the points that are known. A new point is the mean
    of four around it and noise, whose amount falls from round to round. Points beyond
    an edge are taken from the other side. As in the benchmark, noise falls with the
    square of the factor.

    Args:
        random: Generator of the draw.
        side: Least side; the map has the next power of two.
        decay: Factor whose square divides the noise from round to round.

    References:
        Fournier, Fussell & Carpenter, *Computer Rendering of Stochastic Models*, CACM
        25, 1982.
    """
    size = 1 << max(1, math.ceil(math.log2(max(side, 2))))
    found = np.zeros((size, size))
    step, amount = size, 100.0
    while step >= 2:
        half = step // 2
        corners = found[::step, ::step]
        right, below = np.roll(corners, -1, 1), np.roll(corners, -1, 0)
        total = corners + right + below + np.roll(right, -1, 0)
        middles = total / 4 + amount * random.uniform(-1, 1, total.shape)
        found[half::step, half::step] = middles
        for rows, columns, first, second, third in (
            (0, half, corners, right, np.roll(middles, 1, 0)),
            (half, 0, corners, below, np.roll(middles, 1, 1)),
        ):
            mean = (first + second + third + middles) / 4
            drawn = amount * random.uniform(-1, 1, mean.shape)
            found[rows::step, columns::step] = mean + drawn
        step, amount = half, amount / decay**2
    found -= found.min()
    return found / found.max()
