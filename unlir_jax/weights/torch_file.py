"""Read PyTorch weight files (`.pth`, `.pt`, `.bin`) without PyTorch.

Two layouts exist: a zip archive with one pickle and one entry for each storage
(PyTorch >= 1.6), and the older stream of five pickles followed by the raw storages.
Either pickle is only looked at (`inert_pickle`), and a tensor is checked against the
bytes that are there before it is built (`torch_tensors`).
"""

import contextlib
import dataclasses
import io
import mmap
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import BinaryIO

import numpy as np

from unlir_jax.weights import inert_pickle, torch_tensors
from unlir_jax.weights.bounded_zip import Archive
from unlir_jax.weights.budget import Budget
from unlir_jax.weights.contents import MAX_NAME, NEST, Contents

_MAX_NESTING = 8
_MAX_VISITS = 8
_MAX_KEY = 200
_ENTRY_BYTES, _STEP_BYTES = 250, 8  # Of a tensor by name, and of looking at an entry.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_TAR_MAGIC = slice(257, 262)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Content:
    """The value of a file's pickle, and how to read the storages by key."""

    value: object
    sizes: Mapping[str, int]
    read: Callable[[str], bytes | bytearray]
    byteorder: str


def open_torch(file: BinaryIO, archive: Archive | None, path: pathlib.Path) -> Contents:
    """Return what a file that `torch.save` wrote holds, by full names.

    Nothing of the file is run. All tensors in dicts and lists count, whatever the keys
    and depth; what is no tensor (epoch, settings, …) is left out. Arrays are writable,
    C-contiguous copies in native byte order.

    Args:
        file: an open file of float16 to float64, bfloat16, float8, integers, bool,
            complex64 and complex128.
        archive: its zip archive, None in the older layout.
        path: for complaints.

    Raises:
        ValueError: it is not such a file, is damaged or cut short, holds TorchScript or
            a whole pickled model; when read, that tensors point outside their bytes.
    """
    with _explained(path):
        size = os.fstat(file.fileno()).st_size
        budget = Budget(size)
        if archive is not None:
            content = _open_zip(archive, size, budget)
        else:
            content = _open_legacy(file, budget)
        tensors, unnamed = _find_tensors(content.value, budget)
        content = dataclasses.replace(content, value=None)  # It may be large.

    def read(names: Iterable[str]) -> dict[str, np.ndarray]:
        with _explained(path):
            chosen = {name: tensors[name] for name in names}
            return _to_arrays(content, chosen, Budget(size))

    return Contents({name: t.shape for name, t in tensors.items()}, read, unnamed)


@contextlib.contextmanager
def _explained(path: pathlib.Path) -> Iterator[None]:
    """Turn what goes wrong in a file into one sentence."""
    try:
        yield
    except (ValueError, OSError, MemoryError) as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise ValueError(
            f"`path`={str(path)!r} cannot be read as PyTorch weights: {reason}; "
            "expected a file of `torch.save(model.state_dict(), path)`, or a "
            ".safetensors or .npz file instead."
        ) from error


def _open_zip(archive: Archive, file_size: int, budget: Budget) -> _Content:
    names = archive.sizes
    pickles = [name for name in names if name.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise ValueError(
            f"its zip archive has {len(pickles)} entries <name>/data.pkl, and PyTorch "
            "writes one"
        )
    prefix = pickles[0].removesuffix("data.pkl")
    program = (f"{prefix}code/", f"{prefix}constants.pkl")
    if any(name.startswith(program) for name in names):
        raise ValueError(
            "it is a TorchScript program, whose weights "
            "`torch.jit.load(path).state_dict()` gives"
        )
    byteorder = "little"
    if f"{prefix}byteorder" in names:
        byteorder = archive.read(f"{prefix}byteorder").decode("ascii")
    if byteorder not in ("little", "big"):
        raise ValueError(f"its byte order is {byteorder[:20]!r}")
    folder = f"{prefix}data/"
    length = names[pickles[0]]
    # Packed, as PyTorch never does, it may be one text, four times as long when read;
    # as it is, the size of the file already allows for that.
    budget.spend(length if length <= file_size else 6 * length)
    value = _load(io.BytesIO(archive.read(pickles[0])), budget)
    sizes = {
        name.removeprefix(folder): size
        for name, size in names.items()
        if name.startswith(folder)
    }
    return _Content(value, sizes, lambda key: archive.read(folder + key), byteorder)


def _open_legacy(file: BinaryIO, budget: Budget) -> _Content:
    file.seek(0)
    start = file.read(512)
    if not start:
        raise ValueError("the file is empty")
    if start[_TAR_MAGIC] == b"ustar":
        raise ValueError(
            "it has the tar layout of PyTorch < 0.2, which a recent `torch.load` and "
            "`torch.save` convert"
        )
    # Every pickle of protocol 2 (the default of PyTorch) and later begins so.
    if start[:1] != b"\x80":
        raise ValueError(f"the file begins with {start[:8]!r}")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        if _load(stream, budget) != _LEGACY_MAGIC:
            raise ValueError("it is a pickle that `torch.save` did not write")
        if _load(stream, budget) != _LEGACY_PROTOCOL:
            raise ValueError("its protocol is unknown")
        _load(
            stream, budget
        )  # the sizes of C types where it was written: values need none
        widths: dict[str, int] = {}
        value = _load(stream, budget, widths)
        spans = _find_spans(stream, _load(stream, budget), widths)

    sizes = {key: end - first for key, (first, end) in spans.items()}
    return _Content(value, sizes, lambda key: _read_span(file, *spans[key]), "little")


def _read_span(file: BinaryIO, first: int, end: int) -> bytes:
    file.seek(first)
    return file.read(end - first)


def _find_spans(
    stream: mmap.mmap, keys: object, widths: Mapping[str, int]
) -> dict[str, tuple[int, int]]:
    """Return the first byte and the end of every storage, all within the file."""
    if not isinstance(keys, list):
        raise ValueError("its list of storages is damaged")
    spans: dict[str, tuple[int, int]] = {}
    position = stream.tell()
    for key in keys:
        if not isinstance(key, str) or key not in widths or key in spans:
            raise ValueError("its list of storages is damaged")
        header = stream[position : position + 8]
        if len(header) < 8:
            raise ValueError("the file is cut short")
        length = int.from_bytes(header, "little")
        first = position + 8
        position = first + length * widths[key]
        if position > len(stream):
            raise ValueError(
                f"the storage {key[:50]!r} claims {length} values and the file is too "
                "short for them"
            )
        spans[key] = first, position
    return spans


def _load(
    stream: io.BytesIO | mmap.mmap,
    budget: Budget,
    widths: dict[str, int] | None = None,
) -> object:
    """Return the value of one pickle; note the bytes per value of each storage."""

    def resolve(identity: object) -> torch_tensors.Storage:
        storage = torch_tensors.make_storage(identity)
        width = storage.dtype.itemsize
        if widths is not None and widths.setdefault(storage.key, width) != width:
            raise ValueError(f"the storage {storage.key[:50]!r} has two dtypes")
        return storage

    return inert_pickle.load(stream, torch_tensors.GLOBALS, resolve, budget)


def _to_arrays(
    content: _Content, tensors: Mapping[str, torch_tensors.Tensor], budget: Budget
) -> dict[str, np.ndarray]:
    needed = sum(tensor.size_bytes for tensor in tensors.values())
    stored = max(content.sizes.values(), default=0)
    if needed + stored > budget.bytes_left:
        raise ValueError(
            f"its tensors need {needed:,} bytes, more than the size of the file allows"
        )
    found: dict[str, np.ndarray] = {}
    # By storage, so that one at a time is in memory.
    ordered = sorted(tensors, key=lambda name: tensors[name].storage.key)
    held, raw = "", b""
    for name in ordered:
        tensor = tensors[name]
        key = tensor.storage.key
        if key not in content.sizes:
            raise ValueError(f"the storage {key[:50]!r} of {name[:100]!r} is missing")
        if key != held or not found:
            held, raw = key, b""  # First let go of the one before.
            raw = content.read(key)
        found[name] = torch_tensors.build(tensor, raw, byteorder=content.byteorder)
    return {name: found[name] for name in tensors}


def _find_tensors(
    value: object, budget: Budget
) -> tuple[dict[str, torch_tensors.Tensor], dict[str, int]]:
    """Return all tensors by full name, and how many each list has without names."""
    if not isinstance(value, dict):
        raise ValueError("it holds no dict of tensors by name")
    walk = _Walk({}, {}, {}, budget)
    walk.enter(value, "", 0)
    if walk.tensors:
        return walk.tensors, walk.unnamed
    for name, entry in value.items():
        if torch_tensors.is_numpy_array(entry):
            raise ValueError(f"its entry {name!r:.100} is a NumPy array and no tensor")
        if isinstance(entry, torch_tensors.Tensor):
            raise ValueError(f"the name {name!r:.100} of a tensor is no text")
    names = ", ".join(f"{name!r:.40}" for name in list(value)[:8]) or "none"
    raise ValueError(f"it holds no tensors by name (its first entries: {names})")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Walk:
    """Go through dicts and lists in each other, which a file may nest at will.

    What was entered before and held no tensor is not entered again, and what did is
    so only a bounded number of times: a hostile file repeats one dict without end.
    """

    tensors: dict[str, torch_tensors.Tensor]
    unnamed: dict[str, int]
    entered: dict[int, int]
    budget: Budget

    def enter(self, holder: dict | list | tuple, name: str, depth: int) -> bool:
        """Note what tensors are in it; say whether there are any."""
        visits = self.entered.get(id(holder), 0)
        if visits < 0 or depth > _MAX_NESTING:
            return False
        self.entered[id(holder)] = visits + 1
        if visits > _MAX_VISITS:
            raise ValueError(f"it holds one dict more than {_MAX_VISITS} times")
        found = False
        named = isinstance(holder, dict)
        self.budget.spend(_STEP_BYTES * len(holder))
        for key, entry in holder.items() if named else enumerate(holder):
            if isinstance(entry, torch_tensors.Tensor):
                found |= self.note(entry, name, key if named else None)
            elif isinstance(entry, dict | list | tuple):
                inner = f"{key}"[:_MAX_KEY]
                full = f"{name}{NEST}{inner}" if name else inner
                found |= self.enter(entry, full, depth + 1)
        if not found:
            self.entered[id(holder)] = -1
        return found

    def note(self, tensor: torch_tensors.Tensor, holder: str, key: object) -> bool:
        """Note one tensor by its name, or that it has none."""
        if not isinstance(key, str):
            self.unnamed[holder] = self.unnamed.get(holder, 0) + 1
            return True
        if len(key) > MAX_NAME:
            raise ValueError(f"the name {key[:50]!r}… has {len(key):,} characters")
        full = f"{holder}{NEST}{key}" if holder else key
        self.budget.spend(_ENTRY_BYTES + len(full))
        if self.tensors.setdefault(full, tensor) is not tensor:
            raise ValueError(f"two of its tensors have the name {full!r:.100}")
        return True
