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
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from unlir_jax.weights import bounded_zip, inert_pickle, torch_tensors

NESTINGS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "state_dict_ema",
    "model_ema",
)
"""Names under which a checkpoint keeps its weights; the first that has any wins."""

PREFIXES = ("module.", "_orig_mod.")
"""Taken off the names when every name has it (data parallel, compiled models)."""

MAX_REUSE = 16
"""Tensors that share storages may take this times the bytes of all storages (a few
expanded scalars, up to `bounded_zip.FREE_BYTES`, are never refused)."""

_MAX_NESTING = 3
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_TAR_MAGIC = slice(257, 262)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Content:
    """The value of a file's pickle, and the bytes of its storages by key."""

    value: object
    sizes: Mapping[str, int]
    read: Callable[[str], bytes]
    byteorder: str


def read_torch(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return the arrays by name of a file that `torch.save` wrote.

    Nothing of the file is run. A checkpoint is unwrapped by `NESTINGS` (in that
    order; a name counts only when it holds a dict with a tensor), else its own tensors
    are taken; what is no tensor (epoch, optimiser, …) is left out. Then `PREFIXES` are
    taken off. Arrays are writable, C-contiguous copies in native byte order.

    Args:
        path: a file in the zip or in the older layout. Dtypes: float16 to float64,
            bfloat16, float8, integers, bool, complex64 and complex128.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file, is damaged or cut short, holds TorchScript,
            a whole pickled model, or tensors that point outside their bytes.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"`path`={str(path)!r} does not exist; expected a PyTorch file "
            "(.pth, .pt, .bin)."
        )
    try:
        with path.open("rb") as file:
            start = file.read(512)
        opened = _open_zip(path) if start[:2] == b"PK" else _open_legacy(path, start)
        with opened as content:
            return _to_arrays(content)
    except (ValueError, OSError, MemoryError) as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise ValueError(
            f"`path`={str(path)!r} cannot be read as PyTorch weights: {reason}; "
            "expected a file of `torch.save(model.state_dict(), path)`, or a "
            ".safetensors or .npz file instead."
        ) from error


@contextlib.contextmanager
def _open_zip(path: pathlib.Path) -> Iterator[_Content]:
    with bounded_zip.open_zip(path) as archive:
        names = archive.sizes
        pickles = [name for name in names if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise ValueError(
                f"its zip archive has {len(pickles)} entries <name>/data.pkl, and "
                "PyTorch writes one"
            )
        prefix = pickles[0].removesuffix("data.pkl")
        if any(
            name.startswith((f"{prefix}code/", f"{prefix}constants.pkl"))
            for name in names
        ):
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
        yield _Content(
            _load(io.BytesIO(archive.read(pickles[0]))),
            {
                name.removeprefix(folder): size
                for name, size in names.items()
                if name.startswith(folder)
            },
            lambda key: archive.read(folder + key),
            byteorder,
        )


@contextlib.contextmanager
def _open_legacy(path: pathlib.Path, start: bytes) -> Iterator[_Content]:
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
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream,
    ):
        if _load(stream) != _LEGACY_MAGIC:
            raise ValueError("it is a pickle that `torch.save` did not write")
        if _load(stream) != _LEGACY_PROTOCOL:
            raise ValueError("its protocol is unknown")
        _load(stream)  # the sizes of C types where it was written: values need none
        widths: dict[str, int] = {}
        value = _load(stream, widths)
        spans = _find_spans(stream, _load(stream), widths)
        yield _Content(
            value,
            {key: end - first for key, (first, end) in spans.items()},
            lambda key: stream[slice(*spans[key])],
            "little",
        )


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
    stream: io.BytesIO | mmap.mmap, widths: dict[str, int] | None = None
) -> object:
    """Return the value of one pickle; note the bytes per value of each storage."""

    def resolve(identity: object) -> torch_tensors.Storage:
        storage = torch_tensors.make_storage(identity)
        width = storage.dtype.itemsize
        if widths is not None and widths.setdefault(storage.key, width) != width:
            raise ValueError(f"the storage {storage.key[:50]!r} has two dtypes")
        return storage

    return inert_pickle.load(stream, torch_tensors.GLOBALS, resolve)


def _to_arrays(content: _Content) -> dict[str, np.ndarray]:
    tensors = _strip_prefixes(_select(content.value))
    needed = sum(tensor.size_bytes for tensor in tensors.values())
    stored = sum(content.sizes.values())
    if needed > max(bounded_zip.FREE_BYTES, MAX_REUSE * stored):
        raise ValueError(
            f"its tensors need {needed} bytes, more than {MAX_REUSE} times the "
            f"{stored} of its storages"
        )
    raw: dict[str, bytes] = {}
    arrays = {}
    for name, tensor in tensors.items():
        key = tensor.storage.key
        if key not in content.sizes:
            raise ValueError(f"the storage {key[:50]!r} of {name[:100]!r} is missing")
        if key not in raw:
            raw[key] = content.read(key)
        arrays[name] = torch_tensors.build(
            tensor, raw[key], byteorder=content.byteorder
        )
    return arrays


def _select(value: object) -> dict[str, torch_tensors.Tensor]:
    """Return the tensors by name of the innermost dict that holds the weights."""
    if not isinstance(value, dict):
        raise ValueError("it holds no dict of tensors by name")
    weights: dict = value
    for _ in range(_MAX_NESTING):
        inner = next(
            (weights[name] for name in NESTINGS if _has_weights(weights.get(name))),
            None,
        )
        if inner is None:
            break
        weights = inner
    tensors = {}
    for name, entry in weights.items():
        if torch_tensors.is_numpy_array(entry):
            raise ValueError(f"its entry {name!r:.100} is a NumPy array and no tensor")
        if isinstance(entry, torch_tensors.Tensor):
            if not isinstance(name, str):
                raise ValueError(f"the name {name!r:.100} of a tensor is no text")
            tensors[name] = entry
    if not tensors:
        names = ", ".join(f"{name!r:.40}" for name in list(weights)[:8]) or "none"
        raise ValueError(
            f"it holds no tensors by name, also not under {', '.join(NESTINGS)} "
            f"(its first entries: {names})"
        )
    return tensors


def _has_weights(value: object, depth: int = _MAX_NESTING) -> bool:
    if not isinstance(value, dict) or not depth:
        return False
    return any(isinstance(entry, torch_tensors.Tensor) for entry in value.values()) or (
        any(_has_weights(value.get(name), depth - 1) for name in NESTINGS)
    )


def _strip_prefixes(
    tensors: dict[str, torch_tensors.Tensor],
) -> dict[str, torch_tensors.Tensor]:
    # Bounded: a long name of nothing but prefixes would be copied for each of them.
    for _ in range(2 * len(PREFIXES)):
        prefix = next(
            (
                prefix
                for prefix in PREFIXES
                if all(name.startswith(prefix) and name != prefix for name in tensors)
            ),
            None,
        )
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): entry for name, entry in tensors.items()}
    return tensors
