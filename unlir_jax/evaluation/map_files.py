"""Files of maps that others made: arrays and grey images, read as data."""

import re
from pathlib import Path

import numpy as np

from unlir_jax.data import decoding
from unlir_jax.evaluation import batch_files
from unlir_jax.storage import files
from unlir_jax.weights import bounded_zip

SUFFIXES = (".npz", ".npy", ".png")
MOST_BYTES = 64 << 20
"""A map of 4096 x 4096 in single precision has as many."""
MOST_PIXELS = 4096**2
GREY = re.compile(r"1|L|I|F|I;16[BLN]?")


def read(file: Path) -> np.ndarray:
    """Read one map.

    Nothing is unpickled, and no more memory is taken than the size of the file allows.

    Args:
        file: `.npy`, `.npz` with one array, or a grey `.png` of any depth.

    Returns:
        float32 `[side, side]`, finite.

    Raises:
        ValueError: It cannot be read, is another array than `[rows, columns]`, is not
            square as the image that the network sees, or holds what is not finite.
    """
    shown = f"Map {files.readable(str(file))!r}"
    try:
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise ValueError(f"its {size:,} bytes are more than {MOST_BYTES:,}")
        found = _image(file, shown) if file.suffix.lower() == ".png" else _array(file)
    except (OSError, ValueError) as error:
        if str(error).startswith(shown):
            raise
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{shown} cannot be read ({reason}); expected one array of numbers, as "
            "numpy.save or numpy.savez writes it, or a grey PNG."
        ) from error
    if found.ndim != 2 or not found.size:
        raise ValueError(
            f"{shown} has shape {found.shape}; expected [rows, columns], one number a "
            "place."
        )
    if found.shape[0] != found.shape[1]:
        raise ValueError(
            f"{shown} has shape {found.shape}; expected a square, as the network sees "
            "the image: crop it as the image is cropped."
        )
    values = found.astype(np.float32)
    wrong = int(np.count_nonzero(~np.isfinite(values)))
    if wrong:
        raise ValueError(
            f"{shown} holds {wrong} values that are NaN or infinite; expected numbers."
        )
    return values


def _array(file: Path) -> np.ndarray:
    if file.suffix.lower() == ".npy":
        return batch_files.array(file.read_bytes(), file.name)
    with file.open("rb") as opened:
        archive = bounded_zip.open_zip(opened)
        names = list(archive.sizes)
        if len(names) != 1:
            listed = ", ".join(map(repr, names))
            raise ValueError(f"it holds {len(names)} arrays, {listed:.100}")
        return batch_files.array(bytes(archive.read(names[0])), names[0])


def _image(file: Path, shown: str) -> np.ndarray:
    with file.open("rb") as opened:
        picture = decoding.decode(opened, shown, MOST_PIXELS, str(file)).image
    if not GREY.fullmatch(picture.mode):
        raise ValueError(
            f"{shown} has the mode {picture.mode}; expected a grey PNG, one number a "
            "pixel: colours of a table have no order."
        )
    return np.asarray(picture)
