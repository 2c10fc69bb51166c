"""Solar cells: from a package that pretends to be the real one, and from that."""

import importlib.util
from collections import Counter

import cloudpickle
import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import elpv

PROBABILITIES = ("0.0", "0.3333333333333333", "0.6666666666666666", "1.0")
KINDS = ("mono", "poly")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package with eight cells of each probability and kind, in 16 grey."""
    root = tmp_path / "elpv_dataset"
    (root / "data" / "images").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('was imported')")
    strata = [(p, kind) for p in PROBABILITIES for kind in KINDS] * 8
    lines = []
    for number, (probability, kind) in enumerate(strata):
        name = f"images/cell{number:04}.png"
        Image.new("L", (5, 5), number).save(root / "data" / name)
        lines.append(f"{name}  {probability:20}{kind}")
    (root / "data" / "labels.csv").write_text("\n".join(lines) + "\n\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return root / "data", strata


def names(source):
    return [source.name(index) for index in range(source.size)]


def stratum(strata, name):
    return strata[int(name[-8:-4])]


def test_labels_and_pictures(package):
    _, strata = package
    source = elpv.elpv("all")
    assert source.size == 64 and source.classes == ("functional", "defective")
    assert source.labels.dtype == np.int32
    for index in range(64):
        example = source.read(index)
        number = int(source.name(index)[-8:-4])
        # Two thirds and one: more likely than not.
        assert example["label"] == source.labels[index]
        assert example["label"] == (strata[number][0] in PROBABILITIES[2:])
        assert np.asarray(example["image"])[0, 0].tolist() == [number] * 3


def test_division(package):
    _, strata = package
    train, test = elpv.elpv("train"), elpv.elpv("test")
    assert sorted(names(train) + names(test)) == names(elpv.elpv("all"))
    # A quarter of eight, of every probability and kind.
    assert set(Counter(stratum(strata, name) for name in names(test)).values()) == {2}
    assert len({stratum(strata, name) for name in names(test)}) == 8
    assert elpv.elpv("test", share=0.5).size == 32
    assert names(elpv.elpv("test")) == names(test)
    assert names(elpv.elpv("test", seed=1)) != names(test)


def test_one_kind_is_divided_as_with_the_other(package):
    _, strata = package
    whole = names(elpv.elpv("test"))
    for kind in KINDS:
        some = names(elpv.elpv("test", cells=kind))
        assert some == [name for name in whole if stratum(strata, name)[1] == kind]
        assert len(some) == 8


def test_a_pickle(package):
    source = elpv.elpv("test", cells="poly")
    travelled = cloudpickle.loads(cloudpickle.dumps(source))
    assert names(travelled) == names(source)
    for index in range(source.size):
        found, expected = travelled.read(index), source.read(index)
        assert found["label"] == expected["label"]
        np.testing.assert_array_equal(found["image"], expected["image"])


def test_a_broken_picture(package):
    root, _ = package
    (root / "images" / "cell0003.png").write_bytes(b"nothing")
    source = elpv.elpv("all")
    with pytest.raises(ValueError, match=r"cell0003.png' cannot be read"):
        source.read(3)


WRONG = {
    "`cells`='multi' is not one of mono, poly, or None": {"cells": "multi"},
    "`share`=0.0 is a share": {"share": 0.0},
    "`share`=1.0 is a share": {"share": 1.0},
    "`split`='tets' is not in the data set elpv; did you mean 'test'": {
        "split": "tets"
    },
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments(package, message):
    with pytest.raises(ValueError, match=message):
        elpv.elpv(**{"split": "train"} | WRONG[message])


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="elpv is not installed.*unlir_jax.elpv."):
        elpv.elpv("train")


def test_a_package_without_data(tmp_path, monkeypatch):
    (tmp_path / "elpv_dataset").mkdir()
    (tmp_path / "elpv_dataset" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="elpv is not installed"):
        elpv.elpv("train")


def test_the_real_one():
    """Counts of the data set's own description, and its labels in the paper's sense."""
    if importlib.util.find_spec("elpv_dataset") is None:
        pytest.skip("the package elpv-dataset is not installed")
    everything = elpv.elpv("all")
    assert everything.size == 2624
    # 1,508 cells of probability 0 and 295 of one third; 106 of two thirds, 715 of 1.
    assert np.bincount(everything.labels).tolist() == [1803, 821]
    assert [elpv.elpv("all", cells=kind).size for kind in KINDS] == [1074, 1550]
    train, test = elpv.elpv("train"), elpv.elpv("test")
    assert not set(names(train)) & set(names(test))
    assert abs(test.size - 2624 / 4) <= 4 and train.size + test.size == 2624
    assert test.labels.mean() == pytest.approx(everything.labels.mean(), abs=0.003)
    assert test.read(0)["image"].size == (300, 300)
