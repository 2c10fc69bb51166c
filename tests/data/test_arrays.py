"""Pictures in .npz files, of several makers, and files that are something else."""

import pickle
import zipfile

import cloudpickle
import numpy as np
import pytest

from unlir_jax.data import arrays

RANDOM = np.random.default_rng(0)
PICTURES = RANDOM.integers(0, 256, (10, 4, 6, 3), dtype=np.uint8)
LABELS = np.arange(10) % 2


@pytest.fixture
def save(tmp_path):
    def save(**stored):
        np.savez(tmp_path / "some.npz", **stored)
        return tmp_path / "some.npz"

    return save


def pictures_of(source):
    return np.stack([source.read(index)["image"] for index in range(source.size)])


@pytest.mark.parametrize("names", ["x_{} y_{}", "{}_images {}_labels"])
def test_splits_by_the_names_of_arrays(save, names):
    stored = {}
    for split, places in (("train", slice(0, 6)), ("test", slice(6, 10))):
        images, labels = names.replace("{}", split).split()
        stored |= {images: PICTURES[places], labels: LABELS[places][:, None]}
    path = save(**stored)
    train, test = (arrays.npz(path, split) for split in ("train", "test"))
    np.testing.assert_array_equal(pictures_of(train), PICTURES[:6])
    np.testing.assert_array_equal(pictures_of(test), PICTURES[6:])
    assert test.labels.dtype == np.int32 and test.labels.tolist() == [0, 1, 0, 1]
    assert [test.read(i)["label"] for i in range(4)] == [0, 1, 0, 1]
    assert test.classes == ("0", "1") and test.name(3) == "some/test/3"
    np.testing.assert_array_equal(pictures_of(arrays.npz(path, "all")), PICTURES)
    with pytest.raises(ValueError, match="`split`='val' is not in file .*: train, tes"):
        arrays.npz(path, "val")
    with pytest.raises(ValueError, match="did you mean 'train'"):
        arrays.npz(path, "trian")
    with pytest.raises(ValueError, match="`holdout`=0.5 is for images without spl"):
        arrays.npz(path, "train", holdout=0.5)


def test_one_array_with_an_array_of_splits(save):
    splits = np.array(["train"] * 7 + ["test"] * 3)
    given = {"images": PICTURES, "labels": LABELS, "class_names": ["no", "yes"]}
    path = save(**given, split=splits)
    test = arrays.npz(path, "test")
    np.testing.assert_array_equal(pictures_of(test), PICTURES[7:])
    assert test.classes == ("no", "yes") and test.name(0) == "some/7"
    np.testing.assert_array_equal(pictures_of(arrays.npz(path, "all")), PICTURES)
    with pytest.raises(ValueError, match="has shape .3.; expected one split for each"):
        arrays.npz(save(**given, split=splits[:3]), "test")


def test_held_out(save):
    path = save(x=PICTURES, y=LABELS)
    train = arrays.npz(path, "train", holdout=0.4)
    test = arrays.npz(path, "test", holdout=0.4)
    assert np.bincount(test.labels).tolist() == [2, 2]
    together = sorted(s.name(i) for s in (train, test) for i in range(s.size))
    assert together == [f"some/{place}" for place in range(10)]
    for source in (train, test):
        place = int(source.name(1).split("/")[1])
        np.testing.assert_array_equal(source.read(1)["image"], PICTURES[place])
    assert arrays.npz(path, "all").size == 10
    with pytest.raises(ValueError, match="'train' is not in .*`holdout`=0.2"):
        arrays.npz(path, "train")
    with pytest.raises(ValueError, match="`holdout`=1.0 is a share"):
        arrays.npz(path, "train", holdout=1.0)


@pytest.mark.parametrize("shape", [(10, 4, 6), (10, 4, 6, 1)])
def test_grey(save, shape):
    grey = PICTURES[..., 0]
    source = arrays.npz(save(images=grey.reshape(shape), labels=LABELS), "all")
    for channel in range(3):
        np.testing.assert_array_equal(pictures_of(source)[..., channel], grey)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floating_point(save, kind):
    """Any format with ten bits of precision or more rounds to the same 8 bits."""
    shares = (PICTURES / 255).astype(kind)
    source = arrays.npz(save(images=shares, labels=LABELS), "all")
    np.testing.assert_array_equal(pictures_of(source), PICTURES)
    nearly = np.full((10, 4, 6), 99.7 / 255, kind)
    source = arrays.npz(save(images=nearly, labels=LABELS), "all")
    assert (pictures_of(source) == 100).all()


def test_an_example_is_a_copy(save):
    source = arrays.npz(save(images=PICTURES, labels=LABELS), "all")
    source.read(0)["image"][:] = 0
    np.testing.assert_array_equal(source.read(0)["image"], PICTURES[0])


def test_a_pickle_needs_no_file(save):
    path = save(images=PICTURES, labels=LABELS)
    data = cloudpickle.dumps(arrays.npz(path, "test", holdout=0.4))
    expected = pictures_of(arrays.npz(path, "test", holdout=0.4))
    path.unlink()
    np.testing.assert_array_equal(pictures_of(cloudpickle.loads(data)), expected)


class Trap:
    """Say so when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a file was unpickled",))


@pytest.mark.parametrize("name", ["images", "labels", "class_names"])
def test_nothing_is_unpickled(save, name):
    trap = np.empty(10, object)
    trap[:] = [Trap() for _ in range(10)]
    path = save(**{"images": PICTURES, "labels": LABELS} | {name: trap})
    with pytest.raises(ValueError, match=f"Array '{name}' of .*some.npz' cannot be re"):
        arrays.npz(path, "all")


def other_file(case, path):
    if case == "folder":
        return path
    file = path / "file.npz"
    if case == "pickle":
        file.write_bytes(pickle.dumps([1, 2]))
    if case == "text":
        file.write_text("no arrays")
    if case == "nothing in it":
        file.write_bytes(b"")
    if case == "npy":
        with file.open("wb") as stream:
            np.save(stream, PICTURES)
    if case in ("half", "flipped"):
        np.savez(file, images=PICTURES, labels=LABELS)
        data = bytearray(file.read_bytes())
        half = len(data) // 4
        data[half] ^= 255
        file.write_bytes(data[:half] if case == "half" else data)
    if case == "other zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("images.npy", b"no array")
            archive.writestr("labels.npy", b"no array")
    return file


OTHER = {
    "missing": "file.npz' does not exist; expected an .npz file",
    "folder": "is a folder; expected an .npz file",
    "pickle": "file.npz' cannot be read",
    "text": "file.npz' cannot be read",
    "nothing in it": "file.npz' cannot be read",
    "npy": "file.npz' holds a single array; expected",
    "half": "file.npz' cannot be read",
    "flipped": "Array 'images' of .*file.npz' cannot be read",
    "other zip": "Array 'labels' of .*file.npz'",
}


@pytest.mark.parametrize("case", OTHER)
def test_other_files(tmp_path, case):
    with pytest.raises(ValueError, match=OTHER[case]) as caught:
        arrays.npz(other_file(case, tmp_path), "all")
    assert "\n" not in str(caught.value)


MANY = LABELS + 1
WRONG = {
    "names": ({"a": PICTURES}, "holds a; expected x_train and y_train"),
    "one of two": ({"images": PICTURES}, "holds images; expected"),
    "shape": ({"images": PICTURES[0]}, "holds 4 images; expected 10 as 'labels'"),
    "flat": ({"images": PICTURES.reshape(10, -1)}, "has shape .10, 72.; expected"),
    "channels first": (
        {"images": PICTURES.transpose(0, 3, 1, 2)},
        "has shape .10, 3, 4, 6.; .*the colours last",
    ),
    "count": ({"images": PICTURES[:9]}, "holds 9 images; expected 10"),
    "int": ({"images": PICTURES.astype(int)}, "is int64; expected uint8 or floating"),
    "range": ({"images": PICTURES / 1.0}, "floating point values outside .0, 1."),
    "nan": ({"images": PICTURES * np.nan}, "floating point values outside .0, 1."),
    "float labels": ({"labels": LABELS / 1.0}, "'labels' of .* is float64 .10.; exp"),
    "one-hot": ({"labels": np.eye(10, dtype=int)}, "is int64 .10, 10.; expected one"),
    "negative": ({"labels": LABELS - 1}, "has labels from -1 to 0; expected 0 to 0"),
    "gap": ({"labels": LABELS * 2}, "Class 1 of .* has no images"),
    "from one": ({"labels": MANY}, "Class 0 of .* has no images"),
    "few names": ({"class_names": ["a"]}, "labels from 0 to 1; expected 0 to 0"),
    "more names": ({"class_names": list("abc")}, "Class 'c' .2. of .* has no images"),
    "no images": ({"images": PICTURES[:0], "labels": LABELS[:0]}, "holds no image"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arrays(save, case):
    changed, message = WRONG[case]
    given = {"images": PICTURES, "labels": LABELS} | changed
    if case in ("names", "one of two"):
        given = changed
    with pytest.raises(ValueError, match=message) as caught:
        arrays.npz(save(**given), "all")
    assert "\n" not in str(caught.value)


def test_a_class_that_is_only_tested(save):
    path = save(x_train=PICTURES[:2], y_train=[0, 0], x_test=PICTURES[:1], y_test=[1])
    with pytest.raises(ValueError, match="Class 1 of .* has no images; .*to train on"):
        arrays.npz(path, "test")


def test_ten_thousand_pictures(shared):
    train = arrays.npz(shared / "data/cifar10_10k.npz", "train")
    test = arrays.npz(shared / "data/cifar10_10k.npz", "test")
    assert np.bincount(train.labels).tolist() == [800] * 10
    assert np.bincount(test.labels).tolist() == [200] * 10
    assert train.classes[:2] == ("airplane", "automobile")
    assert train.read(7999)["image"].shape == (32, 32, 3)
