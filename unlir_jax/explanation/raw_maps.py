"""File of all raw maps of a report, one array for each image and method."""

import contextlib
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from unlir_jax.storage import staging

NAME = "maps.npz"

Add = Callable[[str, str, np.ndarray], None]


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Add]:
    """Write maps one after the other: `add(image, method, map)`.

    The array `[rows, columns]` of an image and method is named `IMAGE/METHOD`. It stays
    float32: gradients may be smaller than the least float16.

    Raises:
        ValueError: The file cannot be written.
    """
    with _refused(path):
        file = zipfile.ZipFile(path, "w")

    def add(image: str, method: str, raw: np.ndarray) -> None:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, raw, allow_pickle=False)
        # Without a date: the same maps make the same file.
        entry = zipfile.ZipInfo(f"{image}/{method}.npy")
        with _refused(path):
            file.writestr(entry, buffer.getvalue(), zipfile.ZIP_DEFLATED, 1)

    try:
        yield add
    finally:
        with _refused(path):
            file.close()


@contextlib.contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise staging.refusal(path, error) from error
