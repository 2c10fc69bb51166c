"""Whatever is killed, and whenever, ends as if nothing had happened.

A command is killed at moments drawn by a seed (`killed.py`) and given again, until it
is done. Then all that is there is compared with what it leaves uninterrupted.
`UNLIR_KILLS` says how many kills a command gets.
"""

import os
import re
import signal
import zlib

import numpy as np
import pytest
from kills import commands, outcome

KILLS = int(os.environ.get("UNLIR_KILLS", "1"))
SEED = int(os.environ.get("UNLIR_SEED", "0"))
LONGEST_DELAY = 0.05


def prepare(name, given, place, run):
    place.mkdir()
    if name in commands.BEFORE:
        code, _, said = run(commands.BEFORE[name](given), place)
        assert code == 0, said


def differing(one, other):
    return sorted(n for n in one.keys() | other.keys() if one.get(n) != other.get(n))


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_what_was_killed_ends_with_the_same_bytes(name, given, run, tmp_path, capsys):
    words = commands.COMMANDS[name](given)
    whole = tmp_path / "whole"
    prepare(name, given, whole, run)
    code, events, said = run(words, whole)
    assert code == 0, said
    expected = outcome.left(whole)
    random = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    killed, number = 0, 0
    while killed < KILLS:
        place, history = tmp_path / str(number), []
        number += 1
        prepare(name, given, place, run)
        for _ in range(int(random.integers(1, 4))):
            if killed == KILLS:
                break
            moment = int(random.integers(1, events + 1))
            delay = round(
                float(random.choice([0, random.uniform(0, LONGEST_DELAY)])), 4
            )
            code, _, said = run(words, place, moment, delay)
            history.append((moment, delay, code))
            killed += code == -signal.SIGKILL
            if code != -signal.SIGKILL:
                break
        if code == -signal.SIGKILL:
            code, _, said = run(words, place)
        # Killed after the last it had to do: it refuses to do it again.
        done = code == 0 or (code == 2 and re.search(r"exists|Done before", said))
        assert done, (history, said)
        assert not differing(outcome.left(place), expected), (
            f"differs after kills {history} of {events} events, see {place}: "
            f"{differing(outcome.left(place), expected)}"
        )
        assert not outcome.locked(place)
    with capsys.disabled():
        print(f"\n{name}: {killed} kills of {events} events, 0 different bytes")
