"""A class is its name, in every layout of data and in every network."""

import unicodedata

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from unlir_jax.data import arrays, classes, folder, preprocessing, source, splits

IMAGENET = preprocessing.imagenet_classes()
DIGITS = tuple(sorted(map(str, range(12))))


def places(wanted, names, **settings):
    found = classes.match(wanted, names, **settings)
    return found.places.tolist(), found.how


def test_every_name_finds_itself_in_any_order():
    turned = IMAGENET[::-1]
    found, how = places(turned, IMAGENET)
    assert [IMAGENET[place] for place in found] == list(turned)
    assert how == "names of classes"
    assert all(
        classes.find_class(name, IMAGENET) == i for i, name in enumerate(IMAGENET)
    )


@pytest.mark.parametrize(
    ("wanted", "network", "expected"),
    [
        ("bald-eagle", ("Bald Eagle", "eagle"), 0),
        ("BALD_EAGLE", ("eagle", "bald eagle"), 1),
        ("hotdog", ("dog", "hot dog"), 1),
        ("carpenters kit", ("carpenter's kit", "kit"), 0),
        ("Cardigan", IMAGENET, IMAGENET.index("Cardigan")),
        ("cardigan", IMAGENET, IMAGENET.index("cardigan")),
        ("10", DIGITS, DIGITS.index("10")),
        ("10.0", DIGITS, DIGITS.index("10")),
        ("007", ("1", "7"), 1),
        ("n02102040", IMAGENET, 217),
        ("n02085620-Chihuahua", IMAGENET, 151),
        ("tench", ("n02102040", "n01440764"), 1),
        (unicodedata.normalize("NFD", "Éclair"), ("cake", "éclair"), 1),
    ],
)
def test_a_name_in_another_spelling(wanted, network, expected):
    assert places((wanted,), network)[0] == [expected]
    assert classes.find_class(wanted, network) == expected


@pytest.mark.parametrize(
    ("wanted", "network", "sentence"),
    [
        (("CARDIGAN",), IMAGENET, r"could be 'Cardigan' \(264\) or 'cardigan' \(474\)"),
        (("cat",), ("tiger cat", "dog"), r"'cat' \(did you mean 'tiger cat'\?\)"),
        (("cats", "dog"), ("cat", "dog"), r"of which 1 is not .*'cats' \(did you mean"),
        (("1-2",), ("12", "3"), "'1-2'"),
        (("-1",), ("0", "1"), "'-1'"),
        (("0", "1"), ("1", "2"), "'0'"),
        (("10.5", "3"), ("a", "b", "c", "d"), "'10.5', but the network has 4"),
        (("1", "4"), ("a", "b", "c", "d"), "'4', but the network has 4"),
        (("7", "king"), ("seven", "king"), "'7'"),
        (("a b", "a_b"), ("A B", "c"), "'a b' and 'a_b', which would both be 'A B'"),
        (("a", "b"), ("x", "y"), "2 are not among the 2 of the network"),
        (("a", "b"), (), "2 are not among the 3 of the network"),
        (("n99999999",), IMAGENET, "'n99999999'"),
    ],
)
def test_what_is_no_class_is_refused_by_name(wanted, network, sentence):
    with pytest.raises(ValueError, match=sentence):
        classes.match(wanted, network, count=len(network) or 3)


def test_numbers_are_indices_and_order_counts_only_without_names():
    assert places(("3", "1.0"), ("a", "b", "c", "d")) == ([3, 1], "numbers of classes")
    assert places(("x", "y"), (), count=2) == ([0, 1], "order of classes")
    assert places(("x", "y"), classes.placeholders(2)) == ([0, 1], "order of classes")
    assert places(("1", "0"), (), count=2) == ([1, 0], "numbers of classes")


def test_known_places_leave_out_what_is_not_sure():
    found = classes.known_places(("b", "x", "A", "a"), ("a", "b", "c"))
    assert found.tolist() == [1, -1, -1, -1]
    assert classes.known_places(("2", "0"), ("a", "b", "c")).tolist() == [2, 0]


def test_the_table_of_wordnet_ids_is_that_of_tensorflow_datasets():
    found = tensorflow_datasets.builder_cls("imagenet2012")
    names = (found.pkg_dir_path / "labels.txt").read_text().split()
    assert classes.wordnet_ids() == tuple(names)
    assert len(set(names)) == len(IMAGENET) == 1000


def test_order():
    assert classes.in_order(("10", "9", "1.5", "010")) == ("1.5", "9", "010", "10")
    assert classes.in_order(("b", "10", "a")) == ("10", "a", "b")
    assert classes.in_order(reversed(IMAGENET)) == IMAGENET
    assert classes.in_order(IMAGENET[:3]) == tuple(sorted(IMAGENET[:3]))


@pytest.mark.parametrize("names", [("2", "10", "1"), ("dog", "Cat", "ant")])
def test_layouts_agree(names, tmp_path):
    """The same pictures in folders, by a table and as arrays."""
    pictures = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
    labels = np.arange(6) % 3
    lines = ["path,class"]
    (tmp_path / "flat").mkdir()
    for number, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
        own = tmp_path / "folders" / names[label]
        own.mkdir(parents=True, exist_ok=True)
        for place in (own, tmp_path / "flat"):
            Image.fromarray(pixels).save(place / f"{number}.png")
        # As spreadsheets write whole numbers.
        text = f"{names[label]}.0" if names[0] == "2" else names[label]
        lines.append(f"{number}.png,{text}")
    (tmp_path / "flat" / "index.csv").write_text("\n".join(lines))
    stored = {"images": pictures, "labels": labels}
    np.savez(tmp_path / "a.npz", classes=np.asarray(names), **stored)
    np.savez(tmp_path / "b.npz", classes=np.asarray(names, "S"), **stored)
    opened = [
        folder.folder(tmp_path / "folders", "all"),
        folder.folder(tmp_path / "flat", "all"),
        arrays.npz(tmp_path / "a.npz", "all"),
        arrays.npz(tmp_path / "b.npz", "all"),
    ]
    expected = ("1", "2", "10") if names[0] == "2" else ("Cat", "ant", "dog")
    for found in opened:
        assert found.classes == expected
        for index in range(6):
            example = found.read(index)
            pixels = np.asarray(example["image"])
            (place,) = [i for i in range(6) if np.array_equal(pixels, pictures[i])]
            assert found.classes[example["label"]] == names[labels[place]]
            assert found.labels[index] == example["label"]


def test_two_classes_of_one_name_are_refused(tmp_path):
    stored = {"images": np.zeros((2, 4, 4), np.uint8), "labels": np.arange(2)}
    np.savez(tmp_path / "a.npz", classes=np.asarray(["cat", "cat"]), **stored)
    with pytest.raises(ValueError, match="two classes 'cat'"):
        arrays.npz(tmp_path / "a.npz", "all")


def of_labels(names, labels):
    return source.Source(
        lambda index: {"image": None, "label": labels[index]},
        len(labels),
        names,
        str,
        np.asarray(labels, np.int32),
        label=lambda index: labels[index],
    )


def test_other_numbers_reach_all_that_gives_labels():
    found = classes.ordered(of_labels(("b", "a"), [0, 1, -1]))
    assert found.classes == ("a", "b") and found.labels.tolist() == [1, 0, -1]
    assert [found.read(i)["label"] for i in range(3)] == [1, 0, -1]
    assert [found.label(i) for i in range(3)] == [1, 0, -1]


def test_a_test_split_finds_the_classes_of_training(monkeypatch):
    opened = {
        "train": of_labels(("ant", "bee", "cow"), [0, 1, 2]),
        "test": of_labels(("Bee", "cow"), [0, 1, 0]),
    }
    monkeypatch.setattr(
        splits.registry, "open_source", lambda kind, split, **options: opened[split]
    )
    from unlir_jax.training import defaults

    settings = defaults.training().data
    settings.path = "somewhere"
    found = splits.open_splits(settings)
    assert found.test.classes == ("ant", "bee", "cow")
    assert found.test.labels.tolist() == [1, 2, 1]
    opened["test"] = of_labels(("bee", "dog"), [0, 1])
    with pytest.raises(ValueError, match="split 'test' has 2 classes.*'dog'"):
        splits.open_splits(settings)
