"""Segments of classes over images, side by side."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unlir_jax.data.source import VOID
from unlir_jax.report.boxes import COLOURS

SIDE, LETTERS, HEAD = 160, 12, 20
STRENGTH = 0.6
GREY = (128, 128, 128)


def over(picture: Image.Image, segments: np.ndarray) -> Image.Image:
    """Lay colours of classes over an image; void is grey.

    Args:
        picture: An image.
        segments: 0 for background, class `c` as `c + 1`, 255 for void; `[height,
            width]` as the image.
    """
    colours = np.asarray([_rgb(text) for text in COLOURS])
    pixels = np.asarray(picture.convert("RGB"), np.float32)
    paint = np.where(
        (segments == VOID)[..., None], GREY, colours[(segments - 1) % len(colours)]
    )
    mixed = (1 - STRENGTH) * pixels + STRENGTH * paint
    shown = np.where((segments == 0)[..., None], pixels, mixed)
    return Image.fromarray(shown.round().astype(np.uint8))


def sheet(
    rows: Sequence[tuple[Image.Image, Sequence[np.ndarray]]], titles: Sequence[str]
) -> Image.Image:
    """Draw a row for each image: the image, and it with each of its segments.

    Args:
        rows: Images with segments, see `over`.
        titles: What the segments are called, the same for all.
    """
    columns = 1 + len(titles)
    whole = Image.new("RGB", (columns * SIDE, HEAD + len(rows) * SIDE), "white")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(LETTERS)
    for column, title in enumerate(("image", *titles)):
        pen.text((column * SIDE + 4, 3), title, "black", font)
    for number, (picture, every) in enumerate(rows):
        drawn = [picture, *(over(picture, segments) for segments in every)]
        for column, each in enumerate(drawn):
            scale = SIDE / max(each.size)
            width, height = (max(1, round(side * scale)) for side in each.size)
            small = each.convert("RGB").resize((width, height))
            whole.paste(small, (column * SIDE, HEAD + number * SIDE))
    return whole


def _rgb(text: str) -> tuple[int, int, int]:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
