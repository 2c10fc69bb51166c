"""A map over an image, and the image seen through the map."""

import base64
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image, ImageDraw

from unlir_jax import maps
from unlir_jax.types import Array, Saliency

# Inferno grows evenly in lightness, in print and for colour-blind eyes as well, where
# a rainbow makes borders that are not in the data. Its darkest part is left out: over
# an image it would read as shadow instead of as a low value. These are the colours
# 76 to 255 of 256, 8-bit RGB in base64 (S. van der Walt and N. Smith, 2015, CC0).
INFERNO = (
    "ahdubBhubRhubxlucRluchpudBpudRtudxxteBxteh1tfB1tfR5tfx5sgB9sgiBshCBrhSFrhyFriCJq"
    "iiJqjCNpjSNpjyRpkCVokiVokyZnlSZnlydmmCdmmihlmylknSlknypjoCpjoitioyxhpSxgpi1gqC5f"
    "qS5eqy9erTBdrjBcsDFbsTJaszJatDNZtjRYtzVXuTVWujZVvDdUvThTvzlSwDpRwTpQwztPxDxOxj1N"
    "xz5MyD9LykBKy0FJzEJIzkNHz0RG0EVF0kZE00dD1EhC1UpB10s/2Ew+2U092k4821A73VE63lI431M3"
    "4FU24VY14lc041kz5Fox5Vww5l0v514u6GAt6WEr6mMq62Qp62Yo7Gcm7Wkl7mok72wj724h8G8g8XEf"
    "8XMd8nQc83Yb83gZ9HkY9XsX9X0V9n4U9oAT94IS94QQ+IUP+IcO+IkM+YsL+YwK+Y4J+pAI+pIH+pQH"
    "+5YG+5cG+5kG+5sG+50H/J8H/KEI/KMJ/KUK/KYM/KgN/KoP/KwR/K4S/LAU/LIW/LQY+7Ya+7gd+7of"
    "+7wh+74j+sAm+sIo+sQq+sYt+ccv+cky+cs1+M03+M8699E999NA9tVD9tdG9dlJ9dtM9N1P9N9T9OFW"
    "8+Na8+Vd8uZh8uhl8upp8ext8e1x8e918fF58vJ98vSC8/WG8/aK9PiO9fmS9vqW+Pua+fyd+v2h/P+k"
)
FIRST, DARKEST = 76, 0.3
# Blue for values below zero, red above: the middle nine colours of RdBu, which
# colour-blind eyes tell apart (C. Brewer, ColorBrewer 2.0, Apache-2.0). The two darkest
# would read as shadow.
DIVERGING = np.asarray(
    [
        *((33, 102, 172), (67, 147, 195), (146, 197, 222), (209, 229, 240)),
        *((247, 247, 247), (253, 219, 199), (244, 165, 130), (214, 96, 77)),
        (178, 24, 43),
    ]
)
CLIPPED = 99
"""Percentile of magnitudes at which colours of signed maps end."""
STRONGEST = 0.88
"""Opacity at the value 1: the image still shows through."""
GREYNESS = 0.9
"""How much of the image's own colour is taken away, so that colour means the map."""
SMALLEST_SIDE = 448
"""Side in pixels below which people see little."""
SMALL = 176
"""Side of maps that are shown in passing."""
TRUE, PREDICTED, LINE = "#ffffff", "#00e5ff", 3
"""Colours of boxes, and the width of their lines."""
BLOCKY = 128
"""Networks with smaller images see so few pixels that each one is shown."""


class View(NamedTuple):
    """Hold what one map makes of one image."""

    overlay: Image.Image
    masked: Image.Image
    signed: bool = False


def masks(
    saliency: Saliency, size: tuple[int, int], signs: maps.Signs = "range"
) -> np.ndarray:
    """Make masks of height and width of raw maps, as metrics do, see `maps.mask`."""
    return np.asarray(_masks(saliency, size, signs))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _masks(saliency: Saliency, size: tuple[int, int], signs: maps.Signs) -> jax.Array:
    return maps.mask(saliency, size, signs)


def views(
    pictures: Sequence[Image.Image],
    saliency: Saliency,
    signs: maps.Signs | None = None,
) -> list[View]:
    """Draw the raw map of each image, and the image seen through its mask.

    Args:
        pictures: Images as the network sees them, of one size.
        saliency: Raw maps, `[images, rows, columns]`.
        signs: What masks make of the signs of maps that have some: these are drawn
            about zero. None for maps without.
    """
    size, signed = (pictures[0].height, pictures[0].width), signs is not None
    shown = masks(saliency, size, signs or "range")
    drawn = signed_values(saliency, size) if signed else shown
    return [
        View(overlay(picture, values, signed=signed), masked(picture, mask), signed)
        for picture, values, mask in zip(pictures, drawn, shown, strict=True)
    ]


def signed_values(saliency: Saliency, size: tuple[int, int]) -> np.ndarray:
    """Enlarge raw maps to height and width, and scale them to [-1, 1] about zero.

    The 99th percentile of a map's magnitudes becomes 1, and what is beyond is clipped:
    a few extreme pixels would hide the rest. A flat map gives zeros.
    """
    enlarged = np.asarray(maps.resize(saliency, size), np.float32)
    enlarged = np.where(np.asarray(maps.is_flat(enlarged))[:, None, None], 0, enlarged)
    sizes = np.abs(enlarged).reshape(len(enlarged), -1)
    most = np.percentile(sizes, CLIPPED, axis=1)
    # Of a map with few values at all, the largest.
    most = np.where(most > 0, most, sizes.max(1))
    most = np.where(most > 0, most, 1)[:, None, None]
    return np.clip(enlarged / most, -1, 1)


def small(picture: Image.Image, saliency: Array) -> Image.Image:
    """Draw one raw map `[rows, columns]` over its image, 176 pixels wide.

    NumPy scales it, so that no program is compiled for its size.
    """
    low, high = float(saliency.min()), float(saliency.max())
    # Flat as in `maps.is_flat`.
    flat = high - low <= 8 * np.finfo(np.float32).eps * max(abs(low), abs(high))
    mask = np.zeros_like(saliency) if flat else (saliency - low) / (high - low)
    drawn = overlay(picture, mask)
    drawn.thumbnail((SMALL, SMALL), Image.Resampling.LANCZOS)
    return drawn


def enlarge(picture: Image.Image) -> Image.Image:
    """Make an image large enough for people.

    Small images are smoothed until the shorter side has 448 pixels; tiny ones keep
    their pixels visible.
    """
    side = min(picture.size)
    if side >= SMALLEST_SIDE:
        return picture
    if side < BLOCKY:
        factor = -(-SMALLEST_SIDE // side)
        size = picture.width * factor, picture.height * factor
        return picture.resize(size, Image.Resampling.NEAREST)
    width, height = (round(each * SMALLEST_SIDE / side) for each in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def overlay(picture: Image.Image, mask: Array, *, signed: bool = False) -> Image.Image:
    """Lay a map in colour over the greyed image, stronger where the map is.

    Args:
        picture: The image that the network sees.
        mask: `[height, width]` in [0, 1], of any size.
        signed: Whether it lies in [-1, 1] instead: blue below zero, red above.

    Returns:
        8-bit RGB, at the size that `enlarge` gives.

    Raises:
        ValueError: `mask` has another number of axes or values outside its range.
    """
    picture = enlarge(picture.convert("RGB"))
    values = _fit(mask, picture.size, -1 if signed else 0)[..., None]
    colour = np.asarray(picture, np.float32) / 255
    grey = np.asarray(picture.convert("L"), np.float32)[..., None] / 255
    faded = GREYNESS * grey + (1 - GREYNESS) * colour
    alpha = _opacity(values)
    return _to_image(
        (1 - alpha) * faded + alpha * colours(values[..., 0], signed=signed)
    )


def masked(picture: Image.Image, mask: Array) -> Image.Image:
    """Show the image times the map: what average drop and gain give the network.

    Arguments and result are as in `overlay`.
    """
    picture = enlarge(picture.convert("RGB"))
    values = _fit(mask, picture.size)[..., None]
    return _to_image(np.asarray(picture, np.float32) / 255 * values)


def framed(
    picture: Image.Image,
    size: tuple[int, int],
    true: Array,
    predicted: Array,
) -> Image.Image:
    """Draw boxes over an image: true ones in white, predicted ones in cyan.

    Args:
        picture: An image, of any size.
        size: Width and height in whose pixels the boxes are.
        true: Int `[boxes, 4]`, `x0, y0, x1, y1` with both ends; one whose end lies
            before its start is none.
        predicted: The same.
    """
    drawn = picture.copy()
    pen = ImageDraw.Draw(drawn)
    across, down = drawn.width / size[0], drawn.height / size[1]
    for boxes, colour in ((true, TRUE), (predicted, PREDICTED)):
        for x0, y0, x1, y1 in np.asarray(boxes).reshape((-1, 4)).tolist():
            if x1 < x0 or y1 < y0:
                continue
            ends = x0 * across, y0 * down, (x1 + 1) * across - 1, (y1 + 1) * down - 1
            # A dark line beneath, so that a bright image hides none.
            pen.rectangle(ends, outline="black", width=LINE + 2)
            pen.rectangle(ends, outline=colour, width=LINE)
    return drawn


def colours(values: Array, *, signed: bool = False) -> np.ndarray:
    """Colour values in [0, 1], or [-1, 1]: RGB in [0, 1] on a new last axis."""
    if signed:
        places = np.linspace(-1, 1, len(DIVERGING))
        rows = [np.interp(values, places, each) for each in DIVERGING.T / 255]
        return np.stack(rows, -1).astype(np.float32)
    index = np.round(np.asarray(values) * 255).astype(int)
    return _table()[np.clip(index, 0, 255)]


def legend(count: int = 12, *, signed: bool = False) -> list[str]:
    """List colours from value 0, or -1, to value 1, as they look over a middle grey.

    Returns:
        `count` colours as `#rrggbb`.
    """
    values = np.linspace(-1 if signed else 0, 1, count)
    alpha = _opacity(values)[:, None]
    shown = (1 - alpha) * 0.5 + alpha * colours(values, signed=signed)
    return [
        "#{:02x}{:02x}{:02x}".format(*row) for row in np.rint(shown * 255).astype(int)
    ]


@functools.lru_cache(maxsize=1)
def _table() -> np.ndarray:
    colours = np.frombuffer(base64.b64decode(INFERNO), np.uint8).reshape(-1, 3)
    index = np.minimum(np.linspace(DARKEST, 1, 256) * 256, 255).astype(int)
    return colours[index - FIRST].astype(np.float32) / 255


def _opacity(values: np.ndarray) -> np.ndarray:
    # A little more than proportional: a middle value must be seen to be there.
    return STRONGEST * np.abs(values) ** 0.8


def _fit(mask: Array, size: tuple[int, int], least: int = 0) -> np.ndarray:
    """Enlarge a mask bilinearly, as the metrics do."""
    values = np.asarray(mask, np.float32)
    if values.ndim != 2:
        raise ValueError(f"`mask` has shape {values.shape}; expected [height, width].")
    if not (values.min() >= least and values.max() <= 1):
        raise ValueError(
            f"`mask` holds values from {values.min()} to {values.max()}; expected "
            f"[{least}, 1]: use maps.normalize first."
        )
    resized = Image.fromarray(values).resize(size, Image.Resampling.BILINEAR)
    return np.clip(np.asarray(resized), least, 1)


def _to_image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))
