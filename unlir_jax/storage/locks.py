"""Places that one process at a time may write to: locks that end with the process."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

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
        >>> from unlir_jax import locks
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
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise ValueError(
                f"Another process is {doing}: {str(path.parent)!r} is locked; expected "
                "another place, or the same command when the other has ended."
            ) from error
        except OSError as error:
            # Some network file systems have no locks: nothing else is lost there.
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
        yield


def held(path: str | os.PathLike[str]) -> bool:
    """Tell whether a process holds the lock of this file; False where there is none."""
    try:
        with Path(path).open("a" if Path(path).exists() else "r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
