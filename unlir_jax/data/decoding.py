"""Open the image files of strangers: one limit of size, one sentence for a fault."""

import contextlib
import io
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import PIL
from PIL import Image

from unlir_jax.data import budget, levels, orientation, strips
from unlir_jax.data.budget import UNLIMITED, Budget

# How many pixels an image may have that is not refused unread: the variable of the
# environment that says so.
SETTING = "UNLIR_JAX_MOST_PIXELS"
# What Pillow's plugins raise for a file that is none of theirs.
NOT_THIS_FORMAT = (SyntaxError, IndexError, TypeError, struct.error)
# Programs in PostScript and drawings, which others would run; holders of images whose
# size is not known before they are unpacked; and what Pillow cannot decode by itself.
NOT_READ = frozenset("BUFR EPS FITS FPX GRIB HDF5 IPTC MIC MPEG WMF".split())
# What people have and Pillow may not read: where a file says so, its name, the remedy.
FOREIGN = (
    (4, b"ftypavif", "AVIF", "a newer Pillow (pip install -U pillow)"),
    (4, b"ftypavis", "AVIF", "a newer Pillow (pip install -U pillow)"),
    (4, b"ftyphei", "HEIC", "it converted, for example to JPEG"),
    (4, b"ftypmif1", "HEIF", "it converted, for example to JPEG"),
    (4, b"JXL ", "JPEG XL", "it converted, for example to PNG"),
    (0, b"\xff\x0a", "JPEG XL", "it converted, for example to PNG"),
)


class Decoded(NamedTuple):
    """Hold an image as its file has it, but upright.

    Attributes:
        image: In the mode of the file.
        orientation: The EXIF orientation by which it was turned, 1 … 8; None where the
            file says nothing.
        white: The value that is white; None where the file does not say so, see
            `levels`.
        format: The name that Pillow gives to the file's format, such as "JPEG".
        samples: The name that it gives to how samples are packed, such as "L;4".
        budget: What may be taken to continue with it.
    """

    image: Image.Image
    orientation: int | None
    white: int | None
    format: str
    samples: str = ""
    budget: Budget = UNLIMITED


def most_pixels(otherwise: int) -> int:
    """Read how many pixels an image may have, or raise ValueError."""
    text = os.environ.get(SETTING, "").replace("_", "").strip()
    if text and not (text.isascii() and text.isdecimal() and int(text)):
        raise ValueError(
            f"{SETTING}={os.environ[SETTING]!r} in the environment; expected a number "
            f"of pixels, such as {otherwise}."
        )
    return int(text or otherwise)


def decode(
    stream: io.BufferedIOBase, where: str, most: int, file: str = "", beside: int = 0
) -> Decoded:
    """Decode an image and turn it upright, as its EXIF orientation asks.

    EXIF that is broken or asks for something else counts as upright, as in Pillow.

    Args:
        stream: The bytes of the file, which may be sought in.
        where: What the image is called in messages, such as "Image 'a.jpg'".
        most: Largest number of pixels.
        file: Its path, where it is a file.
        beside: Bytes a pixel that will be made of it while it is there.

    Raises:
        ValueError: It is no image that can be read, has too many pixels, or would
            take more memory than `budget` allows for its file.
    """
    limit = Budget(_size(stream), bool(os.environ.get(SETTING)), most)
    with readable(where, most), _lifting(most) as lift:
        image = _identify(stream, file, lift, where, limit)
        _check_size(image, budget.needed(image, stream, beside), where, limit)
        lift(image.width * image.height)
        # PNG is decoded by the question for its EXIF already.
        tile = getattr(image, "tile", None)
        samples = tile[0][3] if tile else ""
        asked = orientation.read(image)
        image.load()
        # Pillow turns TIFF as it loads it; PNG may say last how it is to be turned.
        left = orientation.read(image)
        white, kind = levels.white_of(image), image.format or ""
        turned = strips.upright(image, left, limit)
    packed = samples if isinstance(samples, str) else ""
    upright = left if asked is None else asked
    return Decoded(turned, upright, white, kind, packed, limit)


def _size(stream: io.BufferedIOBase) -> int:
    """Give the size of a file; to seek to its end would forget what was read ahead."""
    if isinstance(stream, io.BytesIO):
        return stream.getbuffer().nbytes
    return os.fstat(stream.fileno()).st_size


class _TooLarge(ValueError):
    """Tell our own refusal from Pillow's errors."""


def _check_size(image: Image.Image, needed: int, where: str, limit: Budget) -> None:
    (width, height), pixels = image.size, image.width * image.height
    if pixels > limit.most:
        raise _TooLarge(
            f"{where} has {width} x {height} = {pixels:,} pixels; expected at "
            f"most {limit.most:,}, or {SETTING}={pixels} in the environment."
        )
    if not limit.fits(needed):
        raise _too_large(where, (width, height), needed, limit)


def _too_large(
    where: str, size: tuple[int, int], needed: int, limit: Budget
) -> _TooLarge:
    (width, height), pixels = size, size[0] * size[1]
    return _TooLarge(
        f"{where} of {limit.size:,} bytes has {width} x {height} = {pixels:,} pixels, "
        f"which take {needed / 1e6:,.0f} MB; expected at most 8 times its bytes and 64 "
        f"MB, or {SETTING}={pixels} in the environment ({limit.most:,} "
        "where nothing is set)."
    )


@contextlib.contextmanager
def readable(where: str, most: int) -> Iterator[None]:
    """Turn whatever reading an image raises into a ValueError that names it.

    Decoders have no errors in common: a broken AVIF raises RuntimeError, DDS
    NotImplementedError, JPEG 2000 MemoryError, EXIF struct.error. All are caught.

    Args:
        where: What the image is called, such as "Image 'a.jpg'".
        most: Largest number of pixels.
    """
    try:
        yield
    except _TooLarge as error:
        raise ValueError(str(error)) from None
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{where} has more than twice as many pixels as {most:,}; expected at most "
            f"these, or {SETTING}=NUMBER in the environment."
        ) from error
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(where):
            raise
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{where} cannot be read as an image ({reason}); expected JPEG, PNG, WebP "
            "or another format that Pillow reads."
        ) from error


class _Limit:
    """Hold how Pillow's limit was before it was lifted, and by how many at a time."""

    lock = threading.Lock()
    count = 0
    before: int | None = None


@contextlib.contextmanager
def _lifting(most: int) -> Iterator[Callable[[int], None]]:
    """Let an image pass Pillow's own limit, half of which it warns from.

    Pillow has one limit for the whole process. It is lifted to ours only while an
    image above it is decoded, and put back by the last thread that does so.

    Yields:
        `lift(pixels)`, to be called as soon as the size is known.
    """
    lifted = []

    def lift(pixels: int) -> None:
        with _Limit.lock:
            if lifted:
                return
            limit = _Limit.before if _Limit.count else Image.MAX_IMAGE_PIXELS
            if limit is not None and pixels > limit:
                lifted.append(True)
                _Limit.before, _Limit.count = limit, _Limit.count + 1
                Image.MAX_IMAGE_PIXELS = max(most, limit)

    try:
        yield lift
    finally:
        with _Limit.lock:
            if lifted:
                _Limit.count -= 1
                if not _Limit.count:
                    Image.MAX_IMAGE_PIXELS = _Limit.before


def _identify(
    stream: io.BufferedIOBase,
    file: str,
    lift: Callable[[int], None],
    where: str,
    limit: Budget,
) -> Image.Image:
    """Open an image without decoding it, as `Image.open` does but for its limit."""
    start = stream.read(16)
    _check_inside(start, stream, where, limit)
    tried: set[str] = set()
    missing = []
    # The few common formats first: to load the others takes a while.
    for prepare in (Image.preinit, Image.init):
        prepare()
        for kind in tuple(kind for kind in Image.ID if kind not in tried):
            tried.add(kind)
            factory, accept = Image.OPEN[kind]
            verdict = accept is None or accept(start)
            if kind in NOT_READ:
                verdict = (
                    f"it is {kind}, which is not read" if accept and verdict else ""
                )
            if isinstance(verdict, str):
                missing += [verdict] if verdict else []
            elif verdict:
                with contextlib.suppress(*NOT_THIS_FORMAT):
                    return _made(factory, stream, file, lift)
    for place, mark, name, remedy in FOREIGN:
        if start[place:].startswith(mark):
            missing = [
                f"it is {name}, which Pillow {PIL.__version__} here does not "
                f"read; {remedy} is"
            ]
    raise OSError("; ".join(missing) or "no known format")


def _check_inside(
    start: bytes, stream: io.BufferedIOBase, where: str, limit: Budget
) -> None:
    """Look at what is unpacked as soon as a file is opened: icons and texts."""
    icon = budget.icon_size(start, stream)
    needed = icon[0] * icon[1] * budget.ICON_BYTES
    if not limit.fits(needed):
        raise _too_large(where, icon, needed, limit)
    texts = budget.packed_texts(start, stream)
    if texts > budget.MOST_TEXTS:
        raise _TooLarge(
            f"{where} holds {texts} compressed texts; expected at most "
            f"{budget.MOST_TEXTS}."
        )


def _made(
    factory: Callable, stream: io.BufferedIOBase, file: str, lift: Callable[[int], None]
) -> Image.Image:
    stream.seek(0)
    try:
        return factory(stream, file)
    except Image.DecompressionBombError:
        # WebP asks for Pillow's limit before it tells its size.
        lift(sys.maxsize)
        stream.seek(0)
        return factory(stream, file)
