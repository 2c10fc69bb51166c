"""Attacks on maps: best correlations in closed form, classes, balls and batches."""

import functools

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_worlds import SMALL, small

from unlir_jax import attacks, maps, saliency, split
from unlir_jax.attacks import map_ascent, norms
from unlir_jax.core import random_keys

SIDE = 6
HALF = 0.5


def red(variables, images, labels, *, key=None):
    """Show the first colour."""
    del variables, labels, key
    return images[..., 0]


def centred(random, scale=0.03):
    """Draw a pattern of mean 0 and of a known length."""
    pattern = random.normal(0, 1, (SIDE, SIDE))
    pattern -= pattern.mean()
    return scale * SIDE * pattern / np.linalg.norm(pattern)


def pictured(pattern):
    images = np.full((1, SIDE, SIDE, 3), HALF)
    images[0, ..., 0] += pattern
    return jnp.asarray(images, jnp.float32)


def judge(direction):
    """Give a network whose logits are plus and minus a linear function of red."""
    weights = jnp.asarray(direction, jnp.float32)

    def head(_, shown):
        score = jnp.einsum("bhwc,hw->b", shown[..., :1], weights, precision="highest")
        return jnp.stack([score, -score], 1)

    return split.from_functions(lambda _, images: images, head)


def cosine(first, second):
    size = np.linalg.norm(first) * np.linalg.norm(second)
    return float(np.sum(first * second) / size)


def shown(images):
    found = np.asarray(images, float)[0, ..., 0]
    return found - found.mean()


def worlds(seed):
    random = np.random.default_rng(seed)
    pattern, target = centred(random), centred(random)
    return pattern, target


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_the_correlation_is_the_best_within_the_ball(seed):
    """Turn a vector of length m by a change of length r: at most by `arcsin(r / m)`.

    A correlation is the cosine of the centred maps.
    """
    pattern, target = worlds(seed)
    radius = float(0.4 * np.linalg.norm(pattern))
    turn = np.arcsin(0.4)
    model, images = judge(np.zeros_like(pattern) + 1), pictured(pattern)
    settings = {"norm": "l2", "epsilon": radius, "similarity": "correlation"}
    attack = functools.partial(attacks.move_map, model, red, steps=40, **settings)
    labels, key = jnp.asarray([0]), jax.random.key(seed)
    goal = jnp.asarray(target[None], jnp.float32)
    found = attack()({}, images, labels, goal)
    best = np.cos(max(0, np.arccos(cosine(pattern, target)) - turn))
    np.testing.assert_allclose(cosine(shown(found), target), best, atol=2e-3)
    away = attack(random_start=True)
    found = away({}, images, labels, key=key)
    np.testing.assert_allclose(cosine(shown(found), pattern), np.cos(turn), atol=2e-3)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_class_bounds_how_far_a_map_goes(norm):
    """Reach the target's part that is orthogonal to the direction of the logits.

    The target is on the other side of the boundary, which passes through 0.
    """
    pattern, target = worlds(2)
    if cosine(pattern, target) > 0:
        target = -target
    direction = pattern - target
    model, images = judge(direction), pictured(pattern)
    epsilon = 0.15 if norm == "linf" else 3 * float(np.linalg.norm(pattern))
    attack = attacks.move_map(
        model,
        red,
        norm=norm,
        epsilon=epsilon,
        steps=100,
        similarity="correlation",
    )
    goal = jnp.asarray(target[None], jnp.float32)
    found = attack({}, images, jnp.asarray([0]), goal)
    assert np.sum(shown(found) * direction) > 0
    best = np.sqrt(1 - cosine(target, direction) ** 2)
    reached = cosine(shown(found), target)
    # Steps of signs end less near.
    assert best - (0.04 if norm == "linf" else 0.02) < reached <= best + 1e-6


def test_a_map_is_kept_as_near_as_the_class_allows():
    """Rotate it onto the boundary: the correlation is the sine of the angle."""
    pattern, other = worlds(3)
    direction = pattern + 0.6 * other
    model, images = judge(direction), pictured(pattern)
    radius = 2 * float(np.linalg.norm(pattern))
    attack = attacks.keep_map(model, red, norm="l2", epsilon=radius, steps=100)
    found = attack({}, images, jnp.asarray([0]))
    assert np.sum(shown(found) * direction) < 0
    best = np.sqrt(1 - cosine(pattern, direction) ** 2)
    reached = cosine(shown(found), pattern)
    assert best - 0.02 < reached <= best + 1e-6
    # PGD crosses the boundary with less regard for the map.
    plain = attacks.pgd(
        model, norm="l2", epsilon=radius, steps=100, random_start=False
    )({}, images, jnp.asarray([0]))
    assert cosine(shown(plain), pattern) < reached - 0.1


def small_world(count=4):
    weights, images, _, _ = small()
    images = images[:count]
    logits = split.whole(SMALL)(weights, images)
    return weights, images, np.asarray(logits).argmax(1).astype(np.int32)


EXPLAINERS = {
    "grad_cam": saliency.grad_cam(SMALL),
    "grad_cam_plus_plus": saliency.grad_cam_plus_plus(SMALL),
    "softened gradient": saliency.gradient(SMALL),
}
SOFT = saliency.gradient(saliency.softened(SMALL, sharpness=30.0))


def alike(explain, variables, changed, images, labels):
    one, other = (explain(variables, each, labels) for each in (changed, images))
    ascent = map_ascent.Ascent("linf", 1.0, 1, 1.0, 2.0, 0.0, False, "top", 0.1)
    return np.asarray(map_ascent.alike(one, other, ascent))


@pytest.mark.parametrize(
    "name",
    [
        "grad_cam",
        "softened gradient",
        pytest.param("grad_cam_plus_plus", marks=pytest.mark.exhaustive),
    ],
)
def test_a_network_keeps_its_class_and_loses_its_map(name):
    weights, images, labels = small_world()
    explain = EXPLAINERS[name]
    surrogate = SOFT if "soft" in name else None
    attack = attacks.move_map(
        SMALL, explain, epsilon=0.02, steps=6, surrogate=surrogate
    )
    found = attack(weights, images, labels)
    sizes = np.asarray(norms.length(found - images, "linf"))
    assert (sizes <= 0.02 * (1 + 1e-5)).all() and (sizes > 0).any()
    assert found.min() >= 0 and found.max() <= 1
    logits = np.asarray(split.whole(SMALL)(weights, found))
    np.testing.assert_array_equal(logits.argmax(1), labels)
    before = alike(explain, weights, images, images, labels)
    after = alike(explain, weights, found, images, labels)
    assert (after <= before + 1e-5).all() and after.mean() < before.mean() - 0.1


def drawn(variables, images, labels, *, key=None):
    """Show a colour that is drawn from the image, times the image."""
    del variables, labels
    keys = random_keys.per_image(key, images)
    weights = jax.vmap(lambda own: jax.random.uniform(own, images.shape[2:]))(keys)
    return jnp.einsum("bhwc,bwc->bhw", images, weights, precision="highest")


STARTS = [
    (attacks.move_map, {"random_start": True}),
    (attacks.keep_map, {"explained": "label"}),
]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("factory", "start"), STARTS)
def test_an_image_is_attacked_alike_in_any_batch(factory, start):
    weights, images, labels = small_world()
    attack = factory(SMALL, drawn, epsilon=0.05, steps=2, **start)
    key = jax.random.key(3)
    found = attack(weights, images, labels, key=key)
    assert np.abs(found - images).max() > 0.01
    other = attack(weights, images[::-1], labels[::-1], key=key)
    np.testing.assert_allclose(other[::-1], found, atol=1e-5)
    alone = attack(weights, images[:1], labels[:1], key=key)
    np.testing.assert_allclose(alone, found[:1], atol=1e-5)


@pytest.mark.parametrize(
    "explained", ["reached", pytest.param("label", marks=pytest.mark.exhaustive)]
)
def test_the_class_moves_and_the_map_stays_nearer_than_under_pgd(explained):
    weights, images, labels = small_world()
    explain = EXPLAINERS["grad_cam"]
    attack = attacks.keep_map(
        SMALL, explain, epsilon=0.05, steps=20, explained=explained
    )
    found = attack(weights, images, labels)
    plain = attacks.pgd(SMALL, epsilon=0.05, steps=20, random_start=False)
    plain = plain(weights, images, labels)
    told = attacks.outcome(SMALL)(weights, images, found, labels)
    assert told["success"].all() and (told["linf"] <= 0.05 * (1 + 1e-5)).all()

    def distance(changed):
        logits = split.whole(SMALL)(weights, changed)
        classes = logits.argmax(1) if explained == "reached" else labels
        ours = np.asarray(explain(weights, changed, classes)).reshape(len(images), -1)
        own = np.asarray(explain(weights, images, labels)).reshape(len(images), -1)
        # A map of zeros is like nothing.
        return [
            np.corrcoef(one, two)[0, 1] if one.any() else 0
            for one, two in zip(ours, own, strict=True)
        ]

    assert np.mean(distance(found)) > np.mean(distance(plain)) + 0.05


def test_targets_are_reached_and_what_errs_already_stays():
    weights, images, labels = small_world()
    goals = (labels + 1) % 3
    explain = EXPLAINERS["grad_cam"]
    attack = attacks.keep_map(SMALL, explain, epsilon=0.1, steps=20)
    found = attack(weights, images, labels, targets=goals)
    told = attacks.outcome(SMALL)(weights, images, found, labels, targets=goals)
    assert told["success"].all()
    np.testing.assert_array_equal(attack(weights, images, goals), images)
    moved = attacks.move_map(SMALL, explain, steps=1)(weights, images, goals)
    np.testing.assert_array_equal(moved, images)


def test_a_softened_network_approaches_the_network():
    weights, images, labels = small_world()
    plain = split.whole(SMALL)(weights, images)
    errors = [
        float(np.abs(split.whole(soft)(weights, images) - plain).max())
        for soft in (
            saliency.softened(SMALL, sharpness=b) for b in (20.0, 200.0, 20000.0)
        )
    ]
    assert errors[0] > 3 * errors[1] and errors[2] < 1e-2 * errors[0]
    six = split.from_functions(
        lambda _, shown: jax.nn.relu6(shown * 10), lambda _, shown: shown.mean((1, 2))
    )
    values = split.whole(saliency.softened(six, sharpness=4.0))({}, images)
    slope = 10 * np.asarray(images, float)
    exact = (np.logaddexp(0, 4 * slope) - np.logaddexp(0, 4 * (slope - 6))) / 4
    np.testing.assert_allclose(values, exact.mean((1, 2)), rtol=1e-5)


def test_what_makes_no_sense_is_refused():
    weights, images, labels = small_world()
    explain = EXPLAINERS["grad_cam"]
    refused = functools.partial(helpers.refused, model=SMALL, explain=explain)
    refused("`share`=2.0; expected a share", attacks.move_map, share=2.0)
    refused("`penalty`=-1.0; expected", attacks.keep_map, penalty=-1.0)
    refused("`norm`='l1' is unknown", attacks.move_map, norm="l1")
    call = functools.partial(
        helpers.refused, variables=weights, images=images, labels=labels
    )
    attack = attacks.move_map(SMALL, explain, steps=1)
    shape = explain(weights, images, labels).shape
    call("`target_maps` has shape", attack, target_maps=jnp.ones((4, 9, 9)))
    call(r"`target_maps`\[0\] is flat", attack, target_maps=jnp.ones(shape))
    same = attacks.move_map(SMALL, explain, steps=1, similarity="correlation")
    call("no slope at an image's own map", same)
    constant = attacks.move_map(SMALL, saliency.gradient(SMALL), steps=1)
    call("maps without a gradient.*saliency.softened", constant)
    constant = attacks.keep_map(SMALL, saliency.gradient(SMALL), steps=1)
    call("maps without a gradient", constant)
    started = attacks.keep_map(SMALL, explain, random_start=True)
    call("`key`=None, but this", started)


@pytest.mark.exhaustive
def test_flat_maps_and_maps_that_stay_are_no_error():
    weights, images, labels = small_world(2)

    def black(variables, images, labels, *, key=None):
        return 0 * images[..., 0]

    attack = attacks.move_map(SMALL, black, steps=1)
    np.testing.assert_array_equal(attack(weights, images, labels), images)
    # The class follows from blue, and the map shows red.
    pattern, _ = worlds(5)
    model = split.from_functions(
        lambda _, images: images[..., 1:], lambda _, maps: maps.mean((1, 2))
    )
    image = pictured(pattern).at[..., 1].set(0.51)
    kept = attacks.keep_map(model, red, steps=2)({}, image, jnp.asarray([0]))
    assert kept[..., 2].mean() > kept[..., 1].mean()
    np.testing.assert_array_equal(kept[..., 0], image[..., 0])


@pytest.mark.exhaustive
def test_jit_attacks_alike_and_withholds():
    pattern, target = worlds(4)
    images = jnp.concatenate([pictured(pattern), pictured(target)])
    attack = attacks.move_map(judge(pattern + target), red, epsilon=0.02, steps=2)
    labels = jnp.asarray([0, 0])
    plain = attack({}, images, labels)
    compiled = jax.jit(lambda images, labels: attack({}, images, labels))
    found = compiled(images, labels.at[1].set(77))
    np.testing.assert_allclose(found[0], plain[0], atol=1e-5)
    assert np.abs(found[0] - images[0]).max() > 0.01
    assert np.isnan(found[1]).all()


def test_the_highest_pixels():
    saliency_maps = jnp.asarray(np.random.default_rng(0).normal(0, 1, (2, 5, 8)))
    found = np.asarray(maps.top(saliency_maps, 0.1))
    for own, marked in zip(np.asarray(saliency_maps), found, strict=True):
        assert set(own[marked]) == set(np.sort(own.ravel())[-4:])
    peaks = jnp.zeros((2, 4, 5)).at[0, 1, 2].set(1)
    marked = np.asarray(maps.top(peaks, 0.5))
    assert marked[0].sum() == 1 and marked[0, 1, 2] and not marked[1].any()
    helpers.refused("`share`=1.0; expected", maps.top, saliency_maps, 1.0)
