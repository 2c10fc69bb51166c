"""Probes of vision transformers: on the class token, on the grid, and on both."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_transformers as small
import tiers
from helpers import refused

import unlir_jax
from unlir_jax import split
from unlir_jax.features import cache
from unlir_jax.models import backbone, drawing, layers, pretrained
from unlir_jax.runtime import config
from unlir_jax.training import setup as setups
from unlir_jax.training import state as states
from unlir_jax.training import train

NAME = "small_probed"
JOINED = "token+average"
OPTIONS = (
    *("model.weights=random", "batch_size=12", "data.threads=1", "mesh.mode=jit"),
    *("probe.steps=(2, 4)", "probe.weight_decays=(0.1,)", "evaluate.every=0"),
    *("data.image_size=32", "data.crop=1.0"),
)
FIXED = "probe.choose=false", "steps=2", "optimizer.weight_decay=0.1"


@pytest.fixture
def register():
    """Register a small network for one test."""

    def registered(case="official_dinov2", image_size=32):
        backbone.NETWORKS.pop(NAME, None)
        return small.register(NAME, case, image_size)

    yield registered
    backbone.NETWORKS.pop(NAME, None)


@pytest.fixture
def settings(pictures, tmp_path):
    """Give the settings of a probe of the small network."""

    def load(*overrides):
        own = (f"data.path={pictures}", f"features.folder={tmp_path / 'cache'}")
        asked = f"configs/linear_probe.py:backbone={NAME}"
        return config.load(asked, [*OPTIONS, *own, *overrides])

    return load


def probed(how, num_classes=3):
    """Give a network whose head pools in a way, with weights that are not zero."""
    network = pretrained.load(NAME, "random", num_classes=num_classes)
    module = layers.with_pooling(network.module, how)
    known = drawing.with_head(module, network.variables, 32)
    return pretrained.changed(network, module, known)


@pytest.mark.parametrize("how", ["token", "average", "max", JOINED])
def test_a_head_sees_the_ways_that_it_is_asked_for(register, how):
    register("official_dinov2_registers")
    network, images = probed(how), small.images()
    see = jax.jit(network.module.apply, static_argnums=2, static_argnames="method")
    features = see(network.variables, images, "norm", method="features_at")
    (leading,), grid = features.context, features.maps.reshape(1, -1, 64)
    assert leading.shape == (1, 5, 64) and grid.shape == (1, 16, 64)
    ways = {
        "token": np.asarray(leading[:, 0]),
        "average": np.asarray(grid).mean(1),
        "max": np.asarray(grid).max(1),
    }
    joined = np.concatenate([ways[way] for way in how.split("+")], axis=1)
    head = network.variables["params"]["classifier"]
    assert head["kernel"].shape == (64 * len(how.split("+")), 3)
    expected = joined @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    found = split.whole(network.model)(network.variables, images)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "case",
    tiers.by_tier(
        ["timm_plain", "timm_siglip", "timm_mean_qk_norm", "timm_deit_distilled"],
        {"timm_deit_distilled", "timm_siglip"},
    ),
)
def test_the_halves_of_a_training_are_the_network(register, case):
    register(case)
    network = pretrained.load(NAME, "random", num_classes=3)
    module, known, images = network.module, network.variables, small.images()

    @jax.jit
    def both(known):
        first = module.apply(known, images, method=module.halves[0])
        return module.apply(known, first, method=module.halves[1]), first

    found, first = both(known)
    np.testing.assert_allclose(found, jax.jit(module.apply)(known, images), atol=1e-6)
    own = module.ways[0]
    if not module.distilled:
        again = module.apply(known, images, own, method="describe")
        np.testing.assert_allclose(first, again, atol=1e-5)


@pytest.mark.exhaustive
def test_a_probe_chooses_among_its_ways_and_is_explained(register, settings, tmp_path):
    register()
    ways = "probe.poolings=('average', 'token', 'token+average', 'gem')"
    train.run(settings(ways), tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    tried = {each["pooling"] for each in summary["probe"]["candidates"]}
    assert tried == {"average", "token", JOINED}
    network = unlir_jax.load(str(tmp_path / "run"))
    assert network.module.pooling == summary["probe"]["pooling"]


@pytest.mark.exhaustive
def test_what_a_joined_probe_learnt_is_what_is_loaded(register, settings, tmp_path):
    register()
    asked = settings(f"probe.pooling={JOINED}", *FIXED)
    train.run(asked, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    network = unlir_jax.load(str(tmp_path / "run"))
    assert network.module.pooling == JOINED
    assert network.layer == "block1/norm1"
    data = setups.prepare(asked).data
    read = [data.test.read(index) for index in range(data.test.size)]
    images = np.stack([network.preprocess(each["image"]) for each in read])
    logits = split.whole(network.model)(network.variables, images)
    labels = np.array([each["label"] for each in read])
    right = float(np.mean(np.argmax(logits, axis=1) == labels))
    assert right == pytest.approx(summary["test/accuracy"], abs=1e-6)
    explain = unlir_jax.saliency.legrad(network.model)
    maps = explain(network.variables, images[:1], jnp.zeros(1, int))
    assert maps.shape == (1, 4, 4) and np.isfinite(maps).all()
    # A new start takes the ways and the classifier over.
    begun = setups.prepare(settings(*FIXED, f"init_from={tmp_path / 'run'}"))
    assert begun.network.module.pooling == JOINED
    ours, theirs = begun.state.params, network.variables["params"]
    np.testing.assert_array_equal(
        ours["classifier"]["kernel"], theirs["classifier"]["kernel"]
    )


def test_features_of_joined_ways_are_kept_once(register, settings, tmp_path):
    register()
    given = setups.prepare(settings(f"probe.pooling={JOINED}", *FIXED))
    asked = "average", "token", JOINED
    kept = cache.cached(
        given.data.train,
        states.variables(given.state),
        given.network.module,
        name=NAME,
        batch_size=8,
        folder=tmp_path / "own",
        poolings=asked,
        **given.frame,
    )
    assert kept.features.shape[1:] == (2, 1, 64)
    joined = cache.pooled_by(kept, asked, JOINED).features
    np.testing.assert_array_equal(joined[:, 0], kept.features[:, 1])
    np.testing.assert_array_equal(joined[:, 1], kept.features[:, 0])


def test_positions_follow_the_size_of_the_images(register, settings, tmp_path):
    register()
    np.savez(tmp_path / "file.npz", **small.state("official_dinov2"))
    given = (f"model.weights={tmp_path / 'file.npz'}", "data.image_size=48")
    begun = setups.prepare(settings(*given, f"probe.pooling={JOINED}", *FIXED))
    network = pretrained.load(NAME, tmp_path / "file.npz", image_size=48)
    place = network.variables["params"]["tokens"]["position"]
    assert place.shape == (1, 36, 64) and begun.network.image_size == 48
    ours = begun.network.variables["params"]["tokens"]["position"]
    np.testing.assert_array_equal(ours, place)


def test_ways_that_a_network_lacks_are_refused(register, settings):
    register()
    wrong = "`pooling`='gem'; expected one of token, average, max, or several joined"
    refused(wrong, setups.prepare, settings("probe.pooling=gem", *FIXED))
    twice = "probe.pooling=token+token"
    refused("'token.token'; expected", setups.prepare, settings(twice, *FIXED))
    few = settings("probe.poolings=('gem',)")
    refused("VisionTransformer pools in other ways", setups.prepare, few)
