"""A run knows what it began with, and says what has changed since."""

import json
import os
import types

import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import folder as folders
from unlir_jax.data import source as sources
from unlir_jax.runs import origins
from unlir_jax.runtime import mesh, ranges

NETWORK = types.SimpleNamespace(sha256="a" * 64)


@pytest.fixture
def data(tmp_path):
    """Give a folder of four pictures of two classes."""
    for place, name in enumerate(("a/1", "a/2", "b/3", "b/4")):
        path = tmp_path / f"data/train/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (place, 0, 0)).save(path)
    return tmp_path / "data"


def described(data, network=NETWORK, **weights):
    return origins.describe(network, weights, train=folders.folder(data, "train"))


def begun(tmp_path, data, **weights):
    """Begin a run in a workdir, as a first start does."""
    workdir = tmp_path / "w"
    assert origins.settle(workdir, described(data, **weights)) == ""
    (workdir / origins.CONFIG).write_text("{}")
    return workdir


def refused(workdir, now, **settings):
    kept = (workdir / origins.FILE).read_bytes()
    with pytest.raises(ValueError, match="was begun with something else") as error:
        origins.settle(workdir, now, **settings)
    assert (workdir / origins.FILE).read_bytes() == kept
    return str(error.value)


def test_the_same_things_are_the_same(tmp_path, data):
    workdir = begun(tmp_path, data, init_from="b" * 64)
    assert origins.settle(workdir, described(data, init_from="b" * 64)) == ""


def test_other_weights_are_refused_with_both_hashes(tmp_path, data):
    workdir = begun(tmp_path, data, init_from="b" * 64)
    other = types.SimpleNamespace(sha256="c" * 64)
    text = refused(workdir, described(data, other, init_from="d" * 64))
    for known in ("`model`", "aaaaaaaaaaaa there", "cccccccccccc here"):
        assert known in text
    assert "`init_from` have the hash bbbbbbbbbbbb there, dddddddddddd here" in text
    assert "none here" in refused(workdir, described(data))
    assert "compare=sizes" not in text


def test_pictures_that_came_or_went_are_named(tmp_path, data):
    workdir = begun(tmp_path, data)
    (data / "train/a/1.png").rename(data / "train/a/0.png")
    Image.new("RGB", (8, 8)).save(data / "train/b/5.png")
    text = refused(workdir, described(data))
    assert "4 there and 5 here" in text
    assert "new here 'train/a/0.png', 'train/b/5.png'" in text
    assert "no longer here 'train/a/1.png'" in text


def test_other_classes_and_labels_are_refused(tmp_path, data):
    workdir = begun(tmp_path, data)
    now = folders.folder(data, "train")
    moved = now._replace(labels=np.asarray([0, 1, 1, 1], np.int32))
    text = refused(workdir, origins.describe(NETWORK, train=moved))
    assert "other labels, 'train/a/2.png' (0 there, 1 here)" in text
    renamed = now._replace(classes=("a", "c"))
    assert "other classes" in refused(workdir, origins.describe(NETWORK, train=renamed))
    turned = sources.subset(now, np.arange(4)[::-1])
    assert "in another order" in refused(
        workdir, origins.describe(NETWORK, train=turned)
    )
    both = origins.describe(NETWORK, train=now, test=now)
    assert "`test` has no data there" in refused(workdir, both)


def test_other_files_are_named_with_both_sizes(tmp_path, data):
    workdir = begun(tmp_path, data)
    path = data / "train/b/3.png"
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"\0")
    for compare in ranges.CHOICES["data.compare"]:
        text = refused(workdir, described(data), compare=compare)
        assert f"'train/b/3.png' ({size} and {size + 1} bytes)" in text
        assert "compare=sizes" not in text


def test_times_alone_may_differ_where_that_is_asked_for(tmp_path, data):
    workdir = begun(tmp_path, data)
    os.utime(data / "train/b/4.png", (1, 1))
    text = refused(workdir, described(data))
    assert "'train/b/4.png'" in text and "--config.data.compare=sizes" in text
    assert origins.settle(workdir, described(data), "sizes") == ""
    with pytest.raises(ValueError, match="`data.compare`='content'"):
        origins.settle(workdir, described(data), "content")


def test_a_source_without_files_is_told_by_names_and_labels(tmp_path):
    def opened(labels):
        labels = np.asarray(labels, np.int32)
        return sources.Source(lambda index: {}, len(labels), ("a", "b"), str, labels)

    workdir = tmp_path / "w"
    origins.settle(workdir, origins.describe(NETWORK, test=opened([0, 1])))
    (workdir / origins.CONFIG).write_text("{}")
    same = origins.describe(NETWORK, test=opened([0, 1]))
    assert origins.settle(workdir, same) == ""
    assert "other labels" in refused(
        workdir, origins.describe(NETWORK, test=opened([1, 1]))
    )


def test_what_is_kept_of_many_examples_is_bounded(tmp_path, data, monkeypatch):
    monkeypatch.setattr(origins, "MOST_LISTED", 3)
    workdir = begun(tmp_path, data)
    assert "listed" not in (workdir / origins.FILE).read_text()
    Image.new("RGB", (8, 8)).save(data / "train/b/5.png")
    text = refused(workdir, described(data))
    assert "4 there and 5 here" in text and "5.png" not in text


def test_a_workdir_of_an_earlier_version_gets_the_note_and_that_is_said(tmp_path, data):
    workdir = tmp_path / "w"
    workdir.mkdir()
    (workdir / origins.CONFIG).write_text("{}")
    assert "an earlier version" in origins.settle(workdir, described(data))
    assert origins.settle(workdir, described(data)) == ""


def test_a_start_that_was_killed_before_its_config_binds_nobody(tmp_path, data):
    workdir = tmp_path / "w"
    origins.settle(workdir, described(data))
    (data / "train/a/1.png").unlink()
    assert origins.settle(workdir, described(data)) == ""
    (workdir / origins.CONFIG).write_text("{}")
    assert origins.settle(workdir, described(data)) == ""


@pytest.mark.parametrize(
    "text", ["[", "[]", "{}", '{"weights": 3, "data": {}}', "[" * 100_000]
)
def test_a_damaged_note_is_a_sentence(tmp_path, data, text):
    workdir = begun(tmp_path, data)
    (workdir / origins.FILE).write_text(text)
    with pytest.raises(ValueError, match=origins.FILE):
        origins.settle(workdir, described(data))


def test_processes_that_do_not_lead_look_at_nothing(tmp_path, data, monkeypatch):
    monkeypatch.setattr(mesh, "is_first", lambda: False)
    monkeypatch.setattr(mesh, "agree", lambda *numbers: (1,))
    now = described(data)
    assert now == {}
    with pytest.raises(ValueError, match="The first process could not go on in"):
        origins.settle(tmp_path / "w", now)
    assert not (tmp_path / "w").exists()


def test_odd_names_are_kept_and_compared(tmp_path):
    labels = np.zeros(2, np.int32)
    names = ["a\udcff.png", "b\n.png"]
    of = sources.Source(lambda index: {}, 2, ("a", "b"), names.__getitem__, labels)
    workdir = tmp_path / "w"
    origins.settle(workdir, origins.describe(NETWORK, test=of))
    (workdir / origins.CONFIG).write_text("{}")
    assert origins.settle(workdir, origins.describe(NETWORK, test=of)) == ""
    assert json.loads((workdir / origins.FILE).read_text("utf-8"))["data"]
