"""`unlir train`: dry runs, complaints of one line, and what is left untouched."""

import json

import pytest
from PIL import Image
from training.conftest import TINY

from unlir_jax import cli

BAD = {
    "no config": ([], "--config"),
    "no such config": (["--config", "none.py", "--workdir", "w"], "is not a file"),
    "no workdir": (["--config", str(TINY)], "--workdir is missing"),
    "key": (
        ["--config", str(TINY), "--workdir", "w", "--config.optimzer.name=sgd"],
        "did you mean `--config.optimizer.name`?",
    ),
    "type": (
        ["--config", str(TINY), "--workdir", "w", "--config.batch_size=many"],
        "expected an int",
    ),
    "argument": (["--config", f"{TINY}:modle=a", "--workdir", "w"], "`model`"),
    "option": (["--config", str(TINY), "--workdir", "w", "--stesp=3"], "--stesp"),
    "missing data": (
        ["--config", "configs/linear_probe.py", "--workdir", "w"],
        "--config.data.path",
    ),
    "no such folder": (
        [
            *("--config", "configs/linear_probe.py", "--workdir", "w"),
            "--config.data.path=nowhere",
        ],
        "'nowhere' does not exist",
    ),
    "class without images": (
        [
            *("--config", "configs/linear_probe.py", "--workdir", "w"),
            "--config.data.path=lacking",
        ],
        "'dog' has no images",
    ),
    "devices": (
        ["--config", str(TINY), "--workdir", "w", "--config.batch_size=9"],
        "4 devices",
    ),
    "file": (["--config", str(TINY), "--workdir", "lacking/file"], "is a file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, pictures, tmp_path, monkeypatch, capsys):
    """Exit code 2, one line on stderr, and nothing written."""
    monkeypatch.chdir(tmp_path)
    for name in ("train/dog", "train/cat", "test/cat"):
        (tmp_path / "lacking" / name).mkdir(parents=True)
    for split in ("train", "test"):
        Image.new("RGB", (9, 9)).save(tmp_path / "lacking" / split / "cat" / "a.png")
    (tmp_path / "lacking" / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    arguments, expected = BAD[case]
    assert cli.main(["train", *arguments]) == 2
    output = capsys.readouterr()
    assert expected in output.err
    assert len(output.err.splitlines()) == 1 and output.err.startswith("unlir: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_shows_settings_shapes_and_parameters(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "--config", str(TINY), "--dry-run", "--config.seed=7"]
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    assert "seed: 7" in text
    assert "image uint8 [16, 32, 32, 3]" in text
    assert "40 images to train on, 22 to test on, 6 classes" in text
    assert "layer3/block0/conv2/conv/kernel       3 x 3 x 64 x 64" in text
    assert "77,782 numbers learn, 0 are frozen." in text
    assert not list(tmp_path.iterdir())


@pytest.mark.exhaustive
def test_a_run_from_the_command_line(tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = ["train", "--config", str(TINY), "--workdir", str(folder)]
    arguments += ["--config.steps=2", "--config.log.tensorboard=true"]
    assert cli.main(arguments) == 0
    output = capsys.readouterr()
    assert not output.err, "nobody watches, so nothing is drawn"
    assert output.out.splitlines()[-1].startswith("Done: training is finished in ")
    summary = json.loads((folder / "summary.json").read_text())
    assert 0 <= summary["test/accuracy"] <= 1
    assert list((folder / "tensorboard").glob("events.*"))
    assert cli.main([*arguments, "--quiet"]) == 0
    assert not capsys.readouterr().out


@pytest.mark.exhaustive
def test_a_diverged_run_has_an_exit_code_of_its_own(tmp_path, capsys):
    arguments = ["train", "--config", str(TINY), "--workdir", str(tmp_path / "run")]
    arguments += ["--config.optimizer.learning_rate=1e30", "--config.steps=4"]
    arguments += ["--config.optimizer.schedule.name=constant"]
    assert cli.main(arguments) == 3
    assert "is not a finite number" in capsys.readouterr().err


@pytest.mark.exhaustive
def test_a_finished_workdir_can_be_explained(pictures, tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = ["train", "--config", str(TINY), "--workdir", str(folder), "--quiet"]
    arguments += ["--config.steps=2"]
    assert cli.main(arguments) == 0
    picture = next((pictures / "test").rglob("*.png"))
    report = tmp_path / "report"
    arguments = ["explain", str(picture), "--model", str(folder)]
    arguments += ["--method", "grad_cam", "--label", "class 3"]
    assert cli.main([*arguments, "--output", str(report)]) == 0
    document = json.loads((report / "results.json").read_text())
    assert "class 3" in json.dumps(document)


def test_an_unfinished_workdir_cannot(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    # It is no image, which is for later to say.
    arguments = ["explain", str(tmp_path / "config.json"), "--model", str(tmp_path)]
    assert cli.main(arguments) == 2
    assert "is not finished" in capsys.readouterr().err
