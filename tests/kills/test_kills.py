"""Whatever is killed, and whenever, ends as if nothing had happened.

A command is killed at moments drawn by a seed (`killed.py`) and given again, until it
is done. Then all that is there is compared with what it leaves uninterrupted.
`UNLIR_KILLS` says how many kills a command gets.
"""

import os
import re
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from kills import commands, outcome

KILLS = int(os.environ.get("UNLIR_KILLS", "2"))
SEED = int(os.environ.get("UNLIR_SEED", "0"))
LONGEST_DELAY = 0.05
PATIENCE = 900
"""Seconds after which a process is taken to hang."""

PROGRAM = Path(__file__).with_name("killed.py")


def run(words, place, environment, moment=0, delay=0.0):
    """Give a command in a place: its exit code and what it said."""
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, PROGRAM, ".", str(moment), str(delay), *words],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout


def prepare(name, given, place, environment):
    if name in commands.BEFORE:
        code, said = run(commands.BEFORE[name](given), place, environment)
        assert code == 0, said


def differing(one, other):
    return sorted(n for n in one.keys() | other.keys() if one.get(n) != other.get(n))


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_what_was_killed_ends_with_the_same_bytes(name, given, environment, tmp_path):
    words = commands.COMMANDS[name](given)
    whole = tmp_path / "whole"
    prepare(name, given, whole, environment)
    code, said = run(words, whole, environment)
    assert code == 0, said
    events = int(said.splitlines()[-1])
    expected = outcome.left(whole)
    random = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    killed, number = 0, 0
    while killed < KILLS:
        place, history = tmp_path / str(number), []
        number += 1
        prepare(name, given, place, environment)
        for _ in range(int(random.integers(1, 4))):
            if killed == KILLS:
                break
            moment = int(random.integers(1, events + 1))
            delay = round(
                float(random.choice([0, random.uniform(0, LONGEST_DELAY)])), 4
            )
            code, said = run(words, place, environment, moment, delay)
            history.append((moment, delay, code))
            killed += code == -signal.SIGKILL
            if code != -signal.SIGKILL:
                break
        if code == -signal.SIGKILL:
            code, said = run(words, place, environment)
        # Killed after the last it had to do: it refuses to do it again.
        done = code == 0 or (code == 2 and re.search(r"exists|Done before", said))
        assert done, (history, said)
        assert not differing(outcome.left(place), expected), (
            f"differs after kills {history} of {events} events, see {place}: "
            f"{differing(outcome.left(place), expected)}"
        )
        assert not outcome.locked(place)
