"""A workdir knows what it began with, belongs to one run, and ends whole or not."""

import json
import os
import shutil
from typing import Any

import numpy as np
import pytest
import tiers
from PIL import Image
from training.conftest import TINY

from unlir_jax import cli, tree
from unlir_jax.models import pretrained
from unlir_jax.part_report import training_images
from unlir_jax.runs import origins, workdir
from unlir_jax.runtime import config
from unlir_jax.storage import locks
from unlir_jax.training import setup as setups
from unlir_jax.training import train
from unlir_jax.weights import exported

STEPS = 2


def settings(data, *overrides) -> Any:
    changed: Any = config.load(str(TINY), [f"steps={STEPS}", *overrides])
    with changed.unlocked():
        changed.data.source, changed.data.path = "folder", str(data)
        for group in ("options", "train_options", "test_options"):
            changed.data[group] = {}
    return changed


def write_weights(folder, seed):
    """Write a network's weights to a file as `unlir convert` does."""
    drawn = pretrained.load("cifar_resnet8", "random", num_classes=6, seed=seed)
    leaves = {
        path: np.asarray(leaf) for path, leaf in tree.flatten(drawn.variables).items()
    }
    folder.mkdir(exist_ok=True)
    return exported.write(folder, leaves, pretrained.purpose(drawn))


@pytest.fixture(scope="module")
def begun(pictures, tmp_path_factory):
    """Train on a copy of the pictures, from a file of weights."""
    root = tmp_path_factory.mktemp("begun")
    shutil.copytree(pictures, root / "data")
    file = write_weights(root / "start", 1)
    given = settings(root / "data", f"model.weights={file}", "checkpoint.every=1")
    train.run(given, root / "run")
    return root


@pytest.fixture
def copy(begun, tmp_path):
    """Give a training that has one step left to finish, and all that it is about."""
    for name in ("data", "start", "run"):
        shutil.copytree(begun / name, tmp_path / name)
    path = tmp_path / "run" / workdir.CONFIG
    path.write_text(path.read_text().replace(str(begun), str(tmp_path)))
    return tmp_path


def unfinished(copy):
    """Take the end of a training away, as if it had been killed before."""
    for name in (workdir.SUMMARY, exported.FILE):
        (copy / "run" / name).unlink()
    return copy


def again(copy, *overrides):
    lines = []
    given = settings(
        copy / "data",
        f"model.weights={copy / 'start' / exported.FILE}",
        "checkpoint.every=1",
        *overrides,
    )
    return train.run(given, copy / "run", say=lines.append), lines


def contents(folder):
    return {
        path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def refused(copy, sentence, *overrides):
    """Give the command again, which is refused, and nothing is written."""
    before = contents(copy / "run")
    with pytest.raises(ValueError, match=sentence) as error:
        again(copy, *overrides)
    assert contents(copy / "run") == before
    return str(error.value)


# What it began with


def test_a_start_is_noted_and_the_same_things_go_on(begun, copy):
    noted = json.loads((copy / "run" / origins.FILE).read_text())
    assert set(noted["weights"]) == {"model"}
    assert noted["data"]["train"]["examples"] == 36
    # Copies have other times.
    outcome, _ = again(unfinished(copy), "data.compare=sizes")
    whole = (begun / "run" / exported.FILE).read_bytes()
    assert (copy / "run" / exported.FILE).read_bytes() == whole
    assert outcome.message.startswith("Done: ")


def test_other_start_weights_are_refused(copy):
    write_weights(copy / "start", 2)
    text = refused(unfinished(copy), "was begun with something else")
    assert "the weights of `model` have the hash" in text


def test_other_data_is_refused(copy):
    Image.new("RGB", (40, 40)).save(copy / "data/test/kind 1/AAA.png")
    text = refused(
        unfinished(copy), "new here 'test/kind 1/AAA.png'", "data.compare=sizes"
    )
    assert "30 there and 31 here" in text and "`test`" in text


def test_files_of_other_times_are_refused_with_the_way_out(copy):
    files = sorted((copy / "data" / "train").rglob("*.png"))
    os.utime(files[0], (1, 1))
    refused(unfinished(copy), "--config.data.compare=sizes")


def test_where_it_started_from_and_adapters_count_as_well(copy, tmp_path):
    first = write_weights(tmp_path / "other", 3)
    given = settings(copy / "data", f"init_from={first}")
    one = setups.prepare(given).further
    write_weights(tmp_path / "other", 4)
    assert set(one) == {"init_from"} and setups.prepare(given).further != one
    given = settings(copy / "data", f"init_from={copy / 'run' / 'checkpoints' / '1'}")
    one = setups.prepare(given).further["init_from"]
    given.init_from = str(copy / "run" / "checkpoints" / "2")
    assert setups.prepare(given).further["init_from"] != one


def test_a_workdir_of_an_earlier_version_says_that_it_takes_what_is_there(copy):
    (copy / "run" / origins.FILE).unlink()
    _, lines = again(unfinished(copy))
    assert any("as an earlier version left it" in line for line in lines)
    assert (copy / "run" / origins.FILE).exists()


def test_training_pictures_that_have_changed_are_not_shown(copy):
    assert (
        training_images.open_images(copy / "run", 32, 1.0, "bilinear").source
        is not None
    )
    changed = sorted((copy / "data" / "train").rglob("*.png"))[0]
    with changed.open("ab") as file:
        file.write(b"\0")
    album = training_images.open_images(copy / "run", 32, 1.0, "bilinear")
    assert album.source is None
    assert "not what they were" in album.missing and changed.name in album.missing


# One run at a time


def test_a_second_training_in_a_workdir_is_refused(copy):
    with locks.alone(unfinished(copy) / "run" / locks.LOCK):
        refused(copy, "Another process is training here", "data.compare=sizes")


def test_a_second_training_in_a_new_workdir_is_refused(copy):
    new = copy / "new"
    new.mkdir()
    with locks.alone(new / locks.LOCK):
        with pytest.raises(ValueError, match="Another process is training here"):
            train.run(settings(copy / "data"), new)
    assert [path.name for path in new.iterdir()] == [locks.LOCK]


# The end


@pytest.mark.exhaustive
def test_weights_that_are_gone_are_made_again(begun, copy):
    (copy / "run" / exported.FILE).unlink()
    _, lines = again(copy, "data.compare=sizes")
    assert any(
        "weights.safetensors is gone: it is made again" in line for line in lines
    )
    whole = (begun / "run" / exported.FILE).read_bytes()
    assert (copy / "run" / exported.FILE).read_bytes() == whole
    one, other = (
        json.loads((root / "run" / workdir.SUMMARY).read_text())
        for root in (begun, copy)
    )
    assert one["weights_sha256"] == other["weights_sha256"]
    assert one["test/accuracy"] == other["test/accuracy"]
    assert again(copy, "data.compare=sizes")[0].message.startswith("Nothing to do")


def test_weights_that_are_gone_with_all_checkpoints_are_said(copy):
    (copy / "run" / exported.FILE).unlink()
    shutil.rmtree(copy / "run" / "checkpoints")
    refused(copy, "weights.safetensors is gone, and no checkpoint is left")


def test_weights_that_are_others_are_said_with_both_hashes(copy):
    path = copy / "run" / exported.FILE
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    text = refused(copy, "has the hash [0-9a-f]{12}, and the training wrote")
    assert "delete it" in text


@pytest.mark.exhaustive
def test_what_a_killed_run_left_goes_at_the_next_start(copy):
    folder = unfinished(copy) / "run"
    half = folder / "checkpoints" / "3.orbax-checkpoint-tmp"
    (half / "state").mkdir(parents=True)
    (half / "state" / "x").write_text("half")
    (folder / ".unlir-0123456789ab.tmp").write_text("half")
    again(copy, "data.compare=sizes")
    names = [path.name for path in folder.rglob("*")]
    assert not [name for name in names if "tmp" in name]


# Documents


@pytest.mark.parametrize(
    "name", [workdir.CONFIG, workdir.CLASSES, workdir.SUMMARY, origins.FILE]
)
@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[3]", "\xff"])
def test_a_damaged_document_is_a_sentence(copy, name, text):
    if name == workdir.SUMMARY:
        (copy / "run" / exported.FILE).unlink()
    (copy / "run" / name).write_bytes(text.encode("latin-1"))
    if name in (workdir.CLASSES, origins.FILE):
        (copy / "run" / workdir.SUMMARY).unlink()
    assert name in refused(copy, name, "data.compare=sizes")


@pytest.mark.parametrize("odd", [{"data": [1]}, {"data": {"options": [1]}}, {}])
def test_a_config_of_another_shape_is_another_config(copy, odd):
    (copy / "run" / workdir.CONFIG).write_text(json.dumps(odd))
    refused(copy, "belongs to another config")


# Settings and names


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("seed", -1, "`seed`=-1; expected a number from 0 to 4,294,967,295"),
        ("seed", 2**64, "`seed`=18446744073709551616"),
        ("seed", 10**400, "`seed`="),
        ("average", 1.5, "`average`=1.5; expected a number from 0 to below 1"),
        ("data.crop", 2.0, "`data.crop`=2.0"),
        ("data.crop", 1e-9, "`data.crop`=1e-09"),
        ("data.image_size", 40_000, "`data.image_size`=40000"),
        ("data.threads", -1, "`data.threads`=-1"),
        ("data.workers", -1, "`data.workers`=-1"),
        ("data.workers", 10**6, "`data.workers`=1000000"),
        ("data.compare", "content", "`data.compare`='content'"),
        ("batch_size", 2**40, "`batch_size`=1099511627776"),
        ("steps", 2**31, "`steps`=2147483648"),
        ("checkpoint.keep_last", 0, "`checkpoint.keep_last`=0"),
        ("checkpoint.every", -1, "`checkpoint.every`=-1"),
        ("evaluate.every", -3, "`evaluate.every`=-3"),
        ("log.every", 0, "`log.every`=0"),
        ("mesh.shard_above", -1, "`mesh.shard_above`=-1"),
        ("model.precision", "best", "`model.precision`='best'"),
        ("optimizer.learning_rate", -0.1, "`optimizer.learning_rate`=-0.1"),
        ("optimizer.accumulate", 0, "`optimizer.accumulate`=0"),
        ("optimizer.schedule.factor", -1.0, "`optimizer.schedule.factor`=-1.0"),
        ("model.name", "", "`name`='' is not a network"),
        ("model.name", "n" * 300, "… (300 letters) is not a network"),
        ("model.name", "n" * 5000, "… (5,000 letters) is not a network"),
        ("model.name", "a\0b", "`name`='a\\x00b' is not a network"),
    ],
)
def test_a_refused_setting_leaves_no_workdir(
    setting, value, expected, tmp_path, capsys
):
    arguments = ["train", "--config", str(TINY), "--workdir", str(tmp_path / "run")]
    assert cli.main([*arguments, f"--config.{setting}={value}"]) == 2
    said = capsys.readouterr().err
    assert expected in said and len(said) < 1500
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "rule", [{"learning_rate": "x"}, {"learning_rate": -1.0}, {"train": 1}]
)
def test_a_rule_of_another_type_is_refused(rule, pictures, tmp_path):
    given = settings(pictures)
    given.optimizer.table = ((".*", rule),)
    with pytest.raises(ValueError, match="The rule of"):
        train.run(given, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_an_option_that_an_optimiser_fails_on_is_refused(pictures, tmp_path):
    given = settings(pictures)
    with given.unlocked():
        given.optimizer.options = {"momentum": "much"}
    with pytest.raises(ValueError, match="are refused by optax.sgd"):
        train.run(given, tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("n" * 300, "has a name of 300 bytes"),
        ("ä" * 200, "has a name of 400 bytes"),
        ("n" * 5000, "(5,000 letters) has a name of 5,000 bytes"),
        ("n/" * 2500, "is a path of 5,000 bytes"),
        ("a\0b", "has a NUL in it"),
    ],
)
@pytest.mark.parametrize("command", ["train", "retrieve"])
def test_what_can_be_no_path_is_a_sentence(
    command, name, expected, pictures, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    arguments = {
        "train": ["--config", str(TINY), "--workdir", name],
        "retrieve": [str(pictures), "--index", str(pictures), "--output", name],
    }[command]
    assert cli.main([command, *arguments]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert ("`workdir`=" if command == "train" else "`output`=") in said
    assert not list(tmp_path.iterdir())


# Numbers


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("overrides", "expected"),
    tiers.by_tier(
        [
            # One step is finite, and the network behind it gives no numbers.
            (("model.dtype=float16",), "test/loss of the test split"),
            (
                ("optimizer.weight_decay=1e30", "data.test="),
                "of the state after step 1",
            ),
        ],
        1,
    ),
)
def test_what_is_measured_is_a_number_or_the_run_fails(
    overrides, expected, pictures, tmp_path
):
    given = settings(
        *(pictures, "steps=1", "optimizer.schedule.name=constant"),
        *("optimizer.learning_rate=1e30", *overrides),
    )
    for _ in range(2):
        with pytest.raises(FloatingPointError, match=expected) as error:
            train.run(given, tmp_path / "run")
        assert "not finite" in str(error.value) or "not a finite" in str(error.value)
        assert (tmp_path / "run" / "diverged.json").exists()
        assert not (tmp_path / "run" / workdir.SUMMARY).exists()
        assert not list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))
