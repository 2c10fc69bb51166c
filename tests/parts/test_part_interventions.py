"""What is said of parts that are taken away, on networks whose answers are known."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from unlir_jax.data import source, splits, synthetic_parts
from unlir_jax.features import receptive_field
from unlir_jax.models.part_network.cells import Reading
from unlir_jax.parts import interventions
from unlir_jax.parts.part_run import PartRun

SIZE, SCALE = 32, 0.1
PLACES = np.asarray([[6, 6], [25, 6], [6, 25], [25, 25]])
LIGHT = np.asarray([255, 180, 140, 76])


class Light:
    """Two parts, red and blue, that add their light to each class by its weight.

    A cell is a pixel, and what is claimed of it is `honesty` times what it adds.
    """

    mean = (0.0, 0.0, 0.0)

    def __init__(self, honesty=1.0, weights=(1.0, 0.0)):
        self.honesty = honesty
        self.weights = SCALE * jnp.asarray(weights)

    def apply(self, variables, maps, labels=None, method=None):
        parts = jnp.asarray(maps)[..., ::2]
        added = parts.sum((1, 2))[..., None] * self.weights[None, None]
        if method == "features":
            return jnp.asarray(maps)
        if method == "read":
            return Reading(parts, parts, added, jnp.zeros(len(self.weights)))
        if method == "evidence":
            return self.honesty * parts * self.weights[labels][:, None, None, None]
        return added.sum(1)


def spots(index):
    """Draw four red spots of different light, at a keypoint each, on black."""
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    order = np.random.default_rng(index).permutation(4)
    for (x, y), light in zip(PLACES, LIGHT[order], strict=True):
        image[y - 1 : y + 2, x - 1 : x + 2, 0] = light - 4 * index
    points = np.concatenate([PLACES + 0.5, np.ones((4, 1))], 1)
    return {"image": image, "label": 0, "keypoints": points.astype(np.float32)}


FRAME = {"image_size": SIZE, "crop": 1.0, "interpolation": "bilinear"}


def measured(module, test, creatures=None):
    network = types.SimpleNamespace(module=module)
    run = PartRun(splits.Splits(test, test), network, FRAME, creatures=creatures)
    return interventions.measure(run, test, {}, EVEN)


def spotted(count=5, keypoints=True):
    known = {"annotations": ("keypoints",), "parts": ("a", "b", "c", "d")}
    return source.Source(
        spots, count, ("light", "dark"), str, **(known if keypoints else {})
    )


EVEN = receptive_field.even(SIZE, SIZE)


@pytest.mark.parametrize("honesty", [1.0, -1.0])
def test_claims_about_keypoints_are_held_against_what_painting_does(honesty):
    found = measured(Light(honesty), spotted())
    for which in ("", "_low", "_high", "_per_image"):
        name = f"test/keypoint_removal_spearman{which}"
        assert found[name] == pytest.approx(honesty)
    # The brightest spot stays it; the blue part is nowhere, which is not stable.
    assert found["test/stability"] == pytest.approx(0.5)


def test_the_region_of_the_strongest_part_is_deleted():
    test = spotted(keypoints=False)
    found = measured(Light(), test)
    assert set(found) == {
        f"test/{name}"
        for name in (
            *("region_area", "region_drop", "random_region_drop"),
            *("region_drop_above_random", "region_drop_above_random_low"),
            "region_drop_above_random_high",
        )
    }
    # Three spots have at least half of the light of the brightest; one stays.
    light = (LIGHT - 4 * np.arange(test.size)[:, None]) / 255 * 9 * SCALE
    drops = special.expit(light.sum(1)) - special.expit(light[:, 3])
    expected = drops.mean()
    assert found["test/region_area"] == pytest.approx(3 * 9 / SIZE**2)
    assert found["test/region_drop"] == pytest.approx(expected, abs=1e-5)
    assert found["test/random_region_drop"] < expected / 2
    gap = found["test/region_drop"] - found["test/random_region_drop"]
    assert found["test/region_drop_above_random"] == pytest.approx(gap, abs=1e-6)
    assert found["test/region_drop_above_random_low"] > 0


@pytest.mark.exhaustive
def test_creatures_are_drawn_again_without_and_with_other_parts():
    """Against a slow loop over pictures and parts."""
    options, weights = {"classes": 6, "image_size": SIZE}, 1 + np.arange(6.0)
    test = synthetic_parts.synthetic_parts("test", size=5, **options)
    found = measured(Light(weights=weights), test, {"split": "test"} | options)

    def logit(example, label):
        light = example["image"][..., ::2].astype(np.float64).sum() / 255
        return SCALE * light * weights[label]

    table = synthetic_parts.classes(6, 3, 0)
    claims, removed, swapped = [], [], []
    for index in range(test.size):
        example = synthetic_parts.example("test", index, **options)
        label, mask = example["label"], example["mask"]
        for number, part in enumerate(synthetic_parts.PARTS):
            if not (mask == number + 1).any():
                continue
            own = example["image"][mask == number + 1][:, ::2].astype(np.float64)
            claims.append(SCALE * own.sum() / 255 * weights[label])
            other = {part: int(table[label][number] + 1) % 3}
            changes = {"without": (part,)}, {"replace": other}
            for effects, change in zip((removed, swapped), changes, strict=True):
                again = synthetic_parts.example("test", index, **options, **change)
                effects.append(logit(example, label) - logit(again, label))
    for name, effects in (("removal", removed), ("swap", swapped)):
        # To what float32 tells apart.
        expected = stats.spearmanr(claims, np.round(effects, 4)).statistic
        got = found[f"test/{name}_spearman"]
        assert got == pytest.approx(expected, abs=0.02)
        low, high = (found[f"test/{name}_spearman_{end}"] for end in ("low", "high"))
        assert low <= got <= high
    assert abs(found["test/removal_spearman"] - found["test/swap_spearman"]) > 0.04


def test_a_part_that_adds_nothing_has_no_region():
    module = Light(weights=(0.0, 1.0))
    found = measured(module, spotted(2, False))
    assert all(value == 0 for value in found.values())


def test_pictures_that_cannot_be_read_are_left_out():
    def read(index):
        if index == 1:
            raise ValueError("broken")
        return spots(index)

    test = spotted(3)._replace(read=read)
    kept = interventions._pictures(test, FRAME)
    assert kept["image"].shape == (2, SIZE, SIZE, 3)
    none = test._replace(size=1, read=lambda index: read(1))
    assert measured(Light(), none) == {}


def test_rows_are_gone_through_in_equal_pieces(monkeypatch):
    monkeypatch.setattr(interventions, "ROWS", 4)
    seen = []

    def double(values):
        seen.append(len(values))
        return {"twice": 2 * jnp.asarray(values)}

    values = np.arange(10.0, dtype=np.float32).reshape(10, 1)
    found = interventions._by_rows(double, values)
    np.testing.assert_array_equal(found["twice"], 2 * values)
    assert seen == [4, 4, 4]
