"""Resize images without ever holding much more than the result.

Pillow resizes along the rows first, of the whole height. What lies between the passes,
or is enlarged only to be cut, may be a thousand times the image: one that is a pixel
wide and 20,000 high has a frame of 256 x 5,120,000.
"""

import math

from PIL import Image

Number = int | float
Box = tuple[Number, Number, Number, Number]
# Number of pixels around the image that count for nothing.
FEW = 1 << 21
# How far the widest filter, Lanczos', reaches in pixels of the smaller image.
REACH = 4


def is_small(source: tuple[int, int], target: tuple[int, int], cut: int = 0) -> bool:
    """Tell whether an image may be resized as a whole.

    Args:
        source: Width and height of the image.
        target: Those that it is to have.
        cut: Side of the square that is then cut out of it, if any.
    """
    between = target[0] * max(source[1], target[1])
    return between <= max(FEW, source[0] * source[1], 4 * cut * cut)


def central(
    source: tuple[int, int], target: tuple[int, int], size: int
) -> tuple[Box, Box]:
    """Say which part is seen when a resized image is cut to its central square.

    Returns:
        The square in pixels of the target, and in pixels of the source.
    """
    left, top = (round((side - size) / 2) for side in target)
    square = left, top, left + size, top + size
    across, down = source[0] / target[0], source[1] / target[1]
    x0, y0, x1, y1 = left * across, top * down, square[2] * across, square[3] * down
    return square, (max(x0, 0.0), max(y0, 0.0), min(x1, source[0]), min(y1, source[1]))


def framed(
    image: Image.Image, target: tuple[int, int], size: int, how: Image.Resampling
) -> Image.Image:
    """Resize an image and cut the central square out, in this order by its result.

    What would be enlarged only to be cut is cut before, but for what the filter sees.
    """
    square, seen = central(image.size, target, size)
    if image.size == target:
        return image.crop(square)
    if is_small(image.size, target, size):
        return image.resize(target, how).crop(square)
    return resized(image, (size, size), how, seen)


def resized(
    image: Image.Image,
    size: tuple[int, int],
    how: Image.Resampling,
    box: Box | None = None,
) -> Image.Image:
    """Resize a box of an image, as `Image.resize` does.

    Note:
        Where Pillow would hold far more than the image between its passes, only what
        the filter sees is taken, and its columns are resized first: a value may differ
        by 1 from Pillow's.
    """
    x0, y0, x1, y1 = box or (0, 0, *image.size)
    rows, columns = math.ceil(y1) - math.floor(y0), math.ceil(x1) - math.floor(x0)
    if is_small((columns, rows), size):
        return image.resize(size, how, box=(x0, y0, x1, y1))
    # Pillow takes the box in single precision: the nearer to 0, the more exact it is.
    reach = [
        math.ceil(REACH * max(span / side, 1))
        for span, side in zip((x1 - x0, y1 - y0), size, strict=True)
    ]
    left, top = max(math.floor(x0) - reach[0], 0), max(math.floor(y0) - reach[1], 0)
    right = min(math.ceil(x1) + reach[0], image.width)
    bottom = min(math.ceil(y1) + reach[1], image.height)
    # A second one of all of it would be one too many.
    if (right - left) * (bottom - top) <= max(FEW, image.width * image.height // 4):
        image = image.crop((left, top, right, bottom))
        x0, y0, x1, y1 = x0 - left, y0 - top, x1 - left, y1 - top
    if size[0] * image.height > image.width * size[1]:
        image = image.resize((image.width, size[1]), how, (0, y0, image.width, y1))
        y0, y1 = 0, size[1]
    return image.resize(size, how, (x0, y0, x1, y1))
