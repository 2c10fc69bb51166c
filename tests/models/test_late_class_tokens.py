"""CaiT and XCiT give the logits and the attention of timm's and the official ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_transformers as small
import tiers
from helpers import applied, refused

from unlir_jax import saliency, split, tree
from unlir_jax.models import backbone, cait, fold, positions, pretrained, xcit

NAME = "small_late"
CASES = {
    "timm_cait": lambda: cait.network(64, 2, 32, heads=2, inner=128, patch_size=8),
    "timm_xcit": lambda: xcit.network(64, 2, 2, 8, 32, inner=128),
    "timm_xcit_nano": lambda: xcit.network(
        64, 2, 2, 16, 64, inner=128, norms_all=False
    ),
    "official_xcit": lambda: xcit.network(64, 2, 2, 8, 32, inner=128, num_classes=0),
}
EXPLAINERS = (
    *(saliency.raw_attention, saliency.attention_rollout, saliency.generic_attention),
    *(saliency.attention_grad_cam, saliency.legrad),
)


@pytest.fixture
def load(tmp_path):
    """Load the weights of a case into a small network."""

    def loaded(case, weights=None, **settings):
        backbone.NETWORKS.pop(NAME, None)
        backbone.register(NAME, CASES[case]())
        if weights is None:
            weights = tmp_path / f"{case}.npz"
            np.savez(weights, **small.state(case))
        return pretrained.load(NAME, weights, **settings)

    yield loaded
    backbone.NETWORKS.pop(NAME, None)


def pictures(network):
    return jnp.asarray(small.images(network.image_size))


@pytest.mark.parametrize("case", tiers.by_tier(CASES, {"timm_cait", "timm_xcit"}))
def test_logits_and_attention_agree(case, load):
    network = load(case)
    images = pictures(network)
    attended = jax.jit(network.model.attention.run)(network.variables, images)
    logits, weights = small.expected(case)
    np.testing.assert_allclose(attended.logits, logits, atol=1e-4, rtol=0)
    for ours, theirs in zip(attended.weights, weights, strict="xcit" not in case):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    assert network.layer == "block1" and len(attended.weights) >= 2
    narrow = load(case, dtype="bfloat16")
    rounded = applied(narrow.module)(narrow.variables, images)
    assert rounded.dtype == jnp.float32
    assert np.abs(rounded - logits).max() < 0.05 * np.abs(logits).max()


@pytest.mark.parametrize("case", ["timm_cait", "timm_xcit"])
def test_logits_agree_to_rounding_in_float64(case, load, x64):
    network = load(case)
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), network.variables)
    images = pictures(network).astype(jnp.float64)
    found = network.module.apply(wide, images)
    np.testing.assert_allclose(found, small.expected(case)[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", tiers.by_tier(["timm_cait", "timm_xcit"], 1))
def test_every_cut_has_the_grid_and_gives_the_logits(case, load):
    network = load(case)
    images = pictures(network)
    whole = network.module.apply(network.variables, images)
    inside = ("block0/norm1", "block1/attention", "class_block1/norm1")
    for layer in (*network.module.cuts(), *inside):
        cut = load(case, layer=layer)
        features = cut.model.features(cut.variables, images)
        assert features.maps.shape == (1, 4, 4, 64), layer
        logits = cut.model.head(cut.variables, features)
        np.testing.assert_allclose(logits, whole, atol=1e-4)
        attended = cut.model.attention.run(cut.variables, images)
        assert attended.weights[-1].shape == (1, 2, 1, 17)
