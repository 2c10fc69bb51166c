"""The objective of parts: cross-entropy and named terms, from what a network tells."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax import objectives
from unlir_jax.models import part_network, zoo
from unlir_jax.models.part_network import cells
from unlir_jax.objectives import constraints, losses, network
from unlir_jax.objectives.objective import Apply

CLASSES, ROWS = 3, 6
RANDOM = np.random.default_rng(0)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.int32)
KEY = jax.random.key(3)
NAMES = sorted(constraints.TERMS)
# Any decision has these; cached features have no flipped pictures.
ANY = sorted(set(NAMES) - set(constraints.NEEDS) - {"equivariance"})


def batch(inputs, **more):
    return {
        "label": LABELS,
        "weight": np.ones(ROWS, np.float32),
        "position": np.arange(ROWS, dtype=np.int32),
        **inputs,
        **more,
    }


@functools.cache
def network_by(name, **settings):
    settings = {"name": name, "parts": 6} | settings
    if name == "prototypes":
        settings = {"name": name, "per_class": 2, "width": 4}
    if name != "prototypes":
        settings |= {"dimensions": (5, 0), "dropout": 0.0}
    backbone = zoo.networks()["cifar_resnet8"].build()
    module = part_network.assemble(backbone, settings, CLASSES, 32)
    maps = RANDOM.random((ROWS, 2, 3, 64)).astype("f")
    shapes = jax.eval_shape(
        lambda: module.init(jax.random.key(0), jnp.asarray(maps), method="head")
    )
    generator = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda leaf: generator.normal(size=leaf.shape).astype("f") * 0.3, shapes
    )
    return module, variables, {"features": maps}


def objective(module, inputs="features", **settings):
    apply = network.head(module) if inputs == "features" else network.whole(module)
    return objectives.OBJECTIVES["parts"](apply, CLASSES, **settings)


@pytest.mark.exhaustive
def test_without_terms_it_is_classification():
    module, variables, inputs = network_by("bag")
    plain = objectives.OBJECTIVES["classify"](
        network.head(module), CLASSES, label_smoothing=0.2
    )
    ours = objective(module, label_smoothing=0.2, terms=dict.fromkeys(NAMES, 0.0))
    rows = batch(inputs)
    want, found = plain.train(variables, rows, KEY), ours.train(variables, rows, KEY)
    np.testing.assert_allclose(found.loss, want.loss, rtol=1e-6)
    assert set(found.metrics) == {"accuracy"}
    assert ours.metrics == plain.metrics
    want, found = (one.evaluate(variables, rows) for one in (plain, ours))
    for name in ours.metrics:
        np.testing.assert_allclose(found[name], want[name], rtol=1e-6)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("decision", "names"),
    tiers.by_tier(
        [
            ("descriptors", ANY),
            ("landmarks", ANY),
            ("bag", [*ANY, "binary"]),
            ("prototypes", [*ANY, "cluster", "separation"]),
        ],
        {"descriptors"},
    ),
)
def test_each_term_counts_by_its_weight_and_has_finite_slopes(decision, names):
    more = {"assignment": "learned"} if decision == "bag" else {}
    module, variables, inputs = network_by(decision, **more)
    if decision != "bag":
        inputs = {"features": inputs["features"]}
    weights = {name: 0.5 + place for place, name in enumerate(names)}
    rows = batch(inputs)
    plain = objective(module)
    ours = objective(module, terms=weights)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def run(variables):
        outcome = ours.train(variables, rows, KEY)
        return outcome.loss.sum(), outcome

    (_, found), slopes = run(variables)
    want = jax.jit(lambda variables: plain.train(variables, rows, KEY).loss)(variables)
    assert set(found.metrics) == {"accuracy", *names}
    terms = sum(weights[name] * found.metrics[name] for name in names)
    np.testing.assert_allclose(found.loss, want + terms, rtol=1e-4)
    for name in names:
        assert found.metrics[name].shape == (ROWS,)
    for leaf in jax.tree.leaves(slopes):
        assert np.isfinite(leaf).all()


def traits(**given):
    generator = np.random.default_rng(4)

    def draw(*shape):
        return jnp.asarray(generator.random(shape), jnp.float32)

    shares = jax.nn.softmax(draw(ROWS, 2, 3, 6))
    found = {
        "logits": draw(ROWS, CLASSES),
        "shares": shares,
        "cells": shares,
        "descriptors": draw(ROWS, 6, 4),
        "parts": draw(6, 4),
        "kernel": draw(6, CLASSES),
    }
    return cells.Traits(**found | given)


def test_cluster_and_separation_by_hand():
    distances = RANDOM.random((ROWS, 2, 3, 6)).astype("f")
    seen = constraints.Seen(
        traits(
            distances=jnp.asarray(distances),
            blocks=losses.block_assignment(6, CLASSES),
        ),
        LABELS,
        jnp.ones(ROWS),
    )
    own = [
        distances[row, :, :, 2 * label : 2 * label + 2].min()
        for row, label in enumerate(LABELS)
    ]
    others = [
        np.delete(distances[row], [2 * label, 2 * label + 1], axis=-1).min()
        for row, label in enumerate(LABELS)
    ]
    np.testing.assert_allclose(constraints.cluster(seen), own, rtol=1e-6)
    np.testing.assert_allclose(constraints.separation(seen), -np.array(others), 1e-6)


def test_terms_are_those_of_losses():
    gates, blocks = jnp.ones((6, CLASSES)), losses.block_assignment(6, CLASSES)
    known = traits(gates=gates, blocks=blocks)
    weight = jnp.array([1.0, 1, 1, 0, 1, 1])
    seen = constraints.Seen(known, LABELS, weight, flipped=known.cells[:, :, ::-1])
    shares = known.shares

    @jax.jit
    def want():
        return {
            "diversity": losses.diversity(known.parts),
            "decisiveness": losses.decisiveness(shares),
            "balance": losses.balance(shares, weight),
            "specificity": losses.class_specificity(known.kernel, blocks),
            "binary": losses.binary_penalty(gates),
            "presence": losses.presence(shares, weight),
            "concentration": losses.concentration(shares, "mass"),
            "consistency": losses.consistency(
                known.descriptors, LABELS, shares.max((1, 2)), weight
            ),
            "orthogonality": losses.orthogonality(known.descriptors),
            "equivariance": jnp.zeros(ROWS),
        }

    found = jax.jit(lambda: {name: constraints.TERMS[name](seen) for name in want()})()
    for name, value in want().items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)


@pytest.mark.exhaustive
def test_flipped_pictures_are_looked_at():
    """A network that looks at the brightness of the left half is not equivariant."""

    def look(variables, images, key):
        left = images[..., 0] * (jnp.arange(4) < 2)[None, None]
        shares = jnp.stack([left, 1 - left], -1)
        logits = jnp.zeros((len(images), CLASSES))
        return traits(logits=logits, shares=shares, cells=shares), {}

    apply = Apply(look, lambda variables, images: images, traits=look)
    images = RANDOM.integers(0, 256, (ROWS, 4, 4, 3), dtype=np.uint8)
    ours = objectives.OBJECTIVES["parts"](apply, CLASSES, terms={"equivariance": 1.0})
    found = ours.train({}, batch({"image": images}), KEY).metrics["equivariance"]
    pixels = jnp.asarray(images, jnp.float32) / 255
    (here, _), (there, _) = (
        look({}, seen, KEY) for seen in (pixels, pixels[:, :, ::-1])
    )
    flip = losses.Transform(flip=True)
    want = losses.equivariance(here.cells, there.cells, flip)
    np.testing.assert_allclose(found, want, rtol=1e-5)
    assert (want > 0.1).all()


def test_a_whole_network_keeps_its_statistics():
    backbone = zoo.networks()["cifar_resnet8"].build()
    module = part_network.assemble(
        backbone, {"name": "landmarks", "parts": 4}, CLASSES, 32
    )
    ours = objective(module, "image", terms={"equivariance": 1.0, "presence": 1.0})
    images = jax.ShapeDtypeStruct((ROWS, 32, 32, 3), jnp.uint8)
    variables = jax.eval_shape(
        lambda: module.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    )
    outcome = jax.eval_shape(
        ours.train, variables, batch({"image": images}), jax.random.key(0)
    )
    assert set(outcome.metrics) == {"accuracy", "equivariance", "presence"}
    want = jax.tree.map(lambda leaf: leaf.shape, variables["batch_stats"])
    assert jax.tree.map(lambda leaf: leaf.shape, outcome.statistics) == want


@pytest.mark.exhaustive
def test_a_batch_on_two_devices_is_one_batch():
    module, variables, inputs = network_by("bag")
    style = module.style._replace(axis_name="batch")
    spread = module.clone(backbone=module.backbone.clone(style=style))
    weights = {"balance": 1.0, "presence": 1.0, "consistency": 1.0}
    rows = batch(inputs)
    alone = objective(module, terms=weights)
    want = jax.jit(lambda: alone.train(variables, rows, KEY))()
    ours = objective(spread, terms=weights)
    halves = jax.tree.map(lambda leaf: leaf.reshape((2, -1, *leaf.shape[1:])), rows)

    def run(rows):
        outcome = ours.train(variables, rows, KEY)
        return outcome.loss, outcome.metrics

    loss, metrics = jax.jit(jax.vmap(run, axis_name="batch"))(halves)
    np.testing.assert_allclose(loss.ravel(), want.loss, rtol=1e-5)
    for name in weights:
        np.testing.assert_allclose(metrics[name].ravel(), want.metrics[name], 1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize("done", tiers.by_tier([0.0, 0.5, 1.0], {0.5}))
def test_gates_are_annealed_to_what_a_lower_temperature_gives(done):
    """Straight through: the same decision, and slopes of a colder sigmoid."""

    def slopes(temperature, **settings):
        settings_of_gates = {"assignment": "learned", "gate_temperature": temperature}
        module, variables, _ = network_by("bag", **settings_of_gates)
        ours = objective(module, terms={"binary": 0.5}, **settings)
        _, _, inputs = network_by("bag")
        rows = batch(inputs, done=np.full(ROWS, done, np.float32))

        def total(variables):
            return ours.train(variables, rows, KEY).loss.sum()

        loss, found = jax.jit(jax.value_and_grad(total))(variables)
        return loss, found["params"]["classifier"]["gates"]

    loss, found = slopes(1.0, anneal=0.25)
    expected_loss, expected = slopes(0.25**done)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    _, warm = slopes(1.0)
    assert np.allclose(found, warm, atol=1e-4) == (done == 0)


@pytest.mark.parametrize(
    ("decision", "settings", "match"),
    [
        ("bag", {"label_smoothing": 1.0}, "`label_smoothing`=1.0"),
        ("bag", {"anneal": 0.5}, "`anneal`=0.5; .*assignment='learned'"),
        ("bag", {"terms": {"diverse": 1.0}}, "did you mean 'diversity'"),
        ("bag", {"terms": {"balance": -1.0}}, "`terms.balance`=-1.0"),
        ("bag", {"terms": {"binary": 1.0}}, "assignment='learned'"),
        ("landmarks", {"terms": {"cluster": 1.0}}, "decision.name='prototypes'"),
        ("landmarks", {"terms": {"equivariance": 1.0}}, "cached features"),
    ],
)
def test_what_makes_no_sense_is_refused(decision, settings, match):
    module, _, _ = network_by(decision)
    with pytest.raises(ValueError, match=match):
        objective(module, **settings)


def test_a_network_without_parts_is_refused():
    module = zoo.networks()["cifar_resnet8"].build()
    with pytest.raises(ValueError, match=r"expected a `model.decision`"):
        objective(module)
