"""Images that are crafted inside a step: attacks, labels, rows and ranges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attacks import attack_worlds
from objectives.adversarial_worlds import (
    CLASSES,
    EPSILON,
    KEY,
    KEYS,
    LINEAR,
    ROWS,
    VARIABLES,
    batch,
    linear,
    made,
    world,
)

from unlir_jax import attacks, objectives
from unlir_jax.attacks import search
from unlir_jax.objectives import crafting
from unlir_jax.objectives.crafting import Ascent
from unlir_jax.objectives.objective import Apply


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_crafted_images_are_those_of_the_attack(norm):
    """Attacks are compared with peers' in tests/attacks."""
    apply, weights, images, labels = world()
    epsilon = {"linf": 0.1, "l2": 1.0}[norm]
    ascent = Ascent(norm, epsilon, 4, epsilon / 3, False)
    craft = crafting.climbing(apply, ascent, "evaluation", "label")
    found = jax.jit(craft)(weights, images, labels, KEYS, KEY)
    attack = attacks.pgd(
        attack_worlds.SMALL,
        **{"norm": norm, "epsilon": epsilon, "steps": 4, "step_size": epsilon / 3},
        random_start=False,
    )
    expected = attack(weights, images, labels)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(expected - images).max() > 0.05


def test_the_nearest_change_is_that_of_the_attack_with_these_settings():
    apply, weights, images, labels = world()
    settings = {"gamma": 0.3, "alpha": 1.0}
    given = "boundary_projection", 3, 0.4, "evaluation", "label"
    craft = crafting.nearest(apply, *given, **settings)
    found = jax.jit(craft)(weights, images, labels, KEYS, KEY)
    attack = attacks.boundary_projection(
        attack_worlds.SMALL, steps=3, quantise=False, **settings
    )
    change = np.asarray(attack(weights, images, labels)) - images
    lengths = np.linalg.norm(change.reshape(len(change), -1), axis=1)
    assert (lengths > 0.4).any()
    change *= np.minimum(1, 0.4 / lengths).reshape((-1, 1, 1, 1))
    np.testing.assert_allclose(found, images + change, atol=1e-4)


def test_a_loop_on_the_device_crafts_the_same(monkeypatch):
    rows = batch()
    objective = objectives.adversarial(LINEAR, 2, epsilon=EPSILON, step_size=0.01)

    def total(params):
        return objective.train({"params": params}, rows, KEY).loss.sum()

    expected = jax.value_and_grad(total)(VARIABLES["params"])
    monkeypatch.setattr(crafting.loops, "place", lambda loop: "device")
    found = jax.value_and_grad(total)(VARIABLES["params"])
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    jax.tree.map(close, found, expected)


@pytest.mark.exhaustive
def test_a_search_of_few_steps_is_the_same_without_a_loop(monkeypatch):
    """Compiled in a loop, compiled one step after the other, and run by the host."""
    _, weights, images, labels = world()
    attack = attacks.ddn(attack_worlds.SMALL, steps=3, quantise=False)
    aim = attacks.losses.Aim(jnp.asarray(labels))

    def crafted(most):
        monkeypatch.setattr(search, "UNROLLED", most)
        found = jax.jit(lambda x: attack.craft(weights, x, aim, None)[:2])(images)
        return [np.asarray(part) for part in found]

    host = attack.craft(weights, images, aim, None)
    for most in (0, 3):
        found, made = crafted(most)
        np.testing.assert_allclose(found, host.images, atol=1e-4)
        np.testing.assert_array_equal(made, host.gradients)


def test_images_do_not_tell_labels_where_predictions_are_aimed_at():
    apply, weights, images, labels = world()
    ascent = Ascent("linf", 0.1, 1, 0.1, False)
    wrong = (labels + 1) % 3
    for aim, same in (("predicted", True), ("label", False)):
        craft = jax.jit(crafting.climbing(apply, ascent, "evaluation", aim))
        one, other = (
            craft(weights, images, each, KEYS, KEY) for each in (labels, wrong)
        )
        assert bool(jnp.all(one == other)) == same


def test_a_row_does_not_depend_on_the_others():
    rows = batch()
    objective = objectives.adversarial(
        LINEAR, 2, epsilon=EPSILON, steps=1, step_size=0.02
    )
    whole = objective.train(VARIABLES, rows, KEY).loss
    order = np.asarray([5, 1, 2])
    few = {name: each[order] for name, each in rows.items()}
    some = objective.train(VARIABLES, few, KEY).loss
    np.testing.assert_allclose(some, whole[order], rtol=1e-6)
    drawn = objective.train(VARIABLES, rows, jax.random.key(4)).loss
    assert np.abs(drawn - whole).max() > 1e-4


@pytest.mark.parametrize("method", ["pgd", "trades", "ddn"])
def test_images_stay_in_the_range_at_its_border(method):
    """A network that says which images it has been given."""
    rows = batch(low=0.0, high=0.02)
    norm = "l2" if method == "ddn" else "linf"
    seen = []

    def train(variables, images, key):
        seen.append(images)
        return linear(variables, images), {}

    objective = objectives.adversarial(
        Apply(train, linear), 2, method=method, norm=norm, epsilon=0.3, steps=3
    )
    objective.train(VARIABLES, rows, KEY)
    assert min(float(images.min()) for images in seen) >= 0
    changed = seen[0] - rows["image"]
    lengths = np.linalg.norm(changed.reshape(ROWS, -1), axis=1)
    size = np.abs(changed).max() if norm == "linf" else lengths.max()
    assert 0 < size <= 0.3 + 1e-6


def test_the_mode_of_crafting_counts():
    apply, variables = made()
    rows = batch(CLASSES, side=8)
    losses = [
        objectives.adversarial(
            apply, CLASSES, epsilon=0.2, steps=1, random_start=False, crafting_mode=mode
        )
        .train(variables, rows, KEY)
        .loss
        for mode in ("evaluation", "training")
    ]
    assert np.abs(losses[0] - losses[1]).max() > 1e-4
