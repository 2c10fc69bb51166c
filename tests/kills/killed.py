"""Run `unlir` and kill it, as nothing can be caught, at a moment counted by events.

    python killed.py PLACE MOMENT DELAY COMMAND …

An event is whatever Python does to a file or folder in PLACE: opens, makes, renames,
links, removes or lists it. The process is killed before the event of that number, or so
many seconds after it, when threads and libraries write on. Moment 0 kills nothing, and
prints the number of events as the last line of its errors.
"""

import os
import signal
import sys
import threading
import time

WATCHED = ("open", "os.link", "os.listdir", "os.mkdir", "os.remove", "os.rename")
WATCHED += ("os.rmdir", "os.scandir", "os.truncate")


def watch(place, moment, delay):
    """Count events, and end with one of them; give a function that tells how many."""
    inside = os.path.join(os.path.realpath(place), "")
    lock, count = threading.Lock(), 0

    def end():
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGKILL)

    def happened(event, arguments):
        nonlocal count
        if event not in WATCHED:
            return
        named = arguments[: 2 if event in ("os.link", "os.rename") else 1]
        paths = [os.fsdecode(p) for p in named if isinstance(p, str | bytes)]
        # Relative to a folder that is open: a whole tree is being removed.
        beneath = isinstance(arguments[-1], int) and arguments[-1] > 0
        there = any(f"{os.path.abspath(p)}/".startswith(inside) for p in paths)
        if not there and not (beneath and event in ("os.remove", "os.rmdir")):
            return
        with lock:
            count += 1
            now = count == moment
        if now and delay:
            threading.Thread(target=end, daemon=True).start()
        elif now:
            end()

    sys.addaudithook(happened)
    return lambda: count


def main():
    place, moment, delay, *command = sys.argv[1:]
    from unlir_jax import cli

    counted = watch(place, int(moment), float(delay))
    code = cli.main(command)
    found = counted()
    sys.stdout.flush()
    print(found, file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
