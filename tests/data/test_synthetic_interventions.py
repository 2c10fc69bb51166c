"""Creatures drawn again differ from themselves in one part, and in nothing else."""

import numpy as np
import pytest

from unlir_jax.data import interventions, synthetic_parts

PARTS = synthetic_parts.PARTS
SETTINGS = {"seed": 3, "classes": 12, "variants": 4, "image_size": 40}
INDICES = (0, 17, 5)


def example(index, **changes):
    return synthetic_parts.example("test", index, **SETTINGS, **changes)


def test_each_picture_is_the_example_without_one_part():
    found = interventions.synthetic_interventions("test", INDICES, **SETTINGS)
    assert found.images.shape == (3, 40, 40, 3) and found.images.dtype == np.uint8
    assert found.without.shape == (3, 6, 40, 40, 3) and found.without.dtype == np.uint8
    assert found.parts == PARTS
    for place, index in enumerate(INDICES):
        whole = example(index)
        np.testing.assert_array_equal(found.images[place], whole["image"])
        np.testing.assert_array_equal(found.masks[place], whole["mask"])
        assert found.labels[place] == whole["label"]
        for number, part in enumerate(PARTS):
            without = example(index, without=(part,))["image"]
            np.testing.assert_array_equal(found.without[place, number], without)
            seen = (whole["mask"] == number + 1).any()
            assert found.present[place, number] == seen
            assert (without != whole["image"]).any() == seen


def test_parts_and_examples_are_those_asked_for():
    every = interventions.synthetic_interventions("test", INDICES, **SETTINGS)
    some = interventions.synthetic_interventions(
        "test", np.asarray(INDICES)[::-1], parts=["tail", "beak"], **SETTINGS
    )
    columns = [PARTS.index("tail"), PARTS.index("beak")]
    assert some.parts == ("tail", "beak")
    np.testing.assert_array_equal(some.without, every.without[::-1][:, columns])
    np.testing.assert_array_equal(some.present, every.present[::-1][:, columns])
    np.testing.assert_array_equal(some.masks, every.masks[::-1])


@pytest.mark.parametrize("shift", [1, 3])
def test_swaps_are_the_example_with_another_variant(shift):
    found = interventions.swap("test", INDICES, shift=shift, **SETTINGS)
    table = synthetic_parts.classes(12, 4, 3)
    known = set(map(tuple, table.tolist()))
    for place, index in enumerate(INDICES):
        look = table[found.labels[place]]
        np.testing.assert_array_equal(found.images[place], example(index)["image"])
        np.testing.assert_array_equal(found.variants[place], (look + shift) % 4)
        for number, part in enumerate(PARTS):
            variant = int(found.variants[place, number])
            swapped = example(index, replace={part: variant})["image"]
            np.testing.assert_array_equal(found.swapped[place, number], swapped)
            assert (swapped != found.images[place]).any()
            # No creature with one part swapped is of any class.
            assert (*look[:number], variant, *look[number + 1 :]) not in known


def test_swapping_some_parts():
    every = interventions.swap("train", [4], **SETTINGS)
    some = interventions.swap("train", [4], parts=("wing",), **SETTINGS)
    wing = PARTS.index("wing")
    np.testing.assert_array_equal(some.swapped[:, 0], every.swapped[:, wing])
    assert some.variants.tolist() == every.variants[:, [wing]].tolist()
    assert some.parts == ("wing",)


def test_bad_input_is_one_sentence(unchecked):
    drawn, swap = interventions.synthetic_interventions, interventions.swap
    bad = [
        (lambda: drawn("test", [0], parts=("nose",)), "'nose' is not a part.*beak"),
        (lambda: drawn("test", []), "0 examples"),
        (lambda: drawn("test", [0], parts=()), "0 names"),
        (lambda: drawn("tset", [0]), "'tset' is not a split"),
        (lambda: drawn("test", [-1]), "`index`=-1"),
        (lambda: swap("test", [0], shift=0), "`shift`=0.*1 to 2"),
        (lambda: swap("test", [0], shift=3), "`shift`=3"),
    ]
    for call, message in bad:
        with pytest.raises(ValueError, match=message):
            call()
    for call in (drawn, swap):
        with pytest.raises(TypeError, match="one string"):
            call("test", [0], parts="beak")
