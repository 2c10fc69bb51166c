"""What is collected of parts, against one picture at a time; and regions cut out."""

import json

import numpy as np
import pytest
import small_parts
from helpers import applied

from unlir_jax.data import source
from unlir_jax.features import receptive_field
from unlir_jax.features.cache import Features
from unlir_jax.models import pretrained
from unlir_jax.part_report import contrast, training_images
from unlir_jax.parts import gallery as part_gallery
from unlir_jax.runs import workdir


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    small_parts.write_pictures(root)
    return root


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    return small_parts.write(tmp_path_factory.mktemp("runs") / "w", data)


@pytest.fixture(scope="module")
def gallery(made):
    return part_gallery.read(made[0])


@pytest.fixture(scope="module")
def readings(made):
    """Read each picture by itself: scores, shares and contributions."""
    network, source = made[1].network, made[1].data.train
    found, apply = [], applied(network.module)
    for index in range(source.size):
        image = network.preprocess(source.read(index)["image"])[None]
        maps = apply(network.variables, image, method="features")
        found.append(apply(network.variables, maps, method="read"))
    return found, source.labels


@pytest.mark.exhaustive
def test_best_regions_are_the_best(gallery, readings, made):
    read, _ = readings
    best = np.stack([np.asarray(one.scores).max((0, 1, 2)) for one in read])
    for part, entry in enumerate(gallery["parts"]):
        order = np.argsort(-best[:, part], kind="stable")[: part_gallery.BEST]
        found = [region["score"] for region in entry["regions"]]
        np.testing.assert_allclose(found, best[order, part], atol=1e-4)
        pictures = [region["index"] for region in entry["regions"]]
        assert len(pictures) == len(set(pictures)) == part_gallery.BEST
        for region in entry["regions"]:
            scores = np.asarray(read[region["index"]].scores)[0, ..., part]
            there = scores[region["row"], region["column"]]
            assert there == pytest.approx(scores.max(), abs=1e-5)
            name = made[1].data.train.name(region["index"])
            assert region["picture"] == name


@pytest.mark.exhaustive
def test_categories_hold_means_over_their_pictures(gallery, readings):
    read, labels = readings
    added = np.stack([np.asarray(one.contributions)[0] for one in read])
    for label, entry in enumerate(gallery["categories"]):
        mean = added[labels == label, :, label].mean(0)
        assert entry["pictures"] == small_parts.EACH
        order = np.argsort(-mean, kind="stable")
        assert [line["part"] for line in entry["parts"]] == order.tolist()
        found = [line["contribution"] for line in entry["parts"]]
        np.testing.assert_allclose(found, mean[order], atol=1e-4)
        table = np.asarray(gallery["contributions"])[:, label]
        np.testing.assert_allclose(table, mean, atol=1e-4)
        for line in entry["parts"]:
            assert {labels[region["index"]] for region in line["regions"]} == {label}
    own = added[np.arange(len(labels)), :, labels]
    strength = [entry["strength"] for entry in gallery["parts"]]
    np.testing.assert_allclose(strength, np.abs(own).mean(0), atol=1e-4)
    share = np.mean([np.asarray(one.shares).mean((0, 1, 2)) for one in read], 0)
    found = [entry["share"] for entry in gallery["parts"]]
    np.testing.assert_allclose(found, share, atol=1e-4)
    assert sum(found) == pytest.approx(1, abs=1e-4)


def test_kept_features_give_the_same(gallery, made):
    run = made[1]
    network, source = run.network, run.data.train
    images = np.stack(
        [network.preprocess(source.read(i)["image"]) for i in range(source.size)]
    )
    maps = applied(network.module)(network.variables, images, method="features")
    weight = np.ones(source.size, np.float32)
    kept = Features(np.asarray(maps), source.labels, weight)
    reader = small_parts.no_features()._replace(train=kept)
    again = json.loads(json.dumps(part_gallery.collect(run, network.variables, reader)))
    for one, other in zip(gallery["parts"], again["parts"], strict=True):
        for name in ("share", "strength"):
            assert one[name] == pytest.approx(other[name], abs=1e-4)
        first, second = one["regions"][0], other["regions"][0]
        assert first["score"] == pytest.approx(second["score"], abs=1e-4)


def test_pictures_that_cannot_be_read_count_for_nothing(made):
    run = made[1]
    shape = (2, 8, 8, 192)
    maps = np.random.default_rng(0).random(shape).astype(np.float32)
    kept = Features(maps, np.array([0, 1], np.int32), np.array([1, 0], np.float32))
    reader = small_parts.no_features()._replace(train=kept)
    found = part_gallery.collect(run, run.network.variables, reader)
    assert found["pictures"] == 1
    for entry in found["parts"]:
        assert [region["index"] for region in entry["regions"]] == [0]
    assert found["categories"][1]["parts"][0]["regions"] == []


def test_a_region_is_cut_from_its_picture_and_place(gallery, made):
    album = training_images.open_images(made[0], 128, 1.0, "bilinear")
    assert album.missing == ""
    for entry in gallery["parts"]:
        for region in entry["regions"][:4]:
            image = np.asarray(training_images.cut(album, region, 64), float)
            blue = image[..., 2]
            assert np.all(np.abs(blue - 8 * region["index"]) <= 1)
            # Red and green grow evenly from edge to edge: their means are its middle.
            x0, y0, x1, y1 = region["box"]
            side = max(2 * (x1 - x0), training_images.LEAST)
            middle = [
                np.clip((low + high) / 2, side / 2, 1 - side / 2)
                for low, high in ((x0, x1), (y0, y1))
            ]
            seen = image[..., :2].mean((0, 1)) / 255
            np.testing.assert_allclose(seen, middle, atol=0.02)


def test_boxes_stay_in_the_frame():
    centres = receptive_field.even(4, 4)
    np.testing.assert_allclose(
        part_gallery.box(centres, 1, 2, 0.25), [0.5, 0.25, 0.75, 0.5], atol=1e-5
    )
    shifted = receptive_field.Centres(
        *(tuple(x - 0.1 for x in axis) for axis in centres)
    )
    assert part_gallery.box(shifted, 0, 3, 0.25) == [0.65, 0.0, 0.9, 0.25]


def test_pictures_that_are_gone_are_said(made, tmp_path):
    settings = json.loads((made[0] / workdir.CONFIG).read_text())
    settings["data"]["path"] = str(tmp_path / "gone")
    (tmp_path / workdir.CONFIG).write_text(json.dumps(settings))
    album = training_images.open_images(tmp_path, 64, 1.0, "bilinear")
    assert album.source is None
    assert album.missing.startswith("The training images are not where they were")
    region = {"index": 0, "picture": "a.png", "box": [0, 0, 1, 1]}
    assert training_images.cut(album, region, 32) is None


def test_a_picture_that_is_another_one_is_not_shown(gallery, made):
    album = training_images.open_images(made[0], 64, 1.0, "bilinear")
    region = dict(gallery["parts"][0]["regions"][0])
    assert training_images.cut(album, region, 32) is not None
    assert training_images.cut(album, region | {"picture": "other.png"}, 32) is None
    assert training_images.cut(album, region | {"index": 999}, 32) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "holds no parts.json"),
        ("{", "is no JSON"),
        ("[" * 100_000, "is nested too deeply"),
        ("{}", "is no gallery of parts of this version"),
    ],
)
def test_what_is_no_gallery_is_refused(text, message, tmp_path):
    if text is not None:
        (tmp_path / part_gallery.FILE).write_text(text)
    with pytest.raises(ValueError, match=message):
        part_gallery.read(tmp_path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("pictures",), "many"),
        (("classes", 0), 3),
        (("centres",), None),
        (("centres", "rows"), [None]),
        (("parts",), {}),
        (("parts", 0), []),
        (("parts", 1, "part"), 10**6),
        (("parts", 0, "share"), "all"),
        (("parts", 0, "strength"), float("nan")),
        (("parts", 0, "keypoint"), {"name": 3}),
        (("parts", 0, "classes", 0, "class"), -1),
        (("parts", 0, "regions", 0, "box"), [0.0, 1.0]),
        (("parts", 0, "regions", 0, "index"), "0"),
        (("categories",), []),
        (("categories", 0, "class"), 10**6),
        (("categories", 0, "parts", 0), None),
    ],
    ids=str,
)
def test_what_a_gallery_cannot_hold_is_named(gallery, path, value, tmp_path):
    document = json.loads(json.dumps(gallery))
    holder = document
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    (tmp_path / part_gallery.FILE).write_text(json.dumps(document))
    with pytest.raises(ValueError, match=f"lacks `{path[0]}.*expected"):
        part_gallery.read(tmp_path)


def test_pictures_of_a_class_are_found_by_its_name():
    """The data of a workdir may have gained classes, and numbered all anew."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    labels = np.asarray([0, 1, 2, 1], np.int32)
    split = source.Source(
        lambda index: {"image": pixels, "label": int(labels[index])},
        4,
        ("aardvark", "ant", "bee"),
        str,
        labels,
    )
    network = pretrained.load("cifar_resnet8", "random", num_classes=2)
    network = network._replace(class_names=("ant", "bee"))
    for label, places in ((0, [1, 3]), (1, [2])):
        found = contrast._pictures(network, split, label)
        assert [index.tolist() for _, index in found] == [places]
    gone = network._replace(class_names=("cat", "bee"))
    assert not list(contrast._pictures(gone, split, 0))
