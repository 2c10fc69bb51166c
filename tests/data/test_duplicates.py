"""Pictures that are trained and tested on are found, however they are stored."""

import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import arrays, duplicates, folder


@pytest.fixture
def root(tmp_path):
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (6, 8, 12, 3), np.uint8)
    for split, chosen in (("train", (0, 1, 2)), ("test", (3, 4))):
        (tmp_path / split / "a").mkdir(parents=True)
        for number in chosen:
            Image.fromarray(pictures[number]).save(
                tmp_path / split / "a" / f"{number}.png"
            )
    return tmp_path, pictures


def found(root):
    return duplicates.between(folder.folder(root, "train"), folder.folder(root, "test"))


def test_nothing_is_said_of_different_pictures(root):
    none = found(root[0])
    assert none == duplicates.Duplicates(0, [], 5, 5) and none.sentences() == []


def test_the_same_bytes_and_the_same_pixels(root):
    place, pictures = root
    first = (place / "train/a/0.png").read_bytes()
    (place / "test/a/copy.png").write_bytes(first)
    Image.fromarray(pictures[1]).save(place / "test/a/other.tiff")
    nearly = pictures[2].copy()
    nearly[0, 0, 0] ^= 1
    Image.fromarray(nearly).save(place / "test/a/nearly.png")
    (place / "test/a/broken.png").write_bytes(b"no image")
    twice = found(place)
    assert twice.count == 2
    assert twice.pairs == [
        ("test/a/copy.png", "train/a/0.png"),
        ("test/a/other.tiff", "train/a/1.png"),
    ]
    (sentence,) = twice.sentences()
    assert sentence.startswith("2 test images are training images too")


def test_what_was_not_looked_at_is_said(root, monkeypatch):
    place, pictures = root
    (place / "test/a/copy.png").write_bytes((place / "train/a/0.png").read_bytes())
    Image.fromarray(pictures[1]).save(place / "test/a/other.tiff")
    monkeypatch.setattr(duplicates, "MOST_PIXELS", 100)
    some = found(place)
    # The bytes are compared in any case.
    assert some.count == 1 and some.compared < some.of == 7
    assert f"among {some.compared} of 7 only" in some.sentences()[1]
    monkeypatch.setattr(duplicates, "MOST_PICTURES", 3)
    assert found(place) == duplicates.Duplicates(0, [], 0, 7)


def test_arrays_are_compared_by_pixels(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (4, 5, 5), np.uint8)
    labels = np.arange(4) % 2
    np.savez(
        tmp_path / "a.npz",
        x_train=images,
        y_train=labels,
        x_test=images[[3, 1]],
        y_test=labels[[3, 1]],
    )
    train, test = (arrays.npz(tmp_path / "a.npz", s) for s in ("train", "test"))
    assert duplicates.between(train, test).pairs == [
        ("a/test/0", "a/train/3"),
        ("a/test/1", "a/train/1"),
    ]
