"""From an image file to the array that a network sees."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

from unlir_jax.data import decoding, levels, orientation, resizing
from unlir_jax.data.levels import AUTO, WhiteLevel, to_rgb

# However large the file is; see `budget` for small ones. The variable
# UNLIR_JAX_MOST_PIXELS of the environment sets another limit, which then is the only.
MOST_PIXELS = 200_000_000

BILINEAR = "bilinear"
INTERPOLATIONS = {
    BILINEAR: Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "hamming": Image.Resampling.HAMMING,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}
"""Pillow's, by timm's words; all but the nearest are antialiased."""


class Frame(TypedDict):
    """Say how images are framed, in the words of `pipeline.evaluation`."""

    image_size: int
    crop: float
    interpolation: str


Picture = Image.Image | np.ndarray | str | os.PathLike[str]


def read_image(
    path: str | os.PathLike[str], *, white_level: WhiteLevel = AUTO
) -> Image.Image:
    """Read one image as 8-bit RGB, upright, whatever it is stored as.

    The EXIF orientation is applied; grey, palette and CMYK images are converted,
    images of more than 8 bits scaled as `levels` says, transparent ones laid on white.
    Of 16-bit colour, Pillow keeps the upper 8 bits.

    Args:
        path: The file.
        white_level: Which value is white in grey images of more than 8 bits: "auto",
            a number or "maximum", see `levels.to_rgb`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not an image, is truncated, or is absurdly large;
            nothing tells which of its values is white.
    """
    return read_turned(path, white_level=white_level)[0]


def read_turned(
    path: str | os.PathLike[str], *, white_level: WhiteLevel = AUTO
) -> tuple[Image.Image, int]:
    """Read one image as `read_image` does, and by which EXIF orientation it turned.

    Raises:
        FileNotFoundError: As `read_image` does.
        ValueError: As `read_image` does.
    """
    where = f"Image {os.fspath(path)!r}"
    found = decode_file(path, where)
    image = coloured(found, where, white_level)
    return image, found.orientation or orientation.UPRIGHT


def coloured(
    found: decoding.Decoded, where: str, white_level: WhiteLevel = AUTO
) -> Image.Image:
    """Convert what was decoded to 8-bit RGB.

    Raises:
        ValueError: As `levels.to_rgb`, or for whatever else fails.
    """
    with decoding.readable(where, found.budget.most):
        return to_rgb(
            found.image,
            white_level,
            white=found.white,
            where=where,
            budget=found.budget,
        )


def decode_file(
    path: str | os.PathLike[str], where: str, beside: int = 0
) -> decoding.Decoded:
    """Decode an image file, upright and in its own mode.

    Args:
        path: The file.
        where: What it is called in messages, such as "Mask 'a.png'".
        beside: Bytes a pixel that are made of it while it is there.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not an image, is truncated, or is absurdly large.
    """
    path = Path(path)
    most = decoding.most_pixels(MOST_PIXELS)
    try:
        if not os.path.isfile(path):
            kind = "is a folder" if os.path.isdir(path) else "does not exist"
            raise FileNotFoundError(f"{where} {kind}; expected an image file.")
        with path.open("rb") as stream:
            return decoding.decode(stream, where, most, str(path), beside)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(
            f"{where} cannot be read ({error.strerror or error}); expected an image "
            "file."
        ) from error


def decode_bytes(data: bytes, where: str) -> decoding.Decoded:
    """Decode an image in memory, as `decode_file` does one on the disk."""
    most = decoding.most_pixels(MOST_PIXELS)
    return decoding.decode(io.BytesIO(data), where, most)


def to_picture(picture: Picture, *, white_level: WhiteLevel = AUTO) -> Image.Image:
    """Accept a path, a Pillow image or an array, and give 8-bit RGB, upright.

    Arrays are `[height, width]` or `[height, width, 1 | 3 | 4]`, uint8 in 0 … 255 or
    floating point in [0, 1].

    Args:
        picture: What is to be seen.
        white_level: White of files and Pillow images, see `read_image`.

    Raises:
        ValueError: An array of another shape or range.
        TypeError: Something else.
    """
    if isinstance(picture, str | os.PathLike):
        return read_image(picture, white_level=white_level)
    if isinstance(picture, Image.Image):
        return _converted(picture, white_level)
    if not hasattr(picture, "shape"):
        raise TypeError(
            f"`picture` is a {type(picture).__name__}; expected a path, a PIL image or "
            "an array."
        )
    array = np.asarray(picture)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        raise ValueError(
            f"`picture` has shape {array.shape}; expected [height, width] or "
            "[height, width, 3]."
        )
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise ValueError(
                "`picture` holds floating point values outside [0, 1]; divide 8-bit "
                "images by 255 or pass them as uint8."
            )
        array = np.round(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise TypeError(
            f"`picture` is {array.dtype}; expected uint8, or floating point in [0, 1] "
            "(16 bits are divided by 65535)."
        )
    return to_rgb(Image.fromarray(array))


def _converted(image: Image.Image, white_level: WhiteLevel) -> Image.Image:
    # What Pillow turns as it loads it says no longer how it was.
    image.load()
    turned = orientation.upright(image, orientation.read(image))
    return to_rgb(turned, white_level, white=levels.white_of(image))


def framed_size(width: int, height: int, size: int, crop: float) -> tuple[int, int]:
    """Give the size to which an image is resized before its centre is cut out.

    The shorter side becomes `size / crop`, rounded down as timm 1.0.31 does, and so
    does the longer one, as torchvision does.
    """
    shorter = max(int(size / crop + 1e-6), size)
    scale = shorter / min(width, height)
    return (
        max(int(width * scale + 1e-9), shorter),
        max(int(height * scale + 1e-9), shorter),
    )


def check_frame(crop: float, interpolation: str) -> None:
    """Refuse a frame that makes no sense.

    Raises:
        ValueError: The crop is no share, or the interpolation is not known.
    """
    if not 0 < crop <= 1:
        raise ValueError(f"`crop`={crop} is a share; expected a value in (0, 1].")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"`interpolation`={interpolation!r} is not known; expected one of "
            f"{', '.join(INTERPOLATIONS)}."
        )


def framing(
    size: int,
    crop: float,
    interpolation: str = BILINEAR,
    *,
    white_level: WhiteLevel = AUTO,
) -> Callable[[Picture], Image.Image]:
    """Make the frame of evaluation: shorter side to `size / crop`, central square.

    Args:
        size: Side of the result in pixels.
        crop: Share of the shorter side that is kept, in (0, 1].
        interpolation: One of `INTERPOLATIONS`.
        white_level: See `read_image`.

    Returns:
        `picture -> Image` of `size` x `size` pixels, 8-bit RGB.
    """
    check_frame(crop, interpolation)
    levels.check_white_level(white_level)
    resampling = INTERPOLATIONS[interpolation]

    def frame(picture: Picture) -> Image.Image:
        image = to_picture(picture, white_level=white_level)
        target = framed_size(*image.size, size, crop)
        return resizing.framed(image, target, size, resampling)

    return frame


def preprocessing(
    size: int, crop: float, interpolation: str = BILINEAR
) -> Callable[[Picture], np.ndarray]:
    """Make the preprocessing of evaluation: `picture -> [size, size, 3]` in [0, 1].

    Mean and standard deviation are not applied here: they belong to the network.
    """
    frame = framing(size, crop, interpolation)

    def preprocess(picture: Picture) -> np.ndarray:
        return np.asarray(frame(picture), np.float32) / 255

    return preprocess


def imagenet_classes() -> tuple[str, ...]:
    """List the 1,000 class names of ImageNet in the order of the indices.

    The names come from torchvision 0.28 (`torchvision/models/_meta.py`, BSD-3).
    """
    text = Path(__file__).with_name("imagenet_classes.txt").read_text("utf-8")
    return tuple(text.splitlines())
