"""Read and write files of weights: safetensors, PyTorch and NumPy archives.

The format is recognised by what the file holds and never by its name, and nothing that
a file holds is run.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import safetensors
import safetensors.numpy

from unlir_jax.storage import documents, paths, staging
from unlir_jax.weights import bounded_zip, onnx_file, safetensors_types, torch_file
from unlir_jax.weights.contents import MAX_NAME, Contents, WeightFile

MAX_HEADER_BYTES = 100_000_000
"""The longest header of a safetensors file, as its specification has it."""

MAX_NPY_HEADER_BYTES = 10_000
"""How far the header of an array in an .npz archive is looked at."""

_EXPECTED = (
    "expected a PyTorch file (.pth, .pt, .bin), a .safetensors or .onnx file, or a "
    "NumPy .npz archive"
)
_KNOWN_OTHERS = (
    (b"\x93NUMPY", "one NumPy array without a name (.npy)"),
    (b"\x89HDF", "an HDF5 file"),
    (b"version https://git-lfs", "a Git LFS pointer instead of the file itself"),
    (b"<", "a web page or other markup"),
    (b"GGUF", "a GGUF file"),
    (b"\x1f\x8b", "a gzip file"),
)
_NPY_DTYPE = re.compile(rb"'descr': *'([<>=|](?:b1|[iu][1248]|f[248]|c8|c16))'")
_NPY_ORDER = re.compile(rb"'fortran_order': *(True|False)")
# Each number but the last ends at its comma: two ways to read a text would be tried for
# every number.
_NPY_SHAPE = re.compile(
    rb"'shape': *\( *((?:[0-9]{1,18} *, *){0,32}(?:[0-9]{1,18} *)?)\)"
)


@contextlib.contextmanager
def open_file(path: str | os.PathLike) -> Iterator[WeightFile]:
    """Open a file of weights, its format recognised by its content.

    What is hashed is what is read: the file is opened once, and may be replaced
    meanwhile. Its arrays can be read as long as it is open.

    Args:
        path: a PyTorch file (see `torch_file.open_torch`), a safetensors file of bool,
            integers, float16 to float64, bfloat16, float8 or complex64, or an .npz
            archive of numbers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, empty, damaged, of another format, or holds
            Python objects.
    """
    with _opened(path) as (file, path):
        yield WeightFile(*_look(file, path), _hash(file, path))


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return all arrays of a file of weights by their full names.

    Raises:
        FileNotFoundError: as `open_file`.
        ValueError: as `open_file`.
    """
    with _opened(path) as (file, path):
        found, _ = _look(file, path)
        return found.read(found.shapes)


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Return the metadata of a safetensors file, {} where it has none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no safetensors file, or is damaged.
    """
    with _opened(path) as (file, path):
        if _sniff(file, path) != "safetensors":
            raise ValueError(
                f"`path`={str(path)!r} has no metadata; expected a .safetensors file, "
                "the only format here that keeps some."
            )
        return _header(file, path)[1]


def write_safetensors(
    path: str | os.PathLike,
    arrays: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write arrays by name as a safetensors file that is complete or not there.

    Args:
        path: where to; the folder must exist.
        arrays: of NumPy or JAX; bool, integers, float16 to float64, bfloat16 or
            complex64, in any layout and byte order.
        metadata: short texts kept in the header.
        overwrite: whether a file at `path` may be replaced.

    Raises:
        FileExistsError: there is a file at `path` and `overwrite` is False.
        TypeError: a name or a metadata item is no text.
        ValueError: the folder is missing, `path` is a folder, or an array has a dtype
            that the format lacks.
    """
    path = pathlib.Path(path)
    paths.check(path, "path")
    if not path.parent.is_dir() or path.is_dir():
        raise ValueError(
            f"`path`={str(path)!r} cannot be written; expected a file name in a "
            "folder that exists."
        )
    # First: who was killed after the file had appeared has left its hidden name.
    staging.sweep(path.parent)
    _refuse_existing(path, overwrite)
    data = _serialise(arrays, metadata)
    try:
        staging.write_bytes(path, data, replace=overwrite)
    except FileExistsError:
        _refuse_existing(path, overwrite)
        raise


def size(arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> int:
    """Count the bytes that `write_safetensors` would write.

    Raises:
        TypeError: as there.
        ValueError: as there.
    """
    return len(_serialise(arrays, metadata))


def sha256(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file in hexadecimal, read piece by piece.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder or cannot be read.
    """
    with _opened(path) as (file, path):
        return _hash(file, path)


@contextlib.contextmanager
def _opened(
    path: str | os.PathLike,
) -> Iterator[tuple[io.BufferedReader, pathlib.Path]]:
    path = pathlib.Path(path)
    paths.check(path, "path")
    if not path.exists():
        raise FileNotFoundError(f"`path`={str(path)!r} does not exist; {_EXPECTED}.")
    if not path.is_file():
        raise ValueError(f"`path`={str(path)!r} is no file; {_EXPECTED}.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise _damaged(path, "a file of weights", error) from error
    with file:
        yield file, path


def _hash(file: io.BufferedReader, path: pathlib.Path) -> str:
    try:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _damaged(path, "a file", error) from error


def _look(file: BinaryIO, path: pathlib.Path) -> tuple[Contents, dict[str, str]]:
    """Return what a file holds, and the metadata of a safetensors file."""
    match _sniff(file, path):
        case "safetensors":
            entries, metadata = _header(file, path)
            return _safetensors(file, path, entries), metadata
        case "zip":
            return _zip(file, path), {}
        case "onnx":
            size = os.fstat(file.fileno()).st_size
            return onnx_file.open_onnx(file, size, path), {}
        case _:
            return torch_file.open_torch(file, None, path), {}


def _damaged(path: pathlib.Path, kind: str, error: Exception) -> ValueError:
    reason = str(error).rstrip(".") or type(error).__name__
    return ValueError(
        f"`path`={str(path)!r} cannot be read as {kind}: {reason}; {_EXPECTED} that "
        "is complete."
    )


def _sniff(file: BinaryIO, path: pathlib.Path) -> str:
    """Return "safetensors", "zip", "onnx" or "torch", or raise ValueError."""
    try:
        file.seek(0)
        start = file.read(512)
        size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise _damaged(path, "a file of weights", error) from error
    if not start:
        raise ValueError(f"`path`={str(path)!r} is empty; {_EXPECTED}.")
    # First, because the length that begins it can look like any other beginning.
    if start[8:9] == b"{":
        header = int.from_bytes(start[:8], "little")
        if header <= MAX_HEADER_BYTES:
            if header > size - 8:
                raise ValueError(
                    f"`path`={str(path)!r} is cut short: its safetensors header has "
                    f"{header} bytes and {size - 8} are there; {_EXPECTED} that is "
                    "complete."
                )
            return "safetensors"
    if start[:2] == b"PK":
        return "zip"
    if onnx_file.is_onnx(start):
        return "onnx"
    if start[:1] == b"\x80" or start[257:262] == b"ustar":
        return "torch"
    for magic, kind in _KNOWN_OTHERS:
        if start.startswith(magic):
            raise ValueError(f"`path`={str(path)!r} is {kind}; {_EXPECTED}.")
    raise ValueError(
        f"`path`={str(path)!r} is of an unknown format (it begins with "
        f"{start[:8]!r}); {_EXPECTED}."
    )


def _zip(file: BinaryIO, path: pathlib.Path) -> Contents:
    try:
        archive = bounded_zip.open_zip(file)
    except (ValueError, OSError) as error:
        raise _damaged(path, "a zip archive of weights", error) from error
    names = archive.sizes
    if not any(name.endswith(".npy") for name in names) or any(
        name.endswith("data.pkl") for name in names
    ):
        return torch_file.open_torch(file, archive, path)
    arrays = _read_npz(archive, path)
    shapes = {name: array.shape for name, array in arrays.items()}
    return Contents(shapes, lambda names: {name: arrays[name] for name in names})


def _header(
    file: BinaryIO, path: pathlib.Path
) -> tuple[dict[str, safetensors_types.Entry], dict[str, str]]:
    """Return the entries and the metadata of a safetensors file."""
    try:
        # First, because the library below takes memory for whatever is there.
        found = safetensors_types.read_header(file)
        # The library checks the header: shapes, offsets and the length of the file. It
        # takes a name and no open file.
        with safetensors.safe_open(path, framework="np"):
            return found
    except (safetensors.SafetensorError, OSError, ValueError, MemoryError) as error:
        raise _damaged(path, "a safetensors file", error) from error


def _safetensors(
    file: BinaryIO, path: pathlib.Path, entries: Mapping[str, safetensors_types.Entry]
) -> Contents:
    if not entries:
        raise ValueError(f"`path`={str(path)!r} holds no arrays; {_EXPECTED}.")

    def read(names: Iterable[str]) -> dict[str, np.ndarray]:
        found = {}
        try:
            for name in names:
                found[name] = safetensors_types.read_array(file, entries[name])
        except (OSError, MemoryError) as error:
            raise _damaged(path, "a safetensors file", error) from error
        except ValueError as error:
            raise ValueError(
                f"`path`={str(path)!r} cannot be read: {error}."
            ) from error
        return found

    return Contents({name: entry.shape for name, entry in entries.items()}, read)


def _read_npz(
    archive: bounded_zip.Archive, path: pathlib.Path
) -> dict[str, np.ndarray]:
    names = [name for name in archive.sizes if name.endswith(".npy")]
    try:
        for name in names:
            if len(name) > MAX_NAME:
                raise ValueError(
                    f"the name {name[:50]!r}… has {len(name):,} characters"
                )
        return {
            name.removesuffix(".npy"): _parse_npy(archive.read(name), name)
            for name in names
        }
    except (OSError, ValueError, MemoryError) as error:
        raise _damaged(path, "an .npz archive", error) from error


def _parse_npy(data: bytearray, name: str) -> np.ndarray:
    """Return the array of an .npy file whose header fits its bytes."""
    # Read by pattern: the header is a Python literal, and a parser of Python can be
    # made to recurse or to warn.
    width = 2 if data[6:7] == b"\x01" else 4
    start = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    header = data[8 + width : min(start, 8 + width + MAX_NPY_HEADER_BYTES)]
    described = _NPY_DTYPE.search(header)
    order = _NPY_ORDER.search(header)
    shaped = _NPY_SHAPE.search(header)
    if data[:6] != b"\x93NUMPY" or not order or not shaped or start > len(data):
        raise ValueError(f"the header of {name!r:.100} is damaged")
    if not described:
        raise ValueError(
            f"{name!r:.100} holds no numbers (Python objects and texts are not read, "
            "and the format lacks bfloat16, which safetensors has)"
        )
    dtype = np.dtype(described[1].decode("ascii"))
    shape = tuple(int(size) for size in shaped[1].split(b",") if size.strip())
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        raise ValueError(
            f"{name!r:.100} claims the shape {shape!s:.100} of {dtype} and has "
            f"{len(data) - start} bytes"
        )
    flat = np.frombuffer(data, dtype, offset=start)
    array = flat.reshape(shape, order="F" if order[1] == b"True" else "C")
    return np.array(array, dtype.newbyteorder("="), order="C", copy=True)


def _refuse_existing(path: pathlib.Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"`path`={str(path)!r} exists; expected a new name, or overwrite=True to "
            "replace it."
        )


def _serialise(arrays: Mapping[str, Any], metadata: Mapping[str, str] | None) -> bytes:
    if not arrays:
        raise ValueError("`arrays` is empty; expected at least one array by name.")
    for text in (*arrays, *(metadata or {}), *(metadata or {}).values()):
        if not isinstance(text, str):
            raise TypeError(
                f"{text!r:.100} is {type(text).__name__}; expected text for every name "
                "in `arrays` and every key and value of `metadata`."
            )
    plain = {}
    for name, values in arrays.items():
        array = np.asarray(values)
        if array.dtype.name not in safetensors_types.WRITTEN or name == "__metadata__":
            raise ValueError(
                f"`arrays`[{name!r:.100}] has the dtype {array.dtype} or a reserved "
                f"name; expected one of {', '.join(safetensors_types.WRITTEN)}."
            )
        # The library takes the memory as it lies, so it must lie in C order.
        plain[name] = np.array(array, array.dtype.newbyteorder("="), order="C")
    return _ordered(safetensors.numpy.save(plain, dict(metadata) if metadata else None))


def _ordered(data: bytes) -> bytes:
    """Sort the header, which the library writes in another order at each start.

    So equal arrays and metadata give equal files, with equal hashes.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    # It is what the library has just written: of any size.
    header = documents.parse_json(data[8:end], "The header", within=len(data) << 6)
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    encoded = text.encode("utf-8")
    encoded += b" " * (-len(encoded) % 8)  # The arrays begin at a multiple of 8.
    return len(encoded).to_bytes(8, "little") + encoded + data[end:]
