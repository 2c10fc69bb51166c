"""Record next to the arrays of a checkpoint: notes and checksums."""

import json
import zlib
from pathlib import Path

import jax
import numpy as np

from unlir_jax import tree
from unlir_jax.core.document_types import Document, Record
from unlir_jax.storage import documents
from unlir_jax.types import PyTree

# The first had no sum of its own, and left sums of arrays out where a process had parts
# of them only; the second says null there.
FORMAT = 2


def make(notes: Document, state: PyTree) -> Document:
    """Describe a state for its record: notes, and shape, type and sum of each array.

    Args:
        notes: What JSON can hold.
        state: A tree of arrays.
    """
    record = {"format": FORMAT, "notes": dict(notes), "leaves": _describe(state)}
    return record | {"crc32": _crc_of_record(record)}


def _describe(state: PyTree) -> Document:
    """Note shape, type and, of leaves that are whole here, the checksum."""
    described = {}
    for path, leaf in tree.listed(state).items():
        entry: Record = {
            "shape": list(np.shape(leaf)),
            "dtype": str(leaf.dtype),
        }
        entry["crc32"] = _crc(leaf) if _is_whole(leaf) else None
        described[path] = entry
    return described


def _crc_of_record(record: Document) -> int:
    """Sum up a record but for its sum, as it is when read back."""
    own = {name: value for name, value in record.items() if name != "crc32"}
    plain = documents.parse_json(json.dumps(own), "The record")
    return zlib.crc32(json.dumps(plain, sort_keys=True).encode())


def _is_whole(leaf: PyTree) -> bool:
    """Tell whether all of a leaf is in the memory of this process's devices."""
    if not isinstance(leaf, jax.Array):
        return True
    return leaf.is_fully_replicated or leaf.is_fully_addressable


def _crc(leaf: PyTree) -> int:
    return zlib.crc32(np.ascontiguousarray(np.asarray(leaf)))


def read(path: Path) -> Document:
    """Read a record.

    Raises:
        OSError: It is gone.
        ValueError: It is not what `save` wrote.
    """
    record = documents.read_object(path, "the record of a checkpoint")
    leaves, form = record.get("leaves"), record.get("format", 1)
    sound = isinstance(leaves, dict) and "notes" in record and form in (1, FORMAT)
    entries = list(leaves.values()) if sound and isinstance(leaves, dict) else []
    if not entries or not all(map(_is_entry, entries)):
        raise ValueError("its record is not what a training writes")
    summed = ["crc32" in entry for entry in entries]
    # Every version sums up what a process has whole, as the number of the step is.
    if not (all if form == FORMAT else any)(summed):
        raise ValueError("its record lacks the sums of arrays")
    if form == FORMAT and record.get("crc32") != _crc_of_record(record):
        raise ValueError("its record is not what was saved")
    return record


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("shape"), list):
        return False
    return isinstance(entry.get("crc32"), int | None)


def check_sums(leaves: Document, state: PyTree) -> None:
    """Refuse whole arrays that differ from a record's.

    Raises:
        ValueError: Names the first.
    """
    for path, leaf in tree.listed(state).items():
        expected = leaves.get(path, {}).get("crc32")
        if expected is not None and _is_whole(leaf) and _crc(leaf) != expected:
            raise ValueError(f"{path} is not what was saved")
