"""Where the map lies, against stored references and slow loops."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import maps, metrics, split
from unlir_jax.metrics.localization import box_metrics, boxes, components

LABELS = jnp.asarray([0, 1, 2, 1])


def colour_model():
    """Classify by the mean colour."""
    return split.from_functions(
        lambda v, images: images, lambda v, m: 8 * m.mean((1, 2))
    )


@pytest.fixture
def reference(shared, x64):
    folder = shared / "golden"
    with np.load(folder / "localisation.npz") as file:
        arrays = {name: file[name] for name in file.files}
    figures = json.loads((folder / "localisation.json").read_text())
    count = len(arrays["maps"])
    images, labels = np.zeros((count, 32, 32, 3)), np.zeros(count, int)
    return ({}, images, labels, arrays["maps"]), arrays, figures


def test_pointing_games_are_the_reference(reference):
    inputs, arrays, figures = reference
    for tolerance in (15, 3, 0):
        metric = metrics.pointing_game(colour_model(), tolerance=tolerance)
        found = metric(*inputs, arrays["masks"])
        expected = figures[f"pointing_game_tolerance_{tolerance}"]
        assert found["pointing_game"].mean() == pytest.approx(expected, abs=1e-10)
        np.testing.assert_allclose(
            found["pointing_distance"], arrays["pointing_distance"], atol=1e-10
        )
    metric = metrics.energy_pointing_game(colour_model())
    found = metric(*inputs, arrays["box_masks"])["energy_pointing_game"]
    np.testing.assert_allclose(found, arrays["energy"], atol=1e-10)
    assert found.mean() == pytest.approx(figures["energy_pointing_game"], abs=1e-10)
    filled = boxes.fill(arrays["boxes"][:, None], (32, 32))
    np.testing.assert_array_equal(filled, arrays["box_masks"])
    np.testing.assert_array_equal(boxes.around(filled), arrays["boxes"])


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("contours", "overlaps", "curve", "figure"),
    [
        ("largest", (0.5,), "max_box_acc_curve", "max_box_acc_percent"),
        ("all", (0.3, 0.5, 0.7), "max_box_acc_v2_curves", "max_box_acc_v2_percent"),
    ],
)
def test_box_accuracies_are_the_reference(reference, contours, overlaps, curve, figure):
    inputs, arrays, figures = reference
    metric = metrics.box_overlaps(
        colour_model(), contours=contours, convention="opencv", scaling="none"
    )
    found = np.asarray(metric(*inputs, arrays["boxes"][:, None])["box_overlaps"])
    reached = [(found >= overlap).mean(0) for overlap in overlaps]
    np.testing.assert_allclose(reached, arrays[curve], atol=1e-10)
    result = metrics.max_box_accuracy(found, overlaps=overlaps)
    assert 100 * result.accuracy == pytest.approx(figures[figure], abs=1e-10)
    if contours == "all":
        expected = figures["max_box_acc_v2_percent_at_iou_30_50_70"]
        np.testing.assert_allclose(
            100 * np.asarray(result.of_overlap), expected, atol=1e-10
        )


def test_pooled_average_precision_is_the_reference(reference):
    inputs, arrays, figures = reference
    metric = metrics.pixel_average_precision(colour_model(), scaling="none")
    found = metric(*inputs, arrays["masks"])
    pooled = metrics.pooled_average_precision(
        found["pixels_inside"], found["pixels_outside"]
    )
    assert 100 * pooled == pytest.approx(figures["pxap_percent"], abs=1e-10)
    for index in range(3):
        counts = found["pixels_inside"][index], found["pixels_outside"][index]
        alone = metrics.pooled_average_precision(*(c[None] for c in counts))
        value = found["pixel_average_precision"][index]
        np.testing.assert_allclose(value, alone, atol=1e-12)


@pytest.fixture
def scene(pictures):
    """Give smooth maps, masks of two boxes each, and the boxes."""
    random = np.random.default_rng(3)
    saliency = random.normal(size=(4, 6, 6)).astype(np.float32)
    first = random.integers(0, 16, size=(4, 2, 2))
    true = np.concatenate([first, first + random.integers(4, 15, (4, 2, 2))], axis=2)
    true[0, 1] = boxes.NONE
    return saliency, true, boxes.fill(true, (32, 32))


@pytest.mark.exhaustive
def test_f1_and_iou_by_hand(pictures, scene):
    saliency, _, regions = scene
    s = np.asarray(maps.normalize(maps.resize(saliency, (32, 32))), np.float64)
    inside = (s * regions).sum((1, 2))
    precision, recall = inside / s.sum((1, 2)), inside / regions.sum((1, 2))
    inputs = ({}, pictures, LABELS, saliency, regions)
    found = metrics.f1(colour_model())(*inputs)
    expected = 2 * precision * recall / (precision + recall)
    np.testing.assert_allclose(found["f1"], expected, atol=1e-5)
    np.testing.assert_allclose(found["recall"], recall, atol=1e-5)
    for threshold in (None, 0.4):
        cut = s.mean((1, 2), keepdims=True) if threshold is None else threshold
        expected = ((s > cut) & regions).sum((1, 2)) / ((s > cut) | regions).sum((1, 2))
        found = metrics.iou(colour_model(), threshold=threshold)(*inputs)["iou"]
        np.testing.assert_allclose(found, expected, atol=2e-3)


def flood(mask, connectivity):
    """List the parts of a mask by walking from pixel to pixel."""
    steps = [(-1, 0), (1, 0), (0, -1), (0, 1)]
    if connectivity == 8:
        steps += [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    left, parts = set(zip(*np.nonzero(mask), strict=True)), []
    for start in sorted(left):
        if start not in left:
            continue
        part, todo = [], [start]
        left.remove(start)
        while todo:
            y, x = todo.pop()
            part.append((y, x))
            for dy, dx in steps:
                if (y + dy, x + dx) in left:
                    left.remove((y + dy, x + dx))
                    todo.append((y + dy, x + dx))
        parts.append(part)
    return parts


def slow_overlap(one, other):
    cells = [
        {(y, x) for x in range(b[0], b[2] + 1) for y in range(b[1], b[3] + 1)}
        for b in (one, other)
    ]
    return len(cells[0] & cells[1]) / len(cells[0] | cells[1])


def box_of(part):
    ys, xs = zip(*part, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


@pytest.mark.parametrize("connectivity", [4, 8])
def test_errors_are_those_of_a_slow_loop(pictures, scene, connectivity):
    saliency, true, _ = scene
    s = np.asarray(maps.normalize(maps.resize(saliency, (32, 32))), np.float64)
    best = []
    for values, own in zip(s, true, strict=True):
        box = box_of(max(flood(values > values.mean(), connectivity), key=len))
        best.append(max(slow_overlap(box, b) for b in own if b[2] >= b[0]))
    inputs = ({}, pictures, LABELS, saliency, true)
    model = colour_model()
    settings = {"connectivity": connectivity}
    found = metrics.localization_error(model, **settings)(*inputs)
    np.testing.assert_allclose(found["localization_error"], 1 - np.asarray(best))
    right = np.argmax(pictures.mean((1, 2)), 1) == np.asarray(LABELS)
    assert right.any() and not right.all()
    found = metrics.official_metric(model, **settings)(*inputs)
    np.testing.assert_allclose(found["official_metric"], 1 - np.asarray(best) * right)
    hard = metrics.localization_error(model, least=0.3, **settings)(*inputs)
    np.testing.assert_array_equal(hard["localization_error"], ~(np.asarray(best) > 0.3))


def test_contours_are_parts_and_holes():
    """Random pictures, whose outer contours and holes are found by walking."""
    random = np.random.default_rng(0)
    for _ in range(40):
        values = random.integers(0, 4, size=random.integers(2, 13, 2)).astype(float)
        found = components.boxes_of_cuts(
            values, np.asarray([0.5, 1.5, 3.0]), every=True
        )
        assert len(found[2]) == 0
        for cut, drawn in zip((0.5, 1.5), found, strict=False):
            expected = [box_of(part) for part in flood(values > cut, 8)]
            outside = np.pad(values <= cut, 1, constant_values=True)
            for part in flood(outside, 4):
                x0, y0, x1, y1 = box_of(part)
                if x0 > 0:
                    expected.append((x0 - 2, y0 - 2, x1, y1))
            assert sorted(map(tuple, drawn.tolist())) == sorted(expected)


def test_the_largest_contour_encloses_the_largest_area():
    """A ring encloses more than a solid square with more pixels than the ring."""
    values = np.zeros((14, 14))
    values[0:7, 0:7] = 1
    values[1:6, 1:6] = 0
    values[8:13, 8:13] = 1
    found = components.boxes_of_cuts(values, np.asarray([0.5]), every=False)[0]
    assert found.tolist() == [[0, 0, 6, 6]]
    # Lines and points enclose nothing: the last is taken, as OpenCV 5.0 does.
    points = np.zeros((5, 5))
    points[0, 0] = points[2, 4] = points[4, 1] = 1
    found = components.boxes_of_cuts(points, np.asarray([0.5]), every=False)[0]
    assert found.tolist() == [[1, 4, 1, 4]]


def test_saliency_metric_cuts_out_the_box(pictures):
    saliency = np.zeros((4, 32, 32), np.float32)
    saliency[:3, 8:24, 4:28] = 1
    found = metrics.saliency_metric(colour_model())({}, pictures, LABELS, saliency)
    cropped = np.concatenate([pictures[:3, 8:24, 4:28].mean((1, 2)), [[0, 0, 0]]])
    # Bilinear enlarging by 2 and 4/3 weighs the pixels at the border a little more.
    cropped[3] = pictures[3].mean((0, 1))
    logits = 8 * cropped
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    area = np.asarray([16 * 24 / 1024] * 3 + [1])
    expected = np.log(area) - np.log(p[np.arange(4), np.asarray(LABELS)])
    np.testing.assert_allclose(found["saliency_metric"], expected, atol=2e-2)
    np.testing.assert_allclose(found["saliency_metric"][3], expected[3], atol=1e-5)
    tiny = np.zeros((4, 32, 32), np.float32)
    tiny[:, 9, 9] = 1
    found = metrics.saliency_metric(colour_model())({}, pictures, LABELS, tiny)
    logits = 8 * pictures[:, 9, 9]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.log(0.05) - np.log(p[np.arange(4), np.asarray(LABELS)])
    np.testing.assert_allclose(found["saliency_metric"], expected, atol=1e-5)


def test_crops_are_those_of_the_resizer(pictures):
    found = box_metrics._crop(pictures, jnp.asarray([[4, 8, 27, 23]] * 4))
    planes = pictures[:, 8:24, 4:28].transpose(0, 3, 1, 2).reshape(12, 16, 24)
    expected = np.asarray(maps.resize(planes, (32, 32))).reshape(4, 3, 32, 32)
    np.testing.assert_allclose(found, expected.transpose(0, 2, 3, 1), atol=1e-5)


def test_box_accuracy_is_a_column_of_the_overlaps(pictures, scene):
    saliency, true, _ = scene
    inputs = ({}, pictures, LABELS, saliency, true)
    for contours in ("all", "largest"):
        curves = metrics.box_overlaps(colour_model(), thresholds=10, contours=contours)
        column = curves(*inputs)["box_overlaps"][:, 3]
        metric = metrics.box_accuracy(colour_model(), threshold=0.3, contours=contours)
        found = metric(*inputs)
        np.testing.assert_array_equal(found["box_overlap"], column)
        reached = np.mean([column >= each for each in (0.3, 0.5, 0.7)], axis=0)
        np.testing.assert_allclose(found["box_accuracy"], reached, atol=1e-6)


@pytest.mark.exhaustive
def test_flat_maps_find_nothing(pictures, scene):
    _, true, regions = scene
    model = colour_model()
    for flat in (0.0, 3.0, np.nan):
        inputs = ({}, pictures, LABELS, np.full((4, 7, 7), flat, np.float32))
        for name, expected in (
            ("pointing_game", 0),
            ("energy_pointing_game", 0),
            ("f1", 0),
            ("iou", 0),
        ):
            found = metrics.REGION_METRICS[name](model)(*inputs, regions)[name]
            assert (found == expected).all(), name
        for name, expected in (("localization_error", 1), ("box_accuracy", 0)):
            found = metrics.BOX_METRICS[name](model)(*inputs, true)[name]
            assert (found == expected).all(), name


def test_what_does_not_fit_is_refused(unchecked, pictures, scene):
    saliency, true, regions = scene
    model, inputs = colour_model(), ({}, pictures, LABELS, saliency)
    with pytest.raises(ValueError, match="boxes.fill"):
        metrics.iou(model)(*inputs, regions[:, :16])
    with pytest.raises(TypeError, match="booleans"):
        metrics.iou(model)(*inputs, regions.astype(np.float32))
    with pytest.raises(ValueError, match="x0, y0"):
        metrics.localization_error(model)(*inputs, true[:, 0])
    with pytest.raises(TypeError, match="integers"):
        metrics.localization_error(model)(*inputs, true.astype(np.float32))
    with pytest.raises(ValueError, match="outside jax.jit"):
        jax.jit(metrics.localization_error(model))(*inputs, true)


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (metrics.pointing_game, {"tolerance": -1}, "0 pixels or more"),
        (metrics.energy_pointing_game, {"scaling": "l2"}, "'range', 'max', 'none'"),
        (metrics.iou, {"threshold": 1.0}, "None"),
        (metrics.pixel_average_precision, {"thresholds": 0}, "1 or more"),
        (metrics.localization_error, {"connectivity": 6}, r"\(4, 8\)"),
        (metrics.official_metric, {"least": 1.0}, "overlap"),
        (metrics.box_accuracy, {"threshold": 1.0}, r"\[0, 1\)"),
        (metrics.box_accuracy, {"overlaps": ()}, "each in"),
        (metrics.box_overlaps, {"contours": "some"}, "'all', 'largest'"),
        (metrics.box_overlaps, {"convention": "cv2"}, "'pixels', 'opencv'"),
        (metrics.box_overlaps, {"thresholds": 0}, "1 or more"),
    ],
)
def test_wrong_settings_are_refused(unchecked, make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(colour_model(), **settings)
