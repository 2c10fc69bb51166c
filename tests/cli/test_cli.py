"""The command line: help at once, complaints of one line, weights kept bit for bit."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import small_network
from PIL import Image

import unlir_jax
from unlir_jax import cli, tree
from unlir_jax.cli import models, program
from unlir_jax.data import classes
from unlir_jax.models import zoo
from unlir_jax.weights import readers


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return small_network.write(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (40, 30), (200, 60, 20)).save(path)
    return path


@pytest.mark.parametrize("command", [[], *([name] for name in program.COMMANDS)])
def test_help_comes_without_jax(command):
    program = (
        "import sys; from unlir_jax import cli; "
        f"code = cli.main([*{command!r}, '--help']); "
        "print(code, *({'jax', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert "examples:" in done.stdout
    assert not done.stderr


def test_a_command_is_one_file_and_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "greet.py").write_text(
        'SUMMARY, EPILOG = "greet somebody", "examples:"\n'
        "def add(parser):\n    parser.add_argument('name')\n"
        "def run(arguments):\n    print('Hello', arguments.name)\n    return 7\n"
    )
    monkeypatch.setattr(cli, "__path__", [*cli.__path__, str(tmp_path)])
    monkeypatch.setattr(program, "COMMANDS", (*program.COMMANDS, "greet"))
    assert cli.main(["greet", "Ada"]) == 7
    assert capsys.readouterr().out == "Hello Ada\n"
    assert cli.main(["--help"]) == 0
    assert "    greet     greet somebody\n" in capsys.readouterr().out
    assert cli.main(["greet", "Ada", "--config.seed=1"]) == 2
    assert "unrecognized arguments: --config.seed=1" in capsys.readouterr().err


def test_every_file_of_a_command_is_listed():
    files = {
        path.stem
        for path in Path(program.__file__).parent.glob("*.py")
        if "\ndef run(" in path.read_text("utf-8")
    }
    assert files == set(program.COMMANDS)


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"unlir_jax {unlir_jax.__version__}"


BAD = {
    "no command": ([], "COMMAND"),
    "no image": (["explain"], "IMAGE"),
    "missing file": (["explain", "none.png"], "does not exist"),
    "nothing matches": (["explain", "none*.png"], "No image matches"),
    "empty folder": (["explain", "empty"], "No image matches"),
    "not an image": (["explain", "text.png"], "cannot be read as an image"),
    "truncated": (["explain", "short.jpg"], "cannot be read as an image"),
    "all broken": (["explain", "text.png", "short.jpg"], "None of 2 images"),
    "network": (["explain", "photo.png", "--model", "resnet5"], "did you mean"),
    "method": (["explain", "photo.png", "--method", "gradcams"], "'grad_cam'"),
    "no method": (["explain", "photo.png", "--method", ","], "`methods` is empty"),
    "layer": (["explain", "photo.png", "--layer", "block99"], "its modules: "),
    "flat layer": (["explain", "photo.png", "--layer", "classifier"], "expected maps"),
    "label": (["explain", "photo.png", "--label", "clss 3"], "class 3 (3)"),
    "ambiguous": (["explain", "photo.png", "--label", "class"], "and 2 more"),
    "index": (["explain", "photo.png", "--label", "10"], "expected 0 to 9"),
    "no file": (["explain", "photo.png", "--weights", "none.pth"], "does not exist"),
    "no weights": (["explain", "photo.png", "--weights", "text.png"], "format"),
    "others": (["explain", "photo.png", "--weights", "other.safetensors"], "missing"),
    "folder": (["explain", "photo.png", "--output", "full"], "is not empty"),
    "file": (["explain", "photo.png", "--output", "text.png"], "is a file"),
    "not ours": (["explain", "photo.png", "--output", "full", "--overwrite"], "holds"),
    "batch": (["explain", "photo.png", "--batch-size", "0"], "at least 1"),
    "no number": (["explain", "photo.png", "--seed", "one"], "invalid int"),
    "steps": (["explain", "photo.png", "--steps", "3", "--method", "cam"], "`steps`=3"),
    "steps beyond": (
        ["explain", "photo.png", "--steps", "9" * 20],
        "999; expected 1 to",
    ),
    "no name": (["explain", ""], "'', which is no path"),
    "no step": (["explain", "photo.png", "--steps", "0"], "`steps`=0; expected 1"),
    "negative seed": (["explain", "photo.png", "--seed", "-1"], "`seed`=-1; expected"),
    "long seed": (["explain", "photo.png", "--seed", "9" * 20], "expected an integer"),
    "models": (["models", "resnet5"], "did you mean"),
    "suffix": (["convert", "cifar_resnet8", "other.safetensors", "o.pth"], "ends in"),
    "exists": (
        ["convert", "cifar_resnet8", "own.safetensors", "own.safetensors"],
        "exists",
    ),
    "convert others": (
        ["convert", "cifar_resnet8", "other.safetensors", "new.safetensors"],
        "missing",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, weights, photo, tmp_path, monkeypatch, capsys):
    """Exit code 2, one line on stderr, nothing on stdout, nothing written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "report.html").write_text("mine")
    (tmp_path / "text.png").write_text("This is no image.")
    photo_bytes = small_network.jpeg(photo)
    (tmp_path / "short.jpg").write_bytes(photo_bytes[: len(photo_bytes) // 2])
    (tmp_path / "own.safetensors").write_bytes(weights.read_bytes())
    readers.write_safetensors("other.safetensors", {"w": np.ones(3, np.float32)})
    before = sorted(path for path in tmp_path.rglob("*"))
    arguments, expected = BAD[case]
    arguments = list(arguments)
    if arguments[:1] == ["explain"] and len(arguments) > 1:
        if "--model" not in arguments:
            arguments += ["--model", "cifar_resnet8"]
        if "--weights" not in arguments:
            arguments += ["--weights", str(weights)]
        if "--output" not in arguments:
            arguments += ["--output", "out/deeper"]
    assert cli.main(arguments) == 2
    output = capsys.readouterr()
    assert not output.out
    assert expected in output.err
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith("unlir: ")
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_interrupt(photo, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "networks", interrupt)
    assert cli.main(["models"]) == 130
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.exhaustive
def test_nobody_reads_the_output():
    command = f"{sys.executable} -m unlir_jax.cli models --json | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, check=True)
    assert done.stdout == b"["
    assert not done.stderr


def test_models(capsys):
    assert cli.main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(zoo.networks())
    assert rows["efficientnet_lite0"]["weights_at_hand"]
    assert rows["efficientnet_lite0"]["image_size"] == 224
    assert cli.main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "size", "layer", "parameters", "weights"]
    assert any(
        line.split()[:5] == ["vgg11", "224", "conv5_2", "132.9", "M"] for line in lines
    )


def test_layers(capsys):
    assert cli.main(["models", "cifar_resnet8", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    shapes = {row["layer"]: row["shape"] for row in rows}
    assert shapes["layer3"] == [8, 8, 64]
    assert shapes["stem/conv"] == [32, 32, 16]
    assert "classifier" not in shapes


def test_methods(capsys):
    assert cli.main(["methods"]) == 0
    output = capsys.readouterr().out
    for name in (*unlir_jax.saliency.METHODS, *unlir_jax.metrics.METRICS):
        assert f"\n{name} " in output


def test_convert_keeps_every_bit(weights, tmp_path, capsys):
    output = tmp_path / "mine.safetensors"
    arguments = ["convert", "cifar_resnet8", str(weights), str(output)]
    assert cli.main(arguments) == 0
    assert str(output) in capsys.readouterr().out
    first = unlir_jax.load("cifar_resnet8", weights=weights)
    second = unlir_jax.load("cifar_resnet8", weights=output)
    jax.tree.map(np.testing.assert_array_equal, first.variables, second.variables)
    metadata = readers.read_metadata(output)
    assert metadata["format"] == "unlir_jax"
    assert metadata["network"] == "cifar_resnet8"
    assert metadata["sha256"] == readers.sha256(weights)
    assert set(readers.read(output)) == set(tree.flatten(first.variables))
    assert cli.main([*arguments, "--overwrite", "--num-classes", "3"]) == 0
    third = unlir_jax.load("cifar_resnet8", weights=output)
    assert third.variables["params"]["classifier"]["bias"].shape == (3,)


NAMES = ("tiger cat", "tiger", "Tiger_shark", "great-white shark", "zebra")


@pytest.mark.parametrize(
    ("label", "index"),
    [
        ("3", 3),
        ("TIGER", 1),
        ("tiger_cat", 0),
        ("tiger-shark", 2),
        ("Great White", 3),
        ("zeb", 4),
        ("white", 3),
    ],
)
def test_find_class(label, index):
    assert classes.find_class(label, NAMES) == index


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("-1", "expected 0 to 4"),
        ("tig", r"tiger cat \(0\), tiger \(1\), Tiger_shark \(2\)"),
        ("zebar", r"zebra \(4\)"),
        ("shark", r"could be Tiger_shark \(2\), great-white shark \(3\)"),
        ("", "is not a class"),
    ],
)
def test_find_class_refuses(label, message):
    with pytest.raises(ValueError, match=message):
        classes.find_class(label, NAMES)
