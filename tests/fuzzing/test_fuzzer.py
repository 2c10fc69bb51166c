"""The fuzzer itself: what is wrong is found, and what is right is not."""

import numpy as np
import pytest
from fuzzing import conftest, mutations

FAULTS = {
    "right": "",
    "greedy": "MB of memory",
    "slow": "took",
    "raising": "KeyError",
    "nameless": "ValueError: expected",
    "ending": "the process ended with -9",
    "changing": "read as something else",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_found(kind, reader, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(kind)
    found = reader.ask("broken", path)
    told = conftest.fault(found, 10, "right")
    assert FAULTS[kind] in told and bool(told) == bool(FAULTS[kind])


def test_damage_follows_from_the_seed_alone():
    data = bytes(range(256)) * 3

    def damaged(seed):
        random = np.random.default_rng(seed)
        return [mutations.mutate(data, random) for _ in range(50)]

    assert damaged(1) == damaged(1) != damaged(2)
    assert sum(one == data for one in damaged(1)) < 10
