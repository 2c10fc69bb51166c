"""A job of two nodes, on a SLURM that only pretends, with the real trainer."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training.conftest import TINY

from launch import fake_srun

SCRIPT = Path(__file__).parents[2] / "launch" / "slurm.sh"


@pytest.mark.process
def test_a_job_that_is_stopped_is_put_back_and_finishes(tmp_path, shared_programs):
    folder = tmp_path / "run"
    environment = (
        os.environ
        | fake_srun.install(tmp_path / "slurm")
        | {
            "UNLIR": f"{shlex.quote(sys.executable)} -m unlir_jax.cli",
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "2",
            "JAX_COMPILATION_CACHE_DIR": str(shared_programs),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
    )
    command = ["sh", str(SCRIPT), "--config", str(TINY), "--workdir", str(folder)]
    requeued = tmp_path / "slurm" / "scontrol"

    def start():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            environment["UNLIR_PORT"] = str(probe.getsockname()[1])
        return subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def orders():
        return requeued.read_text() if requeued.exists() else ""

    job = start()
    metrics = folder / "metrics.jsonl"
    end = time.monotonic() + 300
    while not (metrics.exists() and '"step": 5,' in metrics.read_text()):
        assert job.poll() is None and time.monotonic() < end, job.communicate()[0]
        time.sleep(0.01)
    # Two minutes before the end of its time SLURM tells the tasks, not the script.
    tasks = (tmp_path / "slurm" / "tasks").read_text().split()
    for task in tasks:
        os.kill(int(task), signal.SIGTERM)
    text = job.communicate(timeout=300)[0]
    assert job.returncode == 0 and "all is saved" in text
    assert "requeue" in orders()

    done = len(orders())
    job = start()
    text = job.communicate(timeout=300)[0]
    assert job.returncode == 0 and "Going on from step" in text
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["processes"] == 2 and summary["devices"] == 4
    assert "requeue" not in orders()[done:]
