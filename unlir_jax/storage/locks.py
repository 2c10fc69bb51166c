"""Places that one process at a time may write to: locks that end with the process."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

# Of filelock the lock of an open file only: its `FileLock` makes up for a file system
# without locks by a file that a killed process leaves behind.
import filelock

LOCK = ".lock"


@contextlib.contextmanager
def alone(
    path: str | os.PathLike[str], *, wait: bool = False, doing: str = "working here"
) -> Iterator[None]:
    """Keep a place to this process as long as the block runs.

    The lock is the process's: whatever ends the process, a kill too, ends the lock. The
    file stays, and means nothing by itself.

    Args:
        path: The file to lock; it is made in a folder that exists.
        wait: Wait for the other process, rather than refuse.
        doing: What the other process is doing, for the sentence of the error.

    Raises:
        ValueError: Another process holds the lock, or the file cannot be made. A file
            system without locks locks nothing, and is no error.

    Example:
        >>> import pathlib, tempfile
        >>> from unlir_jax.storage import locks
        >>> with locks.alone(pathlib.Path(tempfile.mkdtemp()) / locks.LOCK):
        ...     pass
    """
    path = Path(path)
    try:
        file = path.open("a")
    except OSError as error:
        raise ValueError(
            f"{str(path.parent)!r} cannot be written to ({error.strerror}); expected "
            "a place that can."
        ) from error
    with file:
        try:
            ours = filelock.lock_descriptor(file.fileno(), blocking=wait)
        except OSError as error:
            # Some network file systems have no locks: nothing else is lost there.
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            ours = True
        if not ours:
            raise ValueError(
                f"Another process is {doing}: {str(path.parent)!r} is locked; expected "
                "another place, or the same command when the other has ended."
            )
        yield


def held(path: str | os.PathLike[str]) -> bool:
    """Tell whether a process holds the lock of this file; False where there is none."""
    try:
        with Path(path).open("a" if Path(path).exists() else "r") as file:
            return not filelock.lock_descriptor(file.fileno(), blocking=False)
    except OSError:
        return False
