"""Measures of test images, by the rule that is usual for their data."""

import numpy as np
import pytest

from unlir_jax import detection
from unlir_jax.data import objects, source
from unlir_jax.weak_detection import intervals, measures

BOXES = np.asarray([[0, 0, 4, 4], [8, 8, 16, 16]], np.float32)


def images(ignored, rule="voc10"):
    """Give one image with two objects of one class."""
    example = {"image": np.zeros((16, 16, 3), np.uint8), "boxes": BOXES}
    given = source.Source(lambda index: example, 1, ("cat",), str)
    labels, hard = (np.zeros(2, int),), (np.asarray(ignored),)
    return objects.ObjectImages(given, labels, np.ones((1, 1), bool), hard, rule)


@pytest.mark.parametrize(
    ("ignored", "precision"), [((False, False), 1.0), ((True, False), 1.0)]
)
def test_a_difficult_object_is_neither_found_nor_missed(ignored, precision):
    found = detection.Detections(BOXES, np.asarray([0.9, 0.8]), np.zeros(2, int))
    told = measures.measure(images(ignored), [0], [found])
    assert told["test/map50"] == precision and told["test/rule"] == "voc10"
    # The best box lies on the first object.
    assert told["test/corloc"] == float(not ignored[0])
    # Without a box on the second one, half of the objects are found, or none.
    first = detection.Detections(BOXES[:1], np.asarray([0.9]), np.zeros(1, int))
    told = measures.measure(images(ignored), [0], [first])
    assert told["test/map50"] == (0.0 if ignored[0] else 0.5)


def test_a_rule_that_is_asked_for_goes_first():
    found = detection.Detections(BOXES[:1], np.asarray([0.9]), np.zeros(1, int))
    told = measures.measure(images((False, False)), [0], [found], "voc07")
    # Half of the objects with precision 1: recalls 0, 0.1, ..., 0.5 of eleven.
    assert told["test/map50"] == pytest.approx(6 / 11) and told["test/rule"] == "voc07"


def test_intervals_are_of_what_public_functions_give_for_draws():
    random = np.random.default_rng(0)
    given = []
    for _ in range(12):
        boxes = (random.random((3, 4)) * 4 + [0, 0, 6, 6]).astype(np.float32)
        labels = random.integers(2, size=3)
        found = detection.Detections(boxes + 1, random.random(3), labels)
        given.append((found, detection.Objects(boxes, labels)))
    each = intervals.by_class(*zip(*given, strict=True), 2, "coco")
    for _ in range(3):
        drawn = random.integers(12, size=12)
        some = list(zip(*(given[place] for place in drawn), strict=True))
        counts = np.bincount(drawn, minlength=12)
        told = [intervals.measure(own, counts, "coco") for own in each]
        precision = detection.average_precision(*some, classes=2)[0]
        right = detection.corloc(*some, classes=2)
        np.testing.assert_allclose(told, np.stack([precision, right], 1), rtol=1e-9)
    # One image is drawn again and again.
    found, there = given[0]
    ends = intervals.bootstrap([found], [there], classes=2, rule="voc10", resamples=3)
    whole = detection.average_precision([found], [there], classes=2, rule="voc10")
    np.testing.assert_allclose(ends["map50"], [np.nanmean(whole)] * 2)
