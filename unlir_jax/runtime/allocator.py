"""Keep freed memory, where the C library would hand it back after every call."""

import ctypes
import os
import sys

SWITCH = "UNLIR_JAX_KEEP_MEMORY"

# Parameters of glibc's mallopt, from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make the process reuse the large blocks that XLA allocates at every call.

    XLA on CPU asks for its temporary memory anew each time, and glibc gives blocks of
    over 32 MB back to the system at once, so each call pays for touching every page
    again: about two fifths of the time of a network (docs/results/speed.md). The
    cost is that the process keeps its peak of memory. Threads that have allocated
    before stay as they are, so the earlier the better.

    `load` calls it. It does nothing on other systems than Linux with glibc, or where
    the environment has UNLIR_JAX_KEEP_MEMORY=0.

    Returns:
        Whether the allocator was changed.
    """
    if os.environ.get(SWITCH, "1") == "0" or not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL("libc.so.6")
        mallopt = library.mallopt
    except (OSError, AttributeError):  # Another C library, such as musl.
        return False
    settings = (
        (_ARENA_MAX, 1),
        (_MMAP_THRESHOLD, _LARGEST),
        (_TRIM_THRESHOLD, _LARGEST),
    )
    return all([mallopt(name, value) == 1 for name, value in settings])
