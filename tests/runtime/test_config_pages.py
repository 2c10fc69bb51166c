"""`unlir configs`: the files that ship, what they reproduce, arguments and settings."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from unlir_jax import cli
from unlir_jax.cli import program
from unlir_jax.runtime import config, config_pages

ROOT = Path(__file__).parents[2]
NAMES = [f"configs/{path.name}" for path in sorted((ROOT / "configs").glob("*.py"))]


def shown(capsys, *words):
    assert cli.main(["configs", *words]) == 0
    return capsys.readouterr().out


def test_all_are_listed(capsys):
    found = json.loads(shown(capsys, "--json"))["configs"]
    assert list(found) == NAMES and all(found.values())
    lines = shown(capsys).splitlines()
    assert [line.split()[0] for line in lines[1:]] == NAMES
    assert lines[NAMES.index("configs/quickstart.py") + 1].endswith("thing to try.")


@pytest.mark.parametrize("name", NAMES)
def test_a_config_names_its_commands_and_arguments(name):
    commands = config_pages.commands(config_pages.about(config.find(name)))
    words = [shlex.split(command) for command in commands]
    assert all(each[0] == "unlir" for each in words) and "\\" not in "".join(commands)
    # The first runs it; others may go on from what it leaves.
    assert words[0][words[0].index("--config") + 1].startswith(name)
    for each in words[1:]:
        assert "--config" in each or each[1] in program.COMMANDS
    file = config.find(name)
    # Each of its arguments is one that it takes.
    for argument, default in config.arguments(name).items():
        value = "none" if default is None else default
        if value != "":
            config.load(f"{file}:{argument}={value}")


def test_a_config_is_described(capsys):
    found = json.loads(shown(capsys, "evaluate:methods=rise", "--json"))
    assert found["name"] == "configs/evaluate.py"
    assert list(found["arguments"]) == ["model", "methods", "metrics", "data"]
    assert found["arguments"]["methods"] == "grad_cam+opti_cam"
    assert found["settings"]["methods"] == ["rise"]
    assert found["settings"]["method_options"]["rise"]["masks"] == 4000
    assert found["variants"] == []
    text = shown(capsys, "quickstart")
    assert "\n  optimizer.learning_rate=0.05\n" in text
    assert "--config configs/quickstart.py --workdir runs/quickstart" in text
    assert text.endswith("variants: seed=0, seed=1, seed=2\n")


def test_a_file_of_ones_own(capsys, tmp_path):
    file = tmp_path / "mine.py"
    text = (ROOT / "configs" / "quickstart.py").read_text()
    file.write_text(text.replace("Train a small", "Mine: a"))
    found = json.loads(shown(capsys, str(file), "--json"))
    assert found["name"] == found["file"] == str(file)
    assert found["summary"].startswith("Mine: a")
    file.write_text("def get_config(:")
    assert cli.main(["configs", str(file)]) == 2
    assert "is no Python" in capsys.readouterr().err


def test_a_misspelt_one(capsys):
    assert cli.main(["configs", "quikstart"]) == 2
    said = capsys.readouterr().err
    assert "did you mean `configs/quickstart.py`" in said
    assert len(said.splitlines()) == 1


@pytest.mark.process
def test_an_installed_wheel_lists_its_own(tmp_path):
    """Without a checkout the configs lie in the package."""
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="no hatchling")
    (built,) = wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path))
    site = tmp_path / "site"
    program = f"import zipfile; zipfile.ZipFile({built!r}).extractall({str(site)!r})"
    subprocess.run([sys.executable, "-c", program], check=True)
    words = [sys.executable, "-m", "unlir_jax.cli", "configs", "quickstart", "--json"]
    done = subprocess.run(
        *(words,),
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["file"] == str(site / "unlir_jax" / "configs" / "quickstart.py")
    assert found["name"] == "configs/quickstart.py"
