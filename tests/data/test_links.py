"""Links that lead nowhere and folders that are closed: the rest is listed."""

import os

import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import folder, image_files, preprocessing

LONG = "x" * 300


@pytest.fixture
def pictures(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 6), (9, 9, 9)).save(tmp_path / name / "1.png")
    return tmp_path


def test_a_link_to_itself_is_left_out_and_said(pictures):
    (pictures / "cat" / "self").symlink_to("self")
    (pictures / "loop").symlink_to("loop")
    with pytest.warns(UserWarning, match="2 folders or links .*'cat/self', 'loop'"):
        source = folder.folder(pictures, "all")
    assert (
        source.size == 2 and "cannot be read: 'cat/self', 'loop'" in source.notices[0]
    )
    with pytest.warns(UserWarning, match="left out, which cannot be read"):
        assert len(image_files.find_pictures([str(pictures)]).files) == 2


def test_a_picture_that_is_a_link_to_itself_cannot_be_read(pictures):
    (pictures / "cat" / "2.png").symlink_to("2.png")
    (pictures / "dog" / "2.png").symlink_to("nowhere.png")
    source = folder.folder(pictures, "all")
    assert source.size == 4 and source.fingerprint is not None
    assert source.fingerprint() == source.fingerprint()
    for index in (1, 3):
        with pytest.raises((ValueError, FileNotFoundError), match=r"2\.png"):
            source.read(index)
    with pytest.warns(UserWarning, match="2 folders or links in folders left out"):
        assert len(image_files.find_pictures([str(pictures)]).files) == 2


def test_a_closed_folder_is_left_out_and_said(pictures, monkeypatch):
    (pictures / "cat" / "closed").mkdir()
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.warns(UserWarning, match="1 folder or link .*: 'cat/closed'"):
        source = folder.folder(pictures, "all")
    assert source.size == 2
    monkeypatch.setattr(os, "scandir", lambda path: guarded("closed"))
    with pytest.raises(ValueError, match=r"cannot be read \(Permission denied\)"):
        folder.folder(pictures, "all")


@pytest.mark.parametrize("name", [LONG, f"{LONG}.png", "a\0b.png"])
def test_names_that_no_disk_takes(name):
    with pytest.raises((ValueError, FileNotFoundError), match=r"Image .*expected a"):
        preprocessing.read_image(name)
    found = image_files.find_pictures([name])
    assert [str(path) for path in found.files] == [name] or found.unmatched == [name]


def test_pictures_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match="a.png"):
        preprocessing.read_image(tmp_path / "a.png")
    assert np.size(image_files.folders(tmp_path)) == 0


def test_a_path_that_no_disk_takes():
    with pytest.raises(ValueError, match="does not exist; expected a folder"):
        folder.folder(LONG, "all")
