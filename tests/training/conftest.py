"""Start trainings as users do: by the command line, in processes of their own."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import synthetic_parts

TINY = Path(__file__).parent / "tiny.py"
PATIENCE = 900
"""Seconds until something hangs: on two cores with twenty jobs, 300 were too few."""


class Training:
    """A running `unlir train`, of one process or of several."""

    def __init__(self, folder, processes):
        self.folder = folder
        self.processes = processes

    def wait(self, timeout=PATIENCE):
        """Give the exit code and all output of each process."""
        texts = [process.communicate(timeout=timeout)[0] for process in self.processes]
        codes = [process.returncode for process in self.processes]
        return list(zip(codes, texts, strict=True))

    def wait_for_step(self, step):
        """Wait until the numbers of a step have been written down."""
        path = self.folder / "metrics.jsonl"
        sign = f'{{"step": {step},'
        self._wait_for(lambda: path.exists() and sign in path.read_text())

    def wait_for_checkpoint(self, step):
        """Wait until a checkpoint is complete; it is written in the background."""
        self._wait_for((self.folder / "checkpoints" / str(step)).is_dir)

    def _wait_for(self, sign, timeout=PATIENCE):
        end = time.monotonic() + timeout
        while not sign():
            if all(process.poll() is not None for process in self.processes):
                raise RuntimeError(self.wait())
            if time.monotonic() > end:
                raise TimeoutError(self.folder)
            time.sleep(0.005)


@pytest.fixture(scope="session")
def shared_programs(tmp_path_factory):
    """Give a folder in which processes find what others have compiled."""
    return tmp_path_factory.getbasetemp() / "compiled"


@pytest.fixture(scope="session")
def start(shared_programs):
    """Start a training on so many processes of so many devices each."""

    def launch(
        folder,
        *arguments,
        processes=1,
        devices=1,
        config=TINY,
        program=("-m", "unlir_jax.cli"),
        **variables,
    ):
        environment = os.environ | {
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(shared_programs),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "PYTHONWARNINGS": "error::UserWarning:unlir_jax",
        }
        environment |= {name: str(value) for name, value in variables.items()}
        if processes > 1:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            environment["UNLIR_COORDINATOR"] = f"127.0.0.1:{port}"
            environment["UNLIR_PROCESSES"] = str(processes)
        command = [sys.executable, *program, "train"]
        command += ["--config", str(config), "--workdir", str(folder), *arguments]
        started = []
        for index in range(processes):
            place = {"UNLIR_PROCESS": str(index)} if processes > 1 else {}
            started.append(
                subprocess.Popen(
                    command,
                    env=environment | place,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        return Training(Path(folder), started)

    return launch


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Write creatures of six classes as a folder of pictures."""
    root = tmp_path_factory.mktemp("pictures")
    for split, size in (("train", 36), ("test", 30)):
        source = synthetic_parts.synthetic_parts(
            split, size=size, classes=6, image_size=40
        )
        for index in range(size):
            example = source.read(index)
            folder = root / split / f"kind {example['label']}"
            folder.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(np.asarray(example["image"]))
            image.save(folder / f"{index:02}.png")
    return root
