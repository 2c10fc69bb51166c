"""Bit depth: which value of a picture is white.

The rule is of the file's type and never of the picture's own brightest value, so that a
dark picture stays dark and the pictures of a data set keep their proportions:

- 1 to 16 bits without sign: the largest value of these bits; of PGM, its `maxval`.
- 32-bit and signed integers: 255, they hold levels of 8 bits as they are.
- Floating point: 255 too. Values that all lie in [0, 1] could as well be shares of
  white, so that they are asked for.
"""

import numpy as np
from PIL import Image

AUTO, MAXIMUM = "auto", "maximum"
BITS_PER_SAMPLE = 258
PAPER = (255, 255, 255)
# Interpolated values may lie so far outside, in levels of 255.
SLACK = 0.5

WhiteLevel = int | float | str


def check_white_level(white_level: WhiteLevel) -> WhiteLevel:
    """Give a white level as "auto", "maximum" or a number, or raise ValueError."""
    if white_level in (AUTO, MAXIMUM):
        return white_level
    try:
        value = float(white_level)
    except ValueError:
        value = np.nan
    if not (np.isfinite(value) and value > 0):
        raise ValueError(
            f"`white_level`={white_level!r}; expected a number above 0, such as 4095, "
            f"{AUTO!r} for that of the file's type, or {MAXIMUM!r} for the brightest "
            "value of each picture."
        )
    return value


def white_of(image: Image.Image) -> int | None:
    """Tell which value is white, None where the file's type does not say so.

    Pillow opens 16-bit files in several modes; it stretches PGM of any `maxval` above
    255 to 16 bits, and leaves 12-bit TIFF as it is.
    """
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))
        return 2 ** min(int(bits[0]), 16) - 1
    if image.mode == "I":
        return 65535 if image.format == "PPM" else None
    return None if image.mode == "F" else 255


def to_rgb(
    image: Image.Image,
    white_level: WhiteLevel = AUTO,
    *,
    white: int | None = None,
    where: str = "The picture",
) -> Image.Image:
    """Convert a picture of any mode to 8-bit RGB.

    Args:
        image: In any mode of Pillow.
        white_level: Which value of a grey picture of more than 8 bits is white: "auto"
            by the rule above, a number, or "maximum", the picture's own brightest.
        white: What the file says of it, where `image` no longer knows; see `white_of`.
        where: What the picture is called in messages.

    Raises:
        ValueError: A value is not finite or is negative, or nothing tells which is
            white.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        white = white_of(image) if white is None else white
        grey = Image.fromarray(_levels(image, white_level, white, where))
        # One grey value may stand for "nothing here".
        empty = image.info.get("transparency")
        if isinstance(empty, int):
            grey.paste(255, mask=Image.fromarray(np.asarray(image) == empty))
        return grey.convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (*PAPER, 255))
        return Image.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")


def _levels(
    image: Image.Image, white_level: WhiteLevel, white: int | None, where: str
) -> np.ndarray:
    values = np.asarray(image)
    low, high = values.min(initial=0), values.max(initial=0)
    kind = "floating point" if image.mode == "F" else "integers"
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(
            f"{where} holds values that are not finite (NaN or infinite); expected "
            "numbers from 0 to the value that is white."
        )
    white_level = check_white_level(white_level)
    if white_level == MAXIMUM:
        top = float(high) or 1.0
    elif isinstance(white_level, float):
        top = white_level
    elif white is None and image.mode == "F" and 0 < high <= 1:
        raise ValueError(
            f"{where} holds floating point from {low:.4g} to {high:.4g}, which may be "
            "shares of white or dark levels of 255; expected `white_level`=1 or "
            "`white_level`=255 (--config.data.options.white_level, --white-level)."
        )
    else:
        top = 255.0 if white is None else float(white)
    slack = SLACK * top / 255
    if low < -slack or high > top + slack:
        raise ValueError(
            f"{where} holds {kind} from {low:.6g} to {high:.6g}, but white is "
            f"{top:.6g}; expected 0 to that, or another `white_level` "
            "(--config.data.options.white_level, --white-level)."
        )
    scaled = np.round(np.asarray(values, np.float64) * (255 / top))
    return np.clip(scaled, 0, 255).astype(np.uint8)
