"""A map over an image, and the image seen through the map."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from unlir_jax import maps

# Inferno grows evenly in lightness, in print and for colour-blind eyes as well, where
# a rainbow makes borders that are not in the data. Its darkest part is left out: over
# an image it would read as shadow instead of as a low value.
from unlir_jax.core import extras
from unlir_jax.types import Array, Saliency

with extras.needed("report"):
    import matplotlib

COLOURS, DARKEST = "inferno", 0.3
STRONGEST = 0.88
"""Opacity at the value 1: the image still shows through."""
GREYNESS = 0.9
"""How much of the image's own colour is taken away, so that colour means the map."""
SMALLEST_SIDE = 448
"""Side in pixels below which people see little."""
BLOCKY = 128
"""Networks with smaller images see so few pixels that each one is shown."""


class View(NamedTuple):
    """Hold what one map makes of one image."""

    overlay: Image.Image
    masked: Image.Image


def view(picture: Image.Image, mask: Array) -> View:
    """Draw a map both ways; see `overlay` and `masked`."""
    return View(overlay(picture, mask), masked(picture, mask))


def masks(saliency: Saliency, side: int) -> np.ndarray:
    """Enlarge raw maps to squares and normalise them, as metrics do."""
    return np.asarray(maps.normalize(maps.resize(saliency, (side, side)), "range"))


def views(pictures: Sequence[Image.Image], saliency: Saliency) -> list[View]:
    """Draw the raw map of each image."""
    enlarged = masks(saliency, pictures[0].width)
    return [view(*pair) for pair in zip(pictures, enlarged, strict=True)]


def enlarge(picture: Image.Image) -> Image.Image:
    """Make a square image large enough for people.

    Small images are smoothed up to 448 pixels; tiny ones keep their pixels visible.
    """
    side = picture.width
    if side >= SMALLEST_SIDE:
        return picture
    if side < BLOCKY:
        side *= -(-SMALLEST_SIDE // side)
        return picture.resize((side, side), Image.Resampling.NEAREST)
    return picture.resize((SMALLEST_SIDE, SMALLEST_SIDE), Image.Resampling.BICUBIC)


def overlay(picture: Image.Image, mask: Array) -> Image.Image:
    """Lay a map in colour over the greyed image, stronger where the map is.

    Args:
        picture: The square that the network sees.
        mask: `[height, width]` in [0, 1], of any size.

    Returns:
        8-bit RGB, at the size that `enlarge` gives.

    Raises:
        ValueError: `mask` has another number of axes or values outside [0, 1].
    """
    picture = enlarge(picture.convert("RGB"))
    values = _fit(mask, picture.size)[..., None]
    colour = np.asarray(picture, np.float32) / 255
    grey = np.asarray(picture.convert("L"), np.float32)[..., None] / 255
    faded = GREYNESS * grey + (1 - GREYNESS) * colour
    alpha = _opacity(values)
    return _to_image((1 - alpha) * faded + alpha * colours(values[..., 0]))


def masked(picture: Image.Image, mask: Array) -> Image.Image:
    """Show the image times the map: what average drop and gain give the network.

    Arguments and result are as in `overlay`.
    """
    picture = enlarge(picture.convert("RGB"))
    values = _fit(mask, picture.size)[..., None]
    return _to_image(np.asarray(picture, np.float32) / 255 * values)


def colours(values: Array) -> np.ndarray:
    """Colour values in [0, 1]: RGB, in [0, 1] too, on a new last axis."""
    index = np.round(np.asarray(values) * 255).astype(int)
    return _table()[np.clip(index, 0, 255)]


def legend(count: int = 12) -> list[str]:
    """List colours from value 0 to value 1, as they look over a middle grey.

    Returns:
        `count` colours as `#rrggbb`.
    """
    values = np.linspace(0, 1, count)
    alpha = _opacity(values)[:, None]
    shown = (1 - alpha) * 0.5 + alpha * colours(values)
    return [
        "#{:02x}{:02x}{:02x}".format(*row) for row in np.rint(shown * 255).astype(int)
    ]


@functools.lru_cache(maxsize=1)
def _table() -> np.ndarray:
    table = matplotlib.colormaps[COLOURS](np.linspace(DARKEST, 1, 256))
    return np.asarray(table, np.float32)[:, :3]


def _opacity(values: np.ndarray) -> np.ndarray:
    # A little more than proportional: a middle value must be seen to be there.
    return STRONGEST * values**0.8


def _fit(mask: Array, size: tuple[int, int]) -> np.ndarray:
    """Enlarge a mask bilinearly, as the metrics do."""
    values = np.asarray(mask, np.float32)
    if values.ndim != 2:
        raise ValueError(f"`mask` has shape {values.shape}; expected [height, width].")
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"`mask` holds values from {values.min()} to {values.max()}; expected "
            "[0, 1]: use maps.normalize first."
        )
    resized = Image.fromarray(values).resize(size, Image.Resampling.BILINEAR)
    return np.clip(np.asarray(resized), 0, 1)


def _to_image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))
