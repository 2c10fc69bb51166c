"""Trainings of weights of filters: what learns, what does not, and what is kept."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from helpers import applied
from training import double
from training.conftest import TINY

import unlir_jax
from unlir_jax import adapters, tree
from unlir_jax.filters import sparsity, trainable
from unlir_jax.models import zoo
from unlir_jax.runtime import checkpoint, config
from unlir_jax.training import init_from, setup, state, train

TABLE = (
    ("filters/.*", {"weight_decay": False}),
    ("classifier/.*", {}),
    (".*", None),
)
IMAGES = np.random.default_rng(0).random((4, 32, 32, 3)).astype(np.float32)
BATCH = {
    "image": IMAGES,
    "label": np.arange(4, dtype=np.int32),
    "position": np.arange(4, dtype=np.int32),
    "weight": np.ones(4, np.float32),
}


def settings(*overrides, table=TABLE, **filters):
    """Weigh the filters of the last block of a network of three."""
    found = config.load(str(TINY), ["model.freeze_norms=True", *overrides])
    with found.unlocked():
        found.model.filters.update(filters or {"select": "layer3/.*"})
        found.optimizer.table = table
    return found


def whole(*overrides):
    """Draw gates, and average, so that these are resumed and dealt out as well."""
    given = ["steps=4", "checkpoint.every=2", "average=0.9", "evaluate.every=0"]
    given += ["penalty.name=hard_concrete", "penalty.weight=0.001"]
    return settings(*given, *overrides)


def read(folder):
    return safetensors.numpy.load_file(folder / "weights.safetensors")


@pytest.fixture(scope="module")
def begun():
    return setup.prepare(whole())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filters") / "run"
    train.run(whole(), folder)
    return folder


def moved(begun):
    """Give its variables with weights that are not 1."""
    random = np.random.default_rng(1)

    def change(path, leaf):
        if path.endswith("output"):
            return random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        return leaf

    return tree.map_with_path(change, state.variables(begun.state))


@pytest.mark.exhaustive
def test_what_is_frozen_stays_bit_for_bit_and_has_no_state(begun, finished):
    start = tree.flatten(state.variables(begun.state))
    kept = checkpoint.read_arrays(finished)
    average = tree.flatten(kept["average"])
    for path, leaf in tree.flatten({"params": kept["params"]}).items():
        learns = path.startswith(("params/filters/", "params/classifier/"))
        assert np.array_equal(leaf, start[path]) != learns, path
        assert np.array_equal(average[path], start[path]) != learns, path
    numbers = tree.count(begun.state.params["filters"])
    numbers += tree.count(begun.state.params["classifier"])
    # SGD's momentum and nothing else: a number each, and the count of steps.
    assert tree.count(begun.state.optimizer) == numbers + 1


@pytest.mark.exhaustive
def test_each_weight_has_the_gradient_of_what_it_multiplies():
    """Of the loss by w at 1: scale x that by scale, and bias x that by bias."""
    begun = setup.prepare(settings())
    known = state.variables(begun.state)

    def loss(known):
        return begun.objective.train(known, BATCH, jax.random.key(0)).loss.sum()

    found = tree.flatten(jax.jit(jax.grad(loss))(known)["params"])
    inner, names = tree.flatten(known["params"]), list(_named(known))
    assert len(names) == 3
    for name in names:
        norm = name.removesuffix("/output")
        expected = sum(
            inner[f"{norm}/{vector}"] * np.asarray(found[f"{norm}/{vector}"])
            for vector in ("scale", "bias")
        )
        assert np.all(expected != 0)
        np.testing.assert_allclose(
            found[f"filters/{name}"], expected, rtol=1e-4, atol=1e-6
        )


def _named(known):
    return tree.flatten(known["params"]["filters"])


@pytest.mark.exhaustive
def test_the_saved_network_is_plain_and_decides_as_the_weighted_one(begun, finished):
    network = unlir_jax.load(str(finished))
    assert set(network.variables["params"]) == set(begun.network.variables["params"])
    logits = jax.jit(network.module.apply)(network.variables, IMAGES)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, BATCH["label"])
    known = checkpoint.read_arrays(finished)["average"]
    evaluated = jax.jit(begun.objective.evaluate)(known, BATCH)
    np.testing.assert_allclose(evaluated["loss"], losses, rtol=1e-5)
    # A later training that starts from the checkpoint starts from the same network.
    place, own = str(finished / "checkpoints" / "4"), begun.network.variables
    again = init_from.start_from(place, own, zoo.find(begun.network.name)[1])
    taken = tree.flatten(again.variables)
    for path, leaf in read(finished).items():
        np.testing.assert_allclose(taken[path], leaf, rtol=1e-6)


@pytest.mark.exhaustive
def test_the_adapter_makes_the_frozen_network_decide_alike(begun, finished):
    adapter = adapters.load(finished / "adapter.safetensors")
    adapted = adapters.apply(adapter, begun.network)
    network = unlir_jax.load(str(finished))
    assert adapted.class_names == network.class_names
    wanted = applied(network.module)(network.variables, IMAGES)
    found = applied(adapted.module)(adapted.variables, IMAGES)
    # Its head is kept in bytes: exact to 1/254 of the largest number of a class.
    largest = np.abs(network.variables["params"]["classifier"]["kernel"]).max()
    maps = applied(network.module)(network.variables, IMAGES, method="features")
    off = float(jnp.sum(jnp.mean(maps, (1, 2)), 1).max()) * largest / 254 + 1e-3
    np.testing.assert_allclose(found, wanted, atol=off)
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["filters/weights"] == tree.count(adapter.weights)
    assert summary["filters/least"] < 1


@pytest.mark.exhaustive
def test_a_training_that_was_stopped_ends_bitwise_where_it_would_have(
    finished, tmp_path
):
    folder = tmp_path / "again"
    shutil.copytree(finished, folder)
    for name in ("summary.json", "weights.safetensors", "adapter.safetensors"):
        (folder / name).unlink()
    shutil.rmtree(folder / "checkpoints" / "4")
    lines = []
    train.run(whole(), folder, say=lines.append)
    assert "Going on from step 2 of 4." in lines
    for name in ("weights.safetensors", "adapter.safetensors"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.exhaustive
def test_pmap_learns_what_jit_learns(tmp_path, monkeypatch):
    def learnt(name, *overrides, **more):
        folder, found = tmp_path / name, whole(*overrides)
        return double.weights(folder, found, monkeypatch, **more)

    jit, pmap = learnt("jit"), learnt("pmap", "mesh.mode=pmap")
    assert double.furthest(jit, pmap) < double.CALM


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "cost"),
    [
        ("towards_one", lambda w: np.square(w - 1).sum()),
        ("l1", lambda w: np.abs(w).sum()),
    ],
)
def test_a_penalty_is_added_to_the_loss(name, cost):
    penalty = [f"penalty.name={name}", "penalty.weight=0.01"]
    begun = setup.prepare(settings(*penalty))
    known = moved(begun)
    every = np.concatenate([leaf.ravel() for leaf in _named(known).values()])
    outcome = begun.objective.train(known, BATCH, jax.random.key(0))
    evaluated = begun.objective.evaluate(known, BATCH)["loss"]
    np.testing.assert_allclose(
        outcome.loss, evaluated + 0.01 * cost(every), rtol=1e-5, atol=1e-5
    )


def test_weights_under_l1_end_a_step_at_0_and_the_classifier_does_not():
    params = {"filters/a/output": jnp.array([0.05, 0.0, 0.0, 1.0])}
    slopes = {"filters/a/output": jnp.array([1.0, 0.05, 0.5, 0.25])}
    params["classifier/kernel"], slopes["classifier/kernel"] = (
        jnp.array([0.05]),
        jnp.array([1.0]),
    )
    penalty = sparsity.Penalty("l1", 0.1)
    optimizer = trainable.stopping(optax.sgd(1.0), penalty)
    changes, _ = optimizer.update(slopes, optimizer.init(params), params)
    after = optax.apply_updates(params, changes)
    # It crosses; is held, for 0.05 is below 0.1; is pulled harder; is nowhere near.
    np.testing.assert_allclose(after["filters/a/output"], [0, 0, -0.5, 0.75])
    np.testing.assert_allclose(after["classifier/kernel"], [-0.95])


def test_without_them_nothing_is_added():
    begun = setup.prepare(config.load(str(TINY)))
    assert set(begun.state.params) == set(begun.network.variables["params"])


REFUSED = {
    "nothing selected": ({"select": "layer9/.*"}, (), "`select`='layer9/.\\*' selects"),
    "no block": ({"after": "layer9"}, (), "`model.filters.after`='layer9' is no block"),
    "both": ({"select": ".*", "after": "auto"}, (), "expected one of them"),
    "the classifier": ({"select": "classifier"}, (), "selects the classifier only"),
    "cache": ({"after": "auto"}, ("features.cache=True",), "`features.cache`=True"),
    "adapter": ({"after": "auto"}, ("model.adapter=a",), "`model.adapter`='a'"),
    "no weights": (
        {"select": ""},
        ("penalty.name=l1", "penalty.weight=1"),
        "there are none",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_make_no_sense_get_one_sentence(case, begun):
    filters, overrides, sentence = REFUSED[case]
    chosen = settings(*overrides, **filters)
    penalty = sparsity.Penalty(**chosen.penalty)
    with pytest.raises(ValueError, match=sentence):
        trainable.start(begun.network, chosen, penalty, 32)


def test_a_table_that_freezes_the_weights_is_refused():
    table = (("classifier/.*", {}), (".*", None))
    with pytest.raises(ValueError, match="freezes the weights of filters"):
        setup.prepare(settings(table=table))


def test_a_training_that_changes_more_says_that_it_writes_no_adapter():
    table = (("filters/.*", {}), ("layer1/.*", {}), ("classifier/.*", {}), (".*", None))
    (notice,) = setup.prepare(settings(table=table)).notices
    assert "no adapter.safetensors will be written: layer1/block0/conv1" in notice
