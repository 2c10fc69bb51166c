"""Proposed boxes by geometry, and features of regions against slow loops."""

import itertools

import jax
import numpy as np
import pytest

from unlir_jax import detection

RANDOM = np.random.default_rng(0)
SIZE = (48, 64)


def test_windows_cover_the_image_with_equal_steps():
    windows = detection.dense_windows(SIZE, scales=(0.5,), ratios=(1.0,), step=0.5)
    # Half of each side, a quarter of the image further each time: three by three.
    expected = [
        [x, y, x + 32, y + 24] for y, x in itertools.product((0, 12, 24), (0, 16, 32))
    ]
    np.testing.assert_array_equal(windows, np.asarray(expected, np.float32))


@pytest.mark.parametrize("size", [(48, 64), (31, 200), (1, 1)])
def test_windows_have_the_areas_and_ratios_that_were_asked_for(size):
    scales, ratios = (0.3, 0.6), (0.5, 1.0, 2.0)
    windows = detection.dense_windows(size, scales=scales, ratios=ratios)
    sides = windows[:, 2:] - windows[:, :2]
    shares = sides / np.asarray(size[::-1], np.float32)
    scale = np.sqrt(shares.prod(1))
    ratio = shares[:, 0] / shares[:, 1]
    kinds = {
        (round(float(s), 2), round(float(r), 2))
        for s, r in zip(scale, ratio, strict=True)
    }
    assert kinds == set(itertools.product(scales, ratios))
    assert windows.min() == 0 and (windows[:, 2:].max(0) == size[::-1]).all()
    assert len(np.unique(windows, axis=0)) == len(windows)
    again = detection.dense_windows(size, scales=scales, ratios=ratios)
    np.testing.assert_array_equal(windows, again)


def test_neighbouring_windows_are_no_further_apart_than_a_step():
    windows = detection.dense_windows(SIZE, scales=(0.35,), ratios=(1.0,), step=0.3)
    side = windows[0, 2] - windows[0, 0]
    gaps = np.diff(np.unique(windows[:, 0]))
    assert gaps.max() <= 0.3 * side + 1e-4
    np.testing.assert_allclose(gaps, gaps[0], atol=1e-4)


def test_whole_image_is_one_window():
    windows = detection.dense_windows(SIZE, scales=(1.0,), ratios=(1.0, 1.0))
    assert windows.tolist() == [[0, 0, 64, 48]]


def test_every_peak_of_a_map_has_boxes_of_several_sizes():
    values = np.zeros((20, 30), np.float32)
    values[2:10, 3:11], values[4:7, 5:9] = 0.4, 1.0
    values[12:18, 20:28] = 0.6
    found = detection.boxes_of_maps(values[None], (20, 30))
    boxes = found.boxes[0][found.exist[0]].tolist()
    assert boxes == [[3, 2, 11, 10], [20, 12, 28, 18], [5, 4, 9, 7]]
    assert not found.boxes[0][~found.exist[0]].any()
    fewer = detection.boxes_of_maps(values[None], (20, 30), most=2, least_side=4)
    assert fewer.boxes[0].tolist() == boxes[:2]


def test_flat_maps_have_no_boxes_and_maps_do_not_depend_on_others():
    maps = np.stack([RANDOM.random((5, 6)), np.ones((5, 6))]).astype(np.float32)
    both = detection.boxes_of_maps(maps, SIZE)
    alone = detection.boxes_of_maps(maps[:1], SIZE)
    assert both.exist[0].any() and not both.exist[1].any()
    np.testing.assert_array_equal(both.boxes[0], alone.boxes[0])


def slow_mean(maps, box, size):
    """Average over very many points in the middles of small squares."""
    x0, y0, x1, y1 = box
    rows, columns, _ = maps.shape
    points = (np.arange(400) + 0.5) / 400
    y = ((y0 + (y1 - y0) * points) * rows / size[0]).astype(int)
    x = ((x0 + (x1 - x0) * points) * columns / size[1]).astype(int)
    return maps[y][:, x].mean((0, 1))


def test_regions_are_means_over_boxes():
    maps = RANDOM.normal(size=(6, 8, 3)).astype(np.float32)
    # Quarters of a pixel, so that 400 points divide boxes and cells evenly.
    boxes = np.asarray([[3, 5, 33, 40], [0, 0, 64, 48], [10.5, 7.25, 20.5, 17.25]])
    found = detection.region_features(maps, boxes, SIZE)
    expected = [slow_mean(maps, box, SIZE) for box in boxes]
    assert found.shape == (3, 1, 1, 3)
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=0, atol=0.01)
    np.testing.assert_allclose(found[1, 0, 0], maps.mean((0, 1)), atol=1e-6)


def test_regions_are_sums_of_an_integral_image():
    maps = RANDOM.normal(size=(6, 8, 3))
    integral = np.pad(maps, [(1, 0), (1, 0), (0, 0)]).cumsum(0).cumsum(1)
    boxes = np.asarray([[x, y, x + 24, y + 16] for x in (0, 8, 40) for y in (0, 8, 32)])
    with jax.enable_x64(True):
        found = detection.region_features(maps, boxes.astype(float), SIZE)
    x0, y0, x1, y1 = (boxes // 8).T
    sums = integral[y1, x1] - integral[y0, x1] - integral[y1, x0] + integral[y0, x0]
    np.testing.assert_allclose(found[:, 0, 0], sums / 6, rtol=0, atol=1e-12)


def test_bins_are_regions_of_their_own_and_empty_ones_are_zero():
    maps = RANDOM.normal(size=(6, 8, 3)).astype(np.float32)
    box = np.asarray([[4.0, 6, 44, 30]])
    found = detection.region_features(maps, box, SIZE, bins=2)
    quarters = np.asarray(
        [[x, y, x + 20, y + 12] for y in (6.0, 18.0) for x in (4.0, 24.0)]
    )
    each = detection.region_features(maps, quarters, SIZE)
    np.testing.assert_allclose(found.reshape(4, 3), each[:, 0, 0], atol=1e-6)
    outside = np.asarray([[-9.0, -9, -1, -1], [5, 5, 5, 9], [-64, 0, 64, 48]])
    found = detection.region_features(maps, outside, SIZE)
    assert not found[:2].any()
    np.testing.assert_allclose(found[2, 0, 0], maps.mean((0, 1)), atol=1e-6)


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: detection.dense_windows((0, 4)), r"`size`=\(0, 4\)"),
        (lambda: detection.dense_windows(SIZE, scales=(2.0,)), r"`scales`=\(2.0,\)"),
        (lambda: detection.dense_windows(SIZE, ratios=()), r"`ratios`=\(\)"),
        (lambda: detection.dense_windows(SIZE, step=0.0), "`step`=0.0"),
        (
            lambda: detection.boxes_of_maps(np.ones((1, 4, 4)), SIZE, thresholds=(1,)),
            r"`thresholds`=\(1,\)",
        ),
        (lambda: detection.boxes_of_maps(np.ones((1, 4, 4)), SIZE, most=0), "`most`=0"),
        (
            lambda: detection.boxes_of_maps(np.full((1, 4, 4), np.nan), SIZE),
            "`saliency` holds numbers that are not finite",
        ),
        (
            lambda: detection.region_features(
                np.ones((2, 2, 1)), np.ones((1, 4)), SIZE, bins=0
            ),
            "`bins`=0",
        ),
    ],
)
def test_wrong_settings_are_one_sentence(call, sentence, unchecked):
    with pytest.raises(ValueError, match=sentence):
        call()
