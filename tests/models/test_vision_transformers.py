"""Vision transformers give the logits and the attention of every library's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_transformers as small
import tiers
from helpers import refused

from unlir_jax import split, tree
from unlir_jax.models import backbone, pretrained
from unlir_jax.weights import exported

NAME = "small_transformer"
FAST = {"timm_registers_swiglu", "transformers_vit", "official_clip", "timm_siglip"}
FAST |= {"timm_registers"}


@pytest.fixture
def register():
    """Register a small network for one test."""

    def registered(case="timm_plain", image_size=32):
        backbone.NETWORKS.pop(NAME, None)
        return small.register(NAME, case, image_size)

    yield registered
    backbone.NETWORKS.pop(NAME, None)


def write(folder, arrays, name="weights"):
    path = folder / f"{name}.npz"
    np.savez(path, **arrays)
    return path


def run(network):
    images = jnp.asarray(small.images())
    return jax.jit(network.model.attention.run)(network.variables, images)


@pytest.mark.parametrize("case", tiers.by_tier(small.CASES, FAST))
def test_logits_and_attention_agree(case, register, tmp_path):
    register(case)
    network = pretrained.load(NAME, write(tmp_path, small.state(case)))
    attended = run(network)
    logits, weights = small.expected(case)
    np.testing.assert_allclose(attended.logits, logits, atol=1e-4, rtol=0)
    assert len(attended.weights) == len(weights)
    for ours, theirs in zip(attended.weights, weights, strict=True):
        theirs = theirs.reshape(ours.shape)
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    halves = split.whole(network.model)(network.variables, small.images())
    np.testing.assert_allclose(halves, logits, atol=1e-4, rtol=0)


PREFIXES = {
    "timm_plain": "module._orig_mod.",
    "official_dinov2": "teacher.backbone.",
    "transformers_vit": "state_dict/model.",
    "official_clip": "model.",
}


@pytest.mark.parametrize("case", tiers.by_tier(list(PREFIXES), {"official_dinov2"}))
def test_names_with_prefixes_of_trainers(case, register, tmp_path):
    register(case)
    arrays = small.state(case)
    plain = pretrained.load(NAME, write(tmp_path, arrays))
    arrays = {PREFIXES[case] + name: array for name, array in arrays.items()}
    if case == "official_dinov2":
        arrays["teacher.dino_head.mlp.0.weight"] = np.ones((3, 64), np.float32)
    network = pretrained.load(NAME, write(tmp_path, arrays, "prefixed"))
    assert tree.sha256(network.variables) == tree.sha256(plain.variables)
    assert network.weights_key in PREFIXES[case] + "visual"


def test_a_whole_clip_has_its_image_tower(register, tmp_path):
    for case, texts in (
        (
            "transformers_clip",
            (
                *("text_model.final_layer_norm.weight", "logit_scale"),
                "text_model.embeddings.position_embedding.weight",
                "text_model.encoder.layers.0.mlp.fc1.weight",
            ),
        ),
        ("official_clip", ("positional_embedding", "text_projection")),
    ):
        register(case)
        arrays = small.state(case)
        plain = pretrained.load(NAME, write(tmp_path, arrays))
        more = dict.fromkeys(texts, np.ones(2, np.float32))
        network = pretrained.load(NAME, write(tmp_path, arrays | more, "whole"))
        assert tree.sha256(network.variables) == tree.sha256(plain.variables)


@pytest.mark.parametrize("case", ["timm_plain", "timm_deit_distilled"])
def test_classifiers_that_are_missing_or_new(case, register, tmp_path):
    register(case)
    arrays = small.state(case)
    bare = {name: a for name, a in arrays.items() if not name.startswith("head")}
    path = write(tmp_path, bare)
    refused("no classifier of .*head.*num_classes=N", pretrained.load, NAME, path)
    network = pretrained.load(NAME, path, num_classes=3)
    assert network.new_classifier and run(network).logits.shape == (1, 3)
    network = pretrained.load(NAME, write(tmp_path, arrays, "full"), num_classes=4)
    assert network.new_classifier and run(network).logits.shape == (1, 4)
    whole = pretrained.load(NAME, tmp_path / "full.npz")
    ours, theirs = (tree.flatten(each.variables) for each in (network, whole))
    same = [path for path in ours if "classifier" not in path]
    assert all(np.array_equal(ours[path], theirs[path]) for path in same)


def test_a_pooled_vector_gets_a_classifier(register, tmp_path):
    register("official_dinov2")
    path = write(tmp_path, small.state("official_dinov2"))
    network = pretrained.load(NAME, path, num_classes=3)
    assert network.new_classifier and run(network).logits.shape == (1, 3)


def test_what_does_not_fit_is_one_sentence(register, tmp_path):
    register()
    arrays = small.state("timm_plain")
    arrays["blocks.1.mlp.fc1.weight"] = np.ones((5, 64), np.float32)
    arrays["blocks.7.norm1.weight"] = arrays.pop("blocks.1.norm1.weight")
    path = write(tmp_path, arrays)
    wrong = "timm, 39 of 40.*unexpected: blocks.7.norm1.*missing: blocks.1.norm1.weight"
    refused(wrong + r".*blocks.1.mlp.fc1.weight \(5, 64\)", pretrained.load, NAME, path)
    register("timm_deit3")
    path = write(tmp_path, small.state("timm_plain"))
    refused("missing: blocks.0.ls1.gamma", pretrained.load, NAME, path)
    path = write(tmp_path, {"conv1.weight": np.ones((4, 3, 3, 3), np.float32)})
    refused("another network", pretrained.load, NAME, path)


def test_a_saved_network_is_the_same_again(register, tmp_path):
    for case, attribute, value in (
        ("transformers_vit", "epsilon", 1e-12),
        ("transformers_siglip", "activation", "tanh"),
        ("timm_clip", "head_bias", True),
    ):
        register(case)
        network = pretrained.load(NAME, write(tmp_path, small.state(case)))
        assert getattr(network.module, attribute) == value
        leaves = tree.flatten(network.variables)
        purpose = pretrained.purpose(network)
        (tmp_path / case).mkdir()
        exported.write(tmp_path / case, leaves, purpose)
        again = pretrained.load(NAME, tmp_path / case / exported.FILE)
        assert again.module == network.module
        assert tree.sha256(again.variables) == tree.sha256(network.variables)
    purpose = purpose._replace(attributes={"depth": 1_000_000})
    (tmp_path / "odd").mkdir()
    exported.write(tmp_path / "odd", leaves, purpose)
    path = tmp_path / "odd" / exported.FILE
    refused("depth=1000000; expected no such", pretrained.load, NAME, path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_logits_are_wide_and_near_in_every_type(dtype, register, tmp_path):
    register("timm_registers_swiglu")
    path = write(tmp_path, small.state("timm_registers_swiglu"))
    network = pretrained.load(NAME, path, dtype=dtype)
    attended = run(network)
    assert attended.logits.dtype == jnp.float32
    assert attended.tokens[0].dtype == dtype
    logits, _ = small.expected("timm_registers_swiglu")
    near = 1e-4 if dtype == "float32" else 0.05
    assert np.abs(attended.logits - logits).max() < near * np.abs(logits).max()


@pytest.mark.exhaustive
def test_cuts_of_tokens_give_the_grid(register):
    register("timm_registers_swiglu")
    for layer, cut in (
        ("blocks.1.norm1", "block1/norm1"),
        ("block0/attention", "block0/attention"),
        (None, "block1/norm1"),
    ):
        network = pretrained.load(NAME, "random", layer=layer, seed=1)
        assert network.layer == cut
        features = network.model.features(network.variables, small.images())
        assert features.maps.shape == (1, 4, 4, 64)
        logits = network.model.head(network.variables, features)
        whole = network.module.apply(network.variables, small.images())
        np.testing.assert_allclose(logits, whole, atol=1e-5)
