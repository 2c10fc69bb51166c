"""Noise: Gaussian, of counted photons, and of broken pixels."""

import numpy as np

DEVIATIONS = (0.08, 0.12, 0.18, 0.26, 0.38)
PHOTONS = (60, 25, 12, 5, 3)
SHARES = (0.03, 0.06, 0.09, 0.17, 0.27)


def gaussian_noise(
    image: np.ndarray, random: np.random.Generator, severity: int
) -> np.ndarray:
    """Add normal noise."""
    scale = DEVIATIONS[severity - 1]
    return np.clip(image + random.normal(scale=scale, size=image.shape), 0, 1)


def shot_noise(
    image: np.ndarray, random: np.random.Generator, severity: int
) -> np.ndarray:
    """Count photons: a Poisson number of which white has some on average."""
    most = PHOTONS[severity - 1]
    return np.clip(random.poisson(image * most) / most, 0, 1)


def impulse_noise(
    image: np.ndarray, random: np.random.Generator, severity: int
) -> np.ndarray:
    """Make a share of all values black or white, each with equal chance."""
    broken = random.random(image.shape) < SHARES[severity - 1]
    white = random.random(image.shape) < 0.5
    return np.where(broken, white.astype(image.dtype), image)
