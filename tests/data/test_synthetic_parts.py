"""Creatures made of parts are what they say, and stay so when a part is taken away."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFilter

from unlir_jax.data import shapes, source, synthetic_parts

PARTS = synthetic_parts.PARTS
LOOK = (1, 1, 1, 1, 1, 1)
KEYS = ((0, 0), (3, 1), (7, 2))


def same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def near(mask, value):
    """Give the pixels of a part and those less than three pixels from them."""
    return grown(mask == PARTS.index(value) + 1)


def grown(area):
    filtered = Image.fromarray(area).convert("L").filter(ImageFilter.MaxFilter(5))
    return np.asarray(filtered) > 0


def cover(key, part, variant, **settings):
    """Give where a part may show or shine through: drawn alone, and its seam."""
    look = list(LOOK)
    look[PARTS.index(part)] = variant
    others = [name for name in PARTS if name != part]
    alone = synthetic_parts.draw(key, look, without=others, **settings)
    return near(alone.mask, part)


@pytest.mark.parametrize("size", [32, 96, 128])
def test_shapes_and_types(size):
    scene = synthetic_parts.draw(5, LOOK, image_size=size, label=3)
    assert scene.image.shape == (size, size, 3) and scene.image.dtype == np.uint8
    assert scene.mask.shape == (size, size) and scene.mask.dtype == np.uint8
    assert scene.keypoints.shape == (6, 3) and scene.keypoints.dtype == np.float32
    assert scene.boxes.shape == (1, 4) and scene.boxes.dtype == np.float32
    assert scene.label == 3
    # Each part has a place of its own, so some of each is in front.
    assert set(np.unique(scene.mask)) == set(range(7))


def test_a_picture_of_another_size_is_the_same_picture():
    """Halved, the large one differs from the small one by edges and rounding alone."""
    large, small = (synthetic_parts.draw(4, LOOK, image_size=s) for s in (192, 96))
    halved = large.image.reshape(96, 2, 96, 2, 3).mean((1, 3))
    assert np.abs(halved - small.image).mean() < 12
    np.testing.assert_allclose(large.keypoints[:, :2], 2 * small.keypoints[:, :2], 1e-5)
    np.testing.assert_allclose(large.boxes, 2 * small.boxes, atol=4)


def test_same_key_same_bits_also_from_threads():
    data = synthetic_parts.synthetic_parts("train", size=40, image_size=48)
    expected = [data.read(index) for index in range(40)]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(expected, pool.map(data.read, range(40)), strict=True):
            same(one, other)
    copy = pickle.loads(pickle.dumps(data))
    same(copy.read(7), expected[7])
    same(synthetic_parts.example("train", 7, image_size=48), expected[7])
    other = synthetic_parts.draw((0, 1), LOOK).image
    assert (other != synthetic_parts.draw((1, 0), LOOK).image).mean() > 0.5


def test_no_example_twice_in_any_split():
    seen = {
        synthetic_parts.example(split, index, image_size=16, seed=seed)[
            "image"
        ].tobytes()
        for split in ("train", "validation", "test")
        for index in range(60)
        for seed in (0, 1)
    }
    assert len(seen) == 3 * 60 * 2


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("variant", range(synthetic_parts.MOST_VARIANTS))
def test_box_mask_and_keypoints_agree(key, variant):
    scene = synthetic_parts.draw(key, [variant] * 6)
    rows, columns = np.nonzero(scene.mask)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_array_equal(scene.boxes, [box])
    for value, (x, y, visible) in enumerate(scene.keypoints, start=1):
        assert visible == (
            (scene.mask == value).any() and 0 <= x < 128 and 0 <= y < 128
        )
        # The middle of a part lies within the box round it, drawn alone.
        part = PARTS[value - 1]
        others = [name for name in PARTS if name != part]
        alone = synthetic_parts.draw(key, [variant] * 6, without=others)
        assert (alone.mask == value).any() and set(np.unique(alone.mask)) <= {0, value}
        left, top, right, bottom = alone.boxes[0]
        assert left <= x <= right and top <= y <= bottom
        np.testing.assert_array_equal(alone.keypoints[value - 1], [x, y, visible])


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("part", PARTS)
def test_removal_changes_nothing_else(key, part):
    value = PARTS.index(part) + 1
    whole = synthetic_parts.draw(key, LOOK)
    less = synthetic_parts.draw(key, LOOK, without=(part,))
    changed = (whole.image != less.image).any(-1)
    area = cover(key, part, 1)
    assert changed[whole.mask == value].mean() > 0.9
    assert not changed[~area].any()
    # The mask is exact: it changes where the part was in front, and only there.
    np.testing.assert_array_equal(whole.mask != less.mask, whole.mask == value)
    np.testing.assert_array_equal(less.keypoints[value - 1], 0)
    others = np.arange(6) != value - 1
    np.testing.assert_array_equal(less.keypoints[others], whole.keypoints[others])


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("variant", [0, 2, 3])
def test_swap_changes_nothing_else(part, variant):
    value = PARTS.index(part) + 1
    whole = synthetic_parts.draw(11, LOOK)
    swapped = synthetic_parts.draw(11, LOOK, replace={part: variant})
    look = list(LOOK)
    look[value - 1] = variant
    same(swapped._asdict(), synthetic_parts.draw(11, look)._asdict())
    changed = (whole.image != swapped.image).any(-1)
    area = cover(11, part, 1) | cover(11, part, variant)
    assert changed.sum() > 20 and not changed[~area].any()
    either = (whole.mask == value) | (swapped.mask == value)
    np.testing.assert_array_equal(whole.mask[~either], swapped.mask[~either])
    np.testing.assert_array_equal(whole.keypoints, swapped.keypoints)


def test_an_empty_picture_is_background():
    for part in ("body", "beak"):
        empty = synthetic_parts.draw(2, LOOK, without=PARTS, replace={part: 0})
        assert not empty.mask.any() and not empty.boxes.any()
        assert not empty.keypoints.any()
    # What is behind a creature does not depend on what creature it is.
    other = synthetic_parts.draw(2, [0] * 6, without=set(PARTS))
    np.testing.assert_array_equal(empty.image, other.image)


def test_the_order_of_the_layers_is_that_of_removals():
    """Taking all parts away one by one meets the picture of each rest."""
    rest = list(PARTS)
    while rest:
        scene = synthetic_parts.draw(
            9, LOOK, without=[p for p in PARTS if p not in rest]
        )
        values = {PARTS.index(part) + 1 for part in rest}
        assert set(np.unique(scene.mask)) == values | {0}
        rest.pop()


@pytest.mark.parametrize("variants", [2, 3, 4])
@pytest.mark.parametrize("seed", [0, 5])
def test_class_table(variants, seed):
    for count in (2 * variants, 2 * variants + 1, 7 * variants - 1, variants**5):
        if count > variants**5:
            continue
        table = synthetic_parts.classes(count, variants, seed)
        assert table.shape == (count, 6)
        for column in table.T:
            # Shared as evenly as whole numbers allow, and so by two classes or more.
            uses = np.bincount(column, minlength=variants)
            assert len(uses) == variants
            assert uses.min() == count // variants
            assert uses.max() == -(-count // variants)
        differing = (table[:, None] != table[None]).sum(-1)
        assert differing[~np.eye(count, dtype=bool)].min() >= 2


def test_class_table_goes_on_to_the_last_combination():
    """With more than variants ** 5 classes some two differ in one part (Singleton)."""
    table = synthetic_parts.classes(3**6, 3)
    assert len({tuple(row) for row in table}) == 3**6
    np.testing.assert_array_equal(table[:100], synthetic_parts.classes(100, 3))
    assert (table != synthetic_parts.classes(3**6, 3, seed=1)).any()
    table[:] = 0
    assert synthetic_parts.classes(3**6, 3).any()


def test_ten_classes_of_three_variants_are_far_apart():
    """No two classes are alike in more than half of the parts, when there are few."""
    for seed in range(5):
        table = synthetic_parts.classes(10, 3, seed)
        differing = (table[:, None] != table[None]).sum(-1)
        assert differing[~np.eye(10, dtype=bool)].min() >= 3


@pytest.mark.parametrize("count", [6, 10])
def test_labels_are_balanced(count):
    data = synthetic_parts.synthetic_parts("test", size=10 * count + 3, classes=count)
    blocks = data.labels[: 10 * count].reshape(10, count)
    np.testing.assert_array_equal(np.sort(blocks), np.tile(np.arange(count), (10, 1)))
    assert len({tuple(block) for block in blocks}) > 1
    longer = synthetic_parts.synthetic_parts("test", size=30 * count, classes=count)
    np.testing.assert_array_equal(longer.labels[: data.size], data.labels)
    # The order depends on the split and on the seed, so that it can teach nothing.
    for other in ({"split": "train"}, {"split": "test", "seed": 1}):
        there = synthetic_parts.synthetic_parts(**other, size=data.size, classes=count)
        assert (there.labels != data.labels).any()


def test_the_source_keeps_its_contract():
    data = synthetic_parts.synthetic_parts("validation", size=25, image_size=32)
    assert isinstance(data, source.Source)
    assert data.classes == tuple(f"class {label}" for label in range(10))
    assert data.name(12) == "synthetic_parts/validation/12"
    assert data.labels.dtype == np.int32 and data.labels.shape == (25,)
    assert (data.parts, data.boxes) == (PARTS, 1)
    table = synthetic_parts.classes(10)
    for index in (0, 11, 24):
        example = data.read(index)
        assert {"image", "label", *data.annotations} == example.keys()
        assert example["label"] == data.labels[index]
        assert isinstance(example["label"], int)
        # The picture shows the class: saying so of each part changes nothing.
        look = dict(zip(PARTS, table[example["label"]].tolist(), strict=True))
        same(
            synthetic_parts.example("validation", index, image_size=32, replace=look),
            example,
        )
    less = synthetic_parts.example("validation", 3, image_size=32, without=["tail"])
    assert less["label"] == data.labels[3]
    assert not (less["mask"] == PARTS.index("tail") + 1).any()
    assert [
        len(synthetic_parts.synthetic_parts(s).labels) for s in ("train", "test")
    ] == [
        20_000,
        4_000,
    ]


def colours_of(example):
    pixels = example["image"].reshape(-1, 3) / 255
    return np.concatenate([pixels.mean(0), pixels.std(0)])


def surroundings_of(example):
    """Make the picture 8 x 8, the creature painted over."""
    outside = np.where(example["mask"][..., None] > 0, 128, example["image"])
    small = outside.reshape(8, 4, 8, 4, 3).mean((1, 3)) / 255
    return small.ravel()


@pytest.mark.parametrize("look", [colours_of, surroundings_of])
def test_neither_colours_nor_surroundings_tell_the_class(look):
    """The nearest class by mean is right as by chance, nearly.

    Of 300 with ten classes, chance gives 10 % with a deviation of 1.7 %.
    """
    sets = {}
    for split in ("train", "test"):
        data = synthetic_parts.synthetic_parts(split, size=300, image_size=32)
        sets[split] = np.stack([look(data.read(i)) for i in range(300)]), data.labels
    values, labels = sets["train"]
    means = np.stack([values[labels == label].mean(0) for label in range(10)])
    values, labels = sets["test"]
    nearest = ((values[:, None] - means) ** 2).sum(-1).argmin(1)
    assert (nearest == labels).mean() < 0.2


def test_variants_look_different():
    """Any two variants of a part differ where the part is, in a fair share of it."""
    for number, part in enumerate(PARTS):
        looks = range(len(shapes.VARIANTS[part]))
        scenes = [synthetic_parts.draw(6, LOOK, replace={part: v}) for v in looks]
        for one in looks:
            for other in range(one):
                first, second = scenes[one], scenes[other]
                area = (first.mask == number + 1) | (second.mask == number + 1)
                step = first.image[area].astype(int) - second.image[area]
                assert (np.abs(step).max(-1) > 40).mean() > 0.12, (part, one, other)


def test_no_variant_is_cut_off_by_its_window():
    """A window twice as large must find nothing more."""
    pose = shapes.Pose(64 + 64j, 20 + 3j, -3 + 20j)
    colours = shapes.colours([0.5] * 6, None)
    for variants in shapes.VARIANTS.values():
        for variant in variants:
            masks = []
            for reach in (variant.reach, (2.5, 2.5)):
                canvas = np.zeros((3, 128, 128), np.float32)
                masks.append(np.zeros((128, 128), np.uint8))
                wide = variant._replace(reach=reach)
                shapes.paint(canvas, masks[-1], 1, wide, pose, colours)
            np.testing.assert_array_equal(*masks, err_msg=variant.name)


def test_areas_of_simple_shapes():
    """A pixel belongs to a shape by its centre: the count is the area, to the edge."""
    v, u = np.mgrid[-150:150, -150:150].astype(np.float32) + 0.5
    triangle = ((-100, -60), (100, 0), (-100, 60))
    areas = {
        np.pi * 120 * 70: shapes.ellipse(u, v, 120, 70),
        np.pi * 80**2: shapes.circle(u, v, 10, -20, 80),
        120 * 200 / 2: shapes.corners(u, v, triangle),
        160 * 60 + np.pi * 30**2: shapes.limb(u, v, (-80, 0), (80, 0), 30, 30),
    }
    for area, distance in areas.items():
        assert abs((distance <= 0).sum() - area) < 0.005 * area


ERRORS = {
    "`variants`=5 is not possible; expected 2 to 4": {"variants": 5},
    "`variants`=1 is not possible": {"variants": 1},
    "`classes`=5 is not possible with `variants`=3; expected 6 to 729": {"classes": 5},
    "`classes`=65 is not possible .* 4 to 64": {"classes": 65, "variants": 2},
    "`split`='valid' is not a split; did you mean 'validation'": {"split": "valid"},
    "`size`=0 leaves no example": {"size": 0},
    "`key`=\\(-1,\\) is no key": {"seed": -1},
}


@pytest.mark.parametrize("message", ERRORS)
def test_settings_that_cannot_be(message):
    with pytest.raises(ValueError, match=message):
        synthetic_parts.synthetic_parts(**ERRORS[message])


DRAWING_ERRORS = {
    "'beek' is not a part; did you mean 'beak'": {"without": ["beek"]},
    "'tails' is not a part; did you mean 'tail'": {"replace": {"tails": 0}},
    "The tail has no variant 4; expected 0 \\(fan\\)": {"replace": {"tail": 4}},
    "`image_size`=8 is too small": {"image_size": 8},
    "`variants_of_parts` has 2 entries; expected 6": {"variants_of_parts": [0, 1]},
    "`key`=\\(\\) is no key": {"key": ()},
    "`key`=\\(-4,\\) is no key": {"key": -4},
}


@pytest.mark.parametrize("message", DRAWING_ERRORS)
def test_drawings_that_cannot_be(message):
    settings = {"key": 0, "variants_of_parts": LOOK} | DRAWING_ERRORS[message]
    with pytest.raises(ValueError, match=message):
        synthetic_parts.draw(
            settings.pop("key"), settings.pop("variants_of_parts"), **settings
        )


def test_other_mistakes():
    with pytest.raises(TypeError, match="`without`='beak' is one string"):
        synthetic_parts.draw(0, LOOK, without="beak")
    data = synthetic_parts.synthetic_parts(size=5)
    for index in (-1, 5):
        with pytest.raises(ValueError, match=f"`index`={index} is no example"):
            data.read(index)
    with pytest.raises(ValueError, match="`index`=-3 is no example"):
        synthetic_parts.example("train", -3)
