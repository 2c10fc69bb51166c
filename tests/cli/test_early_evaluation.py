"""Refusals of `unlir evaluate`, and answers on finished runs, without JAX."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_network

from unlir_jax import cli
from unlir_jax.runtime import finished

ROOT = Path(__file__).parents[2]
REFUSED = {
    "--config configs/evaluat.py": "did you mean `configs/evaluate.py`",
    "--config none.py:methods=cam": "Config 'none.py' is not a file",
    "--config configs/evaluate.py:model=mobilnet_v2": "did you mean 'mobilenet_v2'",
    "--config configs/evaluate.py:methods=cam+grad_cm": "`methods`='grad_cm' is not",
    "--config configs/evaluate.py:metrics=road+insertio": "did you mean 'insertion'",
    "--model mobilnet_v2": "did you mean 'mobilenet_v2'",
    "--config.model.name=mobilnet_v2": "did you mean 'mobilenet_v2'",
    "--config.methods=('cam','grad_cm')": "did you mean 'grad_cam'",
    "--config.metrics=('insertio@mean',)": "did you mean 'insertion'",
    "--config.method_options.rize.steps=3": "`method_options`='rize' is not",
    "--config.metric_options.insertio.steps=3": "`metric_options`='insertio' is not",
    "--config.classes=label+leest": "has 'leest', which is not known; did you mean",
    "--config.classes=least+least": "has 'least' twice; expected each once",
    "--config.augmentations=none+flipp": "did you mean 'flip'",
    "--config.augmentations=flip": "lacks 'none', with which others are compared",
    "--config.data.path=nowhere": "`data.path`='nowhere' does not exist",
    "--maps nowhere": "`maps`='nowhere' is no folder",
    "--config.maps=nowhere": "`maps`='nowhere' is no folder",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_there_is_not_is_refused(line, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", *line.split(), "--workdir", "run"]) == 2
    said = capsys.readouterr()
    assert REFUSED[line] in said.err and len(said.err.splitlines()) == 1
    assert not said.out and not list(tmp_path.iterdir())


def test_refusing_takes_no_jax(tmp_path):
    program = (
        "import shlex, sys; from unlir_jax import cli\n"
        "for line in sys.argv[1:]:\n"
        "    words = ['evaluate', *line.split(), '--workdir', 'run']\n"
        "    print(cli.main(words), 'jax' in sys.modules)"
    )
    words = [sys.executable, "-c", program, *REFUSED]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "2 False\n" * len(REFUSED), done.stderr


def test_a_config_that_registers_methods_is_left_to_the_job(tmp_path, capsys):
    """Names that it brings are no misspelt ones."""
    file = tmp_path / "mine.py"
    file.write_text(
        "import mine_of_mine\nfrom unlir_jax.evaluation import settings\n"
        "def get_config(argument=''):\n    return settings.choose(argument)[0]\n"
    )
    words = ["evaluate", "--config", f"{file}:methods=mine", "--workdir", "run"]
    assert cli.main(words) == 2
    assert "No module named 'mine_of_mine'" in capsys.readouterr().err


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNLIR_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(finished.programs.OWN, raising=False)
    (tmp_path / "config.py").write_text("def get_config(): pass\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text("{}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_text("a")
    return tmp_path


ASKED = {"config": "config.py:a=1", "overrides": ["--config.seed=1"], "score": None}


def noted(message="Done: open run", places=("data",)):
    finished.note(ASKED, "run", message, "Done before: ", places)
    return finished.answer(ASKED, "run")


def test_an_answer_is_repeated_while_all_is_the_same(place):
    assert finished.answer(ASKED, "run") == ""
    assert noted() == "Done before: open run"
    assert finished.answer({**ASKED, "score": "logit"}, "run") == ""
    assert finished.answer(ASKED, "other") == ""
    # Said by a later start, it is kept as it is.
    assert noted("Done before: open run") == "Done before: open run"


CHANGES = {
    "config.py": lambda file: file.write_text("def get_config(): return 1\n"),
    "run/summary.json": lambda file: file.unlink(),
    "run/table.csv": lambda file: file.write_text("a"),
    "data/a.png": lambda file: os.utime(file, (1, 1)),
    "data/b.png": lambda file: file.write_text("b"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_differs_is_looked_at_by_the_job(place, name):
    assert noted()
    CHANGES[name](place / name)
    assert finished.answer(ASKED, "run") == ""


def test_what_is_not_sure_is_not_kept(place, monkeypatch):
    assert noted("Stopped by SIGTERM after 1 of 2 batches") == ""
    assert noted("Done before: x; what it began with cannot be looked at now ()") == ""
    assert noted(places=None) == ""
    assert finished.named({"model": {"name": "nets:small"}}) is None
    assert finished.named({"model": {"weights": "hf:timm/a"}}) is None
    assert finished.named({"data": {"source": "tfds"}}) is None
    found = finished.named({"data": {"path": "data", "source": "folder"}})
    assert found == ["data"]
    (place / "config.py").write_text("import mine\ndef get_config(): pass\n")
    assert noted() == ""
    (place / "config.py").write_text("import os\ndef get_config(): pass\n")
    assert noted()
    monkeypatch.setenv("UNLIR_PROCESSES", "2")
    assert finished.answer(ASKED, "run") == ""


@pytest.mark.parametrize("workdir", ["a\0b", "a" * 300])
def test_a_workdir_that_is_no_path(workdir, place, capsys):
    assert cli.main(["evaluate", "--workdir", workdir]) == 2
    said = capsys.readouterr().err
    assert said.startswith("unlir: `workdir`=") and "expected a path" in said


def test_what_is_kept_may_be_damaged_or_off(place, monkeypatch):
    assert noted()
    (file,) = (place / "cache" / "finished").iterdir()
    text = file.read_text()
    for damage in ("", "[]", "{", text.replace('"data"', "7"), text[:-1]):
        file.write_text(damage)
        assert finished.answer(ASKED, "run") == ""
    finished.programs.clear()
    assert not file.exists()
    monkeypatch.setenv("UNLIR_JAX_CACHE", "off")
    assert noted() == ""


@pytest.mark.process
def test_a_finished_workdir_is_answered_without_jax(place):
    """The sentence is that of the job, for an evaluation and a training."""
    pictures = place / "pictures"
    pictures.mkdir()
    small_network.write_noise(pictures, 4)
    evaluation = [
        *("evaluate", "--config.data.path=pictures", "--config.model.weights=random"),
        "--config=configs/evaluate.py:model=cifar_resnet8,methods=cam,metrics=road",
        *("--config.batch_size=4", "--config.controls=False", "--workdir=scores"),
        "--config.statistics.resamples=20",
    ]
    training = [
        *("train", "--config=configs/quickstart.py", "--config.steps=1"),
        *("--config.data.train_options.size=60", "--config.batch_size=4"),
        *("--config.data.test_options.size=40", "--workdir=trained"),
    ]
    program = (
        "import sys; from unlir_jax import cli; code = cli.main(sys.argv[1:]); "
        "print(code, 'jax' in sys.modules)"
    )

    def run(words):
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        return done.stdout.splitlines()

    for words, before in ((evaluation, "Done before: "), (training, "Nothing to do: ")):
        done = run(words)
        assert done[-1] == "0 True"
        first = next(line for line in done if line.startswith("Done: "))
        expected = before + first.removeprefix("Done: ")
        assert run(words) == [expected, "0 False"]
        # The job itself says the same.
        (note,) = (
            file
            for file in (place / "cache" / "finished").iterdir()
            if f'command": "{words[0]}' in json.loads(file.read_text())["asked"]
        )
        note.unlink()
        assert run(words) == [expected, "0 True"]
        assert run([*words, "--quiet"]) == ["0 False"]
        assert run([*words, "--config.seed=5"])[-1] == "2 True"
    # What began it is gone: the job says so, as it did.
    (pictures / "0_0.png").unlink()
    assert run(evaluation)[-1] == "2 True"
