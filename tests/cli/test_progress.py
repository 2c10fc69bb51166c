"""How far a command is: a bar, lines, or nothing."""

import argparse
import re
import sys

import pytest
import small_network
from training.conftest import TINY

from unlir_jax import cli
from unlir_jax.cli import options
from unlir_jax.core import console

LINE = re.compile(r" +\d+:\d\d  ( *\d+)%  (.+)")


def told(text):
    """Read lines of progress: shares and stages, between sentences of the command."""
    lines = [line for line in text.splitlines() if not line.startswith("unlir: ")]
    found = [LINE.fullmatch(line) for line in lines]
    known = [each for each in found if each]
    assert len(known) == len(found), text
    return [int(each[1]) for each in known], [each[2] for each in known]


@pytest.fixture
def photo(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    return small_network.write_noise(folder, 2)


@pytest.fixture
def words(photo, tmp_path):
    found = ["explain", str(photo), "--model", small_network.NAME, "--no-controls"]
    found += ["--weights", str(small_network.write(tmp_path)), "--batch-size", "1"]
    return [*found, "--method", "gradient", "--output", str(tmp_path / "out")]


def test_lines_tell_each_stage_once_with_the_time(capsys):
    seconds = iter([0.0, 0.2, 61.4, 3599.8])
    with console.lines(lambda: next(seconds)) as show:
        show("loading", 0.0)
        show("explaining: rise, map", 0.25)
        show("explaining: rise, insertion", 0.5)
    out, err = capsys.readouterr()
    assert not out
    assert err.splitlines() == [
        "   0:00    0%  loading",
        "   1:01   25%  explaining",
        "  60:00  100%  done",
    ]


def test_after_an_error_nothing_is_done(capsys):
    with pytest.raises(RuntimeError), console.lines() as show:
        show("loading", 0.0)
        raise RuntimeError
    assert "done" not in capsys.readouterr().err


def test_a_letter_that_acts_is_written_out(capsys):
    with console.lines() as show:
        show("a\x1b[31m", 0.0)
    assert "\x1b" not in capsys.readouterr().err


def test_a_bar_has_room_for_its_text():
    assert console.cut("short") == "short"
    long = console.cut("mobilenet_v2, compiling smooth_grad_cam_plus_plus: insertion")
    assert len(long) == 34 and long.endswith(": insertion")


@pytest.mark.parametrize(
    ("terminal", "asked", "quiet", "expected"),
    [
        (True, "auto", False, "bar"),
        (False, "auto", False, "none"),
        (True, "auto", True, "none"),
        (False, "lines", False, "lines"),
        (True, "lines", False, "lines"),
        (False, "bar", False, "bar"),
        (True, "none", False, "none"),
        (True, "none", True, "none"),
    ],
)
def test_what_is_shown_depends_on_who_watches(
    terminal, asked, quiet, expected, monkeypatch
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    arguments = argparse.Namespace(progress=asked, quiet=quiet)
    assert options.drawn(arguments) == expected


def test_every_command_with_quiet_has_progress(capsys):
    for command in ("explain", "evaluate", "train", "parts", "retrieve"):
        assert cli.main([command, "--help"]) == 0
        said = capsys.readouterr().out
        assert "--quiet" in said and "--progress {auto,bar,lines,none}" in said


def test_quiet_and_lines_are_refused(words, capsys, tmp_path):
    assert cli.main([*words, "--quiet", "--progress", "lines"]) == 2
    assert "`--progress lines` shows what `--quiet` hides" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.exhaustive
def test_explain_tells_its_stages(words, capsys):
    assert cli.main([*words, "--progress", "lines"]) == 0
    out, err = capsys.readouterr()
    shares, stages = told(err)
    assert stages == [
        *("loading the network", "compiling gradient", "explaining"),
        *("writing the report", "done"),
    ]
    assert shares == [0, 0, 50, 100, 100] and out.startswith("Explained 2 images")
    # Nobody watches: nothing is said.
    assert cli.main([*words, "--overwrite"]) == 0
    assert capsys.readouterr().err == ""
    assert cli.main([*words, "--overwrite", "--progress", "bar"]) == 0
    assert "100%" in capsys.readouterr().err


@pytest.mark.exhaustive
def test_several_networks_say_which(words, capsys):
    both = [*words, "--layer", "layer2,layer3", "--progress", "lines"]
    assert cli.main(both) == 0
    shares, stages = told(capsys.readouterr().err)
    assert stages[:4] == [
        *("looking at layer2", "looking at layer3"),
        *("layer2, loading the network", "layer2, compiling gradient"),
    ]
    assert shares == sorted(shares)


def test_evaluate_tells_its_stages(photo, tmp_path, capsys):
    config = "configs/evaluate.py:model=cifar_resnet8,methods=gradient,"
    words = ["evaluate", "--config", f"{config}metrics=average_drop"]
    settings = {"data.path": photo, "model.weights": "random", "controls": False}
    settings |= {"statistics.resamples": 20, "batch_size": 1, "gallery": 1}
    settings |= {"devices": 1}
    words += [f"--config.{name}={value}" for name, value in settings.items()]
    assert cli.main([*words, "--workdir", str(tmp_path / "w"), "--progress=lines"]) == 0
    shares, stages = told(capsys.readouterr().err)
    assert stages == [
        *("loading the network", "compiling gradient", "explaining", "comparing"),
        *("drawing the gallery", "writing", "done"),
    ]
    assert shares == [0, 0, 50, 100, 100, 100, 100]


@pytest.mark.exhaustive
def test_train_tells_what_it_says_with_the_time(tmp_path, capsys):
    words = ["train", "--config", str(TINY), "--workdir", str(tmp_path / "run")]
    words += ["--config.steps=2", "--config.data.test=", "--progress", "lines"]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^ +0:\d\d  ", err, re.MULTILINE)
    assert "training is finished" in out.lower()
