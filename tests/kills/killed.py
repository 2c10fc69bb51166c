"""Run `unlir` and kill it, as nothing can be caught, at a moment counted by events.

An event is whatever Python does to a file or folder in a place: opens, makes, renames,
links, removes or lists it. The process is killed before the event of that number, or so
many seconds after it, when threads and libraries write on. Moment 0 kills nothing.

Each line of the input is JSON: `[place, moment, delay, words]`. Each command has a
process of its own, forked before JAX has started anything, so that only this one takes
its time to import. A line of the output is `[exit code, number of events, what was
said]`.
"""

import importlib
import json
import os
import signal
import sys
import tempfile
import threading
import time

WATCHED = ("open", "os.link", "os.listdir", "os.mkdir", "os.remove", "os.rename")
WATCHED += ("os.rmdir", "os.scandir", "os.truncate")
SLOW = ("training.train", "training.dry_run", "evaluation.evaluate", "few_shot.adapt")
SLOW += ("explanation.explain", "part_report.describe_parts", "retrieval.retrieve")
SLOW += ("filter_report.describe_filters", "models.conversion", "adapters")


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


def work(place, moment, delay, words, output, counted):
    """Be the process of a command."""
    for stream in (1, 2):
        os.dup2(output, stream)
    os.chdir(place)
    from unlir_jax import cli

    count = watch(place, moment, delay)
    code = cli.main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(counted, str(count()).encode())
    os._exit(code)


def main():
    for name in SLOW:
        importlib.import_module(f"unlir_jax.{name}")
    if threading.active_count() > 1:
        raise RuntimeError("a process of several threads cannot be forked")
    for line in sys.stdin:
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as counted:
            process = os.fork()
            if not process:
                work(*json.loads(line), output.fileno(), counted.fileno())
            code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            found = [file.seek(0) or file.read() for file in (output, counted)]
        answer = [code, int(found[1] or 0), found[0].decode(errors="replace")]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
