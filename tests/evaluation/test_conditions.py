"""Conditions of an evaluation: other classes, and augmented images."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest
import small_network
from PIL import Image, ImageOps
from pyarrow import parquet

from unlir_jax import split
from unlir_jax.evaluation import (
    axes,
    batch_files,
    conditions,
    evaluate,
    scoring,
    setup,
)
from unlir_jax.explanation import scoring as explained_scores
from unlir_jax.metrics.sanity import augmentations
from unlir_jax.report import condition_tables
from unlir_jax.runtime import config
from unlir_jax.split import scores

CONFIG = (
    "configs/evaluate.py:model=cifar_resnet8,methods=grad_cam,"
    "metrics=average_drop+insertion"
)
COUNT = 6
ASKED = {"classes": "label+predicted+least", "augmentations": "none+flip"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return small_network.write_noise(tmp_path_factory.mktemp("pictures"), COUNT)


def settings(folder, **more):
    given = {"data.path": folder, "model.weights": "random", "batch_size": 4}
    given |= {"statistics.resamples": 200, "metric_options.insertion.steps": 4}
    given |= {"controls": False, "devices": 1, "gallery": 1} | more
    return config.load(CONFIG, [f"--config.{k}={v}" for k, v in given.items()])


@pytest.fixture(scope="module")
def evaluated(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditions") / "run"
    outcome = evaluate.run(settings(pictures, **ASKED), folder)
    return folder, outcome.summary


def lines(folder, **chosen):
    rows = parquet.read_table(folder / evaluate.store.TABLE).to_pylist()
    return [row for row in rows if all(row[k] == v for k, v in chosen.items())]


def values(folder, metric, **chosen):
    return [row["value"] for row in lines(folder, metric=metric, **chosen)]


def test_names_of_augmentations_are_those_of_their_table():
    assert conditions.AUGMENTATIONS == tuple(augmentations.AUGMENTATIONS)


@pytest.mark.exhaustive
def test_every_condition_has_its_lines_pages_and_means(evaluated):
    folder, summary = evaluated
    assert list(summary["conditions"]) == [
        *("label", "label-flip", "predicted", "predicted-flip"),
        *("least", "least-flip"),
    ]
    rows = lines(folder)
    assert list(rows[0])[:2] == ["class", "augmentation"]
    # Agreement is measured from the images as they are.
    assert len(rows) == COUNT * 3 * (3 + 2)
    for name, each in summary["conditions"].items():
        own = folder / each["folder"]
        words = (own / evaluate.WORDS).read_text()
        assert each["class"] in words.splitlines()[0]
        assert (own / evaluate.PAGE).is_file(), name
        about = json.loads((own / evaluate.SUMMARY).read_text())["about"]
        assert (about["accuracy"] is None) == (each["class"] != "label")
        chosen = {"augmentation": each["augmentation"], "class": each["class"]}
        found = values(folder, "insertion", **chosen)
        assert each["means"]["grad_cam/insertion"]["mean"] == pytest.approx(
            np.mean(found)
        )
    page = (folder / evaluate.PAGE).read_text()
    assert 'href="conditions/least-flip/report.html"' in page
    assert "least likely class" in (folder / evaluate.WORDS).read_text()


def test_classes_are_those_of_the_network(evaluated, pictures):
    folder, _ = evaluated
    given = setup.prepare(settings(pictures))
    batch = next(scoring.read(given, np.arange(COUNT)))
    logits = split.whole(given.network.model)(
        given.network.variables, batch["image"] / np.float32(255)
    )
    order = np.argsort(-np.asarray(logits), axis=1)[: len(batch["index"])]
    names = [given.data.name(int(index)) for index in batch["index"]]
    for explained, column in (("predicted", 0), ("least", -1)):
        for augmentation in ("none", "flip"):
            chosen = {"class": explained, "augmentation": augmentation}
            found = {row["image"]: row["label"] for row in lines(folder, **chosen)}
            expected = dict(zip(names, order[:, column].tolist(), strict=True))
            assert {name: found[name] for name in expected} == expected
    known = np.asarray([scoring.scoring.SECOND] * len(names))
    images = jax.numpy.asarray(batch["image"] / np.float32(255))
    score = scores.NAMED["softmax"]
    second = explained_scores.chosen(given.network, images, known, score)
    np.testing.assert_array_equal(second, order[:, 1])


def test_a_condition_alone_gives_the_same_scores(evaluated, pictures, tmp_path):
    """The plain evaluation of the predicted class, as it was before conditions."""
    evaluate.run(settings(pictures, labels="predicted"), tmp_path / "alone")
    assert list(lines(tmp_path / "alone")[0]) == list(evaluate.store.COLUMNS)
    assert not (tmp_path / "alone" / conditions.FOLDER).exists()
    summary = json.loads((tmp_path / "alone" / evaluate.SUMMARY).read_text())
    assert not {"conditions", "differences"} & {*summary}
    assert not {"class", "augmentation"} & {*summary["about"]}
    chosen = {"class": "predicted", "augmentation": "none"}
    for metric in ("average_drop", "insertion"):
        one = values(tmp_path / "alone", metric)
        assert values(evaluated[0], metric, **chosen) == one


def test_flipped_files_give_the_scores_of_flipped_images(evaluated, pictures, tmp_path):
    flipped = tmp_path / "flipped"
    flipped.mkdir()
    for path in pictures.iterdir():
        ImageOps.mirror(Image.open(path)).save(flipped / path.name)
    evaluate.run(settings(flipped), tmp_path / "alone")
    chosen = {"class": "label", "augmentation": "flip"}
    for metric in ("average_drop", "insertion"):
        found = values(evaluated[0], metric, **chosen)
        one = values(tmp_path / "alone", metric)
        np.testing.assert_allclose(found, one, atol=1e-3)
        plain = {"class": "label", "augmentation": "none"}
        assert np.abs(np.subtract(found, values(evaluated[0], metric, **plain))).max()


def test_differences_are_paired_and_corrected(evaluated):
    folder, summary = evaluated
    pairs = {
        (pair["condition"], pair["reference"], pair["metric"]): pair
        for pair in summary["differences"]
    }
    pair = pairs["least", "label", "insertion"]
    one, other = (
        np.asarray(
            values(folder, "insertion", **{"class": name, "augmentation": "none"})
        )
        for name in ("least", "label")
    )
    assert pair["difference"] == pytest.approx((one - other).mean(), abs=1e-9)
    assert pair["low"] <= pair["difference"] <= pair["high"]
    assert pair["n"] == COUNT and pair["p_value"] <= pair["holm"] <= 1
    assert ("least-flip", "label-flip", "insertion") in pairs
    assert ("least-flip", "least", "insertion") in pairs
    assert ("least-flip", "label", "insertion") not in pairs
    # Six images flip 64 ways, of which two are the most extreme, and three metrics.
    (said,) = [s for s in condition_tables.sentences(summary) if s.startswith("Least")]
    assert "6 images cannot tell them apart" in said and "8 images" not in said


def test_what_is_lost_of_a_condition_is_made_again(evaluated, pictures, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(evaluated[0], folder)
    before = (folder / evaluate.store.TABLE).read_bytes()
    inner = folder / conditions.FOLDER / "least-flip"
    kept = inner / "batches" / "000000.npz"
    made = kept.stat().st_mtime_ns
    (inner / "batches" / "000001.npz").unlink()
    (inner / evaluate.PAGE).unlink()
    (folder / evaluate.SUMMARY).unlink()
    evaluate.run(settings(pictures, **ASKED), folder)
    assert (folder / evaluate.store.TABLE).read_bytes() == before
    assert kept.stat().st_mtime_ns == made
    assert (inner / evaluate.PAGE).is_file()
    with pytest.raises(ValueError, match="belongs to another config: .*classes"):
        evaluate.run(settings(pictures, classes="label"), folder)


def test_a_batch_of_another_condition_is_refused(evaluated, pictures):
    file = evaluated[0] / conditions.FOLDER / "least" / "batches" / "000000.npz"
    first, _, _, _, least, _ = axes.setups(setup.prepare(settings(pictures, **ASKED)))
    assert batch_files.read(file, 0, least.whose())[0] is not None
    with pytest.raises(ValueError, match="condition 'least' there, 'label' here"):
        batch_files.read(file, 0, first.whose())
    plain = first._replace(condition=conditions.Condition())
    with pytest.raises(ValueError, match="condition 'least' there, '' here"):
        batch_files.read(file, 0, plain.whose())


def test_who_is_asked_to_stop_keeps_the_batches_of_all_conditions(pictures, tmp_path):
    def stop(doing, share):
        if share > 0.5:
            os.kill(os.getpid(), signal.SIGTERM)

    given = settings(pictures, classes="predicted+least", gallery=0)
    outcome = evaluate.run(given, tmp_path / "run", progress=stop)
    assert outcome.summary is None
    assert "Stopped by SIGTERM after 3 of 4 batches" in outcome.message
    assert not (tmp_path / "run" / evaluate.SUMMARY).exists()


def test_a_random_class_is_never_the_label(pictures):
    given = setup.prepare(settings(pictures, classes="label+random"))
    label, random = axes.setups(given)
    assert (random.labels != label.labels).all()
    assert (random.labels >= 0).all() and random.labels.max() < 10
    again = axes.setups(given)[1].labels
    np.testing.assert_array_equal(random.labels, again)


def test_boxes_and_masks_move_with_their_images():
    box = np.asarray([[[1, 2, 3, 5]], [[0, 0, -1, -1]]], np.int32)
    mask = np.zeros((2, 16, 16), np.int8)
    mask[0, 2:6, 1:4], mask[0, 0, 0] = 1, -1
    images = np.random.default_rng(0).random((2, 16, 16, 3)).astype(np.float32)
    given = _Given(conditions.Condition("label", "flip"))
    moved, labels, objects = scoring._augmented(
        given, images, np.asarray([3, 4]), {"boxes": box, "masks": mask}
    )
    np.testing.assert_allclose(moved, images[:, :, ::-1], atol=1e-6)
    np.testing.assert_array_equal(objects["masks"], mask[:, :, ::-1])
    assert objects["boxes"].tolist() == [[[12, 2, 14, 5]], [[0, 0, -1, -1]]]
    assert labels.tolist() == [3, 4]


class _Given:
    """Stand in for what augmentation asks of a setup."""

    def __init__(self, condition):
        self.condition = condition
        self.settings = config.load(CONFIG, [])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"classes": "label+leest"}, "did you mean 'least'"),
        ({"classes": "label", "labels": "predicted"}, "says that there are none"),
        ({"classes": "least", "maps": "theirs"}, "asks for several maps of an image"),
        ({"augmentations": "none+flip", "maps": "theirs"}, "several maps of an image"),
        ({"augmentations": "flip"}, "lacks 'none'"),
    ],
)
def test_bad_conditions_get_one_sentence(pictures, tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        evaluate.run(settings(pictures, **change), tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_data_without_labels_are_refused_before_weights_are_read(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "unnamed.png")
    given = settings(tmp_path, classes="label+least", **{"model.weights": "nowhere"})
    with pytest.raises(ValueError, match="1 of 1 images have no class"):
        evaluate.run(given, tmp_path / "bad")
    # Without the label among the classes, nobody asks for one.
    given = settings(tmp_path, classes="predicted+least")
    assert (setup.prepare(given).labels == -1).all()
