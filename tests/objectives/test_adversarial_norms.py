"""Adversarial steps of a network with norms and dropout, next to plain ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objectives.adversarial_worlds import (
    CLASSES,
    EPSILON,
    KEY,
    batch,
    made,
    slopes,
)

from unlir_jax import objectives
from unlir_jax.objectives import crafting, network
from unlir_jax.objectives.crafting import Ascent
from unlir_jax.runtime import mesh


@pytest.mark.parametrize("mode", ["evaluation", "training"])
def test_a_step_is_plain_training_on_images_that_are_constants(mode):
    """Loss, gradient and the one move of the norms' statistics."""
    apply, variables = made()
    rows = batch(CLASSES, side=8)
    objective = objectives.adversarial(
        apply, CLASSES, epsilon=EPSILON, steps=2, crafting_mode=mode
    )
    draw, own = jax.random.split(KEY)
    own = jax.random.fold_in(own, 0)
    ascent = Ascent("linf", EPSILON, 2, 2.5 * EPSILON / 2)
    keys = mesh.per_row_keys(draw, jnp.asarray(rows["position"]))
    craft = jax.jit(crafting.climbing(apply, ascent, mode, "label"))
    images = craft(variables, rows["image"], rows["label"], keys, own)
    moved = np.abs(images - rows["image"])
    assert moved.max() <= EPSILON + 1e-6 and moved.mean() > EPSILON / 2
    expected = slopes(
        objectives.classify(apply, CLASSES), rows | {"image": images}, variables
    )
    found = slopes(objective, rows, variables)
    (value, outcome), gradient = found
    (known, plain), slope = expected
    np.testing.assert_allclose(value, known, rtol=1e-5)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, gradient, slope)
    jax.tree.map(close, outcome.statistics, plain.statistics)
    mean = np.asarray(outcome.statistics["norm"]["mean"])
    assert np.abs(mean - variables["batch_stats"]["norm"]["mean"]).max() > 0.05


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", ["trades", "mart"])
def test_the_statistics_of_two_passes_move_once(method):
    """To the middle of where the image and its changed copy take them."""
    apply, variables = made()
    rows = batch(CLASSES, side=8)
    keys, own = network.keys_of(KEY, rows["position"])
    ascent = Ascent("linf", 0.2, 1, 2.5 * 0.2)
    craft = crafting.diverging(apply, ascent, "evaluation")
    if method == "mart":
        craft = crafting.climbing(apply, ascent, "evaluation", "label")
    changed = craft(variables, rows["image"], rows["label"], keys, own)
    one, other = (
        apply.train(variables, images, own)[1] for images in (rows["image"], changed)
    )
    expected = jax.tree.map(lambda a, b: a / 2 + b / 2, one, other)
    apart = np.abs(one["norm"]["var"] - other["norm"]["var"])
    assert apart.max() > 1e-4
    objective = objectives.adversarial(
        apply, CLASSES, method=method, epsilon=0.2, steps=1
    )
    found = objective.train(variables, rows, KEY).statistics
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, found, expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "plain"},
        {"method": "pgd", "epsilon": 0.0},
        {"method": "fast", "epsilon": 0.0},
        {"method": "trades", "epsilon": 0.0},
        {"method": "trades", "weight": 0.0},
        {"method": "ddn", "norm": "l2", "epsilon": 0.0},
    ],
)
def test_without_a_ball_a_step_is_that_of_plain_training_bit_for_bit(settings):
    apply, variables = made()
    rows = batch(CLASSES, side=8)
    expected = slopes(objectives.classify(apply, CLASSES), rows, variables)
    found = slopes(objectives.adversarial(apply, CLASSES, **settings), rows, variables)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_bytes_and_half_precision():
    apply, variables = made("bfloat16")
    rows = batch(CLASSES, side=8)
    rows["image"] = np.round(rows["image"] * 255).astype(np.uint8)
    objective = objectives.adversarial(
        apply, CLASSES, method="mart", epsilon=EPSILON, steps=1
    )
    (value, outcome), gradient = slopes(objective, rows, variables)
    assert outcome.loss.dtype == jnp.float32 and np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_without_noise_a_step_is_that_of_plain_training():
    apply, variables = made()
    rows = batch(CLASSES, side=8)
    expected = objectives.classify(apply, CLASSES).train(variables, rows, KEY)
    found = objectives.gaussian_noise(apply, CLASSES, sigma=0.0)
    jax.tree.map(
        np.testing.assert_array_equal, found.train(variables, rows, KEY), expected
    )
