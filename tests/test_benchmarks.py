"""The benchmark runs from end to end on our side; no time is judged."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

RUN = Path(__file__).parents[1] / "benchmarks" / "run.py"
TINY = (
    "--model cifar_resnet8 --weights random --device cpu --ours plain --ours-only "
    "--batch 2 --steps 2 --curve-steps 2 --repetitions 1 --no-memory"
)


def benchmark(*arguments):
    return subprocess.run(
        [sys.executable, str(RUN), *TINY.split(), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_tables_are_printed_and_stored_once(tmp_path):
    done = benchmark("--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Our side alone" in done.stdout
    (table,) = tmp_path.glob("*.md")
    assert table.read_text() in done.stdout
    (stored,) = tmp_path.glob("*.json")
    document = json.loads(stored.read_text())
    methods = set(document["seconds"]["unlir_jax"])
    assert methods >= {
        "forward",
        "gradient",
        "grad_cam",
        "opti_cam",
        "insertion_deletion",
    }
    multiples = document["summary"]["multiples"]["unlir_jax"]
    assert set(multiples) == methods - {"forward", "gradient"}
    for spread in multiples.values():
        assert all(math.isfinite(value) and value > 0 for value in spread.values())
    assert document["not_finite"] == 0
    assert str(Path.home()) not in stored.read_text() + table.read_text()

    again = benchmark("--output", tmp_path)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr and again.stderr.count("\n") == 1


def test_wrong_option_is_one_sentence():
    done = benchmark("--steps", 0)
    assert done.returncode == 2
    assert done.stderr == "error: `--steps`=0; expected at least 1.\n"


def test_training_is_timed_beside_its_step_alone():
    tiny = "--model cifar_resnet8 --size 32 --batch 8 --steps 2 --drain 1 --json"
    command = [sys.executable, str(RUN.with_name("training.py")), *tiny.split()]
    command += ["--repetitions", "1", "--pictures", "16"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["images_per_second"] > 0 and 0 <= document["data_wait"] <= 1
    assert set(document["milliseconds"]) == {"step alone", "with data", "waiting"}


def test_explainers_are_timed_beside_the_passes_they_need(tmp_path):
    methods = "grad_cam,gradient,rise,insertion_deletion"
    tiny = "--model cifar_resnet8 --weights random --rounds 1 --batch 2 --few 1"
    command = [sys.executable, str(RUN.with_name("explainers.py")), *tiny.split()]
    command += ["--masks", "8", "--curve-steps", "2", "--methods", methods]
    command += ["--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (stored,) = tmp_path.glob("*.json")
    table = json.loads(stored.read_text())["summary"]["table"]
    assert set(table) == set(methods.split(","))
    for row in table.values():
        for kind in ("wall", "processor"):
            multiple = row[kind]["multiple"]
            assert math.isfinite(multiple) and multiple > 0
    (text,) = tmp_path.glob("*.md")
    assert text.read_text() in done.stdout
    command[command.index("--rounds") + 1] = "0"
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and refused.stderr.startswith("error: ")
