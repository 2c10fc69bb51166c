import ctypes
import subprocess
import sys

import pytest

from unlir_jax.runtime import allocator


def test_the_switch_leaves_the_process_alone(monkeypatch):
    def refuse(name):
        raise AssertionError(f"{name} was opened")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    monkeypatch.setenv(allocator.SWITCH, "0")
    assert allocator.keep_freed_memory() is False


def test_other_systems_and_libraries_are_left_alone(monkeypatch):
    monkeypatch.delenv(allocator.SWITCH, raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False
    monkeypatch.setattr(sys, "platform", "linux")

    def missing(name):
        raise OSError(f"{name} is not here")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert allocator.keep_freed_memory() is False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_a_large_block_keeps_its_pages():
    """Touch 64 MB twice: the second time no page is new to the process."""
    code = """
import resource
import numpy as np
from unlir_jax.runtime import allocator
if not allocator.keep_freed_memory():
    raise SystemExit(77)
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(2**23).fill(1.0)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*faults)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    if run.returncode == 77:
        pytest.skip("the C library is not glibc")
    first, *later = (int(count) for count in run.stdout.split())
    assert first > 100 * max(later), run.stdout
