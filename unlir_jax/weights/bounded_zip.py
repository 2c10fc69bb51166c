"""Read the entries of a zip archive that may be damaged or hostile."""

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import BinaryIO, NamedTuple

from unlir_jax.weights import budget

_ENTRY_BYTES = 1_000  # What `zipfile` keeps of an entry (CPython 3.12), and we.
_ENTRY_MARK, _END_MARK, _END_SIZE = b"PK\x01\x02", b"PK\x05\x06", 22
_LONG_END_MARK, _LONG_END_SIZE = b"PK\x06\x06", 76  # With 64 bits, and its locator.
_PIECE = 1 << 20


class Archive(NamedTuple):
    """The sizes of the entries by name, and a function that reads one."""

    sizes: Mapping[str, int]
    read: Callable[[str], bytearray]


def open_zip(file: BinaryIO) -> Archive:
    """Look into a zip archive, an open file, whose directory is sound.

    Raises:
        ValueError: it is damaged, has a name twice, is encrypted or packed by another
            method than deflate, or claims to unpack to more than its size allows (see
            `budget`). `read` raises it for a damaged entry. The text is a clause ("its
            zip …") for the caller to put in a sentence.
    """
    size = os.fstat(file.fileno()).st_size
    _check_directory(file, size)
    try:
        archive = zipfile.ZipFile(file)
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        OverflowError,
        struct.error,
    ) as error:
        raise ValueError(
            f"its zip archive is damaged or cut short ({error!s:.100})"
        ) from error
    entries = _check(archive, size)
    return Archive(
        {name: entry.file_size for name, entry in entries.items()},
        lambda name: _read(archive, entries[name]),
    )


def _check_directory(file: BinaryIO, file_size: int) -> None:
    """Refuse more entries than the size of the file allows, before they are read.

    `zipfile` makes an object of every entry when it opens an archive. They lie in front
    of the record that ends it, which says how many bytes they take.
    """
    reach = min(file_size, _END_SIZE + (1 << 16))
    file.seek(file_size - reach)
    tail = file.read(reach)
    place = tail.rfind(_END_MARK)
    if tail[-_END_SIZE:].startswith(_END_MARK) and tail.endswith(b"\0\0"):
        place = len(tail) - _END_SIZE  # Without a comment, as `zipfile` looks first.
    if place < 0:
        return  # `zipfile` says that it is none.
    length = int.from_bytes(tail[place + 12 : place + 16], "little")
    end = file_size - reach + place
    file.seek(max(0, end - _LONG_END_SIZE))
    record = file.read(min(end, _LONG_END_SIZE))
    if record.startswith(_LONG_END_MARK):
        length = int.from_bytes(record[40:48], "little")
        end -= _LONG_END_SIZE
    length = min(length, end)
    file.seek(end - length)
    entries = 0
    for start in range(0, length, _PIECE):
        entries += file.read(min(_PIECE, length - start)).count(_ENTRY_MARK)
    budget.Budget(file_size).spend(entries * _ENTRY_BYTES)


def _check(archive: zipfile.ZipFile, file_size: int) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    allowed = budget.Budget(file_size)
    for entry in archive.infolist():
        name = entry.filename
        if name in entries:
            raise ValueError(f"its zip archive has two entries {name!r:.100}")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"its zip entry {name!r:.100} is not packed by deflate")
        if entry.flag_bits & 1:
            raise ValueError(f"its zip entry {name!r:.100} is encrypted")
        entries[name] = entry
    allowed.spend(_ENTRY_BYTES * len(entries))
    sizes = [entry.file_size for entry in entries.values()]
    # The largest is there twice for a moment: as it lies in the file, and as an array.
    claimed = sum(sizes) + max(sizes, default=0)
    if claimed > allowed.bytes_left:
        raise ValueError(
            f"its zip entries claim {sum(sizes):,} bytes, more than the "
            f"{file_size:,} of the file allow"
        )
    return entries


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytearray:
    # In pieces, since `ZipFile.read` has all of an entry twice for a moment.
    data = bytearray(entry.file_size)
    place = 0
    try:
        with archive.open(entry) as file:
            while piece := file.read(_PIECE):
                data[place : place + len(piece)] = piece
                place += len(piece)
    # A damaged header can also ask for a password or for an unknown method.
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        RuntimeError,
        OverflowError,
        struct.error,
    ) as error:
        raise ValueError(
            f"its zip entry {entry.filename!r:.100} is damaged ({error!s:.100})"
        ) from error
    if place != entry.file_size:
        raise ValueError(f"its zip entry {entry.filename!r:.100} is cut short")
    return data
