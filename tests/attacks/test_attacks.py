"""The contract of all attacks: budgets, counts, batches, levels, and bad input."""

import functools

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers
from attack_worlds import SMALL, small

from unlir_jax import attacks, split
from unlir_jax.attacks import checks, losses, norms, quantisation, search

BUDGETS = [name for name, spec in attacks.SPECS.items() if spec.kind == "budget"]
QUICK = {"fgsm", "pgd", "apgd", "square"}
EPSILON = {"linf": 0.02, "l2": 0.4, "l1": 4.0}
MEAN = split.from_functions(lambda _, images: images, lambda _, maps: maps.mean((1, 2)))


def run(name, *, count=4, norm="linf", reverse=False, targeted=False, **settings):
    """Attack the first images, in their order or the other one."""
    weights, images, labels, targets = small()
    order = slice(None, None, -1 if reverse else 1)
    images, labels, targets = (
        given[:count][order] for given in (images, labels, targets)
    )
    settings = dict(attacks.SPECS[name].quick) | settings
    settings |= {"epsilon": EPSILON[norm]}
    if len(attacks.SPECS[name].norms) > 1:
        settings |= {"norm": norm}
    attack = attacks.ATTACKS[name](SMALL, **settings)
    goals = targets if targeted else None
    key = jax.random.key(0)
    return images, attack.counted(weights, images, labels, targets=goals, key=key)


@pytest.mark.parametrize("name", tiers.by_tier(BUDGETS, QUICK))
def test_images_stay_in_the_budget_whatever_the_batch(name):
    norm = attacks.SPECS[name].norms[0]
    images, found = run(name, norm=norm)
    sizes = np.asarray(norms.length(found.images - images, norm))
    assert (sizes > 0).all() and (sizes <= EPSILON[norm] * (1 + 1e-5) + 1e-6).all()
    assert found.images.min() >= 0 and found.images.max() <= 1
    # The ensemble has two targeted attacks more.
    runs = 3 if name == "ensemble" else 1
    steps = runs * attacks.SPECS[name].quick.get("steps", 1)
    assert (np.asarray(found.gradients) <= steps).all()
    _, other = run(name, norm=norm, reverse=True)
    np.testing.assert_allclose(other.images[::-1], found.images, atol=1e-5)
    _, alone = run(name, norm=norm, count=1)
    np.testing.assert_allclose(alone.images, found.images[:1], atol=1e-5)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_pgd_keeps_other_norms(norm):
    images, found = run("pgd", norm=norm, steps=3)
    sizes = np.asarray(norms.length(found.images - images, norm))
    assert (sizes <= EPSILON[norm] * (1 + 1e-4)).all() and (sizes > 0).all()


def test_a_finished_image_costs_no_more():
    weights, images, labels, targets = small()
    attack = attacks.pgd(
        SMALL, epsilon=0.1, steps=9, random_start=False, stop_early=True
    )
    found = attack.counted(weights, images, labels)
    logits = np.asarray(split.whole(SMALL)(weights, found.images))
    deceived = logits.argmax(1) != labels
    fewer = np.asarray(found.gradients) < 9
    assert fewer.any() and (deceived | ~fewer).all()
    # What one more step would have done is not done.
    already = attack.counted(weights, images, targets)
    np.testing.assert_array_equal(already.gradients, 1)
    np.testing.assert_array_equal(already.images, images)


def test_starts_end_with_the_first_success_and_keep_the_best():
    plain = functools.partial(run, "pgd", count=12, steps=2)
    one, several = plain()[1], plain(restarts=2)[1]
    weights, _, labels, _ = small()

    def lost(found):
        return np.asarray(split.whole(SMALL)(weights, found.images)).argmax(1) != labels

    assert (lost(several) | ~lost(one)).all()
    np.testing.assert_array_equal(several.gradients == 2, lost(one))
    np.testing.assert_array_equal(several.forwards, np.where(lost(one), 1, 2))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_levels_survive_a_file_and_keep_the_budget(norm):
    images, found = run("pgd", norm=norm, steps=4, quantise=True)
    stored = np.round(np.asarray(found.images) * 255).astype(np.uint8)
    read = stored / np.float32(255)
    np.testing.assert_array_equal(read, np.asarray(found.images))
    sizes = np.asarray(norms.length(read - np.asarray(images), norm))
    assert (sizes <= EPSILON[norm] * (1 + 1e-5)).all()


def test_a_level_that_rounding_missed_is_not_cut():
    almost = jnp.full((1, 1, 1, 1), 13.999999 / 255)
    assert float(quantisation.rounded(almost)[0, 0, 0, 0] * 255) == 14
    original = jnp.full((1, 1, 1, 1), 10 / 255)
    kept = quantisation.within(almost, original, True, "l2", 4 / 255)
    np.testing.assert_allclose(kept * 255, 14, rtol=1e-6)


def test_l1_projection_is_the_nearest_point():
    """Hold it against the condition of Karush, Kuhn and Tucker, from any inside point.

    `<y - P(y), z - P(y)>` is not positive for any `z` of a convex set.
    """
    random = np.random.default_rng(0)
    originals = random.random((5, 3, 3, 2)).astype(np.float32)
    outside = originals + random.normal(0, 1, originals.shape).astype(np.float32)
    found = norms.project(jnp.asarray(outside), jnp.asarray(originals), 1.5, "l1")
    np.testing.assert_allclose(norms.length(found - originals, "l1"), 1.5, rtol=1e-5)
    assert found.min() >= 0 and found.max() <= 1
    for _ in range(50):
        other = np.clip(originals + random.laplace(0, 0.3, originals.shape), 0, 1)
        share = 1.5 / np.abs(other - originals).sum((1, 2, 3))
        other = originals + np.minimum(share, 1)[:, None, None, None] * (
            other - originals
        )
        slope = ((outside - found) * (other - found)).sum((1, 2, 3))
        assert (np.asarray(slope) <= 1e-4).all()
    inside = norms.project(found, jnp.asarray(originals), 2.0, "l1")
    np.testing.assert_allclose(inside, found, atol=1e-6)


@pytest.mark.parametrize("targeted", [False, True])
def test_odds_have_the_order_and_the_direction_of_the_cross_entropy(targeted):
    logits = jnp.asarray(np.random.default_rng(0).normal(0, 3, (6, 5)), jnp.float32)
    labels = jnp.arange(6) % 5
    aim = losses.Aim(labels, (labels + 1) % 5 if targeted else None)
    sign = -1 if targeted else 1
    odds, entropy = losses.log_odds(logits, aim), losses.cross_entropy(logits, aim)
    np.testing.assert_allclose(
        entropy, sign * jax.nn.softplus(sign * odds), rtol=1e-4, atol=1e-5
    )
    slopes = [
        np.asarray(jax.grad(lambda z, each=each: jnp.sum(each(z, aim)))(logits))
        for each in (losses.log_odds, losses.cross_entropy)
    ]
    one, other = (s / np.linalg.norm(s, axis=1, keepdims=True) for s in slopes)
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_sure_network_is_attacked_all_the_same():
    """The cross entropy of float32 has no gradient at a margin of 200."""
    images = jnp.zeros((1, 2, 2, 3)).at[..., 0].set(1)
    sharp = split.from_functions(
        lambda _, images: images, lambda _, maps: 200 * maps.mean((1, 2))
    )
    found = attacks.fgsm(sharp, epsilon=0.6)({}, images, jnp.asarray([0]))
    np.testing.assert_allclose(found[0, 0, 0], [0.4, 0.6, 0.6], rtol=1e-6)


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd", "boundary_projection"])
def test_clipping_takes_nothing_of_a_gradient_at_the_border(name):
    """A derivative of `jnp.clip` would halve it where pixels are black or white."""
    images = jnp.full((1, 2, 4, 3), 0.5).at[0, 0, :, 1:].set(0).at[0, 0, :, 0].set(1)
    settings = {"norm": "l2", "epsilon": 0.2, "steps": 1, "random_start": False}
    wanted = {"fgsm": 2, "bim": 3, "pgd": 4}.get(name, 0)
    settings = dict(list(settings.items())[:wanted])
    if name == "boundary_projection":
        settings = {"steps": 2, "quantise": False}
    attack = attacks.ATTACKS[name](MEAN, **settings)
    change = np.asarray(attack({}, images, jnp.asarray([0])) - images)
    assert (change[..., 0] < 0).all() and (change[..., 1:] > 0).all()
    np.testing.assert_allclose(change[0, 0], change[0, 1], rtol=1e-5)


def test_failures_enter_no_mean():
    told = {"success": np.asarray([True, False]), "l2": np.asarray([1.0, np.inf])}
    assert attacks.summary(told)["mean_l2"] == 1
    none = attacks.summary({"success": np.asarray([False]), "l2": np.asarray([9.0])})
    assert none == {"images": 1, "successes": 0, "success": 0.0}


def test_rounding_below_zero_is_clipped_and_jit_withholds():
    images, labels = jnp.full((2, 1, 1, 3), -3e-8), jnp.asarray([0, 1])
    attack = attacks.fgsm(MEAN, epsilon=0.1)
    assert attack({}, images, labels).min() >= 0
    compiled = jax.jit(lambda images, labels: attack({}, images, labels))
    given = jnp.full((2, 1, 1, 3), 0.5), jnp.asarray([0, 7])
    found = compiled(*given)
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()


SETTINGS = [
    ({"epsilon": 8.0}, "`epsilon`=8; expected at most 1, for images in .*8/255"),
    ({"epsilon": -1.0}, "`epsilon`=-1; expected a finite number"),
    ({"norm": "l7"}, "`norm`='l7' is unknown"),
    ({"steps": 0}, "`steps`=0; expected at least 1"),
    ({"quantise": 1}, "`quantise`=1; expected True for 256"),
    ({"quantise": True, "epsilon": 1e-3}, "`epsilon`=0.001 with `quantise`"),
    ({"restarts": 2, "random_start": False}, "`restarts`=2 without"),
]


@pytest.mark.parametrize(("settings", "match"), SETTINGS)
def test_settings_without_sense_are_refused(settings, match):
    helpers.refused(match, attacks.pgd, MEAN, **settings)


def test_calls_without_sense_are_refused():
    images, labels = jnp.full((2, 2, 2, 3), 0.5), jnp.asarray([0, 1])
    attack = attacks.fgsm(MEAN)
    refused = functools.partial(helpers.refused, variables={}, images=images)

    def called(variables, images, labels, attack=attack, **others):
        return attack(variables, images, labels, **others)

    refused("`labels` holds 3; the network has", called, labels=jnp.asarray([0, 3]))
    refused("is the label of the image", called, labels=labels, targets=labels)
    refused("`targets` holds 9", called, labels=labels, targets=labels + 9)
    far = attacks.fgsm(MEAN, norm="l2", epsilon=100.0)
    refused("distance from black to white", called, labels=labels, attack=far)
    smooth = attacks.smooth_bim(MEAN, epsilon=100.0)
    refused("the l2 distance from black", called, labels=labels, attack=smooth)
    one = r"shape \(1,\); expected \(2,\), one class an image"
    helpers.refused(one, checks.check_count, images, labels[:1])
    start = attacks.pgd(MEAN)
    refused("`key`=None, but this", called, labels=labels, attack=start)
    helpers.refused("holds 2.*0, 1", attack, {}, images * 4, labels)


def test_a_setting_that_an_attack_lacks_is_named():
    match = "`ddn` has no setting `epsilon`; expected some of steps, gamma"
    helpers.refused(match, attacks.ddn, MEAN, kind=TypeError, epsilon=0.5)
    match = "`pgd` has no setting `restart`; did you mean 'restarts'"
    helpers.refused(match, attacks.pgd, MEAN, kind=TypeError, restart=2)


NETWORKS = [
    (lambda _, maps: jax.nn.softmax(maps.mean((1, 2))), "gives probabilities"),
    (lambda _, maps: jnp.round(maps).mean((1, 2)), "no gradient: its outputs"),
    (lambda _, maps: 0 * maps.mean((1, 2)), "no gradient at any of the images"),
    (lambda _, maps: jnp.log(maps.mean((1, 2)) - 2), "no numbers; expected finite"),
    (lambda _, maps: maps, "expects logits"),
    (lambda _, maps: maps.mean((1, 2))[:, :1], "at least 2 classes"),
]


@pytest.mark.parametrize(("head", "match"), NETWORKS)
def test_networks_without_gradient_or_logits_are_refused(head, match):
    images, labels = jnp.full((2, 2, 2, 3), 0.5), jnp.asarray([0, 0])
    network = split.from_functions(lambda _, images: images, head)
    helpers.refused(match, attacks.fgsm(network), {}, images, labels)


def test_levels_of_a_setting():
    assert [checks.levels_of(each) for each in (True, False, 16)] == [256, 0, 16]


def test_large_images_take_their_steps_alone():
    """Hold the number of images of a step: equal shares of few, and 1 of large ones."""
    assert search._size(5, (5, 224, 224, 3)) == 1
    assert search._size(5, (5, 8, 8, 3)) == 5
