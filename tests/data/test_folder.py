"""Folders of pictures: every layout, every split, and what is wrong with a folder."""

import errno
import os

import cloudpickle
import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import folder

COLOURS = {"cat": (200, 0, 0), "dog": (0, 200, 0), "owl": (0, 0, 200)}


@pytest.fixture
def put(tmp_path):
    """Give a function that writes a picture of one colour below the folder."""

    def put(name, colour=(10, 20, 30), size=(8, 6)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(path)
        return path

    return put


@pytest.fixture
def split_by_class(put, tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for name, colour in COLOURS.items():
            for number in range(count):
                put(f"{split}/{name}/{number}.png", colour)
    return tmp_path


def names(source):
    return [source.name(index) for index in range(source.size)]


def colour(source, index):
    return np.asarray(source.read(index)["image"])[0, 0].tolist()


def table(path, *lines, name="index.csv"):
    (path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_split_and_class(split_by_class):
    source = folder.folder(split_by_class, "test")
    assert source.size == 6 and source.classes == ("cat", "dog", "owl")
    assert source.labels.dtype == np.int32
    assert source.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert names(source)[:3] == ["test/cat/0.png", "test/cat/1.png", "test/dog/0.png"]
    for index, label in enumerate(source.labels):
        example = source.read(index)
        assert set(example) == {"image", "label"}
        assert (example["label"], example["image"].mode) == (label, "RGB")
        assert colour(source, index) == list(COLOURS[source.classes[label]])
    assert folder.folder(split_by_class, "train").size == 9
    assert folder.folder(split_by_class, "all").size == 15
    assert (source.annotations, source.parts, source.boxes) == ((), (), 1)


def test_a_split_need_not_have_every_class(split_by_class):
    for path in (split_by_class / "test" / "cat").iterdir():
        path.unlink()
    source = folder.folder(split_by_class, "test")
    assert source.classes == ("cat", "dog", "owl")
    assert source.labels.tolist() == [1, 1, 2, 2]


def test_a_pickle_reads_the_same_elsewhere(split_by_class, monkeypatch, tmp_path):
    monkeypatch.chdir(split_by_class)
    source = folder.folder(".", "train")
    monkeypatch.chdir("/")
    travelled = cloudpickle.loads(cloudpickle.dumps(source))
    assert names(travelled) == names(source) and travelled.size == 9
    for index in range(source.size):
        assert colour(travelled, index) == colour(source, index)


def test_classes_without_splits(put, tmp_path):
    for name in COLOURS:
        for number in range(10):
            put(f"{name}/{number}.png", COLOURS[name])
    put("cat/deeper/still.png")
    everything = folder.folder(tmp_path, "all")
    assert everything.size == 31
    assert np.bincount(everything.labels).tolist() == [11, 10, 10]
    train, test = (folder.folder(tmp_path, x, holdout=0.2) for x in ("train", "test"))
    assert sorted(names(train) + names(test)) == names(everything)
    # A fifth of eleven is 2.2.
    assert np.bincount(test.labels).tolist() == [2, 2, 2]
    other = folder.folder(tmp_path, "test", holdout=0.2, seed=1)
    assert names(other) != names(test)
    again = folder.folder(str(tmp_path), "test", holdout=0.2)
    assert names(again) == names(test)
    with pytest.raises(ValueError, match="'train' is not in .*`holdout`=0.2"):
        folder.folder(tmp_path, "train")


def test_hold_out_depends_on_names_only():
    picked = folder.hold_out(list("abcdefgh"), [0] * 8, 0.25, 3)
    assert sorted(set(picked)) == ["test", "train"] and picked.count("test") == 2
    backwards = folder.hold_out(list("hgfedcba"), [0] * 8, 0.25, 3)
    assert backwards[::-1] == picked
    # Another class beside it changes nothing.
    more = folder.hold_out(list("abcdefghxyz"), [0] * 8 + [1] * 3, 0.25, 3)
    assert more[:8] == picked
    assert folder.hold_out(["a"], [0], 0.5, 0) == ["train"]
    for share in (0.01, 0.99):
        assert set(folder.hold_out(["a", "b"], [0, 0], share, 0)) == {"train", "test"}
    assert folder.hold_out(["a", "b"], [0, 0], 0.0, 0) == ["train"] * 2


def test_pictures_only(put, tmp_path):
    put("b.jpg")
    put("a.PNG")
    put("deep/c.Jpeg")
    put(".hidden.png")
    put(".folder/d.png")
    (tmp_path / "deep" / "notes.txt").write_text("no image")
    (tmp_path / "a.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"a.PNG' is in no folder of a class"):
        folder.folder(tmp_path, "all")
    (tmp_path / "deep").rename(tmp_path / "images")
    source = folder.folder(tmp_path, "all")
    assert names(source) == ["a.PNG", "b.jpg", "images/c.Jpeg"]
    assert source.classes == () and source.labels.tolist() == [-1] * 3
    assert source.read(2)["label"] == -1


def test_splits_without_classes(put, tmp_path):
    put("train/1.png")
    put("test/2.png")
    source = folder.folder(tmp_path, "test")
    assert names(source) == ["test/2.png"] and source.classes == ()


def test_a_class_may_be_called_train(put, tmp_path):
    for name in ("train", "bus"):
        put(f"{name}/1.png")
    source = folder.folder(tmp_path, "all")
    assert source.classes == ("bus", "train")


def test_odd_names_and_links(put, tmp_path):
    put("elsewhere/ZÜRICH ö,é.JPG", COLOURS["dog"])
    data = tmp_path / "data"
    for name in ("Vögel", "猫"):
        put(f"data/train/{name}/日本 1.png", COLOURS["cat"])
    (data / "train" / "linked").symlink_to(tmp_path / "elsewhere")
    # Neither a link upwards nor two that lead to each other may go on for ever.
    (data / "train" / "猫" / "up").symlink_to(data)
    (tmp_path / "elsewhere" / "there").symlink_to(data / "train" / "linked")
    source = folder.folder(data, "train")
    assert source.classes == ("Vögel", "linked", "猫")
    assert names(source) == [
        "train/Vögel/日本 1.png",
        "train/linked/ZÜRICH ö,é.JPG",
        "train/猫/日本 1.png",
    ]
    np.testing.assert_allclose(colour(source, 1), COLOURS["dog"], atol=3)
    assert cloudpickle.loads(cloudpickle.dumps(source)).read(2)["label"] == 2


@pytest.mark.skipif(os.name == "nt", reason="file names are text there")
def test_a_name_that_is_no_utf8(put, tmp_path):
    put("a/1.png")
    os.rename(tmp_path / "a" / "1.png", os.fsencode(tmp_path) + b"/a/\xff.png")
    put("b/1.png")
    source = folder.folder(tmp_path, "all", holdout=0.5)
    assert source.size == 2
    assert {source.read(i)["label"] for i in range(2)} == {0, 1}


def test_table_of_classes_and_splits(put, tmp_path):
    for number in (1, 2, 10):
        put(f"pictures/{number}.png", (number, 0, 0))
    table(
        tmp_path,
        "path,class,split",
        "pictures/10.png,10,train",
        "",
        "pictures/2.png, 9 ,train",
        "pictures/1.png,9,test",
    )
    train = folder.folder(tmp_path, "train")
    # Numbers are ordered as numbers.
    assert train.classes == ("9", "10")
    assert names(train) == ["pictures/10.png", "pictures/2.png"]
    assert train.labels.tolist() == [1, 0] and colour(train, 0) == [10, 0, 0]
    assert folder.folder(tmp_path, "test").labels.tolist() == [0]
    with pytest.raises(ValueError, match="`holdout`=0.5 is for images without spl"):
        folder.folder(tmp_path, "train", holdout=0.5)


def test_labels_csv_by_name(put, tmp_path):
    put("images/a.png")
    put("images/b.v2.png")
    table(tmp_path, "name,label", "b.v2,x", "a.png,y", name="labels.csv")
    with pytest.raises(ValueError, match="Line 3 of .*name='a.png'; expected an imag"):
        folder.folder(tmp_path, "all")
    table(tmp_path, "name,label", "b.v2,x", "a,y", name="labels.csv")
    source = folder.folder(tmp_path, "all")
    assert dict(zip(names(source), source.labels.tolist(), strict=True)) == {
        "images/b.v2.png": 0,
        "images/a.png": 1,
    }


def test_a_table_of_splits_for_folders_of_classes(put, tmp_path):
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        put(name)
    table(tmp_path, "path,split", "a/1.png,train", "a/2.png,test", "b/1.png,train")
    assert names(folder.folder(tmp_path, "train")) == ["a/1.png", "b/1.png"]
    table(tmp_path, "path,split", "a/1.png,train", "b/1.png,train")
    with pytest.raises(ValueError, match=r"index.csv' has no row for 'a/2.png'"):
        folder.folder(tmp_path, "train")


TABLES = {
    "no column": (["file,class", "a.png,1"], "has the columns file, class; expected"),
    "no class": (["path,class", "a.png,"], "Line 2 of .* has no class"),
    "unknown": (["path,class", "c.png,1"], "Line 2 of .*path='c.png'; expected an im"),
    "outside": (["path,class", "../a.png,1"], "relative to the folder of the table"),
    "absolute": (["path,class", "/a.png,1"], "relative to the folder of the table"),
    "short line": (["path,class", "a.png"], "Line 2 of .* has 1 values; expected 2"),
    "two classes": (
        ["path,class", "a.png,1", "a.png,2"],
        "Line 3 of .* class='2' for 'a.png', a line before '1'",
    ),
    "two splits": (
        ["path,split", "a.png,train", "a.png,test", "b.png,train"],
        "Line 3 of .* split='test'; expected one split",
    ),
    "no split": (["path,split", "a.png,", "b.png,train"], "Line 2 of .* split=''"),
    "untrained": (
        ["path,class,split", "a.png,1,train", "b.png,2,test"],
        "Class '2' of .* has no image in the split 'train'",
    ),
    "nothing": (["path,class"], "has no rows"),
    "empty": ([""], "expected `path` or `name`"),
    "twice": (["path,class,class", "a.png,1,2"], "has two columns 'class'"),
    "quotes": (["path,class", 'a.png,"1'], "cannot be read"),
    "no such split": (
        ["path,split", "a.png,training", "b.png,test"],
        "`split`='train' is not in .*did you mean 'training'",
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_wrong_tables(put, tmp_path, case):
    put("a.png")
    put("b.png")
    lines, message = TABLES[case]
    table(tmp_path, *lines)
    with pytest.raises(ValueError, match=message) as caught:
        folder.folder(tmp_path, "train")
    assert "\n" not in str(caught.value)


def test_a_table_in_another_encoding(put, tmp_path):
    put("ä.png")
    lines = "path,class\nä.png,Löwe\n"
    (tmp_path / "index.csv").write_bytes(lines.encode("latin-1"))
    with pytest.raises(ValueError, match=r"index.csv' cannot be read .*UTF-8"):
        folder.folder(tmp_path, "all")
    # As Excel writes it: a mark of the encoding first, lines ended by two characters.
    marked = lines.replace("\n", "\r\n").encode("utf-8-sig")
    (tmp_path / "index.csv").write_bytes(marked)
    source = folder.folder(tmp_path, "all")
    assert source.classes == ("Löwe",) and source.read(0)["label"] == 0


def remove(path):
    for file in path.iterdir():
        file.unlink()


def wrong(case, path, put):
    """Break a good folder in one way; give what to open, and of what split."""
    if case == "missing":
        return path / "nothing", "train"
    if case == "file":
        return put("a.png"), "train"
    if case == "empty":
        (path / "void" / "class").mkdir(parents=True)
        return path / "void", "all"
    if case == "class without images":
        remove(path / "train" / "dog")
    if case == "split without images":
        for name in COLOURS:
            remove(path / "test" / name)
    if case == "class in test only":
        put("test/bat/1.png")
    if case == "beside the classes":
        put("train/loose.png")
    splits = {"unknown split": "tset", "far split": "abc"}
    return path, splits.get(case, "test" if "test" in case else "train")


WRONG = {
    "missing": "Folder '.*nothing' does not exist; expected a folder of images",
    "file": "'.*a.png' is a file; expected a folder",
    "empty": "'.*void' has no images; expected some of .avif,",
    "class without images": "Class 'dog' has no images in '.*train'",
    "split without images": None,
    "class in test only": "Class 'bat' is in '.*test' but not in '.*train'",
    "beside the classes": "'.*loose.png' is in no folder of a class",
    "unknown split": "`split`='tset' is not in .*did you mean 'test'[?] known: test, t",
    "far split": "`split`='abc' is not in folder '.*'; known: test, train, all",
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_folders(split_by_class, put, case):
    path, split = wrong(case, split_by_class, put)
    if case == "split without images":
        assert folder.folder(path, "train").size == 9
        split, message = "test", "'.*test' has no images"
    else:
        message = WRONG[case]
    with pytest.raises(ValueError, match=message) as caught:
        folder.folder(path, split)
    assert "\n" not in str(caught.value)


def test_a_class_without_pictures_and_no_splits(put, tmp_path):
    put("a/1.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match="Class 'b' has no images"):
        folder.folder(tmp_path, "all")


@pytest.mark.parametrize("splits", [False, True])
def test_a_class_that_is_closed_is_not_called_empty(put, tmp_path, monkeypatch, splits):
    above = "train/" if splits else ""
    for name in ("a", "b"):
        put(f"{above}{name}/1.png")
    look, shut = os.scandir, str(tmp_path / f"{above}b")

    def scandir(path):
        if os.fspath(path) == shut:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), shut)
        return look(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ValueError, match=r"Class 'b' cannot be read.*Permission"):
        folder.folder(tmp_path, "train" if splits else "all")


def test_classes_below_images_say_where_to_look(put, tmp_path):
    put("images/cat/1.png")
    with pytest.raises(ValueError, match="has its classes in 'images'; expected"):
        folder.folder(tmp_path, "all")


@pytest.mark.parametrize("holdout", [-0.1, 1.0, float("nan")])
def test_wrong_holdout(split_by_class, holdout):
    with pytest.raises(ValueError, match=r"`holdout`=.* is a share"):
        folder.folder(split_by_class, "train", holdout=holdout)


def test_broken_pictures_are_named_when_they_are_read(put, tmp_path):
    whole = put("a/whole.jpg", size=(64, 64))
    (tmp_path / "a" / "cut.jpg").write_bytes(whole.read_bytes()[:-200])
    (tmp_path / "a" / "empty.png").write_bytes(b"")
    (tmp_path / "a" / "text.png").write_text("this is no image")
    source = folder.folder(tmp_path, "all")
    assert names(source) == ["a/cut.jpg", "a/empty.png", "a/text.png", "a/whole.jpg"]
    for index, name in enumerate(names(source)[:3]):
        with pytest.raises(ValueError, match=f"{name}' cannot be read as an image"):
            source.read(index)
    assert source.read(3)["image"].size == (64, 64)
    whole.unlink()
    with pytest.raises(FileNotFoundError, match=r"a/whole.jpg' does not exist"):
        source.read(3)


@pytest.mark.exhaustive
def test_fifty_birds(shared):
    """The hidden layout: SPLIT/CLASS, with keypoints of the stored pictures."""
    train, test = (folder.folder(shared / "data/cub50", x) for x in ("train", "test"))
    assert (train.size, test.size) == (1500, 1449)
    assert len(train.classes) == 50 and train.classes == test.classes
    assert np.bincount(train.labels).tolist() == [30] * 50
    # Boxes in its table are those of the pictures before they were cut.
    assert train.annotations == ("keypoints",)
    assert len(train.parts) == 15 and train.parts[:2] == ("back", "beak")
    place = "train/001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg"
    points = train.read(names(train).index(place))["keypoints"]
    np.testing.assert_array_equal(points[1], np.float32([212.2, 106.6, 1]))
    assert not points[train.parts.index("left_eye")].any()
    for source in (train, test):
        for index in range(0, source.size, 97):
            example = source.read(index)
            assert source.classes[example["label"]] == source.name(index).split("/")[1]
            assert (example["keypoints"][:, :2] <= example["image"].size).all()
            assert example["keypoints"][:, 2].sum() >= 3


def test_flowers(shared):
    train = folder.folder(shared / "data/flowers17", "train")
    test = folder.folder(shared / "data/flowers17", "test")
    assert np.bincount(train.labels).tolist() == [64] * 17
    assert np.bincount(test.labels).tolist() == [16] * 17


def test_salient_objects(shared):
    """Boxes from the table, masks from the folder: each says the same as the other."""
    source = folder.folder(shared / "data/ecssd", "all")
    assert source.size == 300 and source.annotations == ("boxes", "mask")
    for index in range(0, 300, 30):
        example = source.read(index)
        rows, columns = np.nonzero(example["mask"])
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_array_equal(example["boxes"], [tight])


def test_unlabelled_pictures(shared):
    source = folder.folder(shared / "data/imagenet200", "all")
    assert (source.size, source.classes) == (200, ())
    with pytest.raises(ValueError, match="which has no splits"):
        folder.folder(shared / "data/imagenet200", "train")


def test_a_fingerprint_tells_sizes_from_times_and_what_vanished(put, tmp_path):
    put("train/a/1.png")
    put("train/b/2.png")
    of = folder.folder(tmp_path, "train")
    assert of.fingerprint is not None
    whole, sizes = of.fingerprint(), of.fingerprint(times=False)
    assert whole != sizes
    os.utime(tmp_path / "train/a/1.png", (1, 1))
    assert of.fingerprint() != whole and of.fingerprint(times=False) == sizes
    with (tmp_path / "train/a/1.png").open("ab") as stream:
        stream.write(b"\0")
    assert of.fingerprint(times=False) != sizes
    (tmp_path / "train/a/1.png").unlink()
    assert len({whole, sizes, of.fingerprint(), of.fingerprint(times=False)}) == 4
