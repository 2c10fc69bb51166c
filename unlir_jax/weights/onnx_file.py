"""Arrays of an ONNX file, read as data: its graph is looked at and never run.

The format is a message of protocol buffers. Exporters fold weights that a graph only
transposes, and call them `onnx::MatMul_12` or `val_12`; and they keep one of several
arrays of equal values. The nodes that read an array say whose it is.
"""

import itertools
import math
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from unlir_jax.weights.budget import Budget
from unlir_jax.weights.contents import MAX_NAME, Contents

DTYPES: dict[int, Any] = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    4: np.uint16,
    5: np.int16,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
    16: ml_dtypes.bfloat16,
}
"""Types of `TensorProto` that are read."""

MOST_NODE_BYTES = 1 << 16
"""How much of a node is looked at; what is larger holds a constant."""

MOST_AXES = 16
_ANONYMOUS = re.compile(r"onnx::\w+|val_\d+|expand(_\d+)?")
_SCOPES = "pkg.torch.onnx.name_scopes"
_LEAVES = {
    "LayerNormalization": {1: "weight", 2: "bias"},
    "Conv": {1: "weight", 2: "bias"},
    "Gemm": {1: "weight", 2: "bias"},
    "Add": {0: "bias", 1: "bias"},
}
"""What a module calls the inputs of its nodes, by their place."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Numbers of fields, by the message that has them.
_GRAPH, _NODE, _TENSOR = 7, 1, 5


class _Tensor(NamedTuple):
    """Say where in a file an array lies."""

    shape: tuple[int, ...]
    dtype: np.dtype
    start: int
    size: int


class _Node(NamedTuple):
    """Hold the kind of a node, the path of its module, and what it reads and writes."""

    module: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def is_onnx(start: bytes) -> bool:
    """Tell whether a file begins as an ONNX model does: its version, then a field."""
    version, field = start[1:2], start[2:3]
    known = start[:1] == b"\x08" and b"\0" < version < b"\x40"
    return known and field in (b"\x12", b"\x3a")


def open_onnx(file: BinaryIO, size: int, path: pathlib.Path) -> Contents:
    """Read what an ONNX file holds.

    A weight without a name of its own gets that of the module of the node that reads
    it, and the axes that PyTorch gives it.

    Args:
        file: The open file.
        size: Number of its bytes.
        path: Its path, for messages.

    Raises:
        ValueError: It is damaged, has no arrays, or keeps them in another file.
    """
    budget = Budget(size)
    tensors: dict[str, _Tensor] = {}
    nodes: list[_Node] = []
    try:
        for number, start, end in _fields(file, 0, size, budget):
            if number != _GRAPH:
                continue
            for inner, begin, stop in _fields(file, start, end, budget):
                if inner == _TENSOR:
                    name, tensor = _tensor(file, begin, stop, budget)
                    tensors |= {name: tensor} if tensor is not None else {}
                elif inner == _NODE and stop - begin <= MOST_NODE_BYTES:
                    nodes.append(_node(file, begin, stop, budget))
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"`path`={str(path)!r} cannot be read as an ONNX file: {error}; expected "
            "one that is complete, with its arrays in it."
        ) from error
    if not tensors:
        raise ValueError(
            f"`path`={str(path)!r} is an ONNX file without arrays; expected one with "
            "initialisers."
        )
    names, turned = _named(tensors, nodes)

    def read(wanted: Iterable[str]) -> dict[str, np.ndarray]:
        found = {}
        for name in wanted:
            parts = [_array(file, tensors[each], each, path) for each in names[name]]
            array = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
            found[name] = array.T if name in turned else array
        return found

    shapes = {}
    for name, parts in names.items():
        shape = tensors[parts[0]].shape
        if len(parts) > 1:
            shape = (shape[0], sum(tensors[p].shape[1] for p in parts), *shape[2:])
        shapes[name] = shape[::-1] if name in turned else shape
    return Contents(shapes, read)


def _named(
    tensors: dict[str, _Tensor], nodes: list[_Node]
) -> tuple[dict[str, tuple[str, ...]], set[str]]:
    """Name arrays by the modules that read them.

    Returns:
        Arrays of the file by name, several where they are parts of one; and names of
        those whose axes are swapped.
    """
    names = {name: (name,) for name in tensors if not _ANONYMOUS.fullmatch(name)}
    turned: set[str] = set()
    tokens: dict[str, dict[str, _Node]] = {}
    named: set[str] = set()
    for node in nodes:
        if node.kind == "Identity" and node.inputs[0] in tensors:
            names.setdefault(node.outputs[0], (node.inputs[0],))
        for place, each in enumerate(node.inputs):
            if each not in tensors:
                continue
            leaf = _LEAVES.get(node.kind, {}).get(place, "")
            if node.kind == "MatMul" and len(tensors[each].shape) == 2:
                leaf = "weight"
            ours = f"{node.module}.{leaf}"
            known = each in names
            if (
                node.module
                and leaf
                and ours not in names
                and _fits(leaf, tensors[each])
            ):
                names[ours] = (each,)
                named.add(each)
                if node.kind == "MatMul":
                    turned.add(ours)
            elif not known and _is_tokens(tensors[each]):
                tokens.setdefault(node.module, {})[each] = node
    for module, parts in tokens.items():
        given = {each: node for each, node in parts.items() if each not in named}
        names |= _tokens(module, given, tensors, names)
        named |= set(given)
    # Whole numbers without a name, and single ones, are shapes and constants.
    left = {
        name
        for name in set(tensors) - named - set(names)
        if tensors[name].dtype.kind not in "iub"
        and max(tensors[name].shape, default=1) > 1
    }
    return names | {each: (each,) for each in sorted(left)}, turned


def _fits(leaf: str, tensor: _Tensor) -> bool:
    """Tell whether an array can be what a module calls so."""
    return len(tensor.shape) == 1 if leaf == "bias" else len(tensor.shape) > 0


def _tokens(
    module: str,
    parts: dict[str, _Node],
    tensors: dict[str, _Tensor],
    names: dict[str, tuple[str, ...]],
) -> dict[str, tuple[str, ...]]:
    """Name learned tokens and positions, which are read by no layer."""
    dot = f"{module}." if module else ""
    order = sorted(parts, key=lambda each: tensors[each].shape[1])
    known = any(each.startswith(f"{dot}pos") for each in names)
    if known and len(order) == 1 and parts[order[0]].kind == "Concat":
        return {f"{dot}cls_token": tuple(order)}
    if not known and 1 <= len(order) <= 2:
        # The position of the class token, and those of a grid that is resized.
        return {f"{dot}position_embeddings": tuple(order)}
    return {each: (each,) for each in order}


def _is_tokens(tensor: _Tensor) -> bool:
    return len(tensor.shape) == 3 and tensor.shape[0] == 1


def _tensor(
    file: BinaryIO, start: int, end: int, budget: Budget
) -> tuple[str, _Tensor | None]:
    """Read the head of an array; None where it is of a type without numbers."""
    name, kind, shape, where, size = "", 0, [], -1, 0
    for number, begin, stop in _fields(file, start, end, budget):
        if number == 1:
            shape += _integers(file, begin, stop, budget)
        elif number == 2:
            kind = _integers(file, begin, stop, budget)[0]
        elif number == 8:
            name = _text(file, begin, stop)
        elif number in (4, 9, 10):  # float_data, raw_data, double_data
            where, size = begin, stop - begin
        elif number == 13 or (number == 14 and _integers(file, begin, stop, budget)[0]):
            raise ValueError(f"{name or 'an array'!r:.100} lies in another file")
    if kind not in DTYPES:
        return name, None
    dtype = np.dtype(DTYPES[kind])
    if len(shape) > MOST_AXES or any(side < 0 for side in shape):
        raise ValueError(f"{name!r:.100} claims the shape {shape!s:.100}")
    if where < 0 and math.prod(shape):
        return name, None  # Whole numbers in a list, which no weights are.
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(
            f"{name!r:.100} claims the shape {shape!s:.100} of {dtype} and has "
            f"{size:,} bytes"
        )
    return name, _Tensor(tuple(shape), dtype, where, size)


def _node(file: BinaryIO, start: int, end: int, budget: Budget) -> _Node:
    inputs, outputs, name, kind, scopes = [], [], "", "", ""
    for number, begin, stop in _fields(file, start, end, budget):
        if number == 1:
            inputs.append(_text(file, begin, stop))
        elif number == 2:
            outputs.append(_text(file, begin, stop))
        elif number == 3:
            name = _text(file, begin, stop)
        elif number == 4:
            kind = _text(file, begin, stop)
        elif number == 9:
            pair = {
                inner: _text(file, *place)
                for inner, *place in _fields(file, begin, stop, budget)
                if place[1] - place[0] <= MAX_NAME
            }
            scopes = pair.get(2, "") if pair.get(1) == _SCOPES else scopes
    return _Node(_module(name, scopes), kind, tuple(inputs), tuple(outputs))


def _module(name: str, scopes: str) -> str:
    """Give the path of a node's module, as PyTorch's two exporters tell it."""
    told = re.findall(r"'([^']*)'", scopes)
    if told:
        return told[-2] if len(told) > 1 else ""
    parts = name.strip("/").split("/")[:-1]
    # A module in a sequence is told with the name of the sequence, which precedes it.
    inner = [
        part
        for part, after in itertools.zip_longest(parts, parts[1:], fillvalue="")
        if not after.startswith(f"{part}.")
    ]
    return ".".join(inner)


def _array(
    file: BinaryIO, tensor: _Tensor, name: str, path: pathlib.Path
) -> np.ndarray:
    file.seek(max(tensor.start, 0))
    data = file.read(tensor.size)
    if len(data) != tensor.size:
        raise ValueError(
            f"`path`={str(path)!r} is cut short at {name!r:.100}; expected an ONNX "
            "file that is complete."
        )
    little = tensor.dtype.newbyteorder("<") if tensor.dtype.kind != "V" else None
    flat = np.frombuffer(data, little or tensor.dtype)
    return flat.reshape(tensor.shape).astype(tensor.dtype)


def _fields(
    file: BinaryIO, start: int, end: int, budget: Budget
) -> Iterator[tuple[int, int, int]]:
    """Walk the fields of a message: number, and where its value begins and ends."""
    place = start
    while place < end:
        budget.steps_left -= 1
        if budget.steps_left < 0:
            budget.refuse()
        file.seek(place)
        head = file.read(20)
        tag, used = _varint(head, 0)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, after = _varint(head, used)
            begin, stop = place + used, place + after
        elif wire == _BYTES:
            length, after = _varint(head, used)
            begin, stop = place + after, place + after + length
        elif wire in (_FIXED32, _FIXED64):
            begin = place + used
            stop = begin + (4 if wire == _FIXED32 else 8)
        else:
            raise ValueError(f"there is no field of kind {wire} at byte {place:,}")
        if stop > end or number == 0:
            raise ValueError(f"a field at byte {place:,} is longer than what holds it")
        yield number, begin, stop
        place = stop


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Read a number of seven bits a byte; give it, and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("it is cut short")
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number has more than ten bytes")


def _integers(file: BinaryIO, start: int, end: int, budget: Budget) -> list[int]:
    """Read numbers that follow one another."""
    if end - start > 10 * MOST_AXES:
        raise ValueError("an array has too many axes")
    file.seek(start)
    data = file.read(end - start)
    place, found = 0, []
    while place < len(data):
        budget.steps_left -= 1
        value, place = _varint(data, place)
        found.append(value - (1 << 64) if value >= 1 << 63 else value)
    return found or [0]


def _text(file: BinaryIO, start: int, end: int) -> str:
    if end - start > MAX_NAME:
        raise ValueError(f"a name has {end - start:,} bytes")
    file.seek(start)
    return file.read(end - start).decode("utf-8", "replace")
