"""Files and folders that are written under a hidden name and appear when complete.

The hidden ones carry a lock of the process that writes them, which ends with it. So
what a killed process has left behind can be told from what another is writing, and
whoever next writes to that place removes it. Windows renames nothing that is open:
there nothing is locked, and what a killed process left stays.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import filelock

_TEMPORARY = re.compile(r"\.unlir-[0-9a-f]{12}(\.tmp)?")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_TRIES = 20
_LOCKS = os.name != "nt"


class NotWrittenError(ValueError):
    """Tell that nothing can be written in a place from other errors."""


def write_bytes(
    path: str | os.PathLike[str],
    data: bytes,
    *,
    replace: bool = True,
) -> None:
    """Write a file that is complete or, should anything go wrong, not there.

    Args:
        path: Where to; the folder must exist.
        data: All of the file.
        replace: Whether a file of that name may be replaced.

    Raises:
        FileExistsError: There is one by now, and it may not.
        ValueError: It cannot be written there. The text says why, and how much room is
            left where that is the reason.
    """
    path = Path(path)
    try:
        with _new_file(path.parent) as temporary:
            with temporary.open("r+b") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            (os.replace if replace else _appear)(temporary, path)
    except OSError as error:
        if isinstance(error, FileExistsError):
            raise
        raise refusal(path, error, len(data)) from error


def _appear(temporary: Path, path: Path) -> None:
    """Give a file a name that no other has."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without second names: looked at as late as can be.
        if path.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(path)) from None
        temporary.replace(path)


@contextlib.contextmanager
def _new_file(folder: Path) -> Iterator[Path]:
    """Make a hidden file that is locked and gone in the end, under whatever name."""
    for _ in range(_TRIES):
        path = folder / f".unlir-{secrets.token_hex(6)}.tmp"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        with _held(path) as still_there:
            try:
                if still_there:
                    yield path
                    return
            finally:
                path.unlink(missing_ok=True)
    raise _taken(folder)


@contextlib.contextmanager
def new_folder(above: Path) -> Iterator[Path]:
    """Make a hidden folder that is locked and, if it is still there, gone in the end.

    Raises:
        OSError: It cannot be made there.
    """
    for _ in range(_TRIES):
        path = above / f".unlir-{secrets.token_hex(6)}"
        path.mkdir()
        with _held(path) as still_there:
            try:
                if still_there:
                    yield path
                    return
            finally:
                shutil.rmtree(path, ignore_errors=True)
    raise _taken(above)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let one process at a time put files into a folder."""
    with _held(folder):
        yield


def sweep(folder: str | os.PathLike[str]) -> list[str]:
    """Remove what killed processes left half written in a folder.

    Only files and folders of the very names that are given here, of this user, which no
    process holds. Where the file system has no locks nothing is removed.

    Args:
        folder: Where to look; not in the folders in it. It need not exist.

    Returns:
        The names of what is gone.
    """
    removed = []
    if not _LOCKS:
        return removed
    try:
        names = [name for name in os.listdir(folder) if _TEMPORARY.fullmatch(name)]
    except OSError:
        return []
    for name in names:
        # Another process may be faster, or the place be read-only: it is left then.
        with contextlib.suppress(OSError):
            if _remove_if_free(Path(folder) / name):
                removed.append(name)
    return sorted(removed)


def is_temporary(name: str) -> bool:
    """Tell whether a name is one that is given here."""
    return bool(_TEMPORARY.fullmatch(name))


def _remove_if_free(path: Path) -> bool:
    found = path.lstat()
    is_folder = stat.S_ISDIR(found.st_mode)
    fits = is_folder != path.name.endswith(".tmp")
    known = is_folder or stat.S_ISREG(found.st_mode)
    if not fits or not known or found.st_uid != os.geteuid():
        return False
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        free = filelock.lock_descriptor(opened, blocking=False)
        if not free or not _is_still(opened, path):
            return False
        if is_folder:
            shutil.rmtree(path)
        else:
            path.unlink()
        return True
    finally:
        os.close(opened)


@contextlib.contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Lock a file or folder as long as the block runs; tell whether it is still there.

    Another process may have taken what was just made for left behind.
    """
    if not _LOCKS:
        yield True
        return
    # Network file systems lock only what is open for writing.
    kind = os.O_RDONLY | os.O_DIRECTORY if path.is_dir() else os.O_RDWR
    try:
        opened = os.open(path, kind | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            filelock.lock_descriptor(opened, poll_interval=0.005)
            still_there = _is_still(opened, path)
        except OSError:
            # Some network file systems have no locks; nothing is swept away there.
            still_there = True
        yield still_there
    finally:
        os.close(opened)


def _is_still(opened: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened), path.lstat())
    except FileNotFoundError:
        return False


def _taken(folder: Path) -> OSError:
    return OSError(errno.EBUSY, "others remove what is written there", str(folder))


def refusal(
    path: str | os.PathLike[str], error: OSError, needed: int | None = None
) -> NotWrittenError:
    """Say in a sentence why a place cannot be written to.

    Args:
        path: The file or folder that was to be written.
        error: What the system said.
        needed: Bytes that were to be written.
    """
    # By the name that was asked for, not the hidden one.
    place = str(Path(*(part for part in Path(path).parts if not is_temporary(part))))
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in _FULL:
        free = shutil.disk_usage(_existing(Path(path))).free
        wanted = f"{needed:,} bytes" if needed else "more"
        return NotWrittenError(
            f"{place!r} cannot be written: no space is left on its disk, which has "
            f"{free:,} bytes free ({reason}); expected room for {wanted}."
        )
    return NotWrittenError(
        f"{place!r} cannot be written ({reason}); expected a place that can be written "
        "to."
    )


def _existing(path: Path) -> Path:
    return next(above for above in (path, *path.absolute().parents) if above.exists())
