"""Void pixels, of which nobody says what they are, count neither for nor against a map.

Two identities hold for every metric of regions: whatever the map is on void pixels, the
value stays; and it is that of the picture without them.
"""

import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax import metrics, split
from unlir_jax.data import source
from unlir_jax.metrics import parts
from unlir_jax.metrics.localization import boxes
from unlir_jax.metrics.parts import interventions, part_maps

VOID = boxes.VOID
COUNT, SIDE, KEPT = 4, 24, 15
REGIONS = metrics.REGION_METRICS | metrics.CHOSEN_REGION_METRICS
CASES = [
    *((name, {}) for name in REGIONS),
    ("pointing_game", {"tolerance": 0}),
    ("iou", {"threshold": 0.5}),
    ("iou", {"threshold": 0.05, "scaling": "none"}),
    *((name, {"scaling": "max"}) for name in ("f1", "iou", "max_iou", "max_f1")),
    ("energy_pointing_game", {"scaling": "range"}),
    ("energy_pointing_game", {"scaling": "none"}),
    ("pixel_average_precision", {"thresholds": 20}),
    ("pixel_average_precision", {"scaling": "none"}),
]
MODEL = split.from_functions(lambda v, images: images, lambda v, m: m.mean((1, 2)))


def score(name, settings, saliency, regions):
    images = np.zeros((*saliency.shape, 3), np.float32)
    labels = np.zeros(len(saliency), np.int32)
    found = REGIONS[name](MODEL, **settings)({}, images, labels, saliency, regions)
    return {key: np.asarray(values) for key, values in found.items()}


@pytest.fixture
def scene():
    """Give maps, true objects, and masks of classes whose right is void."""
    random = np.random.default_rng(0)
    saliency = random.normal(size=(COUNT, SIDE, SIDE)).astype(np.float32)
    inside = random.uniform(size=saliency.shape) < 0.3
    inside[2, :, :KEPT] = False  # Nothing is left of this object.
    regions = np.where(inside, random.integers(1, 21, inside.shape), 0)
    regions = regions.astype(np.uint8)
    regions[:, :, KEPT:] = VOID
    return saliency, inside, regions


@pytest.mark.parametrize(("name", "settings"), tiers.by_tier(CASES, 4))
def test_void_counts_for_nothing(scene, name, settings):
    saliency, inside, regions = scene
    random = np.random.default_rng(1)
    if settings.get("scaling") == "none":
        saliency = 0.1 + np.abs(saliency) / 8
    found = score(name, settings, saliency, regions)
    # The picture without its void part.
    alone = score(name, settings, saliency[:, :, :KEPT], inside[:, :, :KEPT])
    for key, values in alone.items():
        np.testing.assert_allclose(found[key], values, atol=1e-6, err_msg=key)
        first = values.reshape(COUNT, -1)[:, 0]
        if not key.startswith(("pixels_", "segmented_")):
            assert np.isnan(first).tolist() == [False, False, True, False]
    for size in (1, 1e6):
        other = saliency.copy()
        other[:, :, KEPT:] = size * random.normal(size=(COUNT, SIDE, SIDE - KEPT))
        again = score(name, settings, other, regions)
        for key, values in found.items():
            np.testing.assert_array_equal(again[key], values, err_msg=key)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", tiers.by_tier(REGIONS, 2))
def test_classes_booleans_and_marks_of_void_are_the_same(scene, name):
    saliency, inside, regions = scene
    kept = score(name, {}, saliency, regions)
    others = [
        regions.astype(np.int64),
        np.where(regions == VOID, -1, regions > 0).astype(np.int8),
        jnp.asarray(regions),
    ]
    for other in others:
        for key, values in score(name, {}, saliency, other).items():
            np.testing.assert_array_equal(values, kept[key])
    # Without void, whole numbers are booleans.
    whole = score(name, {}, saliency, inside)
    for key, values in score(name, {}, saliency, 7 * inside.astype(np.uint8)).items():
        np.testing.assert_allclose(values, whole[key], atol=1e-6)


@pytest.mark.parametrize("name", REGIONS)
def test_a_map_that_differs_on_void_only_is_flat(scene, name):
    saliency, _, regions = scene
    flat = np.where(regions == VOID, saliency, np.float32(2))
    constant = np.full_like(saliency, 2)
    expected = score(name, {}, constant, regions)
    for key, values in score(name, {}, flat, regions).items():
        np.testing.assert_array_equal(values, expected[key])


def test_all_void_is_nothing_to_find(scene):
    saliency, _, regions = scene
    regions[1] = VOID
    for name in REGIONS:
        for key, values in score(name, {}, saliency, regions).items():
            if not key.startswith(("pixels_", "segmented_")):
                assert np.isnan(values[1]).all(), key
            else:
                assert (values[1] == 0).all()


@pytest.mark.exhaustive
def test_values_by_hand():
    """Five pixels in a row: object, object, background, background, void."""
    regions = np.asarray([[[3, 4, 0, 0, VOID]]], np.uint8)
    saliency = np.asarray([[[0.6, 0.2, 0.4, 0.0, 1.0]]], np.float32)

    def value(name, **settings):
        return score(name, settings, saliency, regions)[name].item()

    assert value("pointing_game", tolerance=0) == 1
    assert value("energy_pointing_game") == pytest.approx(0.8 / 1.2)
    # In the range of what counts: 1, 1/3, 2/3 and 0.
    precision, recall = (4 / 3) / 2, (4 / 3) / 2
    assert value("f1") == pytest.approx(
        2 * precision * recall / (precision + recall), abs=1e-6
    )
    # Above the mean, 1/2, lie the first and the third.
    assert value("iou") == pytest.approx(1 / 3)
    # Recall 1/2 at precision 1, recall 1 at precision 2/3.
    assert value("pixel_average_precision") == pytest.approx(0.5 + 0.5 * 2 / 3)
    curve = score("max_iou", {"thresholds": 10}, saliency, regions)["max_iou_curve"]
    np.testing.assert_allclose(curve[0, [0, 2, 5, 9]], [2 / 4, 2 / 3, 1 / 3, 1 / 2])


def test_black_and_white_are_not_taken_for_void(scene, unchecked):
    saliency, inside, _ = scene
    white = np.where(inside, VOID, 0).astype(np.uint8)
    for values in (white, white.astype(np.int32), jnp.asarray(white)):
        with pytest.raises(ValueError, match="0 and 255 only, and 255 means void; ex"):
            score("iou", {}, saliency, values)
    with pytest.raises(TypeError, match="expected booleans, True on the object, or wh"):
        score("iou", {}, saliency, white / 255)


def test_boxes_around_masks_leave_void_out():
    masks = np.zeros((3, 9, 9), np.uint8)
    masks[0, 2:5, 3:7], masks[0, 1, :] = 6, VOID
    masks[1, 4, 4] = VOID
    found = boxes.around(masks)
    np.testing.assert_array_equal(found, [(3, 2, 6, 4), boxes.NONE, boxes.NONE])
    assert VOID == source.VOID


def test_void_belongs_to_no_part():
    """Cells of 2 x 2 pixels: void is not counted, and an all-void cell is left out."""
    mask = np.zeros((1, 4, 4), np.int64)
    mask[0, :2, :2] = [[VOID, VOID], [VOID, 2]]
    mask[0, :2, 2:] = VOID
    mask[0, 2:, :2] = [[1, 1], [0, VOID]]
    counts = part_maps.count_pixels(mask, 2, 2, 3)
    np.testing.assert_array_equal(
        counts[0], [[[0, 0, 1], [0, 0, 0]], [[1, 2, 0], [4, 0, 0]]]
    )
    scores = np.random.default_rng(0).normal(size=(1, 2, 2, 3))
    true, found = parts.mask_labels(scores, mask)
    np.testing.assert_array_equal(true, [2, 1])
    np.testing.assert_array_equal(found, scores[0, [0, 1], [0, 0]].argmax(-1))
    true, _ = parts.mask_labels(scores, mask, background=True)
    np.testing.assert_array_equal(true, [2, 1, 0])
    claims = interventions.claimed_effects(np.asarray([[[1.0, 5], [3, 7]]]), mask, 2)
    np.testing.assert_allclose(claims, [[3, 1]])
    shared = interventions.claimed_effects(
        np.asarray([[[1.0, 5], [3, 7]]]), mask, 2, background=True
    )
    np.testing.assert_allclose(shared, [[2, 1]])
    with pytest.raises(ValueError, match="other than 255, which is void"):
        parts.mask_labels(scores, np.full((1, 4, 4), VOID))
