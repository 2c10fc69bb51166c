"""Digital changes: light, contrast, an elastic sheet, large pixels, and JPEG."""

import io

import numpy as np
from PIL import Image
from scipy import ndimage

LIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5)
CONTRASTS = (0.4, 0.3, 0.2, 0.1, 0.05)
SHARES = (0.6, 0.5, 0.4, 0.3, 0.25)
"""Share of the side that pixelated images keep."""
QUALITIES = (25, 18, 15, 10, 7)
SHEETS = (
    (244 * 2, 244 * 0.7, 244 * 0.1),
    (244 * 2, 244 * 0.08, 244 * 0.2),
    (244 * 0.05, 244 * 0.01, 244 * 0.02),
    (244 * 0.07, 244 * 0.01, 244 * 0.02),
    (244 * 0.12, 244 * 0.01, 244 * 0.02),
)
"""Amount, deviation, and reach of the affine part, of the benchmark's 244 pixels."""
SHEET = 244


def brightness(
    image: np.ndarray, random: np.random.Generator, severity: int
) -> np.ndarray:
    """Raise the value of hue, saturation and value.

    A colour keeps its hue and saturation: its channels grow by one factor.
    """
    del random
    value = image.max(axis=2, keepdims=True)
    raised = np.clip(value + LIGHTS[severity - 1], 0, 1)
    # Black has no hue, and becomes grey.
    scale = np.where(value > 0, raised / np.where(value > 0, value, 1), 0)
    return np.where(value > 0, image * scale, raised)


def contrast(
    image: np.ndarray, random: np.random.Generator, severity: int
) -> np.ndarray:
    """Draw each channel towards its mean."""
    del random
    means = image.mean(axis=(0, 1), keepdims=True)
    return np.clip((image - means) * CONTRASTS[severity - 1] + means, 0, 1)


def elastic_transform(
    image: np.ndarray, random: np.random.Generator, severity: int
) -> np.ndarray:
    """Shear the image a little, and move its pixels by a smooth random field."""
    scale = min(image.shape[:2]) / SHEET
    amount, deviation, reach = (scale * each for each in SHEETS[severity - 1])
    size = np.asarray(image.shape[:2], float)
    start = np.stack([size / 2 + size.min() / 3 * np.asarray(s) for s in CORNERS])
    end = start + random.uniform(-reach, reach, start.shape)
    # Three points and their places give the affine map from the result to the image.
    matrix = np.linalg.lstsq(np.c_[end, np.ones(3)], start, rcond=None)[0]
    options = {"sigma": deviation, "mode": "reflect", "truncate": 3}
    drawn = random.uniform(-1, 1, (2, *image.shape[:2]))
    field = [amount * ndimage.gaussian_filter(each, **options) for each in drawn]
    grid = np.meshgrid(*map(np.arange, image.shape[:2]), indexing="ij")
    moved = [each + shift for each, shift in zip(grid, field, strict=True)]
    whole = np.stack([*moved, np.ones_like(moved[0])], axis=2) @ matrix
    places = np.moveaxis(whole, 2, 0)
    channels = [
        ndimage.map_coordinates(image[:, :, each], places, order=1, mode="reflect")
        for each in range(image.shape[2])
    ]
    return np.clip(np.stack(channels, axis=2), 0, 1)


CORNERS = ((1, 1), (1, -1), (-1, -1))
"""Directions of the three points of the affine part from the middle."""


def pixelate(
    image: np.ndarray, random: np.random.Generator, severity: int
) -> np.ndarray:
    """Shrink the image by averages, and enlarge it by repetition."""
    del random
    picture = _picture(image)
    share = SHARES[severity - 1]
    width, height = (max(1, int(side * share)) for side in picture.size)
    shrunk = picture.resize((width, height), Image.Resampling.BOX)
    return _pixels(shrunk.resize(picture.size, Image.Resampling.NEAREST))


def jpeg_compression(
    image: np.ndarray, random: np.random.Generator, severity: int
) -> np.ndarray:
    """Store the image as a JPEG of low quality, and read it again."""
    del random
    buffer = io.BytesIO()
    _picture(image).save(buffer, "JPEG", quality=QUALITIES[severity - 1])
    buffer.seek(0)
    with Image.open(buffer) as stored:
        return _pixels(stored)


def _picture(image: np.ndarray) -> Image.Image:
    levels = np.rint(image * 255).astype(np.uint8)
    return Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)


def _pixels(picture: Image.Image) -> np.ndarray:
    levels = np.asarray(picture, np.float64) / 255
    return levels[:, :, None] if levels.ndim == 2 else levels
