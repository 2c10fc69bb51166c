"""What is known of places in a picture must follow it, whatever is done to it."""

import math

import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import augmentation, geometry, preprocessing, rand_augment, source

WIDTH, HEIGHT, SIZE = 120, 96, 80
# Two rectangles by colour channel, which is part - 1.
RECTANGLES = ((30, 26, 58, 50), (66, 44, 86, 72))
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
SIZED = (
    "",
    "random_resized_crop",
    "random_resized_crop(area=(0.6, 1.0), ratio=(1.0, 1.0))",
    "resize",
    "frame(1.0)",
    "pad_crop(7)",
    "flip(1.0)",
    "resize|flip|rand_augment(1, 15)|flip",
)


def rectangles(width=WIDTH, height=HEIGHT):
    """Paint the parts that the annotations speak of."""
    image = np.zeros((height, width, 3), np.uint8)
    mask = np.zeros((height, width), np.uint8)
    for number, (x0, y0, x1, y1) in enumerate(RECTANGLES):
        image[y0:y1, x0:x1, number] = 255
        mask[y0:y1, x0:x1] = number + 1
    boxes = np.array(RECTANGLES, np.float32)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    keypoints = np.concatenate([centres, np.ones((2, 1), np.float32)], 1)
    return {
        "image": image,
        "label": 3,
        "mask": mask,
        "boxes": boxes,
        "keypoints": keypoints,
    }


def noise(width=WIDTH, height=HEIGHT):
    random = np.random.default_rng(5)
    return random.integers(256, size=(height, width, 3), dtype=np.uint8)


def check_followed(example):
    """Compare the annotations with the colours; say how many parts are whole."""
    height, width, _ = example["image"].shape
    whole = 0
    for number in range(2):
        painted = example["image"][..., number] > 127
        masked = example["mask"] == number + 1
        box, point = example["boxes"][number], example["keypoints"][number]
        if painted.sum() < 20:
            assert masked.sum() < 40
            continue
        # They may differ along the border of the part, where one pixel is both.
        border = 2 * (box[2] - box[0] + box[3] - box[1]) + 8
        assert (painted != masked).sum() <= border / 2
        y, x = np.nonzero(painted)
        extent = x.min(), y.min(), x.max() + 1, y.max() + 1
        np.testing.assert_allclose(box, extent, atol=1.6)
        if min(extent[:2]) > 1 and extent[2] < width - 1 and extent[3] < height - 1:
            whole += 1
            centre = x.mean() + 0.5, y.mean() + 0.5
            np.testing.assert_allclose(point, (*centre, 1), atol=0.6)
    return whole


@pytest.mark.parametrize("text", SIZED)
def test_annotations_follow_the_picture(text):
    # Colours must survive, or they could not be found again.
    kinds = {name: rand_augment.KINDS[name] for name in GEOMETRIC}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rand_augment, "KINDS", kinds)
        augment = augmentation.build(text, SIZE)
    whole = 0
    for seed in range(25):
        result = augment(rectangles(), np.random.default_rng(seed))
        assert result["image"].shape == (SIZE, SIZE, 3)
        assert result["image"].dtype == result["mask"].dtype == np.uint8
        assert result["label"] == 3
        whole += check_followed(result)
    assert whole >= 10


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("share", (-0.7, -0.2, 0.4, 1.0))
def test_annotations_follow_each_kind_of_rand_augment(name, share):
    kind = rand_augment.KINDS[name]
    moved = kind.apply(geometry.opened(rectangles()), share * kind.strongest / 2)
    moved = geometry.closed(moved)
    assert check_followed(moved) == 2
    assert (moved["image"] != rectangles()["image"]).any()


@pytest.mark.parametrize("name", sorted(set(rand_augment.KINDS) - set(GEOMETRIC)))
def test_other_kinds_leave_places_alone(name):
    example = geometry.opened({**rectangles(), "image": noise()})
    kind = rand_augment.KINDS[name]
    changed = kind.apply(example, kind.strongest)
    for key in ("mask", "boxes", "keypoints"):
        assert changed[key] is example[key]
    # Noise already has every tone, so there is nothing to stretch.
    same = np.array_equal(changed["image"], example["image"])
    assert same == (name in ("identity", "autocontrast"))


def test_what_leaves_the_picture_becomes_zeros():
    example = geometry.opened(rectangles())
    cut = geometry.window(example, (0, 0, 60, 48), (60, 48))
    np.testing.assert_array_equal(cut["boxes"], [(30, 26, 58, 48), (0, 0, 0, 0)])
    np.testing.assert_array_equal(cut["keypoints"], [(44, 38, 1), (0, 0, 0)])


def test_unseen_keypoints_and_empty_boxes_stay_zeros():
    empty = np.zeros((1, 4), np.float32)
    unseen = np.zeros((1, 3), np.float32)
    example = {"image": noise(), "label": 0, "boxes": empty, "keypoints": unseen}
    result = augmentation.build("resize|flip(1.0)", SIZE)(
        example, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(result["boxes"], empty)
    np.testing.assert_array_equal(result["keypoints"], unseen)


@pytest.mark.parametrize("sides", [(120, 96), (37, 240), (33, 32), (20, 24), (32, 32)])
@pytest.mark.parametrize("crop", (0.875, 0.8, 1.0))
def test_frame_has_the_pixels_of_evaluation(sides, crop):
    image = noise(*sides)
    expected = preprocessing.preprocessing(32, crop)(image)
    for augment in (
        augmentation.evaluation(32, crop),
        augmentation.build(f"frame({crop})", 32),
    ):
        result = augment({"image": image}, np.random.default_rng(0))
        np.testing.assert_array_equal(result["image"] / np.float32(255), expected)


def test_flip_mirrors_and_does_so_as_often_as_said():
    image = noise(SIZE, SIZE)
    augment = augmentation.build("resize|flip(0.25)", SIZE)
    mirrored = 0
    for seed in range(400):
        result = augment({"image": image}, np.random.default_rng(seed))["image"]
        if not np.array_equal(result, image):
            np.testing.assert_array_equal(result, image[:, ::-1])
            mirrored += 1
    # 100 expected; five standard deviations are 43.
    assert 57 < mirrored < 143


def test_pad_crop_cuts_a_window_of_the_padded_picture():
    image = noise(32, 32)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    windows = {
        padded[top : top + 32, left : left + 32].tobytes(): (top, left)
        for top in range(9)
        for left in range(9)
    }
    augment = augmentation.build("pad_crop", 32)
    found = {
        windows[augment({"image": image}, np.random.default_rng(s))["image"].tobytes()]
        for s in range(1000)
    }
    # The chance that one of 81 is never drawn is below 0.001.
    assert len(found) == 81


def test_random_resized_crop_draws_boxes_of_the_areas_and_shapes_asked_for():
    area, ratio = (0.1, 0.7), (0.5, 2.0)
    augment = augmentation.build(f"random_resized_crop({area}, {ratio})", SIZE)
    y, x = np.mgrid[0:HEIGHT:4, 0:WIDTH:4].reshape(2, -1).astype(np.float32)
    places = np.stack([x, y, np.ones_like(x)], 1)
    areas, shapes = [], []
    for seed in range(200):
        example = {"image": noise(), "keypoints": places}
        moved = augment(example, np.random.default_rng(seed))["keypoints"]
        seen = moved[:, 2] > 0
        # The box's sides, from how far apart the places now are.
        sides = SIZE * np.ptp(places[seen, :2], 0) / np.ptp(moved[seen, :2], 0)
        areas.append(sides.prod() / (WIDTH * HEIGHT))
        shapes.append(sides[0] / sides[1])
    assert 0.098 < min(areas) < 0.13 and 0.6 < max(areas) < 0.71
    assert 0.48 < min(shapes) < 0.56 and 1.8 < max(shapes) < 2.08
    # Large boxes of odd shapes do not fit and are drawn again, hence not 0.4.
    assert 0.3 < np.mean(areas) < 0.42
    assert abs(np.mean(np.log(shapes))) < 0.15


def test_color_changes_each_quality_within_its_bounds():
    grey = np.full((8, 8, 3), 100, np.uint8)
    halves = grey.copy()
    halves[:4] = 80
    halves[4:] = 120
    augment = augmentation.build("resize|color(0.4)", 8)
    levels, contrasts = [], []
    for seed in range(300):
        # Of a grey picture neither the contrast nor the saturation can be changed.
        result = augment({"image": grey}, np.random.default_rng(seed))["image"]
        assert len(np.unique(result)) == 1
        levels.append(float(result.mean()))
        result = augment({"image": halves}, np.random.default_rng(seed))["image"]
        contrasts.append(float(np.ptp(result)) / float(result.mean()))
    assert 59 <= min(levels) < 63 and 137 < max(levels) <= 140
    assert abs(np.mean(levels) - 100) < 5 * 80 / math.sqrt(12 * 300)
    # 40 levels of 100, times 0.6 … 1.4; rounding moves them by a level or two of 60.
    assert 0.21 < min(contrasts) < 0.27 and 0.53 < max(contrasts) < 0.6


def test_color_moves_colours_away_from_and_towards_grey():
    image = np.full((4, 4, 3), (120, 100, 80), np.uint8)
    augment = augmentation.build("resize|color(0.5)", 4)
    ratios = []
    for seed in range(200):
        pixel = augment({"image": image}, np.random.default_rng(seed))["image"][0, 0]
        red, green, blue = pixel.astype(float)
        ratios.append((red - blue) / green)
    # 0.4 times 0.5 … 1.5 of saturation and as much of contrast, that is 0.1 … 0.9.
    assert 0.09 < min(ratios) < 0.2 and 0.65 < max(ratios) < 0.93


def test_hue_turns_red_into_green_after_a_third_of_the_circle():
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    turned = np.asarray(augmentation._turned_hue(red, 1 / 3))
    np.testing.assert_allclose(turned, np.full((2, 2, 3), (0, 255, 0)), atol=6)
    augment = augmentation.build("resize|color(0.0, 0.5)", 2)
    colours = {
        augment({"image": red}, np.random.default_rng(seed))["image"].tobytes()
        for seed in range(60)
    }
    assert len(colours) > 30


def test_grayscale_weighs_the_channels():
    image = noise(SIZE, SIZE)
    augment = augmentation.build("resize|grayscale(1.0)", SIZE)
    result = augment({"image": image}, np.random.default_rng(0))["image"]
    expected = image @ np.array([0.299, 0.587, 0.114])
    for channel in range(3):
        np.testing.assert_allclose(result[..., channel], expected, atol=1)


def test_blur_has_the_width_asked_for():
    edge = np.zeros((41, 41, 3), np.uint8)
    edge[:, 20:] = 255
    augment = augmentation.build("resize|blur(1.0, (3, 3))", 41)
    result = augment({"image": edge}, np.random.default_rng(0))["image"]
    # The slope of a blurred edge is the Gaussian itself.
    slope = np.diff(result[20, :, 0].astype(float)) / 255
    place = np.arange(40) + 1
    assert slope.sum() == 1
    assert abs((slope * place).sum() - 20) < 0.05
    width = math.sqrt((slope * (place - 20) ** 2).sum())
    assert abs(width - 3) < 0.2


def test_erase_paints_a_box_over_the_picture_only():
    example = {**rectangles(SIZE, SIZE), "image": np.full((80, 80, 3), 7, np.uint8)}
    augment = augmentation.build("resize|erase(1.0, (0.1, 0.2), (1, 1))", SIZE)
    for seed in range(20):
        result = augment(example, np.random.default_rng(seed))
        erased = (result["image"] == augmentation.MEAN).all(-1)
        y, x = np.nonzero(erased)
        assert erased.sum() == (np.ptp(x) + 1) * (np.ptp(y) + 1)
        assert 0.09 < erased.mean() < 0.21
        assert (result["image"][~erased] == 7).all()
        np.testing.assert_array_equal(result["mask"], example["mask"])


@pytest.mark.parametrize("degrees", (-30.0, 9.0, 90.0))
def test_rotation_is_that_of_pillow(degrees):
    image = Image.fromarray(noise(SIZE, SIZE))
    turned = rand_augment.KINDS["rotate"].apply({"image": image}, degrees)["image"]
    expected = image.rotate(degrees, Image.Resampling.BILINEAR)
    difference = np.asarray(turned, int) - np.asarray(expected, int)
    # A rounding error at the very edge decides between a pixel and black.
    assert (np.abs(difference).max(-1) > 1).mean() < 0.01


def test_translation_moves_by_whole_pixels():
    image = noise(40, 30)
    example = {"image": Image.fromarray(image)}
    moved = rand_augment.KINDS["translate_x"].apply(example, 0.25)["image"]
    expected = np.pad(image, ((0, 0), (10, 0), (0, 0)))[:, :40]
    np.testing.assert_array_equal(np.asarray(moved), expected)
    moved = rand_augment.KINDS["translate_y"].apply(example, -0.2)["image"]
    expected = np.pad(image, ((0, 6), (0, 0), (0, 0)))[6:]
    np.testing.assert_array_equal(np.asarray(moved), expected)


def test_shear_moves_rows_by_their_height():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = 255
    sheared = rand_augment.KINDS["shear_x"].apply(
        {"image": Image.fromarray(image)}, 0.25
    )
    edges = np.asarray(sheared["image"])[..., 0].argmax(1)[[2, 38]]
    # Nine pixels in 36 rows, to the left as torchvision does.
    assert abs(edges[0] - edges[1] - 9) <= 1


def test_rand_augment_is_a_function_of_the_generator():
    augment = augmentation.build("rand_augment(2, 9)|color(0.4, 0.1)|blur|erase", SIZE)
    results = [
        augment({"image": noise()}, np.random.default_rng(seed))["image"]
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()


def test_rand_augment_of_nothing_is_the_frame():
    example = {"image": noise()}
    plain, none = (
        augmentation.build(text, SIZE)(example, np.random.default_rng(0))["image"]
        for text in ("", "rand_augment(count=0)")
    )
    np.testing.assert_array_equal(plain, none)


@pytest.mark.parametrize(
    "text, message",
    (
        ("flop", "did you mean 'flip'.*expected some of frame"),
        ("flip|", "cannot be read"),
        ("flip & resize", "expected some of"),
        ("__import__('os')", "no operation"),
        ("flip.p", "holds 'flip.p'"),
        ("flip(q=0.5)", "'q', which it does not have.*flip takes p"),
        ("flip(0.5, p=0.5)", "'p', twice"),
        ("flip(1, 2)", "2 arguments"),
        ("flip(open)", "no literal"),
        ("flip('often')", "of another type"),
        ("flip(True)", "of another type"),
        ("flip(1e999)", "of another type"),
        ("flip(1.5)", r"\[0, 1\]"),
        ("random_resized_crop(size=4)", "'size', which it does not have"),
        ("random_resized_crop(area=(0.5, 2.0))", "at most 1"),
        ("random_resized_crop(ratio=(2, 1))", "ascending"),
        ("random_resized_crop(area=0.5)", "of another type"),
        ("frame(0.0)", r"\(0, 1\]"),
        ("pad_crop(-1)", "0 or more"),
        ("color(0.4, 0.7)", "hue"),
        ("color(2.0)", "strength"),
        ("erase(0.5, (0.1, 3.0))", "at most 1"),
        ("rand_augment(-1)", "count"),
        ("rand_augment(2, 31)", "magnitude"),
    ),
)
def test_a_text_that_makes_no_sense_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        augmentation.build(text, SIZE)


def test_a_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match="`image_size`=0"):
        augmentation.build("", 0)


@pytest.mark.parametrize("text", ["pad_crop(6)", "pad_crop(6)|flip(1.0)"])
def test_a_mask_is_void_where_the_picture_ends(text):
    """Nobody has looked beyond the edge: that is not background."""
    white = np.full((SIZE, SIZE, 3), 255, np.uint8)
    example = {**rectangles(SIZE, SIZE), "image": white}
    beyond = 0
    for seed in range(6):
        random = np.random.default_rng(seed)
        result = augmentation.build(text, SIZE)(example, random)
        outside = (result["image"] == 0).all(-1)
        np.testing.assert_array_equal(result["mask"] == source.VOID, outside)
        beyond += outside.any()
    assert beyond >= 4


@pytest.mark.parametrize("name", GEOMETRIC)
def test_what_rand_augment_brings_in_is_void(name):
    example = {**rectangles(), "image": np.full((HEIGHT, WIDTH, 3), 255, np.uint8)}
    kind = rand_augment.KINDS[name]
    moved = geometry.closed(kind.apply(geometry.opened(example), kind.strongest))
    void = moved["mask"] == source.VOID
    # They may differ along the edge, where a pixel is both.
    assert void.any() and (void != (moved["image"] < 128).all(-1)).mean() < 0.01
