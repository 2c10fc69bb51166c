"""Read the arrays of a safetensors file by the types that its header names.

The library's own NumPy reader lacks float8, and reads bfloat16 by its path but not by
its bytes (safetensors 0.8.0); the header says all there is to know.
"""

import json
import math
import os
import pathlib
from typing import BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
    "C64": np.complex64,
}
"""What the names of the header stand for."""

WRITTEN = tuple(
    np.dtype(kind).name for name, kind in TYPES.items() if not name.startswith("F8")
)
"""The types that are written, which every version of the library reads."""


class Entry(NamedTuple):
    """Say where an array lies in its file, and what its bytes mean."""

    name: str
    kind: str
    shape: tuple[int, ...]
    first: int
    end: int


def read_header(path: str | os.PathLike) -> dict[str, Entry]:
    """Return the entries of a file whose header the library has found sound."""
    with pathlib.Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    entries = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, end = (8 + length + offset for offset in entry["data_offsets"])
        entries[name] = Entry(name, entry["dtype"], tuple(entry["shape"]), first, end)
    return entries


def read_array(file: BinaryIO, entry: Entry) -> np.ndarray:
    """Return one array, a writable copy in native byte order.

    Raises:
        ValueError: its type is not read, or its bytes are missing. The text is a clause
            for the caller to put in a sentence.
    """
    kind = TYPES.get(entry.kind)
    if kind is None:
        raise ValueError(
            f"{entry.name!r:.100} has the type {entry.kind}, which is not read; "
            f"expected one of {', '.join(TYPES)}"
        )
    dtype = np.dtype(kind)
    file.seek(entry.first)
    data = bytearray(file.read(entry.end - entry.first))
    if len(data) != math.prod(entry.shape) * dtype.itemsize:
        raise ValueError(f"{entry.name!r:.100} is cut short")
    if dtype == np.bool_:
        # A byte that is neither 0 nor 1 would be a third truth value in NumPy.
        return (np.frombuffer(data, np.uint8) != 0).reshape(entry.shape)
    stored = dtype if dtype.itemsize == 1 else dtype.newbyteorder("<")
    array = np.frombuffer(data, stored).reshape(entry.shape)
    return array.astype(dtype.newbyteorder("="), copy=False)
