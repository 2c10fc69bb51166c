"""Swin gives every library's logits and attention, also where grids are padded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_transformers as small
import tiers
from helpers import applied, refused

from unlir_jax import saliency, tree
from unlir_jax.models import backbone, pretrained, swin, zoo

NAME = "small_swin"
CASES = sorted(path.stem for path in small.FOLDER.glob("*swin.npz"))
CASES += ["transformers_swin_state"]


@pytest.fixture
def load(tmp_path):
    """Load the weights of a case into a small network."""

    def loaded(case, arrays=None, **settings):
        network = swin.network(32, (2, 2), (2, 4), 4, 40, ratio=2)
        backbone.NETWORKS.pop(NAME, None)
        backbone.register(NAME, network)
        path = tmp_path / f"{case}.npz"
        np.savez(path, **(arrays or small.state(case)))
        return pretrained.load(NAME, path, **settings)

    yield loaded
    backbone.NETWORKS.pop(NAME, None)


@pytest.mark.parametrize(
    "case", tiers.by_tier(CASES, {"timm_swin", "torchvision_swin"})
)
def test_logits_and_attention_agree(case, load):
    network = load(case)
    images = jnp.asarray(small.images(40))
    attended = jax.jit(network.model.attention.run)(network.variables, images)
    logits, weights = small.expected(case)
    np.testing.assert_allclose(attended.logits, logits, atol=1e-4, rtol=0)
    assert len(attended.weights) == len(weights)
    for ours, theirs in zip(attended.weights, weights, strict=True):
        theirs = theirs.reshape(-1, *ours.shape[1:])
        np.testing.assert_allclose(ours[: len(theirs)], theirs, atol=1e-5)
    narrow = load(case, dtype="bfloat16")
    rounded = applied(narrow.module)(narrow.variables, images)
    assert rounded.dtype == jnp.float32
    assert np.abs(rounded - logits).max() < 0.05 * np.abs(logits).max()


def test_official_names_merge_at_the_end_of_a_stage(load):
    network = load("timm_swin")
    arrays = small.state("timm_swin")
    renamed = {
        name.replace("layers.1.downsample", "layers.0.downsample").replace(
            "head.fc", "head"
        ): array
        for name, array in arrays.items()
    }
    renamed["layers.0.blocks.1.attn_mask"] = np.zeros((9, 16, 16), np.float32)
    again = load("timm_swin", renamed)
    assert tree.sha256(again.variables) == tree.sha256(network.variables)
    assert again.module == network.module


@pytest.mark.exhaustive
def test_the_last_norm_is_explained_and_rollout_is_refused(load):
    network = load("torchvision_swin")
    assert network.layer == "norm" and not network.module.shifts_first
    images = jnp.asarray(small.images(40))
    labels = applied(network.module)(network.variables, images).argmax(axis=1)
    given = network.variables, images, labels
    maps = saliency.grad_cam(network.model)(*given)
    assert maps.shape == (1, 5, 5) and np.isfinite(maps).all()
    refused("hierarchical.*16 x 16", saliency.attention_rollout(network.model), *given)
    earlier = load("torchvision_swin", layer="features.1.1")
    assert earlier.layer == "stage0/block1"
    features = earlier.model.features(earlier.variables, images)
    assert features.maps.shape == (1, 10, 10, 32)
    assert zoo.find(NAME)[1].parameters == tree.count(load("timm_swin").variables) + (
        (1000 - 10) * 65
    )
