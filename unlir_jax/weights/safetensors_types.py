"""Read the arrays of a safetensors file by the types that its header names.

The library's own NumPy reader lacks float8, and reads bfloat16 by its path but not by
its bytes (safetensors 0.8.0); the header says all there is to know.
"""

import math
import os
from typing import BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from unlir_jax.storage import documents
from unlir_jax.weights import budget
from unlir_jax.weights.contents import MAX_NAME

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


def read_header(file: BinaryIO) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the entries and the metadata of a file, and nothing of its arrays.

    Only what is as it should be can be trusted where the library finds it sound as
    well: it checks the offsets.

    Raises:
        ValueError: The header is no JSON, of another form, or of so many small parts
            that they take more memory than the size of the file allows. The text is a
            clause for the caller to put in a sentence.
    """
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    data = file.read(length)
    allowed = budget.FREE_BYTES + budget.RATIO * os.fstat(file.fileno()).st_size
    # The entries made here come on top of the document, and some of the library's.
    header = documents.parse_json(data, "its header", "names", within=allowed // 2)
    if not isinstance(header, dict):
        raise ValueError("its header is no object of JSON")
    metadata = header.pop("__metadata__", None) or {}
    entries = {}
    try:
        for name, entry in header.items():
            if len(name) > MAX_NAME:
                raise ValueError(
                    f"the name {name[:50]!r}… has {len(name):,} characters"
                )
            first, end = (8 + length + offset for offset in entry["data_offsets"])
            shape = tuple(entry["shape"])
            entries[name] = Entry(name, entry["dtype"], shape, first, end)
        return entries, dict(metadata)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"its header is of another form ({error!r})") from error


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
