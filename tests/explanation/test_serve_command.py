"""`unlir serve` as a process: an address, an answer, and an end when interrupted."""

import signal
import subprocess
import sys
import urllib.request

import pytest

pytest.importorskip("starlette")


@pytest.mark.process
def test_it_serves_until_it_is_interrupted(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "unlir_jax.cli", "serve", "--output", "reports"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
    )
    with process:
        opened, address, *_ = process.stdout.readline().split()
        assert opened == "Open" and address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address, timeout=60) as page:
            assert "unlir serve" in page.read().decode()
        process.send_signal(signal.SIGINT)
        told, complaints = process.communicate(timeout=120)
    assert (process.returncode, told, complaints) == (0, "Ended.\n", "")
    assert list((tmp_path / "reports").iterdir()) == []
