"""Adapters as small files: weights of filters, what they belong to, and a head.

A file is `.safetensors`; whatever is in it is checked before it is used. Each weight is
kept as its distance from 1, in float16: exact to 2^-11 of that distance, which is below
0.0002 for weights in [0.6, 1.4]. An adapter of MobileNetV2 from block 7 on takes 34 kB,
with the names of 200 classes 42 kB. Its head is in the file as well where both take no
more than 100 kB, for MobileNetV2 up to some 55 classes in bytes (`head_type`), else in
a file next to it of the same name, `.head`, which the adapter knows by its hash.
"""

import json
import math
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from unlir_jax import filters, tree
from unlir_jax.core import choices
from unlir_jax.storage import documents, paths, staging
from unlir_jax.types import Variables
from unlir_jax.weights import budget, exported, readers

SUFFIX = ".safetensors"
FORMAT = "unlir_jax adapter 1"
MAX_BYTES = 256_000_000
"""The largest file that is read: weights of all pairs of a large network."""

LIMIT = 100_000
"""Bytes that an adapter takes at most where its head can make room."""

BESIDE = ".head"
"""Suffix of the file, safetensors as well, of a head that made room."""

HEAD = "params/classifier/"
_FIELDS = ("backbone", "fingerprint", "select", "mode")
_STEPS = 127

HeadType = Literal["float16", "int8"]


class Adapter(NamedTuple):
    """Hold what was learnt for one task, on a frozen network.

    Attributes:
        weights: As `filters.init` makes them, float32.
        backbone: Name of the network.
        fingerprint: Hash of its parameters, see `fingerprint`.
        select: The pattern that chose the layers.
        mode: The granularity, one of `filters.Mode`.
        head: Arrays by name that decide on the adapted features, such as `kernel`
            `[channels, classes]` and `bias` `[classes]`, float32; {} for none.
        metadata: Whatever JSON can hold. `apply` looks at `head` (`"linear"`),
            `pooling` (`"average"`) and `class_names`, the explanation by filters at
            `scale`, `image_size` and `crop` as well.
    """

    weights: dict[str, np.ndarray]
    backbone: str
    fingerprint: str
    select: str = ""
    mode: str = ""
    head: dict[str, np.ndarray] = {}
    metadata: dict[str, Any] = {}


def fingerprint(variables: Variables) -> str:
    """Hash all of a network but its classifier, which adapters do without."""
    leaves = tree.flatten(variables)
    rest = {p: leaf for p, leaf in leaves.items() if not p.startswith(HEAD)}
    return tree.sha256(tree.unflatten(rest))


def save(
    path: str | os.PathLike[str],
    weights: Mapping[str, Any],
    *,
    backbone: str,
    fingerprint: str,
    select: str = "",
    mode: str = "",
    head: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    head_type: HeadType = "float16",
    overwrite: bool = False,
) -> Path:
    """Write an adapter as a file that is complete or not there.

    `save(path, **adapter._asdict())` writes an `Adapter`. If the head does not fit into
    `LIMIT` bytes with the rest, it goes into a file next to it; they belong together.

    Args:
        path: A name that ends in `.safetensors`, in a folder that exists.
        weights: Weights of one adapter; their names say which norm they multiply.
        backbone: See `Adapter`, as are the others.
        fingerprint: What `fingerprint` gives of the frozen network.
        select: For the record.
        mode: For the record.
        head: Arrays by name, or None.
        metadata: Whatever JSON can hold.
        head_type: Type of the head's matrices: `float16`, or `int8` with a step for
            each class, packed, less than half the size and exact to 1/254 of a class's
            largest number. Vectors are kept in float32.
        overwrite: Whether a file at `path` may be replaced.

    Raises:
        FileExistsError: There is a file at `path`, and no `overwrite`.
        TypeError: The metadata are nothing that JSON can hold.
        ValueError: Another name, or weights or a head that cannot be kept.
    """
    path = output(path, overwrite)
    arrays: dict[str, np.ndarray] = {}
    for name, leaf in weights.items():
        away = np.asarray(leaf, np.float32) - 1
        kind = name.rpartition("/")[2]
        if kind not in filters.KINDS or away.ndim != 1 + (kind == "filter"):
            raise ValueError(
                f"`weights`[{name!r}] has the shape {away.shape}; expected the weights "
                "of one adapter, as `filters.init` makes them."
            )
        arrays[f"weights/{name}"] = _halves(f"`weights`[{name!r}]", away)
    if not weights:
        raise ValueError("`weights` is empty; expected what `filters.init` makes.")
    packed: dict[str, np.ndarray] = {}
    for name, leaf in (head or {}).items():
        packed |= _pack_head(name, np.asarray(leaf, np.float32), head_type)
    fields = (backbone, fingerprint, select, mode)
    _check_metadata(metadata or {})
    texts = {"format": FORMAT} | dict(zip(_FIELDS, fields, strict=True))
    texts["metadata"] = json.dumps(
        dict(metadata or {}), ensure_ascii=False, separators=(",", ":")
    )
    beside = path.with_suffix(BESIDE)
    if packed and readers.size(arrays | packed, texts) > LIMIT:
        readers.write_safetensors(beside, packed, overwrite=overwrite)
        texts["head"] = readers.sha256(beside)
    else:
        arrays |= packed
    readers.write_safetensors(path, arrays, texts, overwrite=overwrite)
    if overwrite and "head" not in texts:
        beside.unlink(missing_ok=True)
    return path


def load(path: str | os.PathLike[str]) -> Adapter:
    """Read an adapter, and refuse a file that is none or is damaged.

    Raises:
        FileNotFoundError: There is no such file, or its head is not next to it.
        ValueError: It is no adapter, too large, or damaged, or has another's head.
    """
    path = Path(path)
    texts = readers.read_metadata(path)
    if texts.get("format") != FORMAT or not all(texts.get(f) for f in _FIELDS[:2]):
        raise ValueError(
            f"`path`={str(path)!r} is no adapter; expected a file that "
            "`adapters.save` wrote."
        )
    arrays = _read(path)
    if "head" in texts:
        arrays |= _head_of(path, texts["head"])
    weights, head = _unpack(arrays, str(path))
    try:
        found = documents.parse_json(texts.get("metadata", "{}"), "its `metadata`")
        metadata = dict(found)
        _check_metadata(metadata)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"The header of {str(path)!r} cannot be understood ({error}); expected one "
            "that `adapters.save` wrote."
        ) from error
    fields = [texts.get(field, "") for field in _FIELDS]
    return Adapter(weights, *fields, head=head, metadata=metadata)


def check(adapter: Adapter, backbone: str, variables: Variables) -> None:
    """Refuse an adapter of another network, or of other weights of this one.

    Raises:
        ValueError: It is.
    """
    if adapter.backbone != backbone:
        raise ValueError(
            f"The adapter is for {adapter.backbone}, not for {backbone}; expected the "
            "network that it was learnt on."
        )
    filters.check(variables, adapter.weights)
    if adapter.fingerprint != fingerprint(variables):
        raise ValueError(
            f"The adapter was learnt on other weights of {backbone} than these; "
            "expected the same frozen weights, with norms not folded away."
        )


def output(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Refuse a place that cannot be written to, before any work is done.

    Raises:
        FileExistsError: There is a file, and no `overwrite`.
        ValueError: The name does not end in `.safetensors`, or has no folder.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(
            f"`path`={str(path)!r}; expected a name that ends in {SUFFIX}."
        )
    paths.check(path, "path")
    staging.sweep(path.parent)
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"`path`={str(path)!r} exists; expected a new name, or --overwrite."
        )
    if not path.parent.is_dir():
        raise ValueError(f"`path`={str(path)!r} lies in a folder that does not exist.")
    return path


def _check_metadata(said: Mapping[str, Any]) -> None:
    """Refuse metadata that `apply` or the explanation by filters could not follow.

    Raises:
        ValueError: They are such.
    """
    size, crop, scale = (said.get(word) for word in ("image_size", "crop", "scale"))
    for word, value in (("image_size", size), ("crop", crop), ("scale", scale)):
        whole = word == "image_size"
        fits = type(value) is int or (type(value) is float and not whole)
        if value is not None and not (fits and math.isfinite(value)):
            raise ValueError(
                f"`metadata`[{word!r}]={value!r:.100}; expected a "
                f"{'whole ' if whole else ''}number."
            )
    if size is not None or crop is not None:
        kept = 1.0 if crop is None else float(crop)
        exported.check_frame(1 if size is None else size, kept, "`metadata`")
    names = said.get("class_names")
    listed = isinstance(names, list | tuple)
    if names is not None and not (listed and all(isinstance(n, str) for n in names)):
        raise ValueError(
            f"`metadata`['class_names']={names!r:.100}; expected a list of texts."
        )


def _read(path: Path) -> dict[str, np.ndarray]:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(
            f"`path`={str(path)!r} has {size:,} bytes; expected an adapter of at most "
            f"{MAX_BYTES:,}."
        )
    return readers.read(path)


def _head_of(path: Path, mark: str) -> dict[str, np.ndarray]:
    """Read the head that lies next to an adapter."""
    beside = path.with_suffix(BESIDE)
    if not beside.is_file():
        raise FileNotFoundError(
            f"The head of {str(path)!r} is not beside it; expected {beside.name!r} in "
            "the same folder: where one goes the other has to go as well."
        )
    found = _read(beside)
    if readers.sha256(beside) != mark:
        raise ValueError(
            f"{str(beside)!r} is the head of another adapter than {path.name!r}; "
            "expected the file that was written with it."
        )
    return found


def _halves(name: str, values: np.ndarray) -> np.ndarray:
    """Round to float16, and refuse what it cannot hold."""
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if not np.isfinite(halves).all():
        raise ValueError(
            f"{name} holds values that are not finite or above 65504; expected numbers "
            "that float16 can hold."
        )
    return halves


def _pack_head(name: str, values: np.ndarray, head_type: str) -> dict[str, np.ndarray]:
    choices.check("head_type", head_type, HeadType)
    if not re.fullmatch(r"\w+", name) or not np.isfinite(values).all():
        raise ValueError(
            f"`head`[{name!r}] has values that are not finite, or no plain name; "
            "expected arrays of numbers such as `kernel` and `bias`."
        )
    if values.ndim < 2:
        return {f"head/{name}": values}
    if head_type == "float16":
        return {f"head/{name}": _halves(f"`head`[{name!r}]", values)}
    largest = np.abs(values).max(axis=tuple(range(values.ndim - 1)))
    step = np.where(largest > 0, largest / _STEPS, 1).astype(np.float32)
    stored = np.round(values / step).astype(np.int8)
    if values.ndim > 2:
        return {f"head/{name}": stored, f"step/{name}": step}
    packed = np.frombuffer(zlib.compress(stored.tobytes(), 9), np.uint8)
    if stored.size > _most_unpacked(packed.size):
        return {f"head/{name}": stored, f"step/{name}": step}
    return {f"packed/{name}": packed, f"step/{name}": step}


def _most_unpacked(packed: int) -> int:
    """Count the bytes that packed ones may stand for; each takes six in memory."""
    return (budget.FREE_BYTES + budget.RATIO * packed) // 6


def _unpacked(stored: np.ndarray, classes: int) -> np.ndarray:
    """Give a head in bytes, `[channels, classes]`; an empty one if it is damaged."""
    opener = zlib.decompressobj()
    try:
        # A few bytes can stand for very many.
        plain = opener.decompress(stored.tobytes(), _most_unpacked(stored.size))
    except zlib.error:
        return np.zeros(0, np.int8)
    if not opener.eof or not classes or len(plain) % classes:
        return np.zeros(0, np.int8)
    return np.frombuffer(plain, np.int8).reshape(-1, classes)


def _unpack(
    arrays: Mapping[str, np.ndarray], path: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Sort the arrays of a file into weights and head, in float32."""
    weights: dict[str, np.ndarray] = {}
    head: dict[str, np.ndarray] = {}
    for name, stored in arrays.items():
        what, _, rest = name.partition("/")
        kind = rest.rpartition("/")[2]
        step = arrays.get(f"step/{rest}", np.zeros(()))
        if what == "packed" and stored.dtype == np.uint8 and step.ndim == 1:
            stored = _unpacked(stored, step.size)
        fits = stored.dtype in (np.float16, np.float32, np.int8)
        values = stored.astype(np.float32) if fits else np.zeros(())
        fits = fits and bool(np.isfinite(values).all())
        if what == "weights":
            fits = fits and kind in filters.KINDS
            fits = fits and values.ndim == 1 + (kind == "filter") and values.size > 0
            weights[rest] = 1 + values
        elif what in ("head", "packed") and stored.dtype == np.int8:
            fits = fits and step.shape == values.shape[-1:] != () and values.size > 0
            head[rest] = np.multiply(values, step, out=values) if fits else values
        elif what == "head":
            head[rest] = values
        else:
            of = f"head/{rest}" in arrays or f"packed/{rest}" in arrays
            fits = fits and what == "step" and of
        if not fits:
            raise ValueError(
                f"`path`={path!r} holds {name!r} of {stored.dtype} and shape "
                f"{stored.shape}, which is no part of an adapter or not finite; "
                "expected a file that `adapters.save` wrote."
            )
    return weights, head
