"""Names from anybody do not act on a terminal, and no error ends as a traceback."""

import json

import pytest
from PIL import Image

from unlir_jax import cli
from unlir_jax.cli import models
from unlir_jax.core import console

HOSTILE = "a\x1b]0;title\x07\x9b31m\u202eb\r\u2066\u200bé\u200d漢"
SHOWN = "a\\u001b]0;title\\u0007\\u009b31m\\u202eb\\r\\u2066\\u200bé\u200d漢"


def test_what_acts_on_a_terminal_is_written_out(capsys):
    assert console.visible(HOSTILE) == SHOWN
    assert console.visible("tab\tline\n") == "tab\tline\n"
    console.say(HOSTILE)
    console.complain(HOSTILE.replace("\r", ""))
    console.print_table((HOSTILE, "b"), [("c", HOSTILE)])
    console.print_json({HOSTILE: [HOSTILE, "\U000e0041"]})
    out, err = capsys.readouterr()
    for letter in set(HOSTILE) - set("a]0;title31mb[é\u200d漢"):
        assert letter not in out + err, repr(letter)
    assert out.count("title\\u0007") == 5 and err.count("title\\u0007") == 1
    assert json.loads(out[out.index("{") :]) == {HOSTILE: [HOSTILE, "\U000e0041"]}


@pytest.mark.parametrize(
    "error", [RecursionError("deep"), KeyError("loss"), OverflowError("x" * 5000)]
)
def test_what_nobody_foresaw_is_a_sentence_with_a_code_of_its_own(
    error, monkeypatch, capsys
):
    def fail():
        raise error

    monkeypatch.setattr(models, "networks", fail)
    monkeypatch.delenv(cli.DEBUG, raising=False)
    assert cli.main(["models"]) == cli.INTERNAL_ERROR == 70
    told = capsys.readouterr().err
    assert told.startswith(f"unlir: internal error: {type(error).__name__}: ")
    assert f"set {cli.DEBUG}=1" in told and told.count("\n") == 1 and len(told) < 500
    monkeypatch.setenv(cli.DEBUG, "1")
    assert cli.main(["models"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_an_argument_is_complained_of_as_what_it_is(capsys):
    assert cli.main(["models", "--\x1b[31m"]) == 2
    assert "\x1b" not in capsys.readouterr().err


LONG, NUL = "a" * 5_000, "a\0b"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["explain", "a.jpg", "--model", LONG], "model"),
        (["explain", "a.jpg", "--weights", NUL], "weights"),
        (["convert", "cifar_resnet8", LONG, "a.safetensors"], "weights"),
        (["convert", "cifar_resnet8", "random", f"{LONG}.safetensors"], "output"),
        (["adapters", "diff", LONG, "b"], "path"),
        (["parts", "--workdir", LONG, "--output", "b"], "workdir"),
    ],
)
def test_what_is_no_path_gets_a_sentence(words, name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.jpg")
    assert cli.main(words) == 2
    told = capsys.readouterr().err
    assert f"`{name}`='a" in told and "expected" in told and "[Errno" not in told
    assert len(told) < 400 and sorted(tmp_path.iterdir()) == [tmp_path / "a.jpg"]


def test_what_the_system_says_of_a_path_becomes_a_sentence(monkeypatch, capsys):
    def fail():
        raise PermissionError(13, "Permission denied", "/x/\x1by")

    monkeypatch.setattr(models, "networks", fail)
    assert cli.main(["models"]) == 2
    told = "unlir: '/x/\\x1by' cannot be used (Permission denied); expected a path"
    assert capsys.readouterr().err.startswith(told)
