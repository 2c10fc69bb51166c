"""Penalties on gradients, on linear networks whose gradients are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import objectives
from unlir_jax.objectives.objective import Apply

RANDOM = np.random.default_rng(7)
CLASSES, ROWS = 4, 16
KERNEL = RANDOM.normal(size=(48, CLASSES)).astype("f") / 4
VARIABLES = {"params": {"kernel": KERNEL}}
KEY = jax.random.key(3)


def linear(variables, images):
    return images.reshape((len(images), -1)) @ variables["params"]["kernel"]


APPLY = Apply(lambda variables, images, key: (linear(variables, images), {}), linear)


def batch():
    return {
        "image": RANDOM.uniform(size=(ROWS, 4, 4, 3)).astype("f"),
        "label": (np.arange(ROWS) % CLASSES).astype(np.int32),
        "weight": np.ones(ROWS, np.float32),
        "position": np.arange(ROWS, dtype=np.int32),
        "mask": RANDOM.choice([0, 1, 255], (ROWS, 4, 4)).astype(np.uint8),
    }


def probabilities(rows):
    logits = rows["image"].reshape(ROWS, -1).astype(np.float64) @ KERNEL
    mass = np.exp(logits - logits.max(1, keepdims=True))
    return mass / mass.sum(1, keepdims=True)


def plain_loss(rows):
    return -np.log(probabilities(rows)[np.arange(ROWS), rows["label"]])


def test_the_gradient_penalty_is_the_square_of_the_gradient():
    rows = batch()
    slope = (probabilities(rows) - np.eye(CLASSES)[rows["label"]]) @ KERNEL.T
    expected = np.square(slope).sum(1)
    objective = objectives.gradient_penalty(APPLY, CLASSES, weight=0.5)
    found = objective.train(VARIABLES, rows, KEY)
    np.testing.assert_allclose(found.metrics["penalty"], expected, rtol=1e-4)
    loss = plain_loss(rows) + 0.5 * expected
    np.testing.assert_allclose(found.loss, loss, rtol=1e-4)


@pytest.mark.exhaustive
def test_the_jacobian_penalty_is_its_norm_in_the_mean():
    rows = batch()
    objective = objectives.jacobian_penalty(APPLY, CLASSES, weight=2.0, projections=48)
    found = jax.jit(objective.train)(VARIABLES, rows, KEY)
    expected = np.square(KERNEL).sum() / 2
    drawn = np.asarray(found.metrics["penalty"])
    assert drawn.std() > 0
    np.testing.assert_allclose(drawn.mean(), expected, rtol=0.05)
    np.testing.assert_allclose(found.loss, plain_loss(rows) + 2 * drawn, rtol=1e-4)


def test_right_reasons_count_outside_of_the_object_only():
    rows = batch()
    slope = (1 - CLASSES * probabilities(rows)) @ KERNEL.T
    outside = (rows["mask"] == 0)[..., None]
    expected = np.square(slope.reshape(ROWS, 4, 4, 3) * outside).sum((1, 2, 3))
    objective = objectives.right_reasons(APPLY, CLASSES, weight=1.0)
    assert objective.annotations == ("mask",)
    found = objective.train(VARIABLES, rows, KEY)
    np.testing.assert_allclose(found.metrics["penalty"], expected, rtol=1e-4)


@pytest.mark.exhaustive
def test_saliency_guided_training_replaces_what_does_not_matter():
    """A network that looks at the right half is not changed by noise in the left."""
    rows = batch()
    objective = objectives.saliency_guided(APPLY, CLASSES, weight=3.0)
    half = KERNEL.reshape(4, 4, 3, CLASSES).copy()
    half[:, :2] = 0
    blind = {"params": {"kernel": half.reshape(48, CLASSES)}}
    found = objective.train(blind, rows, KEY)
    np.testing.assert_allclose(found.metrics["penalty"], 0, atol=1e-6)
    whole = objective.train(VARIABLES, rows, KEY)
    apart = np.asarray(whole.metrics["penalty"])
    assert (apart > 0).all()
    np.testing.assert_allclose(whole.loss, plain_loss(rows) + 3 * apart, rtol=1e-4)


@pytest.mark.parametrize("name", ["gradient_penalty", "saliency_guided"])
def test_a_penalty_of_weight_0_leaves_the_loss(name):
    rows = batch()
    found = getattr(objectives, name)(APPLY, CLASSES, weight=0.0)
    plain = objectives.classify(APPLY, CLASSES)
    np.testing.assert_allclose(
        found.train(VARIABLES, rows, KEY).loss,
        plain.train(VARIABLES, rows, KEY).loss,
        rtol=1e-6,
    )


def test_penalties_are_differentiated_twice():
    rows = batch()

    def total(kernel, name):
        make = getattr(objectives, name)
        variables = {"params": {"kernel": kernel}}
        outcome = make(APPLY, CLASSES, weight=1.0).train(variables, rows, KEY)
        return jnp.sum(outcome.metrics["penalty"])

    for name in ("gradient_penalty", "jacobian_penalty", "right_reasons"):
        slope = jax.grad(total)(jnp.asarray(KERNEL), name)
        towards = jnp.asarray(RANDOM.normal(size=KERNEL.shape), jnp.float32)
        found = jnp.vdot(slope, towards)
        ends = [total(KERNEL + s * towards, name) for s in (-1e-2, 1e-2)]
        np.testing.assert_allclose(found, (ends[1] - ends[0]) / 2e-2, rtol=1e-2)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gradient_penalty", {"weight": -1.0}, r"`weight`=-1\.0"),
        ("jacobian_penalty", {"projections": 0}, "`projections`=0"),
        ("saliency_guided", {"share": 1.0}, r"`share`=1\.0"),
        ("saliency_guided", {"weight": float("nan")}, "`weight`=nan"),
    ],
)
def test_wrong_settings_of_penalties_are_refused(name, settings, message):
    with pytest.raises(ValueError, match=message):
        getattr(objectives, name)(APPLY, CLASSES, **settings)


def test_penalties_need_pixels():
    kept = APPLY._replace(inputs="features")
    for name in ("gradient_penalty", "right_reasons", "saliency_guided"):
        with pytest.raises(ValueError, match=f"{name}' needs pixels"):
            getattr(objectives, name)(kept, CLASSES, weight=1.0)
