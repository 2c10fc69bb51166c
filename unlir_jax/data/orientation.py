"""Orientation of stored images, and the turn that makes them upright.

A camera that is held upright stores its rows as ever and notes in EXIF how they are to
be turned. The eight ways are defined by tag 274 of TIFF 6.0 and EXIF 2.32.
"""

from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

UPRIGHT = 1


class Turn(NamedTuple):
    """Say how one orientation is undone.

    Attributes:
        method: What Pillow calls it; None where there is nothing to do.
        linear: Rows of the matrix that takes steps in the upright image to steps in
            the stored one.
    """

    method: Image.Transpose | None
    linear: tuple[tuple[int, int], tuple[int, int]]


TURNS = {
    1: Turn(None, ((1, 0), (0, 1))),
    2: Turn(Image.Transpose.FLIP_LEFT_RIGHT, ((-1, 0), (0, 1))),
    3: Turn(Image.Transpose.ROTATE_180, ((-1, 0), (0, -1))),
    4: Turn(Image.Transpose.FLIP_TOP_BOTTOM, ((1, 0), (0, -1))),
    5: Turn(Image.Transpose.TRANSPOSE, ((0, 1), (1, 0))),
    6: Turn(Image.Transpose.ROTATE_270, ((0, 1), (-1, 0))),
    7: Turn(Image.Transpose.TRANSVERSE, ((0, -1), (-1, 0))),
    8: Turn(Image.Transpose.ROTATE_90, ((0, -1), (1, 0))),
}


def read(image: Image.Image) -> int | None:
    """Read the EXIF orientation of an image, 1 … 8, None where it says none.

    Formats keep it in EXIF, in a tag of their own (TIFF) or in XMP; Pillow knows where.
    """
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    # Broken EXIF raises as many kinds of errors as there are ways to break it. Like
    # every viewer, and Pillow with a value of no meaning, take the pixels as they lie.
    except Exception:
        return None
    return next((number for number in TURNS if value == number), None)


def upright(image: Image.Image, orientation: int | None) -> Image.Image:
    """Turn a stored image upright."""
    method = TURNS[orientation or UPRIGHT].method
    return image if method is None else image.transpose(method)


def is_quarter(orientation: int) -> bool:
    """Tell whether width and height change places."""
    return orientation >= 5


def turned_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Give width and height of the upright image of a stored one, or the reverse."""
    width, height = size
    return (height, width) if is_quarter(orientation) else (width, height)


def matrix(orientation: int, size: tuple[int, int]) -> np.ndarray:
    """Give the map from places in the upright image to places in the stored one.

    Args:
        orientation: 1 … 8.
        size: Width and height of the stored image.

    Returns:
        `[2, 3]`, as `geometry.move` takes it. The left edge of an image is x = 0, so
        an axis that is mirrored takes x to width - x.
    """
    linear = np.array(TURNS[orientation].linear, np.float64)
    ends = np.where(linear.sum(1) < 0, size, 0)
    return np.concatenate([linear, ends[:, None]], axis=1)
