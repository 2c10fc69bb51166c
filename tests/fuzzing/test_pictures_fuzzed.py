"""Damaged pictures of every format that Pillow writes here: read, or one sentence."""

import io
import warnings

import numpy as np
import pytest
from fuzzing import made
from PIL import Image

from unlir_jax.data import decoding

Image.init()

# In Pillow 13.0 no pictures that it could read back by itself.
NOT_READ = (*decoding.NOT_READ, "PDF", "PALM")
MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "F", "CMYK")
OPTIONS = {
    "JPEG": ({}, {"progressive": True}, {"exif": b"turned"}, {"subsampling": 2}),
    "PNG": ({}, {"optimize": True}, {"exif": b"turned"}),
    "TIFF": tuple(
        {"compression": name}
        for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
    ),
    "WEBP": ({}, {"lossless": True}, {"exif": b"turned"}),
    "GIF": ({}, {"save_all": True, "append_images": [made.picture(seed=2)]}),
    "MPO": ({"save_all": True, "append_images": [made.picture(seed=2)]},),
}
TURNED = 274


def exif():
    found = Image.Exif()
    found[TURNED] = 6
    return found.tobytes()


def write(kind):
    """Write pictures of a format, of those modes and options that it takes."""
    files = {}
    for mode in MODES:
        for number, options in enumerate(OPTIONS.get(kind, ({},))):
            if "exif" in options:
                options = options | {"exif": exif()}
            image = made.picture(*((300, 200) if number else (64, 48)))
            wanted = "L" if mode in ("I;16", "F") else mode
            image = image.convert(wanted)
            if mode == "I;16":
                image = Image.fromarray(np.asarray(image, np.uint16) * 200)
            if mode == "F":
                image = Image.fromarray(np.asarray(image, np.float32))
            stream = io.BytesIO()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    image.save(stream, kind, **options)
            except (OSError, ValueError, KeyError, TypeError, SystemError):
                continue  # This format has no such pictures.
            place = f"{mode.replace(';', '_')}_{number}.{kind.lower()}"
            files[place] = stream.getvalue()
    return files


@pytest.mark.parametrize("kind", sorted(set(Image.SAVE) & set(Image.OPEN)))
def test_damaged_pictures_are_read_or_refused(kind, fuzzed):
    files = write(kind)
    if not files:
        pytest.skip(f"Pillow has no encoder of {kind} here")
    refused = kind in NOT_READ
    fuzzed(kind, "picture", files, sorted(files), refused=refused)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_damaged_masks_are_read_or_refused(kind, fuzzed):
    values = np.random.default_rng(0).integers(0, 5, (40, 50), np.uint8)
    files = {"grey": made.encoded(Image.fromarray(values), kind)}
    palette = Image.fromarray(values)
    palette.putpalette(list(range(256)) * 3)
    files["palette"] = made.encoded(palette, kind)
    fuzzed(f"masks of {kind}", "mask", files, sorted(files))
