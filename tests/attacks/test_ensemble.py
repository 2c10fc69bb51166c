"""FAB, Square, AutoAttack, universal perturbations and transfer against their peers."""

import functools
from pathlib import Path

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers
from attack_worlds import SMALL, convolved, dense, flat, small

from unlir_jax import attacks, split
from unlir_jax.attacks import halfspace, losses, norms, windows
from unlir_jax.attacks.ensemble import MEMBERS
from unlir_jax.attacks.square import sides

GOLDEN = Path(__file__).parents[1] / "golden/ensemble/ensemble.npz"
EPSILON = {"linf": 0.013, "l2": 0.2}
FEW, QUERIES = 24, 300


BOTH = ["linf", pytest.param("l2", marks=pytest.mark.exhaustive)]
"""Norms, of which the first stands for the other in the fast tier."""


def features(weights, images):
    maps = convolved(images, weights["0.weight"], weights["0.bias"], 2)
    return convolved(maps, weights["2.weight"], weights["2.bias"], 2)


def head(weights, maps):
    hidden = jax.nn.relu(dense(flat(maps), weights["5.weight"], weights["5.bias"]))
    return dense(hidden, weights["7.weight"], weights["7.bias"])


MODEL = split.from_functions(features, head)
MEAN = split.from_functions(lambda _, images: images, lambda _, maps: maps.mean((1, 2)))


@functools.cache
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def world(count=None):
    known = golden()
    weights = {
        name.removeprefix("network/"): jnp.asarray(value)
        for name, value in known.items()
        if name.startswith("network/")
    }
    images = jnp.asarray(known["levels"][:count] / np.float32(255))
    return weights, images, jnp.asarray(known["labels"][:count], jnp.int32)


def test_the_network_is_the_one_of_the_peers():
    weights, images, _ = world()
    logits = split.whole(MODEL)(weights, images)
    np.testing.assert_allclose(logits, golden()["logits"], atol=1e-4)


@pytest.mark.parametrize("norm", BOTH)
@pytest.mark.parametrize(
    "targeted", [False, pytest.param(True, marks=pytest.mark.exhaustive)]
)
def test_distortions_of_fab_are_those_of_adv_lib(norm, targeted):
    weights, images, labels = world(FEW)
    attack = attacks.fab(MODEL, norm=norm, steps=40, targeted=targeted)
    found = attack.counted(weights, images, labels)
    told = attacks.outcome(MODEL)(weights, images, found.images, labels)
    name = f"fab {'targeted ' if targeted else ''}{norm}"
    # The first two are wrong as they are.
    np.testing.assert_array_equal(told["success"], True)
    np.testing.assert_array_equal(told[norm][:2], 0)
    assert golden()[f"{name}/success"].all()
    expected = golden()[name][2:].mean()
    np.testing.assert_allclose(np.mean(told[norm][2:]), expected, rtol=0.02)
    turns = 9
    np.testing.assert_array_equal(found.gradients[2:], 40 * turns)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projections_are_the_nearest_points(norm):
    """Hold them against bisection, and against all points of a fine segment."""
    random = np.random.default_rng(0)
    images = random.random((6, 3, 4, 2)).astype(np.float32)
    slope = random.normal(size=images.shape).astype(np.float32)
    slope[0, 0] = 0
    most = np.where(slope > 0, 1 - images, images) * np.abs(slope)
    gap = most.sum((1, 2, 3)) * np.asarray([0.1, 0.4, 0.7, 0.95, 1.5, -0.2])
    found = np.asarray(
        halfspace.nearest(*map(jnp.asarray, (images, slope)), jnp.asarray(gap), norm)
    )
    assert (images + found).min() >= -1e-6 and (images + found).max() <= 1 + 1e-6
    gained = (slope * found).sum((1, 2, 3))
    np.testing.assert_allclose(gained[:4], gap[:4], rtol=1e-4)
    np.testing.assert_allclose(gained[4], most.sum((1, 2, 3))[4], rtol=1e-5)
    np.testing.assert_allclose(gained[5], gap[5], rtol=1e-4)
    for row in (0, 1, 2, 3, 5):
        sign = np.sign(gap[row]) * np.sign(slope[row])
        room = np.where(sign > 0, 1 - images[row], images[row]) * (sign != 0)
        rate = np.abs(slope[row]) if norm == "l2" else 1.0
        low, high = 0.0, 1e4
        for _ in range(200):
            middle = (low + high) / 2
            moved = np.minimum(middle * rate, room)
            enough = (np.abs(slope[row]) * moved).sum() > abs(gap[row])
            low, high = (low, middle) if enough else (middle, high)
        np.testing.assert_allclose(found[row], sign * moved, atol=1e-5)


def test_windows_have_the_sides_of_the_schedule():
    found = sides(10_000, 0.8, (32, 32), "linf")
    # Of 10,000 queries, the area is halved behind queries 10, 50, 200 and so on.
    for query, halvings in ((0, 0), (11, 0), (12, 1), (51, 1), (52, 2), (9001, 9)):
        expected = max(1, round(np.sqrt(0.8 / 2**halvings * 32 * 32)))
        assert found[query] == expected
    assert set(sides(500, 0.8, (15, 15), "l2") % 2) == {1}


def test_bumps_are_squares_on_squares():
    """Add the squares of Section 3.4 one by one."""
    for shape in ((2, 5), (5, 5), (4, 9), (1, 1)):
        slow = np.zeros(shape)
        middle = shape[0] // 2, shape[1] // 2
        for reach in range(max(middle) + 1):
            rows, columns = (slice(max(at - reach, 0), at + reach + 1) for at in middle)
            slow[rows, columns] += 1 / (reach + 1) ** 2
        slow /= np.linalg.norm(slow)
        np.testing.assert_allclose(windows.bump(*shape), slow, rtol=1e-12)


@pytest.mark.parametrize("norm", BOTH)
def test_square_succeeds_as_often_as_that_of_the_authors(norm):
    weights, images, labels = world()
    attack = attacks.square(MODEL, norm=norm, epsilon=EPSILON[norm], steps=QUERIES + 1)
    found = attack.counted(weights, images, labels, key=jax.random.key(0))
    told = attacks.outcome(MODEL)(weights, images, found.images, labels)
    assert told[norm].max() <= EPSILON[norm] * (1 + 1e-5)
    shares, queries = (golden()[f"square {norm}{end}"] for end in ("", "/queries"))
    # Seeds differ: 200 images have a standard error of 3 points, mostly shared.
    assert abs(np.mean(told["success"]) - shares.mean()) <= 0.035
    np.testing.assert_allclose(np.mean(found.forwards), queries.mean(), rtol=0.06)
    assert not np.any(found.gradients)


def test_square_needs_no_gradient():
    stepped = split.from_functions(
        lambda _, images: jnp.round(images * 20), lambda _, maps: maps.mean((1, 2))
    )
    images = jnp.full((1, 4, 4, 3), 0.4).at[..., 0].set(0.6)
    labels, key = jnp.asarray([0]), jax.random.key(0)
    found = attacks.square(stepped, epsilon=0.2, steps=300)({}, images, labels, key=key)
    assert attacks.outcome(stepped)({}, images, found, labels)["success"][0]
    helpers.refused("no gradient", attacks.fab(stepped), {}, images, labels)


@pytest.mark.parametrize(
    ("size",), tiers.by_tier([((12, 12),), ((19, 12),), ((3, 4),)], 1)
)
def test_square_takes_images_of_any_side(size):
    """Tiles of the authors' code leave images of 12 or 19 pixels."""
    images = jnp.full((2, *size, 3), 0.5).at[..., 0].add(0.01).at[1].add(0.02)
    attack = attacks.square(MEAN, norm="l2", epsilon=0.5, steps=8)
    labels, key = jnp.zeros(2, jnp.int32), jax.random.key(0)
    found = attack({}, images, labels, key=key)
    sizes = norms.length(found - images, "l2")
    assert np.all((sizes > 0) & (sizes <= 0.5 * (1 + 1e-5)))
    alone = attack({}, images[1:], labels[1:], key=key)
    np.testing.assert_allclose(alone, found[1:], atol=1e-6)


@pytest.mark.exhaustive
def test_fab_takes_starts_targets_and_levels(x64):
    weights, images, labels = (
        jax.tree.map(lambda leaf: jnp.asarray(leaf, float), each) if rank else each
        for rank, each in zip((1, 1, 0), world(4), strict=True)
    )
    given = weights, images[2:], labels[2:]
    order = jnp.argsort(split.whole(MODEL)(*given[:2]), axis=1)
    steps = {"norm": "l2", "steps": 10}
    one = attacks.fab(MODEL, **steps).counted(*given)
    two = attacks.fab(MODEL, restarts=2, **steps).counted(*given, key=jax.random.key(0))
    lengths = [norms.length(each.images - given[1], "l2") for each in (one, two)]
    assert np.all(lengths[1] <= lengths[0])
    np.testing.assert_array_equal(two.gradients, 2 * one.gradients)
    last = tuple(each[1:] for each in given[1:])
    alone = attacks.fab(MODEL, **steps)(weights, *last)
    np.testing.assert_allclose(alone, one.images[1:], atol=1e-6)
    targets = order[:, -2]
    found = attacks.fab(MODEL, steps=60)(*given, targets=targets)
    logits = split.whole(MODEL)(weights, found)
    np.testing.assert_array_equal(jnp.argmax(logits, axis=1), targets)
    found = attacks.fab(MODEL, steps=60, quantise=True)(*given)
    told = attacks.outcome(MODEL)(given[0], given[1], found, given[2])
    np.testing.assert_array_equal(told["success"], True)
    np.testing.assert_allclose(found * 255, jnp.round(found * 255), atol=1e-9)


@pytest.mark.parametrize(
    ("norm", "count"),
    [
        pytest.param("linf", 18, marks=pytest.mark.exhaustive),
        pytest.param("linf", 200, marks=pytest.mark.exhaustive),
        pytest.param("l2", 200, marks=pytest.mark.exhaustive),
    ],
)
def test_robust_accuracy_is_that_of_autoattack(norm, count):
    """Hold it against the standard version of the authors."""
    weights, images, labels = world(count)
    attack = attacks.ensemble(MODEL, norm=norm, epsilon=EPSILON[norm], queries=200)
    found = attack.counted(weights, images, labels, key=jax.random.key(0))
    told = attacks.outcome(MODEL)(weights, images, found.images, labels)
    robust = ~np.asarray(told["success"])
    theirs = golden()[f"autoattack {norm}/robust"][:count]
    assert robust.sum() <= theirs.sum() + 1
    assert (robust != theirs).sum() <= 3
    np.testing.assert_array_equal(robust, found.winner < 0)
    assert told[norm].max() <= EPSILON[norm] * (1 + 1e-5)
    # The first two are wrong as they are, and cost nothing.
    np.testing.assert_array_equal(found.winner[:2], 0)
    np.testing.assert_array_equal(found.gradients[:2], 0)
    np.testing.assert_array_equal(found.images[:2], images[:2])
    assert set(np.unique(found.winner)) >= {-1, 0, 1}
    assert np.all(found.gradients[found.winner == 1] <= 100)


QUICK = {"steps": 1, "rivals": 1, "queries": 1}


def test_an_ensemble_takes_images_that_are_all_wrong():
    images = jnp.full((2, 4, 4, 3), 0.4).at[..., 0].set(0.5)
    attack, key = attacks.ensemble(MEAN, **QUICK), jax.random.key(0)
    found = attack.counted({}, images, jnp.asarray([1, 2]), key=key)
    np.testing.assert_array_equal(found.images, images)
    assert found.winner.tolist() == [0, 0]


@pytest.mark.parametrize("labels", [[0, 0], [0, 1]])
def test_an_ensemble_refuses_a_network_without_a_gradient(labels):
    """Square alone would attack it, and find nothing."""
    flat = split.from_functions(
        lambda _, images: images, lambda _, maps: 0 * maps.mean((1, 2))
    )
    attack = attacks.ensemble(flat, **QUICK)
    given = {}, jnp.full((2, 2, 2, 3), 0.5), jnp.asarray(labels)
    helpers.refused("no gradient at any", attack, *given, key=jax.random.key(0))


@pytest.mark.exhaustive
def test_an_image_in_the_ensemble_has_the_result_of_a_batch():
    weights, images, labels = world(6)
    settings = {"epsilon": 0.008, "steps": 8, "rivals": 2, "queries": 8}
    attack, key = attacks.ensemble(MODEL, **settings), jax.random.key(0)
    batch = attack.counted(weights, images, labels, key=key)
    for row in (2, 5):
        one = slice(row, row + 1)
        alone = attack.counted(weights, images[one], labels[one], key=key)
        np.testing.assert_allclose(alone.images[0], batch.images[row], atol=1e-5)
        assert alone.winner[0] == batch.winner[row]
    compiled = jax.jit(lambda *given: attack.counted(*given, key=key))
    whole = compiled(weights, images, labels)
    np.testing.assert_array_equal(whole.winner, batch.winner)


@pytest.mark.exhaustive
def test_few_classes_and_targets_have_an_ensemble_too():
    images, labels = (
        jnp.full((2, 4, 4, 3), 0.4).at[..., 0].set(0.5),
        jnp.asarray([0, 0]),
    )
    attack = attacks.ensemble(MEAN, epsilon=0.06, steps=4, queries=4)
    given = {}, images, labels
    found = attack.counted(*given, targets=jnp.asarray([2, 1]), key=jax.random.key(0))
    logits = split.whole(MEAN)({}, found.images)
    np.testing.assert_array_equal(jnp.argmax(logits, 1), [2, 1])
    assert [MEMBERS[int(each)] for each in found.winner] == ["apgd"] * 2


@pytest.mark.parametrize("norm", BOTH)
def test_a_universal_perturbation_deceives_on_images_that_it_has_not_seen(norm):
    weights, images, labels = world()
    images, labels = images[2:], labels[2:]
    epsilon = {"linf": 0.06, "l2": 1.0}[norm]
    find = attacks.universal(MODEL, norm=norm, epsilon=epsilon, epochs=6)
    found = find(weights, images[:100], labels[:100], key=jax.random.key(0))
    size = norms.length(found.perturbation[None], norm)[0]
    assert 0 < size <= epsilon * (1 + 1e-5)
    expected = np.clip(images[:100] + found.perturbation[None], 0, 1)
    np.testing.assert_allclose(found.images, expected, atol=1e-6)

    def lost(change):
        given = jnp.clip(images[100:] + change, 0, 1)
        logits = split.whole(MODEL)(weights, given)
        return float(jnp.mean(losses.succeeded(logits, losses.Aim(labels[100:]))))

    random = jax.random.normal(jax.random.key(1), images.shape[1:])
    other = epsilon * norms.steepest(random[None], norm)
    assert lost(found.perturbation[None]) > 2 * lost(other)


def test_a_universal_perturbation_of_a_linear_network_is_known():
    """All images have one gradient: the ball's corner against it."""
    images = jnp.full((3, 2, 2, 3), 0.5).at[..., 0].add(jnp.asarray(0.01))
    labels = jnp.zeros(3, jnp.int32)
    two = split.from_functions(
        lambda _, images: images, lambda _, maps: 9 * maps.mean((1, 2))[:, :2]
    )
    found = attacks.universal(two, epsilon=0.1, epochs=12)({}, images, labels)
    corner = np.broadcast_to([-0.1, 0.1, 0], (2, 2, 3))
    np.testing.assert_allclose(found.perturbation, corner, atol=1e-6)


def test_transfer_judges_by_the_other_network():
    weights, images, labels, _ = small()
    attack = attacks.pgd(SMALL, epsilon=0.05, steps=5, random_start=False)
    other = jax.tree.map(lambda leaf: 0.7 * leaf + 0.05, weights)
    found = attacks.transfer(SMALL, SMALL, attack)(weights, other, images, labels)
    moved = attack(weights, images, labels)
    whole = split.whole(SMALL)
    for name, judge in (("success", other), ("source_success", weights)):
        expected = np.asarray(whole(judge, moved)).argmax(1) != labels
        np.testing.assert_array_equal(found[name], expected)
    assert np.any(found["success"] != found["source_success"])
    helpers.refused("is of another network", attacks.transfer, MODEL, SMALL, attack)


def test_settings_of_the_new_attacks_are_checked():
    refused = helpers.refused
    refused("`alpha`=2", attacks.fab, MEAN, alpha=2.0)
    refused("`rivals`=0", attacks.fab, MEAN, rivals=0)
    refused("`norm`='l1'", attacks.square, MEAN, norm="l1")
    refused("`share`=0", attacks.square, MEAN, share=0.0)
    refused("`queries`=0", attacks.ensemble, MEAN, queries=0)
    refused("`epochs`=0", attacks.universal, MEAN, epochs=0)
    refused("`batch_size`=0", attacks.universal, MEAN, batch_size=0)
    images = jnp.full((1, 2, 2, 3), 0.5)
    attack = attacks.ensemble(MEAN, steps=1, queries=1)
    refused("`key`=None", attack, {}, images, jnp.asarray([0]))
