"""Damaged files are written here and read in a process of its own; minutes long."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from fuzzing import mutations

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SEED = int(os.environ.get("UNLIR_SEED", "0"))
COUNT = int(os.environ.get("UNLIR_FUZZED", "40"))
"""Damaged files of each kind."""

FREE, RATIO = 64 << 20, 8
MOST_SECONDS = 2.0
SMALL = 1 << 20


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.exhaustive)


class Reader:
    """A process that reads files, started again when it has ended."""

    def __init__(self, folder):
        self.log = (folder / "worker.log").open("w")
        self.process = None

    def ask(self, kind, path, first=False):
        if self.process is None:
            paths = [ROOT, ROOT / "tests", os.environ.get("PYTHONPATH", "")]
            self.process = subprocess.Popen(
                [sys.executable, HERE / "worker.py"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                text=True,
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
                | {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"},
            )
        try:
            self.process.stdin.write(json.dumps([kind, str(path), first]) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            return json.loads(answer)
        code = self.process.wait()
        self._close()
        told = f"the process ended with {code}"
        return {"came": "other", "told": told, "seconds": 0, "memory": 0}

    def _close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.process = None

    def close(self):
        if self.process is not None:
            self._close()
        self.log.close()


@pytest.fixture(scope="session")
def reader(tmp_path_factory):
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this system does not tell the most memory that a process took")
    made = Reader(tmp_path_factory.mktemp("reader"))
    yield made
    made.close()


def write(place, files):
    for name, data in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def fault(found, size, whole):
    """Say what is wrong with what came of a file; "" if nothing is."""
    if found["came"] == "other":
        return found["told"]
    if found["memory"] > FREE + RATIO * size:
        return f"took {found['memory'] >> 20} MB of memory"
    if size < SMALL and found["seconds"] > MOST_SECONDS:
        return f"took {found['seconds']:.1f} s"
    if whole is not None and found["came"] == "read" and found["told"] != whole:
        return f"read as something else: {found['told']}"
    return ""


@pytest.fixture
def fuzzed(reader, tmp_path, capsys):
    """Damage the files of a kind, read each, and say which were not read as promised.

    A case is a folder with all the files of its kind, of which one is damaged; that of
    a fault is kept. With `whole`, what is read has to be what was written.
    """

    def run(name, kind, files, targets, *, whole=False, refused=False, count=COUNT):
        write(tmp_path / "case_whole", files)
        first = tmp_path / "case_whole" / targets[0]
        reader.ask(kind, first, True)
        sound = reader.ask(kind, first, True)
        assert refused or sound["came"] == "read", sound["told"]
        counts, faults, most = {"read": 0, "sentence": 0, "other": 0}, [], [0, 0.0]
        for number in range(count):
            seeds = [SEED, zlib.crc32(name.encode()), number]
            random = np.random.default_rng(seeds)
            target = targets[number % len(targets)]
            others = [files[t] for t in targets if t != target]
            data = mutations.mutate(files[target], random, others)
            place = tmp_path / f"case_{number}"
            write(place, files | {target: data})
            found = reader.ask(kind, place / target)
            # Another look, since others may be at work on the same core.
            again = 0
            while found["seconds"] > MOST_SECONDS and again < 2:
                write(place, files | {target: data})
                other = reader.ask(kind, place / target)
                found["seconds"] = min(found["seconds"], other["seconds"])
                again += 1
            counts[found["came"]] += 1
            most = [max(most[0], found["memory"]), max(most[1], found["seconds"])]
            wrong = fault(found, len(data), sound["told"] if whole else None)
            if wrong:
                faults.append(f"seeds {seeds}, {place / target}: {wrong}")
            else:
                shutil.rmtree(place)
        with capsys.disabled():
            said = ", ".join(f"{count} {what}" for what, count in counts.items())
            print(f"\n{name}: {said}; at most {most[0] >> 20} MB, {most[1]:.2f} s")
        assert not faults, f"{len(faults)} of {count} files:\n" + "\n".join(faults[:20])

    return run
