"""Read files in a process of its own, and say what came of each.

    python worker.py FOLDER

Each line of the input is JSON, `[kind, path]`; so is each line of the output. A file
that takes more than `PATIENCE` seconds of processor time ends the process.
"""

import contextlib
import ctypes
import gc
import json
import os
import resource
import signal
import sys
import time
import warnings
from pathlib import Path

PATIENCE = 20
MOST_MEMORY = 16 << 30
LONGEST = 6000
"""Letters of a sentence: eight settings that differ, with both values."""


def memory(name):
    """Give bytes that are in memory now (VmRSS), or were at most (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise OSError(f"no {name} in /proc/self/status")


def settled():
    """Let go of what is free, and count from now on."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def judged(read, path):
    """Read a file: what came of it, and a text."""
    try:
        return "read", str(read(path))
    except (ValueError, FileNotFoundError) as error:
        told = str(error)
        # Of a folder that is read as a whole, its name will do.
        named = path.name in told or "case_" in told
        if type(error) in (ValueError, FileNotFoundError) and named:
            if "\n" not in told and len(told) <= LONGEST:
                return "sentence", told
        return "other", f"{type(error).__name__}: {told[:LONGEST]}"
    except BaseException as error:
        return "other", f"{type(error).__name__}: {str(error)[:LONGEST]}"


def measured(read, path, first):
    before = settled() if not first else memory("VmRSS")
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    begun = time.process_time()
    came, told = judged(read, path)
    seconds = time.process_time() - begun
    signal.setitimer(signal.ITIMER_PROF, 0)
    return {
        "came": came,
        "told": told,
        "seconds": seconds,
        "memory": memory("VmHWM") - before,
    }


def main():
    answers = os.fdopen(os.dup(1), "w")
    # What libraries of other languages print is no answer.
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    from fuzzing import readers

    # What is imported stays, and need not be looked through each time.
    gc.freeze()
    for line in sys.stdin:
        kind, path, first = json.loads(line)
        found = measured(readers.READERS[kind], Path(path), first)
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
