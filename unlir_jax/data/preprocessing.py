"""From a picture file to the array that a network sees."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# A decoder should not be made to fill the memory by a small file.
MOST_PIXELS = 200_000_000
PAPER = (255, 255, 255)

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

Picture = Image.Image | np.ndarray | str | os.PathLike[str]


def read_image(path: str | os.PathLike[str]) -> Image.Image:
    """Read one picture as 8-bit RGB, upright, whatever it is stored as.

    The EXIF orientation is applied; grey, palette and CMYK pictures are converted,
    16-bit ones scaled, transparent ones laid on white.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a picture, is truncated, or is absurdly large.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"Image {str(path)!r} {kind}; expected a picture file.")
    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise ValueError(
                    f"Image {str(path)!r} has {width} x {height} pixels; expected at "
                    f"most {MOST_PIXELS:,}."
                )
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"Image {str(path)!r} cannot be read as a picture ({error}); expected "
            "JPEG, PNG, WebP or another format that Pillow reads."
        ) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to 8-bit RGB."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        # 16-bit pictures open in several modes; the largest value tells the scale.
        top = 65535 if image.mode.startswith("I") or values.max() > 255 else 255
        top = 1 if image.mode == "F" and values.max() <= 1 else top
        grey = np.clip(np.round(values * (255 / top)), 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (*PAPER, 255))
        return Image.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")


def to_picture(picture: Picture) -> Image.Image:
    """Accept a path, a Pillow image or an array, and give 8-bit RGB.

    Arrays are `[height, width]` or `[height, width, 1 | 3 | 4]`, uint8 in 0 … 255 or
    floating point in [0, 1].

    Raises:
        ValueError: An array of another shape or range.
        TypeError: Something else.
    """
    if isinstance(picture, str | os.PathLike):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        return to_rgb(ImageOps.exif_transpose(picture))
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
                "pictures by 255 or pass them as uint8."
            )
        array = np.round(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise TypeError(
            f"`picture` is {array.dtype}; expected uint8 or floating point."
        )
    return to_rgb(Image.fromarray(array))


def framed_size(width: int, height: int, size: int, crop: float) -> tuple[int, int]:
    """Give the size to which a picture is resized before its centre is cut out.

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
    size: int, crop: float, interpolation: str = BILINEAR
) -> Callable[[Picture], Image.Image]:
    """Make the frame of evaluation: shorter side to `size / crop`, central square.

    Args:
        size: Side of the result in pixels.
        crop: Share of the shorter side that is kept, in (0, 1].
        interpolation: One of `INTERPOLATIONS`.

    Returns:
        `picture -> Image` of `size` x `size` pixels, 8-bit RGB.
    """
    check_frame(crop, interpolation)
    resampling = INTERPOLATIONS[interpolation]

    def frame(picture: Picture) -> Image.Image:
        image = to_picture(picture)
        target = framed_size(*image.size, size, crop)
        if image.size != target:
            image = image.resize(target, resampling)
        left, top = (round((side - size) / 2) for side in target)
        return image.crop((left, top, left + size, top + size))

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

    The names are those of torchvision 0.28 (`torchvision/models/_meta.py`, BSD-3).
    """
    text = Path(__file__).with_name("imagenet_classes.txt").read_text("utf-8")
    return tuple(text.splitlines())
