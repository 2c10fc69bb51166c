"""An evaluation in processes of its own: killed, stopped, or shared by two."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import small_network

pytestmark = pytest.mark.process

COUNT = 8


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return small_network.write_noise(tmp_path_factory.mktemp("pictures"), COUNT)


@pytest.fixture(scope="module")
def start(pictures, tmp_path_factory):
    """Start `unlir evaluate` on one device, with one picture a batch."""
    compiled = tmp_path_factory.getbasetemp() / "compiled"

    def launch(folder, **variables):
        command = [
            *(sys.executable, "-m", "unlir_jax.cli", "evaluate", "--config"),
            "configs/evaluate.py:model=cifar_resnet8,methods=grad_cam+random,"
            "metrics=average_drop+insertion",
            *(f"--config.data.path={pictures}", "--config.model.weights=random"),
            *("--config.batch_size=1", "--config.statistics.resamples=200"),
            *("--config.controls=False", f"--workdir={folder}"),
        ]
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "1",
            "JAX_COMPILATION_CACHE_DIR": str(compiled),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        return subprocess.Popen(
            command,
            env=environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return launch


def wait_for_batches(folder, process, count):
    end = time.monotonic() + 120
    while len(list((folder / "batches").glob("*.npz"))) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture(scope="module")
def killed(start, tmp_path_factory):
    """Kill a run three times at random, and let it end."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    seed = int(os.environ.get("UNLIR_SEED") or np.random.SeedSequence().entropy % 2**32)
    # Shown where the test fails.
    print(f"UNLIR_SEED={seed}")
    random, done = np.random.default_rng(seed), 0
    for _ in range(3):
        process = start(folder)
        done += int(random.integers(1, 3))
        wait_for_batches(folder, process, done)
        time.sleep(random.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        done = len(list((folder / "batches").glob("*.npz")))
        assert done < COUNT and not (folder / "summary.json").exists()
    process = start(folder)
    assert "Done: " in process.communicate(timeout=120)[0]
    return folder


@pytest.fixture(scope="module")
def shared(start, tmp_path_factory):
    """Let two processes share a run."""
    folder = tmp_path_factory.mktemp("shared") / "run"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    others = {"UNLIR_COORDINATOR": f"127.0.0.1:{port}", "UNLIR_PROCESSES": "2"}
    both = [start(folder, UNLIR_PROCESS=str(place), **others) for place in range(2)]
    texts = [process.communicate(timeout=120)[0] for process in both]
    for process, text in zip(both, texts, strict=True):
        assert process.returncode == 0, text
    return folder, texts


def test_killed_three_times_it_ends_with_the_bytes_of_two_whole_processes(
    killed, shared
):
    for name in ("per_image.parquet", "per_image.csv", "summary.json", "summary.md"):
        assert (killed / name).read_bytes() == (shared[0] / name).read_bytes(), name


def test_two_processes_share_the_batches_and_one_speaks(shared):
    folder, texts = shared
    assert len(list((folder / "batches").iterdir())) == COUNT
    assert "Done: " in texts[0] and "Done: " not in texts[1]
