"""Claims and measurements of parts, on models whose answers are known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import split
from unlir_jax.metrics.parts import interventions, keypoints

KEY = jax.random.key(0)
LABELS = np.zeros(3, int)


def share_of_light():
    """Give a network whose label 0 has the share of light as its probability."""

    def head(v, maps):
        share = jnp.clip(maps.mean((1, 2, 3)), 1e-6, 1 - 1e-6)
        return jnp.stack([jnp.log(share), jnp.log1p(-share)], axis=-1)

    return split.whole(split.from_functions(lambda v, images: images, head))


def test_effects_of_removal_by_hand():
    whole = np.asarray([[1.0, 5.0], [2.0, 0.0]])
    without = np.asarray([[[0, 3.0], [1, 6]], [[2, 9], [-1, 9]], [[7, 7], [8, 8]]])
    without = without.transpose(1, 0, 2)
    found = interventions.removal_effects(whole, without, np.asarray([1, 0]))
    assert found.tolist() == [[2, -4, -2], [1, 3, -6]]


def test_claims_by_hand():
    # The left cell has three pixels of 1 and one of 2, the right one three of
    # background and one of 2.
    masks = np.asarray([[[1, 1, 0, 0], [2, 1, 0, 2]]], np.uint8)
    contributions = np.asarray([[[8.0, -4.0]]])
    found = interventions.claimed_effects(contributions, masks, 3)
    assert found.tolist() == [[6, 2 - 4, 0]]
    shared = interventions.claimed_effects(contributions, masks, 3, background=True)
    assert shared.tolist() == [[6, 2 - 1, 0]]


def test_claims_add_up_and_follow_the_names_of_parts():
    random = np.random.default_rng(0)
    masks = random.integers(0, 5, size=(6, 9, 7))
    contributions = random.normal(size=(6, 3, 2)).astype(np.float32)
    found = interventions.claimed_effects(contributions, masks, 4)
    # Each of these cells holds a part, so that all is given to one.
    np.testing.assert_allclose(found.sum(1), contributions.sum((1, 2)), rtol=1e-5)
    order = np.asarray([0, 3, 1, 4, 2])
    renamed = interventions.claimed_effects(contributions, order[masks], 4)
    np.testing.assert_allclose(renamed[:, order[1:] - 1], found)
    one = interventions.claimed_effects(contributions[2:3], masks[2:3], 4)
    np.testing.assert_array_equal(one[0], found[2])


def test_a_linear_model_claims_what_is_measured():
    """Logit = sum of weights times light: taking a part away takes its sum away."""
    random = np.random.default_rng(0)
    images = random.uniform(size=(5, 8, 8))
    weights = random.normal(size=(2, 8, 8))
    masks = random.integers(0, 4, size=(5, 8, 8))
    labels = random.integers(0, 2, size=5)

    def network(pictures):
        return np.einsum("...hw,chw->...c", pictures, weights)

    removed = masks[:, None] == np.arange(1, 4)[None, :, None, None]
    without = np.where(removed, 0, images[:, None])
    measured = interventions.removal_effects(network(images), network(without), labels)
    claimed = interventions.claimed_effects(images * weights[labels], masks, 3)
    np.testing.assert_allclose(claimed, measured, atol=1e-12)
    found = interventions.agreement(claimed, measured, np.ones((5, 3), bool))
    assert found.per_image == pytest.approx((1, 1, 1, 5))
    assert found.pooled == pytest.approx((1, 1, 1, 5))


def test_agreement_by_hand():
    claimed = np.asarray(
        [[1, 2, 3, math.nan], [1, 2, 3, 4], [5, 5, 5, 5], [1, 2, 0, 0], [3, 2, 1, 9]],
        float,
    )
    measured = np.asarray(
        [[2, 4, 9, 0], [2, 1, 4, 3], [1, 2, 3, 4], [1, 2, 0, 0], [1, 2, 3, 0]], float
    )
    present = np.asarray(
        [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], bool
    )
    found = interventions.agreement(claimed, measured, present)
    # 1 - 6 * 4 / 60 for the second; a constant one counts 0; the fourth is left out.
    np.testing.assert_allclose(found.correlations, [1, 0.6, 0, -1], atol=1e-12)
    assert found.left_out == 1 and found.constant == 1
    assert found.per_image.mean == pytest.approx(0.15) and found.per_image.n == 4
    assert -1 <= found.per_image.low < 0.15 < found.per_image.high <= 1
    # Mid-ranks of the 14 values that count, in the order of the pictures.
    one = [2, 5, 8, 2, 5, 8, 10, *[12.5] * 4, 8, 5, 2]
    other = [5.5, 12, 14, 5.5, 2, 12, 9, 2, 5.5, 9, 12, 2, 5.5, 9]
    pooled = np.corrcoef(one, other)[0, 1]
    assert found.pooled.mean == pytest.approx(pooled) and found.pooled.n == 4
    fewer = interventions.agreement(claimed, measured, present, fewest=2)
    assert fewer.left_out == 0 and fewer.correlations[3] == pytest.approx(1)


def test_agreement_ignores_order_and_scale():
    random = np.random.default_rng(0)
    claimed, noise = random.normal(size=(2, 12, 6))
    measured, present = claimed + noise, random.uniform(size=(12, 6)) < 0.8
    expected = interventions.agreement(claimed, measured, present)
    parts, images = random.permutation(6), random.permutation(12)
    moved = [x[images][:, parts] for x in (claimed, 3 * measured + 1, present)]
    found = interventions.agreement(*moved)
    assert found.per_image.mean == pytest.approx(expected.per_image.mean)
    assert found.pooled.mean == pytest.approx(expected.pooled.mean)
    assert found.left_out == expected.left_out


def test_a_disc_in_a_picture_of_one_colour_is_not_seen():
    images = np.broadcast_to(np.float32([0.25, 0.5, 0.75]), (2, 9, 9, 3))
    keypoints = np.float32([[[4, 4, 1], [0, 0, 1]], [[4, 4, 1], [40, 4, 1]]])
    found = interventions.keypoint_removal(images, keypoints, 2.0)
    np.testing.assert_array_equal(found, images)
    assert found.dtype == np.float32


def test_a_disc_has_the_colour_of_its_ring():
    images = np.full((1, 7, 7, 3), 0.2)
    y, x = np.mgrid[:7, :7]
    distance = np.hypot(x - 3, y - 3)
    images[0, distance <= 1.5] = 1
    images[0, (distance > 1.5) & (distance <= 3)] = 0.6
    images[0, 3, 5] = 0.6 + 0.4
    ring = np.count_nonzero((distance > 1.5) & (distance <= 3))
    # The middle of pixel 3 is at 3.5.
    keypoints = np.asarray([[[3.5, 3.5, 1.0]]])
    found = interventions.keypoint_removal(images, keypoints, 1.5)
    np.testing.assert_allclose(found[0, distance <= 1.5], 0.6 + 0.4 / ring)
    np.testing.assert_array_equal(found[0, distance > 1.5], images[0, distance > 1.5])
    red = interventions.keypoint_removal(images, keypoints, 1.5, (1.0, 0.0, 0.0))
    assert (red[0, 3, 3] == [1, 0, 0]).all() and (red[0, 0] == images[0, 0]).all()


def test_discs_do_not_colour_each_other_and_have_no_order():
    images = np.random.default_rng(0).uniform(size=(1, 12, 12, 3)).astype(np.float32)
    # Their discs touch.
    keypoints = np.asarray([[[4.5, 6, 1], [7.5, 6, 1], [6, 11, 0]]])
    found = interventions.keypoint_removal(images, keypoints, 2.0)
    turned = interventions.keypoint_removal(images, keypoints[:, ::-1], 2.0)
    np.testing.assert_array_equal(found, turned)
    y, x = np.mgrid[:12, :12] + 0.5
    left, right = np.hypot(x - 4.5, y - 6), np.hypot(x - 7.5, y - 6)
    covered = (left <= 2) | (right <= 2)
    for near in (left, right):
        expected = images[0, (near <= 4) & ~covered].mean(0)
        painted = found[0, (near <= 2) & (near == np.minimum(left, right))]
        np.testing.assert_allclose(painted[1:], painted[:-1], atol=1e-6)
        np.testing.assert_allclose(painted[0], expected, atol=1e-6)
    np.testing.assert_array_equal(found[0, ~covered], images[0, ~covered])
    assert (keypoints[0, 2] == [6, 11, 0]).all()


def test_a_disc_without_a_ring_has_the_colour_of_the_rest():
    images = np.random.default_rng(0).uniform(size=(1, 5, 5, 3))
    # No other pixel has its middle within 0.2 of that of the first.
    found = interventions.keypoint_removal(images, np.asarray([[[0.5, 0.5, 1]]]), 0.1)
    rest = images[0].reshape(-1, 3)[1:]
    np.testing.assert_allclose(found[0, 0, 0], rest.mean(0))
    np.testing.assert_array_equal(found[0].reshape(-1, 3)[1:], rest)


def test_what_is_not_visible_removes_nothing():
    images = np.random.default_rng(0).uniform(size=(3, 6, 6, 3))
    keypoints = np.asarray(
        [[[3, 3, 0.0]], [[-1, 3, 1]], [[math.nan, math.nan, 0]]], np.float32
    )
    found = interventions.keypoint_removal(images, keypoints, 2.0)
    np.testing.assert_array_equal(found, images)


@pytest.mark.exhaustive
@pytest.mark.parametrize("loop", ["host", "device"])
def test_random_regions_of_a_white_picture_cost_the_same(loop):
    """Black over white takes the share of the area, wherever it is."""
    images = np.ones((3, 8, 8, 3), np.float32)
    regions = np.zeros((3, 8, 8), bool)
    regions[0, 2:5, 1:4] = regions[1, 0] = True
    score = interventions.region_deletion(share_of_light(), baseline="black", loop=loop)
    found = score({}, images, LABELS, regions, key=KEY)
    for drop in found.values():
        np.testing.assert_allclose(drop, [9 / 64, 8 / 64, 0], atol=1e-5)


def test_a_region_with_all_the_light_costs_more_than_others():
    regions = np.zeros((1, 8, 8), bool)
    regions[:, 2:4, 3:6] = True
    light = np.where(regions[..., None], np.float32(1), np.float32(0))
    images = np.broadcast_to(light, (1, 8, 8, 3))
    score = interventions.region_deletion(share_of_light(), baseline="black", draws=300)
    found = score({}, images, LABELS[:1], regions, key=KEY)
    np.testing.assert_allclose(found["region_drop"], 6 / 64, atol=1e-5)
    # Over all 64 offsets, each pixel of the region is met by 6: 36 in all, 6 of which
    # at offset 0, which is not drawn. A pixel is 1/64 of the light.
    expected, deviation = 30 / 63 / 64, 1.3 / 64 / math.sqrt(300)
    assert abs(found["random_drop"][0] - expected) < 4 * deviation


@pytest.mark.exhaustive
def test_all_offsets_but_none_are_drawn():
    keys = jax.random.split(KEY, 400)
    region = jnp.zeros((2, 3), bool).at[0, 0].set(True)
    moved = jax.vmap(lambda key: interventions._move(region, key, jnp.int32(0)))(keys)
    counts = moved.sum(0)
    assert counts[0, 0] == 0 and counts.sum() == 400
    # 80 on average, with a deviation of 8.
    assert (abs(counts.ravel()[1:] - 80) < 4 * 8).all()


def test_random_regions_belong_to_the_image(pictures):
    regions = np.zeros((4, 32, 32), bool)
    regions[:, 5:15, 8:20] = True
    score = interventions.region_deletion(share_of_light(), mean=(0.9, 0.9, 0.9))
    labels = np.zeros(4, int)
    found = score({}, pictures, labels, regions, key=KEY)
    turned = score({}, pictures[::-1], labels, regions, key=KEY)
    alone = score({}, pictures[2:3], labels[:1], regions[:1], key=KEY)
    for name, drop in found.items():
        assert drop.shape == (4,)
        np.testing.assert_allclose(turned[name], drop[::-1], atol=1e-6)
        np.testing.assert_allclose(alone[name][0], drop[2], atol=1e-6)
    other = score({}, pictures, labels, regions, key=jax.random.key(1))
    np.testing.assert_array_equal(other["region_drop"], found["region_drop"])
    assert (other["random_drop"] != found["random_drop"]).all()


def test_bad_input_is_one_sentence(unchecked):
    logits, without = np.zeros((3, 2)), np.zeros((3, 4, 2))
    images, keypoints = np.zeros((3, 6, 6, 3), np.float32), np.ones((3, 1, 3))
    masks, claims = np.zeros((3, 6, 6), int), np.zeros((3, 2, 2))
    effects, present = np.zeros((3, 4)), np.ones((3, 4), bool)
    broken = np.where(np.arange(4) == 1, np.nan, effects)
    score = interventions.region_deletion(share_of_light())
    regions = np.zeros((3, 6, 6), bool)
    removal, claimed = interventions.removal_effects, interventions.claimed_effects
    agreement, painted = interventions.agreement, interventions.keypoint_removal
    bad = [
        (lambda: removal(logits, without[..., :1], LABELS), "batch, parts, classes"),
        (lambda: removal(logits, without, LABELS[:2]), r"`labels` has shape \(2,\)"),
        (lambda: removal(logits, without, LABELS + 2), "classes 0 to 1"),
        (lambda: removal(logits, without * np.nan, LABELS), "`logits_without` holds"),
        (lambda: claimed(claims[0], masks, 3), "batch, rows, columns"),
        (lambda: claimed(claims, masks[:2], 3), "for 3 images"),
        (lambda: claimed(claims, masks + 4, 3), "holds 4.*1 to 3"),
        (lambda: claimed(claims / 0, masks, 3), "not finite"),
        (lambda: agreement(effects, effects[:2], present), "for all"),
        (lambda: agreement(effects, broken, present), "not finite"),
        (lambda: agreement(effects, effects, ~present), "at most 0 parts"),
        (lambda: agreement(effects, effects, present, fewest=1), "`fewest`=1"),
        (lambda: painted(images, keypoints[:2], 1.0), r"\[batch, k, 3\]"),
        (lambda: painted(images, keypoints, 0.0), "`radius`=0"),
        (lambda: painted(images, keypoints, 99.0), "altogether"),
        (lambda: painted(images, keypoints, 1.0, "blur"), "'blur'.*'ring'"),
        (lambda: score({}, images, LABELS, regions), "`key`=None"),
        (lambda: score({}, images, LABELS, regions[:, 1:], key=KEY), "own size"),
        (lambda: score({}, images, LABELS + 2, regions, key=KEY), "classes 0 to 1"),
        (lambda: interventions.region_deletion(share_of_light(), draws=0), "`draws`=0"),
    ]
    for call, message in bad:
        with pytest.raises(ValueError, match=message), np.errstate(all="ignore"):
            call()
    with pytest.raises(TypeError, match="expected booleans"):
        score({}, images, LABELS, masks, key=KEY)


def test_discs_are_the_pixels_that_are_painted():
    random = np.random.default_rng(0)
    images = random.uniform(size=(6, 12, 12, 3))
    points = random.uniform(-2, 14, size=(6, 3, 3))
    points[..., 2] = random.integers(0, 2, size=(6, 3))
    painted = interventions.keypoint_removal(images, points, 2.5)
    discs = keypoints.discs(points, 2.5, 12)
    np.testing.assert_array_equal(discs, (painted != images).any(-1))
    assert 0 < discs.mean() < 1
