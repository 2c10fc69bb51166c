"""Memory that reading an image may take, from the size of its file.

Whoever sends a small file does not decide how much memory goes: reading takes at most
64 MB, and 8 times the size of the file. An image that would need more is refused, by
what its header says, before anything is decoded.
"""

import io
import math
import re
import struct
from typing import NamedTuple

import numpy as np
from PIL import Image

# Part of the 64 MB is for decoders' tables and for what becomes of the image.
FREE, RATIO = 56 << 20, 8
RGB_BYTES = 4
# Pillow points to each row, of the image and of what becomes of it.
ROW_BYTES = 32
# What Pillow takes for a pixel of a mode; for all others 4.
BYTES = {"1": 1, "L": 1, "P": 1, "LA": 4, "PA": 4, "I;16": 2, "I;16B": 2, "I;16L": 2}
# What decoders take for a pixel in addition, as measured with Pillow 13.0: planes of
# their own, and the bytes that they hand over. JPEG 2000: for each band.
DECODERS = {
    **{"JPEG": 0, "MPO": 0, "PNG": 0, "TGA": 0, "TIFF": 0, "IM": 0, "PCX": 0},
    **{"BMP": 1, "DIB": 1, "GIF": 1, "PPM": 4, "QOI": 4, "SGI": 4},
    **{"AVIF": 10, "WEBP": 12, "JPEG2000": 6},
}
# Of all others, some are decoded in Python, pixel by pixel, and were not measured.
OTHERS = 20
# Pixels of an image that always fits, so that nobody has to look closer.
SMALL = 1 << 20
# Icons hold images of other formats, whose size only these tell: PNG, JPEG 2000, BMP.
INNER = re.compile(
    rb"IHDR(?P<png>.{8})|\xff\x4f\xff\x51.{4}(?P<jp2>.{8})|"
    rb"\x28\0\0\0(?P<bmp>.{8})\x01\0",
    re.DOTALL,
)
ICONS = b"\0\0\1\0", b"\0\0\2\0", b"icns"
ICON_BYTES = 40
PNG, TEXTS, MOST_TEXTS = b"\x89PNG\r\n\x1a\n", (b"zTXt", b"iTXt"), 16
CHUNK, PIXELS = struct.Struct(">I4s"), b"IDAT"
# Tags of TIFF 6.0.
TILE_WIDTH, TILE_LENGTH, ROWS_PER_STRIP = 322, 323, 278
SAMPLES, BITS, TURNED, COMPRESSION, JPEG = 277, 258, 274, 259, (6, 7)


class Budget(NamedTuple):
    """Hold what one image may take.

    Attributes:
        size: Bytes of its file.
        asked: Whether somebody has set a limit of pixels, which then is the only one.
        most: That limit, or the one where nothing is set.
    """

    size: int
    asked: bool = False
    most: int = 0

    def fits(self, needed: int) -> bool:
        """Tell whether so many bytes may be taken."""
        return self.asked or needed <= FREE + RATIO * self.size


UNLIMITED = Budget(0, asked=True)


def stored_bytes(mode: str) -> int:
    """Give what Pillow takes for a pixel."""
    return BYTES.get(mode, RGB_BYTES)


def needed(image: Image.Image, stream: io.BufferedIOBase, beside: int = 0) -> int:
    """Say how many bytes it takes to decode an image that is opened, and make it RGB.

    Args:
        image: As its plugin has opened it, not decoded.
        stream: Its file, where the plugin has left it.
        beside: Bytes a pixel that are made of it instead of RGB.
    """
    pixels, stored = image.width * image.height, stored_bytes(image.mode)
    kind = image.format or ""
    if pixels <= SMALL and kind != "TIFF":
        return pixels * (RGB_BYTES + OTHERS)
    further = DECODERS.get(kind, OTHERS) * pixels
    if kind == "JPEG2000":
        further *= len(image.getbands())
    if kind in ("JPEG", "MPO"):
        further = int(_coefficients(image, stream) * pixels)
    if kind == "TIFF":
        further = _strips(image) + pixels * stored * _is_turned(image)
    rows = ROW_BYTES * image.height
    after = max(RGB_BYTES, stored + beside)
    return max(pixels * stored + further, pixels * after) + rows


def _coefficients(image: Image.Image, stream: io.BufferedIOBase) -> float:
    """Count the bytes a pixel of coefficients that JPEG keeps between its scans."""
    layers = getattr(image, "layer", [])
    if not layers or not (image.info.get("progressive") or _apart(layers, stream)):
        return 0.0
    most = max(layer[1] for layer in layers) * max(layer[2] for layer in layers)
    return 2 * sum(layer[1] * layer[2] for layer in layers) / max(most, 1)


def _apart(layers: list, stream: io.BufferedIOBase) -> bool:
    """Tell whether the first scan of a JPEG has some of its colours only."""
    place = stream.tell()
    length = 6 + 2 * len(layers)
    stream.seek(max(place - length, 0))
    head = stream.read(3)
    stream.seek(place)
    return head != struct.pack(">HB", length, len(layers))


def _strips(image: Image.Image) -> int:
    """Count the bytes of one strip or tile of a TIFF, which is decoded as a whole."""
    tags = getattr(image, "tag_v2", {})
    width, height = int(tags.get(TILE_WIDTH, 0)), int(tags.get(TILE_LENGTH, 0))
    if not width or not height:
        width = image.width
        height = min(int(tags.get(ROWS_PER_STRIP, image.height)), image.height)
    bits = int(np.max(tags.get(BITS, 1)))
    # JPEG may keep coefficients as well.
    times = 3 if tags.get(COMPRESSION) in JPEG else 1
    return width * height * int(tags.get(SAMPLES, 1)) * max(bits, 8) // 8 * times


def _is_turned(image: Image.Image) -> bool:
    """Tell whether a TIFF is turned by Pillow, which then holds it twice."""
    return getattr(image, "tag_v2", {}).get(TURNED, 1) not in (0, 1)


def icon_size(start: bytes, stream: io.BufferedIOBase) -> tuple[int, int]:
    """Give the largest size that an image in an icon says it has; 0 x 0 for others."""
    largest = 0, 0
    if not start.startswith(ICONS):
        return largest
    stream.seek(0)
    for match in INNER.finditer(stream.read()):
        png, jp2, bmp = match.groups()
        width, height = struct.unpack("<ii" if bmp else ">II", png or jp2 or bmp)
        largest = max(largest, (abs(width), abs(height)), key=math.prod)
    return largest


def packed_texts(start: bytes, stream: io.BufferedIOBase) -> int:
    """Count the compressed texts before a PNG's pixels, each perhaps a megabyte."""
    if not start.startswith(PNG):
        return 0
    place, count = len(PNG), 0
    stream.seek(place)
    while len(head := stream.read(8)) == 8:
        length, kind = CHUNK.unpack(head)
        if kind == PIXELS:
            break
        count += kind in TEXTS
        place += length + 12
        stream.seek(place)
    return count
