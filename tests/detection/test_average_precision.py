"""Average precision against pycocotools, slow loops, and counts by hand."""

from pathlib import Path

import numpy as np
import pytest

from unlir_jax import detection
from unlir_jax.detection import precision_curves

STORED = np.load(Path(__file__).parents[1] / "golden" / "boxes" / "pycocotools.npz")
CLASSES = 4
BOX, FAR = [0.0, 0, 10, 10], [50.0, 50, 60, 60]


def images_of(objects, found, count):
    """Sort stored rows into images: image, box, class, crowd or score."""
    there = [
        detection.Objects(rows[:, 1:5], rows[:, 5].astype(int), rows[:, 6] > 0)
        for rows in (objects[objects[:, 0] == image] for image in range(count))
    ]
    guesses = [
        detection.Detections(rows[:, 1:5], rows[:, 6], rows[:, 5].astype(int))
        for rows in (found[found[:, 0] == image] for image in range(count))
    ]
    return guesses, there


def one_class(boxes, scores, true, ignored=None):
    """Make detections and objects of one image and one class."""
    boxes, true = np.reshape(boxes, (-1, 4)), np.reshape(true, (-1, 4))
    labels = np.zeros(len(boxes), int), np.zeros(len(true), int)
    ignored = None if ignored is None else np.asarray(ignored, bool)
    found = detection.Detections(boxes, np.asarray(scores, float), labels[0])
    return [found], [detection.Objects(true, labels[1], ignored)]


@pytest.mark.parametrize("case", ["plain", "crowds", "many"])
def test_coco_is_that_of_pycocotools(case):
    count = {"plain": 12, "crowds": 12, "many": 6}[case]
    images = images_of(STORED[f"{case}/objects"], STORED[f"{case}/found"], count)
    overlaps = detection.COCO_OVERLAPS
    found = detection.average_precision(*images, classes=CLASSES, overlaps=overlaps)
    expected = STORED[f"{case}/precision"]
    assert np.isnan(expected).any() and (expected > 0).any()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    mean = detection.mean_average_precision(*images, classes=CLASSES, overlaps=overlaps)
    assert mean == pytest.approx(np.nanmean(expected), abs=1e-9)


def test_a_recall_that_is_a_threshold_counts_as_in_pycocotools():
    """Float32 thresholds, as torchmetrics has them, part here by 1 / 101."""
    found = []
    for count, hits in STORED["recalls/pairs"]:
        right = np.tile([True, False], hits)
        found.append(precision_curves.area("coco", right, count))
    np.testing.assert_allclose(found, STORED["recalls/precision"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("objects", [10, 7, 30])
def test_eleven_points_count_recall_in_whole_numbers(objects):
    random = np.random.default_rng(objects)
    for hits in range(1, objects + 1):
        right = random.permutation(np.repeat([True, False], [hits, 5]))
        ranks = np.arange(1, len(right) + 1)
        precision, found = np.cumsum(right) / ranks, np.cumsum(right)
        slow = [
            max(precision[10 * found >= tenth * objects], default=0)
            for tenth in range(11)
        ]
        value = precision_curves.area("voc07", right, objects)
        assert value == pytest.approx(np.mean(slow), abs=1e-12)
    assert not 3 / 10 >= 3 * 0.1  # What happens in floating point.


def test_the_area_is_that_of_steps():
    right = np.random.default_rng(0).random(40) < 0.5
    precision = np.cumsum(right) / np.arange(1, 41)
    # Each right detection adds a step as wide as one object.
    slow = sum(max(precision[place:]) for place in np.flatnonzero(right)) / 50
    assert precision_curves.area("voc10", right, 50) == pytest.approx(slow)


@pytest.mark.parametrize(
    "rule, expected", [("voc07", 6 / 11), ("voc10", 0.5), ("coco", 51 / 101)]
)
def test_one_of_two_objects_found_first(rule, expected):
    images = one_class([BOX, BOX], [0.9, 0.8], [BOX, FAR])
    found = detection.average_precision(*images, classes=1, rule=rule)
    assert found[0, 0] == pytest.approx(expected, abs=1e-12)


def test_voc_compares_with_one_object_and_coco_with_the_best_free_one():
    near = [0.0, 0, 10, 8]
    images = one_class([BOX, BOX], [0.9, 0.8], [BOX, near])
    voc = detection.average_precision(*images, classes=1, rule="voc10")
    coco = detection.average_precision(*images, classes=1, rule="coco")
    assert voc[0, 0] == 0.5 and coco[0, 0] == 1


@pytest.mark.parametrize("rule", ["voc07", "voc10", "coco"])
def test_an_overlap_of_exactly_the_limit_is_right(rule):
    images = one_class([[0.0, 0, 10, 5]], [0.9], [BOX])
    found = detection.average_precision(
        *images, classes=1, overlaps=(0.5, 0.51), rule=rule
    )
    assert found[:, 0].tolist() == [1, 0]


def test_ignored_objects_and_what_lies_on_them_do_not_count():
    # Two boxes on the ignored object, of higher scores than the right one.
    boxes, scores = [FAR, FAR, BOX], [0.9, 0.8, 0.7]
    images = one_class(boxes, scores, [BOX, FAR], [False, True])
    for rule in ("voc07", "voc10", "coco"):
        found = detection.average_precision(*images, classes=1, rule=rule)
        assert found[0, 0] == 1, rule
    # A small box inside a crowd is left out by COCO, and wrong for VOC.
    small = [52.0, 52, 54, 54]
    images = one_class([small, BOX], [0.9, 0.8], [BOX, FAR], [False, True])
    coco = detection.average_precision(*images, classes=1, rule="coco")
    voc = detection.average_precision(*images, classes=1, rule="voc10")
    assert coco[0, 0] == 1 and voc[0, 0] == 0.5
    alone = one_class([FAR], [0.9], [FAR], [True])
    assert np.isnan(detection.average_precision(*alone, classes=1)).all()
    with pytest.raises(ValueError, match="no object that is not ignored"):
        detection.mean_average_precision(*alone, classes=1)


def test_coco_looks_at_a_hundred_boxes_and_voc_at_all():
    boxes = [FAR] * 100 + [BOX]
    images = one_class(boxes, np.linspace(1, 0.5, 101), [BOX])
    coco = detection.average_precision(*images, classes=1)
    voc = detection.average_precision(*images, classes=1, rule="voc10")
    assert coco[0, 0] == 0 and voc[0, 0] == pytest.approx(1 / 101)


def test_corloc_looks_at_the_best_box_of_images_with_the_class():
    first, there = one_class([BOX, FAR], [0.9, 0.8], [BOX])
    second, other = one_class([FAR, BOX], [0.9, 0.8], [BOX])
    tied, same = one_class([BOX, FAR], [0.9, 0.9], [BOX])
    empty, lost = one_class([], [], [BOX])
    absent, nothing = one_class([BOX], [0.9], [])
    void, ignored = one_class([BOX], [0.9], [BOX], [True])
    found = first + second + tied + empty + absent + void
    objects = there + other + same + lost + nothing + ignored
    values = detection.corloc(found, objects, classes=2)
    assert values[0] == 0.5 and np.isnan(values[1])
    half = one_class([[0.0, 0, 10, 5]], [0.9], [BOX])
    assert detection.corloc(*half, classes=1)[0] == 1
    assert detection.corloc(*half, classes=1, overlap=0.51)[0] == 0


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"rule": "voc"}, "`rule`='voc' is unknown"),
        ({"overlaps": ()}, r"`overlaps`=\[\]"),
        ({"overlaps": (0.0,)}, r"`overlaps`=\[0.0\]"),
        ({"classes": 0}, "`classes`=0"),
        ({"objects": []}, "`detections` are of 1 images and `objects` of 0"),
        ({"scores": [np.nan]}, "scores that are not finite"),
        ({"scores": [0.5, 0.5]}, r"`detections\[0\]` has parts of lengths \[1, 2\]"),
        ({"boxes": [9.0, 9, 1, 1]}, r"`detections\[0\].boxes` holds 1 boxes that end"),
        ({"label": 3}, r"`objects\[0\].labels` has labels from 3 to 3"),
    ],
)
def test_wrong_arguments_are_one_sentence(change, sentence, unchecked):
    boxes, scores = change.pop("boxes", BOX), change.pop("scores", [0.9])
    found, objects = one_class(boxes, scores, BOX)
    if "label" in change:
        objects = [objects[0]._replace(labels=np.asarray([change.pop("label")]))]
    settings = {"objects": objects, "classes": 1} | change
    with pytest.raises(ValueError, match=sentence):
        detection.average_precision(found, **settings)
