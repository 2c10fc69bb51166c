"""Read the entries of a zip archive that may be damaged or hostile."""

import contextlib
import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

MAX_EXPANSION = 100
"""An archive whose entries claim more than this times its size is refused, …"""

FREE_BYTES = 2**26
"""… unless they claim little: so much is never refused, as zeros pack very well."""


class Archive(NamedTuple):
    """The sizes of the entries by name, and a function that reads one."""

    sizes: Mapping[str, int]
    read: Callable[[str], bytes]


@contextlib.contextmanager
def open_zip(path: str | os.PathLike) -> Iterator[Archive]:
    """Open a zip archive whose directory is sound.

    Raises:
        ValueError: it is damaged, has a name twice, is encrypted or packed by another
            method than deflate, or claims to unpack to an absurd size. `read` raises
            it for a damaged entry. The text is a clause ("its zip …") for the caller
            to put in a sentence.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        OverflowError,
        struct.error,
    ) as error:
        raise ValueError(
            f"its zip archive is damaged or cut short ({error})"
        ) from error
    with archive:
        entries = _check(archive, pathlib.Path(path).stat().st_size)
        yield Archive(
            {name: entry.file_size for name, entry in entries.items()},
            lambda name: _read(archive, entries[name]),
        )


def _check(archive: zipfile.ZipFile, file_size: int) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.filename
        if name in entries:
            raise ValueError(f"its zip archive has two entries {name!r:.100}")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"its zip entry {name!r:.100} is not packed by deflate")
        if entry.flag_bits & 1:
            raise ValueError(f"its zip entry {name!r:.100} is encrypted")
        entries[name] = entry
    claimed = sum(entry.file_size for entry in entries.values())
    if claimed > max(FREE_BYTES, MAX_EXPANSION * file_size):
        raise ValueError(
            f"its zip entries claim {claimed} bytes, more than {MAX_EXPANSION} times "
            f"the {file_size} of the file"
        )
    return entries


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    try:
        data = archive.read(entry)
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
            f"its zip entry {entry.filename!r:.100} is damaged ({error})"
        ) from error
    if len(data) != entry.file_size:
        raise ValueError(f"its zip entry {entry.filename!r:.100} is cut short")
    return data
