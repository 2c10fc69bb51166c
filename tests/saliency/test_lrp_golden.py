"""Relevance against zennit's, in float64 on weights made by rule."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax import saliency, split
from unlir_jax.models import cutting, placing, vit, zoo
from unlir_jax.weights import contents, token_names

FOLDER = Path(__file__).parents[1] / "golden" / "relevance"
sys.path[:0] = [str(FOLDER.parent / name) for name in ("backbones", "attention")]

import attention_weights  # noqa: E402
import random_state  # noqa: E402

STRONG = {"gamma": 1.0, "patch_gamma": 100.0}

CASES = [
    (composite, network)
    for composite in (
        *("epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1"),
        "epsilon_gamma_box",
    )
    for network in ("resnet18", "vgg11_bn", "mobilenet_v2")
]


@pytest.mark.parametrize(("composite", "name"), tiers.by_tier(CASES, 1))
def test_maps_equal_those_of_zennit(x64, composite, name):
    with np.load(FOLDER / f"{name}.npz") as file:
        known = {key: file[key] for key in file.files}
    arrays = random_state.state_dict(known["names"], known["shapes"])
    arrays = {k: v for k, v in arrays.items() if not k.endswith("batches_tracked")}
    key, network = zoo.find(name)
    module = network.build()
    variables = placing.fill(module, network, arrays, key, name)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
    model = cutting.cut(module, network, network.layer)
    images = jnp.asarray(random_state.images(32, 32), jnp.float64)
    labels = jnp.asarray(known["labels"])
    mean, std = (np.asarray(each) for each in (module.mean, module.deviation))
    box = tuple(tuple(((end - mean) / std).tolist()) for end in (0, 1))
    given = {"box": box} if composite == "epsilon_gamma_box" else {}
    explain = saliency.lrp(model, composite=composite, stabilizer=1e-12, **given)
    found = np.asarray(explain(variables, images, labels))
    assert np.abs(found - known[composite]).max() < 1e-6 * np.abs(found).max()


@pytest.mark.exhaustive
def test_relevance_of_a_transformer_equals_that_of_lxt(x64):
    with np.load(FOLDER / "vit.npz") as file:
        known = {key: file[key] for key in file.files}
    arrays = attention_weights.state_dict(known["names"], known["shapes"])
    shapes = {each: array.shape for each, array in arrays.items()}
    found = contents.Contents(shapes, lambda names: {n: arrays[n] for n in names})
    spelt = token_names.spelt(found)
    network = vit.network(
        *("tiny", 8, 32),
        **{"width": 64, "depth": 3, "heads": 2, "inner": 256},
        **{"mean": vit.HALF, "deviation": vit.HALF},
    )
    module = network.build(num_classes=5)
    variables = placing.fill(module, network, spelt.read(spelt.shapes), "vit", "vit")
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
    model = cutting.cut(module, network, network.layer)
    images = jnp.asarray(random_state.images(32, 32), jnp.float64)
    logits = split.whole(model)(variables, images)
    np.testing.assert_allclose(logits, known["logits"], atol=1e-6)
    labels = jnp.asarray(known["labels"])
    shared = {"attention": "shared"}
    for key, settings in (
        *(("default", {}), ("strong", STRONG)),
        *(("shared_default", shared), ("shared_strong", STRONG | shared)),
    ):
        explain = saliency.attn_lrp(model, stabilizer=1e-12, **settings)
        found = np.asarray(explain(variables, images, labels))
        share = np.abs(found - known[key]).max() / np.abs(found).max()
        assert share < 1e-5, (key, share)
