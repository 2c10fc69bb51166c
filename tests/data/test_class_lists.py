"""Folders that lack classes: a list names all of them."""

import re

import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import class_lists, folder, preprocessing, splits
from unlir_jax.training import defaults


@pytest.fixture
def halves(tmp_path):
    """Put other classes into the test than into the training."""
    for place in ("train/cat", "train/dog", "test/owl", "test/dog"):
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (8, 6)).save(tmp_path / place / "a.png")
    return tmp_path


@pytest.fixture
def listed(halves):
    file = halves / "classes.txt"
    file.write_text("# animals\n\nowl\n Dog \nant\ncat\n", "utf-8")
    return str(file)


def test_a_list_names_classes_that_a_split_lacks(halves, listed):
    train = folder.folder(halves, "train", classes=listed)
    test = folder.folder(halves, "test", classes=listed)
    assert train.classes == test.classes == ("Dog", "ant", "cat", "owl")
    assert train.labels.tolist() == [2, 0] and test.labels.tolist() == [0, 3]
    assert test.read(1)["label"] == 3


def test_a_training_opens_both_splits_with_a_list(halves, listed):
    settings = defaults.training().data
    settings.path = str(halves)
    with pytest.raises(ValueError, match=r"'owl' is in .*data\.options\.classes=FILE"):
        splits.open_splits(settings)
    settings.options = {"classes": listed}
    opened = splits.open_splits(settings)
    assert opened.train.labels.tolist() == [2, 0]
    assert opened.test.labels.tolist() == [0, 3]


def test_imagenet_is_known_by_its_name(tmp_path):
    for place in ("n01443537", "great grey owl"):
        (tmp_path / place).mkdir()
        Image.new("RGB", (8, 6)).save(tmp_path / place / "a.png")
    source = folder.folder(tmp_path, "all", classes="imagenet")
    assert source.classes == preprocessing.imagenet_classes()
    assert source.labels.tolist() == [24, 1]


def test_a_table_may_lack_classes(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    rows = "path,class,split\na.png,1,train\nb.png,10,test\n"
    (tmp_path / "index.csv").write_text(rows)
    (tmp_path / "classes.txt").write_text("10\n2\n1\n")
    source = folder.folder(tmp_path, "test", classes=str(tmp_path / "classes.txt"))
    assert source.classes == ("1", "2", "10")
    np.testing.assert_array_equal(source.labels, [2])


WRONG = {
    "a class that is missing": ("cat\ndog\n", "not among the 2 of `classes`=.*: 'owl'"),
    "a class twice": ("cat\ndog\nowl\ncat\n", "names 'cat' more than once"),
    "no class": ("# none\n", "names no class"),
    "no text": (b"\xff\xfe", "is no UTF-8 text"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_lists(halves, case):
    content, message = WRONG[case]
    file = halves / "classes.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        folder.folder(halves, "test", classes=str(file))
    assert "\n" not in str(caught.value)


def test_no_list_and_no_classes(tmp_path):
    with pytest.raises(ValueError, match=re.escape("cannot be read")):
        class_lists.every(tmp_path / "absent.txt")
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="is for images with classes"):
        folder.folder(tmp_path, "all", classes="imagenet")
