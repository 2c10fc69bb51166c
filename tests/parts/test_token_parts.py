"""Parts on the grid of a transformer: its tokens are maps that have signs."""

import json

import jax
import numpy as np
import pytest
import small_transformers as small
from helpers import refused

import unlir_jax
from unlir_jax import split
from unlir_jax.models import backbone, drawing, part_network, pretrained
from unlir_jax.runtime import config
from unlir_jax.training import train

NAME = "vit_small_parts"
OPTIONS = (
    *("model.weights=random", "batch_size=8", "data.threads=1", "mesh.mode=jit"),
    *("data.image_size=32", "model.decision.parts=4", "evaluate.every=0"),
    "model.decision.dimensions=(8, 8)",
)


@pytest.fixture
def registered():
    """Register a small DINOv2 with registers for one test."""
    backbone.NETWORKS.pop(NAME, None)
    yield small.register(NAME, "official_dinov2_registers")
    backbone.NETWORKS.pop(NAME, None)


def assembled(**decision):
    """Put a decision on the small network, with weights."""
    network = pretrained.load(NAME, "random", num_classes=3)
    decision = {"name": "descriptors", "parts": 4, "dimensions": (8, 8), **decision}
    module = part_network.assemble(network.module, decision, 3, 32)
    drawn = drawing.random_variables(module, backbone.NETWORKS[NAME], 3)
    return network, module, drawn


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_what_cells_add_is_the_logit_though_tokens_have_signs(registered, power):
    _, module, known = assembled(power=power)
    images, labels = np.tile(small.images(), (2, 1, 1, 1)), np.array([0, 2])

    @jax.jit
    def look(known):
        maps = module.apply(known, images, method="features")
        added = module.apply(known, maps, labels, method="evidence")
        offset = module.apply(known, method="offset")
        return maps, added, offset, module.apply(known, maps, method="head")

    maps, added, offset, logits = look(known)
    assert maps.shape == (2, 4, 4, 64) and maps.min() < 0
    found = added.sum((1, 2, 3)) + offset[labels]
    np.testing.assert_allclose(found, logits[np.arange(2), labels], atol=1e-5)


def test_a_descriptor_of_power_one_is_the_mean_of_its_cells(registered):
    _, module, known = assembled(power=1.0, damping=0.0)
    maps = module.apply(known, small.images(), method="features")
    shares = jax.nn.one_hot(np.arange(16) % 4, 4).reshape(1, 4, 4, 4)
    found = module.apply(
        known,
        maps,
        shares,
        method=lambda net, m, s: net.classifier.describe(net.grid(m), s),
    )
    flat = np.asarray(maps).reshape(16, 64)
    expected = np.stack([flat[part::4].mean(0) for part in range(4)])
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_parts_read_the_grid_of_any_block(registered):
    network, module, known = assembled(layer="block0", at="block1")
    inner = {"params": known["params"]["backbone"]}
    images = small.images()
    maps = module.apply(known, images, method="features")
    grid = jax.jit(lambda m: module.apply(known, m, method="grid"))(maps)
    for found, layer in ((grid.maps, "block1"), (grid.finer, "block0")):
        tokens = network.module.apply(inner, images, layer, method="features_at")
        np.testing.assert_allclose(found, tokens.maps, atol=1e-5)
    refused("`decision.layer`='block7'", assembled, layer="block7")


@pytest.mark.exhaustive
def test_parts_of_a_transformer_are_trained_and_explained(registered, tmp_path):
    asked = f"configs/train_parts.py:backbone={NAME},data=synthetic_parts"
    own = (f"features.folder={tmp_path / 'cache'}", *OPTIONS)
    settings = config.load(f"{asked},method=descriptors", own)
    assert settings.model.decision.power == 1.0
    with settings.unlocked():
        settings.data.options = {"classes": 6, "image_size": 32}
        settings.data.train_options = {"size": 40}
        settings.data.test_options = {"size": 24}
    train.run(settings, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 0 <= summary["test/nmi"] <= 1 and summary["baseline/average_pooling"]
    network = unlir_jax.load(str(tmp_path / "run"))
    logits = split.whole(network.model)(network.variables, small.images())
    assert logits.shape == (1, 6) and np.isfinite(logits).all()
    again = unlir_jax.load(str(tmp_path / "run"), layer="block0")
    found = split.whole(again.model)(again.variables, small.images())
    np.testing.assert_allclose(found, logits, atol=1e-4)
