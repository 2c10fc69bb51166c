"""Few shots of a vision transformer: its class token, its neurons and heads."""

import few_colours
import jax
import numpy as np
import pytest
import small_transformers as small
import tiers
from helpers import refused

from unlir_jax import adapters, tree
from unlir_jax.features import block_cut
from unlir_jax.few_shot import adapt, methods
from unlir_jax.models import backbone, pooling, pretrained
from unlir_jax.retrieval import retrieve
from unlir_jax.weights import exported

NAME = "vit_small_few"


@pytest.fixture(scope="module", autouse=True)
def registered():
    """Register a small DINOv2 with registers."""
    backbone.NETWORKS.pop(NAME, None)
    small.register(NAME, "official_dinov2_registers")
    yield
    backbone.NETWORKS.pop(NAME, None)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return few_colours.write(tmp_path_factory.mktemp("colours"))


def settings(folder, method, **more):
    found = few_colours.settings(folder, f"k=2,method={method}", **more)
    with found.unlocked():
        found.model.name, found.draws = NAME, 1
    return found


@pytest.mark.parametrize(
    "method",
    tiers.by_tier(
        ["probe_token", "filters", "ia3", "lora", "bias", "last_block", "full"],
        {"probe_token"},
    ),
)
def test_methods_learn_from_the_class_token(pictures, tmp_path, method):
    found = adapt.run(settings(pictures, method), tmp_path / "run").summary
    assert found["pooling"] == "token" and np.isfinite(found["test/loss"])
    if method == "probe_token":
        assert found["test/accuracy"] > 0.5
    if method == "filters":
        # Of 2 blocks: 4 layers of attention, the neurons, and what reads them.
        for file in (tmp_path / "run" / "adapters").iterdir():
            weights = adapters.load(file).weights
            assert sum(map(np.size, weights.values())) == 2 * (4 * 64 + 128 + 64)


def test_a_transformer_is_cut_between_its_blocks():
    network = pretrained.load(NAME, "random")
    module, known, images = network.module, network.variables, small.images()
    assert block_cut.units(module, 32) == ["patches", "block0", "block1", "norm"]
    assert block_cut.behind(module, 32) == "patches"
    assert block_cut.last_pattern(module, 32) == "(block1|norm)/.*"
    halves = block_cut.cut(module, "block0", 32)
    inner = jax.jit(halves.before)(known, images)
    assert inner.shape == (1, 21, 64)
    found = jax.jit(halves.after)(known, inner)
    # Its logits are the class token, and it has no classifier.
    logits = jax.jit(module.apply)(known, images)
    np.testing.assert_allclose(pooling.describe(found, "token"), logits, atol=1e-5)
    maps = jax.jit(lambda v: module.apply(v, images, method="features"))(known)
    average = pooling.describe(found, "average")
    np.testing.assert_allclose(average, maps.mean((1, 2)), atol=1e-5)


def test_networks_without_a_class_token_have_no_such_method(pictures, tmp_path):
    plain = few_colours.settings(pictures, "k=2,method=probe_token")
    refused("wants a class token.*ResNet", adapt.run, plain, tmp_path / "run")
    asked = few_colours.settings(pictures, "k=2,method=filters", pooling="token")
    refused("has no class token; expected", adapt.run, asked, tmp_path / "run")
    refused(
        "expected one of average.*class token",
        pooling.describe,
        np.ones((1, 2, 2, 3)),
        "token",
    )
    module = pretrained.load("cifar_resnet8", "random").module
    assert methods.pooled("filters", module) == methods.METHODS["filters"]


def test_images_are_found_by_their_class_token(pictures, tmp_path):
    network = pretrained.load(NAME, "random")
    leaves = tree.flatten(network.variables)
    file = exported.write(tmp_path, leaves, pretrained.purpose(network))
    place = [str(pictures / "test")]
    given = {"model": NAME, "weights": str(file), "pool": "token", "top": 11}
    found = retrieve.run(place, place, tmp_path / "run", **given)
    rows = found.document["queries"]
    assert len(rows) == 12
    images = {
        name: network.preprocess(next(pictures.rglob(f"test/{name}")))
        for name in ("red/0.png", "red/1.png")
    }
    tokens = jax.jit(network.module.apply)(
        network.variables, np.stack([*images.values()])
    )
    one, other = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
    (scores,) = [
        {match["file"]: match["score"] for match in row["matches"]}
        for row in rows
        if row["file"].endswith("red/0.png")
    ]
    (score,) = [each for name, each in scores.items() if name.endswith("red/1.png")]
    np.testing.assert_allclose(score, one @ other, atol=1e-5)
