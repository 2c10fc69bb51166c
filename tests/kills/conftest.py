"""What commands are given that are killed; these tests take many minutes."""

import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import few_colours
import numpy as np
import pytest
import small_parts

from unlir_jax import adapters, filters, tree
from unlir_jax.models import pretrained
from unlir_jax.weights import readers

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.exhaustive)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Give a command in a place: its exit code, number of events, and what it said.

    All of them compile a program once.
    """
    compiled = tmp_path_factory.getbasetemp() / "compiled"
    paths = [ROOT, ROOT / "tests", os.environ.get("PYTHONPATH", "")]
    variables = {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
    }
    with subprocess.Popen(
        [sys.executable, HERE / "killed.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | variables,
        text=True,
    ) as process:
        ask, answers = process.stdin, process.stdout

        def give(words, place, moment=0, delay=0.0):
            ask.write(json.dumps([str(place), moment, delay, words]) + "\n")
            ask.flush()
            return json.loads(answers.readline())

        yield give
        ask.close()


@pytest.fixture(scope="session")
def given(tmp_path_factory):
    """Write pictures, weights, adapters and a part network, outside of all places."""
    root = tmp_path_factory.mktemp("given")
    colours = few_colours.write(root / "colours")
    network = pretrained.load("cifar_resnet8", "random")
    leaves = {p: np.asarray(x) for p, x in tree.flatten(network.variables).items()}
    readers.write_safetensors(root / "w.safetensors", leaves)
    random = np.random.default_rng(0)
    for name in ("one", "other"):
        start = filters.init(network.variables, "layer[23]/.*", "output")
        learnt = {n: random.normal(1, 0.1, x.shape) for n, x in start.items()}
        head = {"kernel": random.normal(size=(64, 3)), "bias": np.zeros(3)}
        adapters.save(
            root / f"{name}.safetensors",
            learnt,
            backbone="cifar_resnet8",
            fingerprint=adapters.fingerprint(network.variables),
            head=head,
            metadata={"class_names": list(few_colours.CLASSES), "head": "linear"}
            | {"image_size": 32, "crop": 1.0, "pooling": "average"},
        )
    small_parts.write_pictures(root / "parts")
    parts, _ = small_parts.write(root / "network", root / "parts")
    folder = types.SimpleNamespace(root=root, colours=colours, parts=parts)
    yield folder
    shutil.rmtree(root)
