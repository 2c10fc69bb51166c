"""Detected boxes over an image, each with its class and score."""

from PIL import Image, ImageDraw, ImageFont

from unlir_jax.detection.matching import Detections

SMALLEST = 256
"""Shorter side in pixels below which letters would hide the image."""
LINE, LETTERS = 3, 14
# Okabe and Ito (2008), which colour-blind eyes tell apart.
COLOURS = (
    *("#e69f00", "#56b4e9", "#009e73", "#f0e442"),
    *("#0072b2", "#d55e00", "#cc79a7", "#ffffff"),
)


def draw(
    picture: Image.Image, found: Detections, names: tuple[str, ...]
) -> Image.Image:
    """Draw boxes over an image, the best on top.

    Args:
        picture: An image of 8-bit colours; a small one is enlarged.
        found: Boxes in its pixels.
        names: Names of the classes.
    """
    factor = max(1.0, SMALLEST / min(picture.size))
    size = round(picture.width * factor), round(picture.height * factor)
    drawn = picture.resize(size, Image.Resampling.BICUBIC) if factor > 1 else picture
    drawn = drawn.convert("RGB")
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(LETTERS)
    rows = list(zip(*found, strict=True))
    for box, score, label in sorted(rows, key=lambda row: float(row[1])):
        colour = COLOURS[int(label) % len(COLOURS)]
        x0, y0, x1, y1 = (float(edge) * factor for edge in box)
        ends = x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)
        # A dark line beneath, so that a bright image hides none.
        pen.rectangle(ends, outline="black", width=LINE + 2)
        pen.rectangle(ends, outline=colour, width=LINE)
        said = f"{names[int(label)]} {float(score):.2f}"
        left, top = x0 + LINE, y0 + LINE
        pen.rectangle(pen.textbbox((left, top), said, font), fill="black")
        pen.text((left, top), said, colour, font)
    return drawn
