"""The file of a batch of an evaluation: scores, and whose they are.

It is read as anybody may have written it: whole, by its checksums, of the shapes that
the evaluation has, and of its weights and images.
"""

import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlir_jax.storage import documents
from unlir_jax.weights import bounded_zip

CURVE, ABOUT = "curve/", "about"
# As `np.save` writes it (format 1.0), whose reader would take any Python literal.
MOST_HEADER = 1000
HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<|](?:b1|[iu][1248]|f[248]))', "
    rb"'fortran_order': (False|True), 'shape': \(([0-9, ]*)\), \} *\n",
    re.DOTALL,
)
KINDS = {"index": "iu", "unreadable": "iu", "label": "iu", "predicted": "iu"}
KINDS |= {"probability": "f", "values": "f", "flat": "b", "curve": "fiu"}
KINDS |= {"nearly_flat": "i"}
UNKNOWN, UNSEEN = -1, -9


class Rows(NamedTuple):
    """Hold the scores of some images.

    Attributes:
        index: Places in the data, `[images]`; those that could be read.
        label: The class that is explained, `[images]`.
        predicted: The network's class, `[images]`.
        probability: Probability of `label`, `[images]`.
        values: `[images, methods, metrics]`.
        flat: Whether maps are flat, `[images, methods]`.
        nearly_flat: Whether masks are nearly flat, 1 or 0, `[images, methods]`; -1 in
            batches of an earlier version, which did not look.
        curves: By metric, `[images, methods, steps]`.
        unreadable: Places of images that could not be read.
    """

    index: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    values: np.ndarray
    flat: np.ndarray
    nearly_flat: np.ndarray
    curves: dict[str, np.ndarray]
    unreadable: np.ndarray


class Whose(NamedTuple):
    """Say whose batches are: what each of them has to be of.

    Attributes:
        weights: Hashes by what they are called in the config.
        methods: Names along the second axis of values.
        metrics: Names along the third.
        curves: Names of curves.
        names: Names of all images of the data.
        labels: The class that is explained of each, -1 for the predicted one, and less
            where nothing but the network says which it is.
        batch_size: Images of a batch; the last has what is left.
        signs: What masks made of the signs of maps that have some; "" where there are
            none, or by their range, as an earlier version did.
        condition: Name of the condition; "" where there is no other.
    """

    weights: Mapping[str, str]
    methods: Sequence[str]
    metrics: Sequence[str]
    curves: Sequence[str]
    names: Sequence[str]
    labels: np.ndarray
    batch_size: int
    signs: str = ""
    condition: str = ""

    def about(self, index: np.ndarray, unreadable: np.ndarray) -> dict[str, object]:
        """Say what stands in a batch of these images."""
        further = {"signs": self.signs, "condition": self.condition}
        known: dict[str, object] = {k: v for k, v in further.items() if v}
        return known | {
            "weights": dict(self.weights),
            "methods": list(self.methods),
            "metrics": list(self.metrics),
            "names": [self.names[int(place)] for place in index],
            "unreadable": [self.names[int(place)] for place in unreadable],
        }


def encode(rows: Rows, whose: Whose) -> bytes:
    """Write a batch as the bytes of an `.npz` file."""
    arrays = {name: getattr(rows, name) for name in rows._fields if name != "curves"}
    arrays |= {f"{CURVE}{name}": curve for name, curve in rows.curves.items()}
    return pack(arrays, whose.about(rows.index, rows.unreadable))


def pack(arrays: Mapping[str, np.ndarray], about: Mapping[str, object]) -> bytes:
    """Write arrays, and what they are about, as the bytes of an `.npz` file."""
    # JSON escapes what of a file's name is no text.
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays, about=text)
    return buffer.getvalue()


def read(file: Path, batch: int, whose: Whose) -> tuple[Rows | None, str]:
    """Read the file of a batch.

    Args:
        file: Where it is.
        batch: Its number.
        whose: What it has to be of.

    Returns:
        The batch and ""; or, if the file is damaged, None and in which way.

    Raises:
        ValueError: It is sound, but of other weights, methods, metrics or images.
    """
    try:
        arrays, about = unpack(file)
        rows = _rows(arrays, batch, whose)
    except (ValueError, OSError) as error:
        return None, " ".join(str(error).split())
    other = _other(about, rows, whose)
    if other:
        raise ValueError(
            f"{str(file)!r} is of something else: {other}; expected a batch of this "
            "evaluation: delete it, and the same command makes it again, or choose "
            "another workdir."
        )
    return rows, ""


def unpack(file: Path) -> tuple[dict[str, np.ndarray], dict[str, object] | None]:
    """Read arrays, and what they are about; None of a version that did not say so.

    Raises:
        ValueError: The file is damaged.
    """
    arrays = _arrays(file)
    if ABOUT not in arrays:
        return arrays, None
    text = arrays.pop(ABOUT).tobytes()
    about = documents.parse_json(text, f"what {file.name} is of")
    if not isinstance(about, dict):
        raise ValueError("it does not say what it is of")
    return arrays, about


def _arrays(file: Path) -> dict[str, np.ndarray]:
    with file.open("rb") as opened:
        archive = bounded_zip.open_zip(opened)
        # They are not packed: whoever claims more than there is has not written them.
        if sum(archive.sizes.values()) > file.stat().st_size:
            raise ValueError("its arrays claim more bytes than the file has")
        return {
            name.removesuffix(".npy"): array(bytes(archive.read(name)), name)
            for name in archive.sizes
        }


def array(data: bytes, name: str) -> np.ndarray:
    """Read an array of numbers, as `numpy.save` writes it, whose header fits its bytes.

    Raises:
        ValueError: It does not, in a clause for the caller to put in a sentence.
    """
    start = 10 + int.from_bytes(data[8:10], "little")
    header = HEADER.fullmatch(data, 0, min(start, MOST_HEADER))
    if header is None or start > MOST_HEADER:
        raise ValueError(f"{name!r:.100} has no header of numbers")
    dtype = np.dtype(header[1].decode("ascii"))
    shape = tuple(int(length) for length in header[3].split(b",") if length.strip())
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        raise ValueError(f"{name!r:.100} has other bytes than its header says")
    flat = np.frombuffer(data, dtype, offset=start)
    return flat.reshape(shape, order="F" if header[2] == b"True" else "C").copy()


def _rows(arrays: Mapping[str, np.ndarray], batch: int, whose: Whose) -> Rows:
    """Take a batch from its arrays, which have to be all of it, in the right shapes."""
    wanted = {name for name in Rows._fields if name != "curves"}
    wanted |= {f"{CURVE}{name}" for name in whose.curves}
    if "flat" in arrays and "nearly_flat" not in arrays:
        unknown = np.full(arrays["flat"].shape, UNKNOWN, np.int8)
        arrays = {**arrays, "nearly_flat": unknown}
    if set(arrays) != wanted:
        named = sorted(set(arrays) ^ wanted)
        raise ValueError(f"it has too few or too many arrays: {named[0]!r:.100}")
    count, methods = len(arrays["index"].reshape(-1)), len(whose.methods)
    shapes = {"values": (count, methods, len(whose.metrics)), "flat": (count, methods)}
    shapes["nearly_flat"] = shapes["flat"]
    shapes["unreadable"] = arrays["unreadable"].shape[:1]
    for name, array in arrays.items():
        curve = name.startswith(CURVE)
        shape = shapes.get(name, (count,))
        if curve:
            shape = (count, methods, array.shape[-1] if array.ndim == 3 else 0)
        if array.shape != shape:
            raise ValueError(f"{name!r} has the shape {array.shape}, not {shape}")
        if array.dtype.kind not in KINDS["curve" if curve else name]:
            raise ValueError(f"{name!r} is of the type {array.dtype}")
    first = batch * whose.batch_size
    last = min(first + whose.batch_size, len(whose.names))
    there = np.sort(np.concatenate([arrays["index"], arrays["unreadable"]]))
    if not np.array_equal(there, np.arange(first, last)):
        raise ValueError(f"it is not of the images {first} to {last - 1}")
    curves = {
        name.removeprefix(CURVE): array
        for name, array in arrays.items()
        if name.startswith(CURVE)
    }
    plain = {name: arrays[name] for name in Rows._fields if name != "curves"}
    return Rows(**plain, curves=curves)


def _other(about: Mapping[str, object] | None, rows: Rows, whose: Whose) -> str:
    """Say what a batch is of that is something else here; "" where nothing is."""
    alone: dict[str, object] = {"condition": ""}
    mine = alone | whose.about(rows.index, rows.unreadable)
    for what, value in mine.items() if about is not None else ():
        there = (alone | dict(about)).get(what) if about is not None else None
        if there == value:
            continue
        if not isinstance(value, list) or not isinstance(there, list):
            return f"{what} {_short(there)} there, {_short(value)} here"
        pairs = zip([*there, *[None] * len(value)], value, strict=False)
        one, other = next(
            ((a, b) for a, b in pairs if a != b), (len(there), len(value))
        )
        return f"{what} {one!r:.200} there, {other!r:.200} here"
    known = whose.labels[rows.index]
    expected = np.where(known == -1, rows.predicted, known)
    wrong = np.flatnonzero((known >= -1) & (rows.label != expected))
    if len(wrong):
        place = int(wrong[0])
        return (
            f"{whose.names[int(rows.index[place])]!r} has the class "
            f"{int(rows.label[place])} there, {int(known[place])} here"
        )
    return ""


def _short(value: object) -> str:
    """Write hashes so that they can be told apart."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {str(text)[:12]}" for name, text in value.items())
    return f"{value!r:.200}"
