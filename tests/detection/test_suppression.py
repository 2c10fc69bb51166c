"""Suppressed boxes against torchvision's and a slow loop."""

from pathlib import Path

import jax
import numpy as np
import pytest

from unlir_jax import detection
from unlir_jax.detection import suppression

STORED = np.load(Path(__file__).parents[1] / "golden" / "boxes" / "torchvision.npz")


def slow(boxes, scores, threshold):
    """Keep the best box and drop what overlaps it, until there is none."""
    order = sorted(np.flatnonzero(scores > -np.inf), key=lambda box: -scores[box])
    kept = []
    while order:
        best, *rest = order
        kept.append(best)
        order = [other for other in rest if slow_overlap(boxes, best, other, threshold)]
    return kept


def slow_overlap(boxes, one, other, threshold):
    a, b = boxes[one].astype(float), boxes[other].astype(float)
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = np.prod(np.maximum(sides, 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared
    return not shared > threshold * union


@pytest.mark.parametrize("case", ["by_hand", "tied", "apart"])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.4, 0.5, 0.7, 1.0])
def test_order_and_ties_are_those_of_torchvision(case, threshold):
    boxes, scores = STORED[f"{case}/boxes"], STORED[f"{case}/scores"]
    expected = STORED[f"{case}/{threshold}"]
    kept = detection.nms(boxes, scores, threshold=threshold)
    order = np.asarray(kept.order)
    np.testing.assert_array_equal(order[: len(expected)], expected)
    assert (order[len(expected) :] == -1).all()
    np.testing.assert_array_equal(np.flatnonzero(kept.mask), np.sort(expected))


def test_an_overlap_of_the_threshold_is_kept_where_it_is_exact():
    boxes, scores = STORED["by_hand/boxes"], STORED["by_hand/scores"]
    assert detection.nms(boxes, scores, threshold=0.5).mask[2]
    # 0.3 as float32 is greater than 0.3, so torchvision suppresses; so do we.
    assert float(np.float32(0.3)) > 0.3
    assert not detection.nms(boxes, scores, threshold=0.3).mask[1]
    # Boxes without area stay, also equal ones and one within another box.
    assert detection.nms(boxes, scores, threshold=0.0).mask[3:6].all()


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7])
def test_thresholds_are_rounded_down(threshold):
    limit = suppression.below(threshold, np.dtype(np.float32))
    above = np.nextafter(np.float32(limit), np.float32(1))
    assert float(np.float32(limit)) == limit <= threshold < float(above)
    assert suppression.below(threshold, np.dtype(np.float64)) == threshold


def test_classes_are_independent_and_padding_is_not_there():
    boxes = STORED["tied/boxes"][:60]
    scores = np.random.default_rng(3).random((60, 3)).round(1).astype(np.float32)
    scores[::7, 1] = -np.inf
    kept = jax.jit(lambda *both: detection.nms(*both, threshold=0.4))(boxes, scores)
    for index in range(3):
        expected = slow(boxes, scores[:, index], 0.4)
        order = np.asarray(kept.order)[:, index]
        assert order[order >= 0].tolist() == expected
        assert np.flatnonzero(kept.mask[:, index]).tolist() == sorted(expected)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"boxes": np.zeros((3, 5))}, r"`boxes` has shape \(3, 5\)"),
        ({"boxes": np.full((3, 4), np.nan)}, "`boxes` holds numbers that are not"),
        ({"boxes": np.asarray([[9.0, 9, 2, 2]] * 3)}, "holds 3 boxes that end before"),
        ({"scores": np.zeros((2,))}, r"`scores` has shape \(2,\)"),
        ({"scores": np.full(3, np.nan)}, "`scores` holds NaN"),
        ({"threshold": 1.5}, "`threshold`=1.5"),
    ],
)
def test_wrong_arguments_are_one_sentence(change, sentence, unchecked):
    given = {"boxes": np.zeros((3, 4)), "scores": np.zeros(3), "threshold": 0.5}
    given |= change
    boxes, scores = given.pop("boxes"), given.pop("scores")
    with pytest.raises(ValueError, match=sentence):
        detection.nms(boxes, scores, **given)


def test_pixels_become_edges():
    boxes = np.asarray([[[0, 0, 0, 0], [2, 3, 5, 4], [0, 0, -1, -1]]])
    found = detection.of_pixels(boxes)
    assert found.tolist() == [[[0, 0, 1, 1], [2, 3, 6, 5], [0, 0, 0, 0]]]
    overlap = detection.overlaps(found[0].astype(np.float32), found[0][:2])
    assert overlap[0, 0] == 1 and overlap[2].tolist() == [0, 0]
