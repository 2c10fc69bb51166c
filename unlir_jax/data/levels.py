"""Bit depth: which value of an image is white.

The rule is of the file's type and never of the image's own brightest value, so that a
dark image stays dark and the images of a data set keep their proportions:

- 1 to 16 bits without sign: the largest value of these bits; of PGM, its `maxval`.
- 32-bit and signed integers: 255, they hold levels of 8 bits as they are.
- Floating point: 255 too. Values that all lie in [0, 1] could as well be shares of
  white, so that they are asked for.
"""

import functools

import numpy as np
from PIL import Image

from unlir_jax.data import strips
from unlir_jax.data.budget import RGB_BYTES, UNLIMITED, Budget

AUTO, MAXIMUM = "auto", "maximum"
BITS_PER_SAMPLE = 258
PAPER = (255, 255, 255)
# Interpolated values may lie so far outside, in levels of 255.
SLACK = 0.5

WhiteLevel = int | float | str
WHERE_SET = (
    "--white-level; in configs --config.data.options.white_level, of a detector "
    "--config.data.white_level"
)
"""What people call the setting where data are opened."""


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
            "value of each image."
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
    where: str = "The image",
    budget: Budget = UNLIMITED,
) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB.

    Args:
        image: In any mode of Pillow.
        white_level: Which value of a grey image of more than 8 bits is white: "auto",
            by the rule above, a number, or "maximum", the image's own brightest.
        white: What the file says of it, where `image` no longer knows; see `white_of`.
        where: What the image is called in messages.
        budget: What may be taken for it; where that does not do for two images,
            `image` is closed, or is itself the result.

    Raises:
        ValueError: A value is not finite or is negative, or nothing tells which is
            white.
    """
    change = _coloured
    if image.mode == "F" or image.mode.startswith("I"):
        white = white_of(image) if white is None else white
        top = _top(image, white_level, white, where)
        change = functools.partial(_grey, top=top)
    elif image.mode == "RGB" and "transparency" not in image.info:
        double = 2 * RGB_BYTES * image.width * image.height
        return image.convert("RGB") if budget.fits(double) else image
    if image.width * image.height <= strips.STRIP:
        return change(image)

    def strip(box: strips.Box) -> Image.Image:
        return change(image.crop(box))

    return strips.rebuilt(image, image.size, "RGB", strip, budget)


def _coloured(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (*PAPER, 255))
        return Image.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")


def _grey(image: Image.Image, top: float) -> Image.Image:
    """Scale the values of an image so that `top` is white."""
    values = np.asarray(image)
    grey = Image.fromarray(_scaled(values, top))
    # One grey value may stand for "nothing here".
    empty = image.info.get("transparency")
    if isinstance(empty, int):
        grey.paste(255, mask=Image.fromarray(values == empty))
    return grey.convert("RGB")


def _scaled(values: np.ndarray, top: float) -> np.ndarray:
    scaled = np.round(np.asarray(values, np.float64) * (255 / top))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def _range(image: Image.Image) -> tuple[float, float]:
    """Give the least and the largest value, NaN where one is."""
    low, high = 0.0, 0.0
    for box in strips.boxes(image.size):
        values = np.asarray(image.crop(box))
        # NumPy's, as NaN passes Python's by.
        low = float(np.minimum(low, values.min(initial=0)))
        high = float(np.maximum(high, values.max(initial=0)))
    return low, high


def _top(
    image: Image.Image, white_level: WhiteLevel, white: int | None, where: str
) -> float:
    """Say which value is white, and refuse values that cannot be."""
    low, high = _range(image)
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
            f"`white_level`=255 ({WHERE_SET})."
        )
    else:
        top = 255.0 if white is None else float(white)
    slack = SLACK * top / 255
    if low < -slack or high > top + slack:
        raise ValueError(
            f"{where} holds {kind} from {low:.6g} to {high:.6g}, but white is "
            f"{top:.6g}; expected 0 to that, or another `white_level` ({WHERE_SET})."
        )
    return top
