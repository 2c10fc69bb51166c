"""Build arrays from the tensors that a PyTorch pickle describes.

`GLOBALS` is everything such a pickle may name, with an inert value for each; a tensor
becomes a record of where its values lie, and `build` makes the array of a record
after checking it against the bytes of the storage.
"""

import dataclasses
import math
import sys

import ml_dtypes
import numpy as np

from unlir_jax.weights import inert_pickle

_MAX_RANK = 64  # of a NumPy array

_STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
    "UntypedStorage": np.uint8,
}
_DTYPES = {
    name: np.dtype(getattr(np, name))
    for name in (
        "float64 float32 float16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 "
        "bool complex64 complex128"
    ).split()
} | {
    name: np.dtype(getattr(ml_dtypes, name))
    for name in (
        "bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz"
    ).split()
}
# What training scripts store next to the weights: kept as names, never made.
_HARMLESS = (
    "torch.device argparse.Namespace types.SimpleNamespace collections.Counter "
    "pathlib.PosixPath pathlib.WindowsPath pathlib._local.PosixPath "
    "pathlib._local.WindowsPath _codecs.encode numpy.ndarray numpy.dtype "
    "numpy.core.multiarray.scalar numpy._core.multiarray.scalar "
    "mmengine.logging.history_buffer.HistoryBuffer "
    "lightning.fabric.utilities.data.AttributeDict "
    "lightning_fabric.utilities.data.AttributeDict "
    "pytorch_lightning.utilities.parsing.AttributeDict"
).split()
_HARMLESS_BUILTINS = (
    "set frozenset complex bytearray slice range int float bool str bytes list tuple "
    "dict"
).split()
_NUMPY_ARRAYS = (
    "numpy.core.multiarray._reconstruct numpy._core.multiarray._reconstruct "
    "numpy.core.numeric._frombuffer numpy._core.numeric._frombuffer"
).split()


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A run of `length` values of `dtype` from value `start` of the storage `key`."""

    key: str
    dtype: np.dtype
    start: int
    length: int


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """Where the values of a tensor lie; `offset` and `strides` count values."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Return the bytes that the array of this tensor takes."""
        return math.prod(self.shape) * self.dtype.itemsize


def make_storage(identity: object) -> Storage:
    """Return the storage of a persistent id of either layout, or raise ValueError."""
    match identity:
        case ("storage", inert_pickle.Global() as kind, key, str(), length):
            view = None
        case ("storage", inert_pickle.Global() as kind, key, str(), length, view):
            pass
        case ("module", *_):
            raise ValueError("it holds a whole pickled model and not only its weights")
        case _:
            raise ValueError("its pickle refers to something that is no storage")
    dtype = _STORAGES.get(kind.name)
    if dtype is None or not isinstance(key, str) or not _is_count(length):
        raise ValueError("its pickle describes a storage of no known kind")
    storage = Storage(key, np.dtype(dtype), 0, length)
    if view is None:
        return storage
    # Files of PyTorch < 0.4 name a part of a storage: (key, start, length).
    if not (isinstance(view, tuple) and len(view) == 3 and _is_counts(view[1:])):
        raise ValueError("its pickle describes a part of a storage wrongly")
    _, start, part_length = view
    if start + part_length > length:
        raise ValueError(f"a part of the storage {key[:50]!r} lies outside it")
    return dataclasses.replace(storage, start=start, length=part_length)


def build(tensor: Tensor, raw: bytes | bytearray, *, byteorder: str) -> np.ndarray:
    """Return the array of a tensor from all bytes of its storage, as a copy.

    Raises:
        ValueError: the storage has fewer bytes than it claims, or the tensor's
            offset, shape and strides leave it.
    """
    storage, dtype = tensor.storage, tensor.dtype
    if not math.prod(tensor.shape):
        return np.zeros(tensor.shape, dtype)
    first = storage.start * storage.dtype.itemsize
    length = storage.length * storage.dtype.itemsize // dtype.itemsize
    if first + length * dtype.itemsize > len(raw):
        raise ValueError(
            f"the storage {storage.key[:50]!r} claims {length} values of {dtype} and "
            f"{len(raw)} bytes are there"
        )
    last = tensor.offset + sum(
        (size - 1) * stride
        for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if last >= length:
        raise ValueError(
            f"a tensor reaches value {last} of the storage {storage.key[:50]!r}, "
            f"which has {length}"
        )
    # A byte of a bool that is neither 0 nor 1 would be a third truth value in NumPy.
    stored = np.dtype(np.uint8) if dtype == np.bool_ else dtype
    flat = np.frombuffer(raw, stored, length, first)
    # A stride along a dimension of one value is never used and may be any number.
    strides = [
        stride * flat.itemsize if size > 1 else 0
        for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    ]
    view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides)
    # Copied before it is decoded: a storage may be far larger than one tensor of it.
    array = np.array(view, order="C", copy=True)
    if dtype == np.bool_:
        return array != 0
    return array if byteorder == sys.byteorder else _swapped(array)


def is_numpy_array(value: object) -> bool:
    """Return whether a value stands for a NumPy array, which is not built."""
    return isinstance(value, inert_pickle.Opaque) and value.origin in _NUMPY_ARRAYS


def _swapped(array: np.ndarray) -> np.ndarray:
    """Return values that were stored in the other byte order."""
    if array.dtype.kind == "c":
        return array.byteswap()  # Of each of the two parts.
    words = array.reshape(-1).view(f"u{array.dtype.itemsize}").byteswap()
    return words.view(array.dtype).reshape(array.shape)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_counts(values: object) -> bool:
    return isinstance(values, tuple) and all(_is_count(value) for value in values)


def _rebuild_tensor(arguments: tuple) -> Tensor:
    """Arguments: storage, offset, shape, strides, … (the rest is about gradients)."""
    if len(arguments) < 4 or not isinstance(arguments[0], Storage):
        raise ValueError("its pickle describes a tensor without a storage")
    storage, offset, shape, strides = arguments[:4]
    if not (
        _is_count(offset)
        and _is_counts(shape)
        and _is_counts(strides)
        and len(shape) == len(strides) <= _MAX_RANK
    ):
        raise ValueError("its pickle describes a tensor of impossible shape")
    return Tensor(storage, storage.dtype, offset, shape, strides)


def _rebuild_tensor_v3(arguments: tuple) -> Tensor:
    """Arguments: storage of bytes, offset, shape, strides, gradient, hooks, dtype."""
    tensor = _rebuild_tensor(arguments)
    kind = arguments[6] if len(arguments) > 6 else None
    if not isinstance(kind, inert_pickle.Global) or kind.name not in _DTYPES:
        raise ValueError("its pickle describes a tensor of no known dtype")
    return dataclasses.replace(tensor, dtype=_DTYPES[kind.name])


def _rebuild_parameter(arguments: tuple) -> Tensor:
    if not arguments or not isinstance(arguments[0], Tensor):
        raise ValueError("its pickle describes a parameter without a tensor")
    return arguments[0]


def _rebuild_from_type(arguments: tuple) -> object:
    """Arguments: function, type, arguments of the function, state."""
    if len(arguments) != 4:
        raise ValueError("its pickle describes a tensor wrongly")
    return inert_pickle.call(arguments[0], arguments[2])


def _make_ordered_dict(arguments: tuple) -> dict:
    pairs = arguments[0] if arguments else []
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)
        for pair in pairs
    ):
        raise ValueError("its pickle describes an ordered dict wrongly")
    return {name: value for name, value in pairs}


def _make_size(arguments: tuple) -> tuple:
    if len(arguments) != 1 or not isinstance(arguments[0], tuple | list):
        raise ValueError("its pickle describes a torch.Size wrongly")
    if len(arguments[0]) > _MAX_RANK:
        raise ValueError(
            f"its pickle describes a torch.Size of {len(arguments[0]):,} entries; "
            f"expected at most {_MAX_RANK}"
        )
    return tuple(arguments[0])


def _named_method(arguments: tuple) -> inert_pickle.Opaque:
    """Stand for a method that MMEngine's buffers of losses name; nothing is called."""
    holder = arguments[0] if arguments else None
    if not isinstance(holder, inert_pickle.Global) or holder.name != "HistoryBuffer":
        raise ValueError("its pickle asks for the attribute of an object")
    return inert_pickle.Opaque(f"{holder.module}.{holder.name}.method")


def _table() -> dict[tuple[str, str], inert_pickle.Global]:
    table = {}

    def add(module, name, build=None, copies=False):
        table[module, name] = inert_pickle.Global(module, name, build, copies)

    def add_harmless(module, name):
        opaque = inert_pickle.Opaque(f"{module}.{name}")
        add(module, name, lambda _: opaque)

    for name in _STORAGES:
        for module in ("torch", "torch.cuda", "torch.storage"):
            add(module, name)
    for name in _DTYPES:
        add("torch", name)
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
        add("torch._utils", name, _rebuild_tensor)
    add("torch._utils", "_rebuild_tensor_v3", _rebuild_tensor_v3)
    for name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
        add("torch._utils", name, _rebuild_parameter)
    add("torch._tensor", "_rebuild_from_type_v2", _rebuild_from_type)
    add("torch", "Tensor")
    add("torch.nn.parameter", "Parameter")
    add("torch", "Size", _make_size)
    add("collections", "OrderedDict", _make_ordered_dict, copies=True)
    add("collections", "defaultdict", lambda _: {})
    for origin in (*_HARMLESS, *_NUMPY_ARRAYS):
        add_harmless(*origin.rsplit(".", 1))
    for module in ("builtins", "__builtin__"):
        add(module, "getattr", _named_method)
    for name in _HARMLESS_BUILTINS:
        add_harmless("builtins", name)
        add_harmless("__builtin__", name)
    return table


GLOBALS = _table()
"""The names (module, name) that a PyTorch file may use, and what stands for each."""
