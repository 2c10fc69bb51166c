"""Compiled programs that commands keep: where, when not, and broken ones."""

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import small_network
from PIL import Image

from unlir_jax import cli
from unlir_jax.runtime import programs


@pytest.fixture
def own(monkeypatch, tmp_path):
    """Say a folder of one's own, to nobody but this test."""
    monkeypatch.delenv(programs.OWN, raising=False)
    monkeypatch.setenv(programs.SETTING, str(tmp_path / "kept"))
    return tmp_path / "kept"


def fill(folder, count=3):
    place = folder / "machine"
    place.mkdir(parents=True)
    for number in range(count):
        (place / f"jit_{number}-cache").write_bytes(b"program")
        (place / f"jit_{number}-atime").write_bytes(b"12345678")


def test_the_folder_is_the_users_unless_something_else_is_said(monkeypatch, own):
    assert programs.root() == own
    monkeypatch.setenv(programs.SETTING, "OFF")
    assert programs.root() is None
    monkeypatch.delenv(programs.SETTING)
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere")
    assert programs.root().parts[-2:] == ("unlir_jax", "programs")
    monkeypatch.setenv(programs.OWN, "/elsewhere")
    assert programs.root() is None


def test_a_folder_that_cannot_be_written_is_one_warning(own):
    own.write_text("a file")
    with pytest.warns(
        UserWarning, match="cannot be kept in '.*kept'.*compiles them"
    ) as told:
        programs.keep()
    assert len(told) == 1


def test_nothing_is_said_to_jax_where_its_user_has_said_it(monkeypatch, own):
    monkeypatch.setenv(programs.OWN, "/elsewhere")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        programs.keep()
    assert not own.exists()


def test_warnings_of_jax_are_one_sentence_and_a_broken_program_goes(own):
    fill(own)
    told = []
    hear = programs.listener(told.append)
    entry = "compilation cache entry for 'jit_f': OSError: No space left on device"
    assert hear(f"Error writing persistent {entry}")
    assert hear(f"Error writing persistent {entry}")
    assert not hear("Something else.")
    assert len(told) == 1 and "(OSError: No space left on device)" in told[0]
    assert programs.kept().programs == 3
    hear = programs.listener(told.append)
    assert hear(f"Error reading persistent {entry}")
    assert programs.kept().programs == 0


def test_the_command_shows_and_clears(own, capsys):
    fill(own)
    (own / "mine.txt").write_text("not a program")
    assert cli.main(["cache"]) == 0
    assert re.match(r"3 compiled programs, 0.0 MB of at most", capsys.readouterr().out)
    assert cli.main(["cache", "--clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["programs"] == 0
    assert [path.name for path in own.iterdir()] == ["mine.txt"]


def explain(folder, name, weights, kept):
    """Explain a photograph in a process of its own."""
    command = [sys.executable, "-m", "unlir_jax.cli", "explain", "photo.png"]
    command += ["--model", "cifar_resnet8", "--weights", str(weights)]
    command += ["--method", "grad_cam", "--output", name]
    source = str(Path(__file__).parents[2])
    environment = os.environ | {programs.SETTING: kept, "PYTHONPATH": source}
    # Which programs take long enough to be kept would depend on time.
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    environment.pop(programs.OWN, None)
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    document = json.loads((folder / name / "results.json").read_text("utf-8"))
    del document["created"]
    return document, done.stderr


@pytest.mark.process
def test_kept_programs_give_the_same_bytes_and_a_broken_one_is_replaced(tmp_path):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    weights = small_network.write(tmp_path)
    without, _ = explain(tmp_path, "without", weights, "off")
    kept = tmp_path / "kept"
    first, said = explain(tmp_path, "first", weights, str(kept))
    assert first == without and not said
    files = sorted(kept.rglob("*-cache"))
    assert files
    second, said = explain(tmp_path, "second", weights, str(kept))
    assert second == without and not said
    assert sorted(kept.rglob("*-cache")) == files
    for file in files:
        file.write_bytes(file.read_bytes()[:50])
    third, said = explain(tmp_path, "third", weights, str(kept))
    assert third == without
    assert len(said.splitlines()) == 1 and "is broken" in said and "made anew" in said
    fourth, said = explain(tmp_path, "fourth", weights, str(kept))
    assert fourth == without and not said
