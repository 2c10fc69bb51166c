"""Boxes, masks and segments of maps, against loops and closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import metrics, split
from unlir_jax.metrics.localization import boxes

MODEL = split.from_functions(lambda v, images: images, lambda v, m: m.mean((1, 2)))


def cross_map():
    """Draw two bright spots of 6 and 2 pixels, and a dim one of 9."""
    saliency = np.zeros((2, 8, 8), np.float32)
    saliency[0, 1:3, 1:4] = 1.0
    saliency[0, 6, 0:2] = 0.8
    saliency[0, 5:8, 5:8] = 0.5
    return saliency


def test_masks_and_boxes_of_a_map_by_hand():
    saliency = cross_map()
    low = metrics.object_masks(saliency, (8, 8), threshold=0.4)
    np.testing.assert_array_equal(low, saliency > 0.4)
    assert not low[1].any()
    found = metrics.object_boxes(low, most=4)
    spots = [[5, 5, 7, 7], [1, 1, 3, 2], [0, 6, 1, 6]]
    assert found[0].tolist() == [*spots, list(boxes.NONE)]
    assert found[1].tolist() == [list(boxes.NONE)] * 4
    high = metrics.object_masks(saliency, (8, 8), threshold=0.5)
    assert metrics.object_boxes(high)[0].tolist() == [[1, 1, 3, 2]]
    half = metrics.object_boxes(low, most=4, least=0.5)
    assert half[0].tolist() == [*spots[:2], *[list(boxes.NONE)] * 2]
    diagonal = np.eye(4, dtype=bool)[None]
    assert metrics.object_boxes(diagonal).tolist() == [[[0, 0, 3, 3]]]
    alone = metrics.object_boxes(diagonal, connectivity=4)
    assert alone.tolist() == [[[0, 0, 0, 0]]]


def test_a_locator_draws_what_its_explainer_marks():
    def explain(variables, images, labels, *, key=None):
        return jnp.asarray(cross_map()) * jnp.asarray(labels)[:, None, None]

    locate = metrics.locator(explain, threshold=0.7, most=2)
    found = locate({}, np.zeros((2, 16, 16, 3)), np.asarray([1, 1]))
    assert found.saliency.shape == (2, 8, 8) and found.masks.shape == (2, 16, 16)
    assert found.boxes[0, 0].tolist() == [2, 2, 7, 5]
    np.testing.assert_array_equal(
        found.boxes, metrics.object_boxes(found.masks, most=2)
    )
    assert not boxes.exists(found.boxes[1]).any()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"threshold": 1.0}, "`threshold`=1.0; expected a value in"),
        ({"threshold": 0.5, "most": 0}, "`most`=0; expected 1 or more."),
        ({"threshold": 0.5, "least": 2.0}, "`least`=2.0; expected a share"),
        ({"threshold": 0.5, "connectivity": 6}, "`connectivity`=6"),
    ],
)
def test_settings_of_a_locator_without_sense_are_refused(settings, sentence, unchecked):
    with pytest.raises(ValueError, match=sentence):
        metrics.locator(lambda *a, key=None: None, **settings)


def test_one_box_is_right_by_overlap_and_by_class():
    saliency = np.concatenate([cross_map()[:1]] * 3)
    images = np.zeros((3, 8, 8, 3), np.float32)
    images[:, :, :, 1] = 0.5  # Class 1 is predicted, 0 and 2 are equal.
    labels = np.asarray([1, 0, 2])
    true = np.asarray([[[1, 1, 3, 2]]] * 3)
    inputs = {}, images, labels, saliency, true
    options = {"thresholds": 10}
    one = metrics.corloc(MODEL, **options)(*inputs)["corloc_curve"]
    # Above 0.5 the largest part is the true box, below that another.
    np.testing.assert_allclose(one[0], [0.0] * 5 + [1.0] * 5)
    top = metrics.top1_localization(MODEL, **options)(*inputs)
    np.testing.assert_allclose(
        top["top1_localization_curve"], one * np.asarray([1, 0, 0])[:, None]
    )
    five = metrics.top5_localization(MODEL, **options)(*inputs)
    np.testing.assert_allclose(five["top5_localization_curve"], one)
    nothing = *inputs[:4], np.asarray([[list(boxes.NONE)]] * 3)
    assert np.isnan(metrics.corloc(MODEL, **options)(*nothing)["corloc_curve"]).all()


def test_of_equal_classes_the_first_come_first():
    from unlir_jax.metrics.localization import correct_boxes

    logits = np.asarray([[1.0, 1, 1, 1, 1, 1]] * 2)
    ranks = correct_boxes._rank(logits, np.asarray([0, 5]))
    assert ranks.tolist() == [0, 5]


@pytest.mark.exhaustive
def test_corloc_is_the_stored_accuracy_of_the_largest_box(shared, x64):
    import json

    folder = shared / "golden"
    figures = json.loads((folder / "localisation.json").read_text())
    with np.load(folder / "localisation.npz") as file:
        arrays = {name: file[name] for name in ("maps", "boxes")}
    count = len(arrays["maps"])
    images, labels = np.zeros((count, 32, 32, 3)), np.zeros(count, int)
    inputs = {}, images, labels, arrays["maps"], arrays["boxes"][:, None]
    metric = metrics.corloc(MODEL, thresholds=1000, scaling="none")
    curve = np.asarray(metric(*inputs)["corloc_curve"])
    chosen = metrics.at_chosen(curve, "evaluated", (0.5,))
    # OpenCV's boxes are one pixel longer, which here turns no image.
    assert 100 * chosen.values.mean() == pytest.approx(
        figures["max_box_acc_percent"], abs=0.1
    )


def iou(one, other):
    return (one & other).sum() / max((one | other).sum(), 1)


def test_mean_iou_is_that_of_two_masks(unchecked):
    random = np.random.default_rng(0)
    saliency = random.uniform(size=(4, 9, 9)).astype(np.float32)
    regions = (random.uniform(size=(4, 9, 9)) < 0.4).astype(np.int8)
    regions[1, :3] = -1  # Void.
    regions[2] = 0  # No object.
    images, labels = np.zeros((4, 9, 9, 3), np.float32), np.zeros(4, int)
    metric = metrics.mean_iou(MODEL, thresholds=10, scaling="none")
    found = metric({}, images, labels, saliency, regions)
    assert np.isnan(found["mean_iou_curve"][2]).all()
    tables = []
    for row in (0, 1, 3):
        known, region = regions[row] >= 0, regions[row] == 1
        for place in range(10):
            taken = saliency[row] >= np.float32(place / 10)
            pair = iou(taken & known, region), iou(~taken & known, ~region & known)
            curve = found["mean_iou_curve"][row, place]
            assert curve == pytest.approx(np.mean(pair), abs=1e-6)
        taken = saliency[row] >= 0.5
        true = np.where(known, region, 255)
        tables.append((taken.astype(int), true))
    counts = found["segmented_inside"], found["segmented_outside"]
    rows = np.asarray([0, 1, 3])
    pooled = metrics.pooled_mean_iou(*(np.asarray(each)[rows] for each in counts), 5)
    guess, true = (np.stack(each) for each in zip(*tables, strict=True))
    assert pooled == pytest.approx(metrics.class_overlaps(guess, true, 2).mean)
    # Several classes, one an image: 2 and 0, whose maps are cut.
    labels = np.asarray([2, 0, 2])
    several = metrics.pooled_class_overlaps(
        *(np.asarray(each)[rows] for each in counts), 5, labels, 4
    )
    own = (labels + 1)[:, None, None]
    void = true == 255
    expected = metrics.class_overlaps(
        guess * own, np.where(void, 255, (true * own).astype(int)), 5
    )
    np.testing.assert_allclose(several.each, expected.each)
    assert several.mean == pytest.approx(expected.mean) and several.absent == 2
    empty = (np.asarray(each)[2:3] for each in counts)
    assert np.isnan(metrics.pooled_mean_iou(*empty, 5))


def test_overlaps_of_classes_are_those_of_sets():
    random = np.random.default_rng(1)
    true = random.integers(0, 4, (3, 7, 7))
    guess = np.where(random.uniform(size=true.shape) < 0.5, true, 1)
    true[0, 0] = 255
    found = metrics.class_overlaps(guess, true, 6)
    known = true != 255
    expected = [iou((guess == c) & known, true == c) for c in range(4)]
    np.testing.assert_allclose(found.each[:4], expected)
    assert np.isnan(found.each[4:]).all() and found.absent == 2
    assert found.mean == pytest.approx(np.mean(expected))
    nothing = metrics.class_overlaps(guess, np.full_like(true, 255), 6)
    assert np.isnan(nothing.mean) and nothing.absent == 6
    with pytest.raises(ValueError, match="expected classes in"):
        metrics.class_overlaps(guess, true, 2)


def test_segments_take_the_highest_class_that_is_there():
    maps = np.zeros((1, 3, 1, 4))
    maps[0, :, 0] = [[0.9, 0.2, 0.5, 0.0], [0.1, 0.8, 0.5, 0.0], [1.0, 1.0, 1.0, 0.1]]
    present = np.asarray([[True, True, False]])
    assert metrics.segments(maps, present).tolist() == [[[1, 2, 1, 0]]]
    assert metrics.segments(maps, ~present, background=0.0).tolist() == [[[3, 3, 3, 3]]]
    nothing = np.zeros((1, 3), bool)
    assert metrics.segments(maps, nothing).tolist() == [[[0, 0, 0, 0]]]
    with pytest.raises(ValueError, match="`background`=2"):
        metrics.segments(maps, present, background=2.0)


def channels(variables, images, labels, *, key=None):
    """Explain a class by the colour of its number."""
    return np.take_along_axis(images, labels[:, None, None, None], axis=3)[..., 0]


def test_segments_of_several_classes_are_those_of_the_highest_map():
    images = np.random.default_rng(4).uniform(size=(3, 4, 5, 3)).astype(np.float32)
    present = np.asarray([[1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    calls = []

    def counted(*arguments, **named):
        calls.append(arguments[2].tolist())
        return channels(*arguments, **named)

    found = metrics.segmenter(counted, background=0.25)({}, images, present)
    assert len(calls) == 2  # The first image has two classes.
    low, high = images.min((1, 2)), images.max((1, 2))
    maps = (images - low[:, None, None]) / (high - low)[:, None, None]
    for each, known, segment in zip(maps, present, found, strict=True):
        rated = np.where(known, each, 0.25)
        expected = np.where(rated.max(-1) > 0.25, rated.argmax(-1) + 1, 0)
        np.testing.assert_array_equal(segment, expected)
    with pytest.raises(ValueError, match=r"`present` has shape \(2, 3\); expected \[3"):
        metrics.segmenter(channels)({}, images, present[:2])
    with pytest.raises(ValueError, match="`background`=2"):
        metrics.segmenter(channels, background=2.0)


def test_counts_of_classes_are_those_of_segments_at_each_background():
    random = np.random.default_rng(5)
    # Some values lie exactly at a background.
    values = random.integers(-1, 11, (3, 6, 7)).astype(np.float32) / 10
    found = metrics.Highest(values, random.integers(0, 3, values.shape))
    true = random.choice([0, 1, 2, 3, 255, -1], values.shape)
    both, either = metrics.class_counts(found, true, 4, thresholds=5)
    assert both.shape == either.shape == (3, 5, 4)
    for place in range(5):
        guess = found.segments(place / 5)
        expected = metrics.class_overlaps(guess, true, 4)
        own = metrics.overlaps_of_counts(both[:, place].sum(0), either[:, place].sum(0))
        np.testing.assert_array_equal(own.each, expected.each)
        for row in range(3):
            one = metrics.class_overlaps(guess[row : row + 1], true[row : row + 1], 4)
            own = metrics.overlaps_of_counts(both[row, place], either[row, place])
            np.testing.assert_array_equal(own.each, one.each)
    with pytest.raises(
        ValueError, match=r"have the class 3; expected classes in \[0, 3"
    ):
        metrics.class_counts(found, true, 3)
    with pytest.raises(ValueError, match="`thresholds`=0"):
        metrics.class_counts(found, true, 4, thresholds=0)


def test_the_background_is_chosen_by_the_mean_over_classes_without_void():
    values = np.asarray([[[0.2, 0.4, 0.9, 0.7]]])
    found = metrics.Highest(values, np.asarray([[[1, 0, 0, 1]]]))
    # Below 0.4 the second pixel is wrong; from 0.7 on a class is lost. Where it is
    # void, less is enough.
    true = np.asarray([[[0, 0, 1, 2]]])
    assert metrics.best_background(found, true, 3) == 0.4
    true = np.asarray([[[0, 255, 1, 2]]])
    assert metrics.best_background(found, true, 3) == 0.2
    with pytest.raises(ValueError, match="void throughout"):
        metrics.best_background(found, np.full_like(true, 255), 3)
