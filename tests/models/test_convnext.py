"""ConvNeXt gives every library's logits, and its last stage is explained."""

import jax.numpy as jnp
import numpy as np
import pytest
import small_transformers as small
import tiers
from helpers import applied

from unlir_jax import saliency, tree
from unlir_jax.models import backbone, convnext, pretrained, zoo

NAME = "small_convnext"
CASES = sorted(path.stem for path in small.FOLDER.glob("*convnext*.npz"))


@pytest.fixture
def load(tmp_path):
    """Load the weights of a case into a small network."""

    def loaded(case, arrays=None, **settings):
        second = None if "v2" in case else 1e-6
        network = convnext.network((1, 1, 2, 1), (16, 24, 32, 64), second, 64)
        backbone.NETWORKS.pop(NAME, None)
        backbone.register(NAME, network)
        path = tmp_path / f"{case}.npz"
        np.savez(path, **(arrays or small.state(case)))
        return pretrained.load(NAME, path, **settings)

    yield loaded
    backbone.NETWORKS.pop(NAME, None)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "case", tiers.by_tier(CASES, {"timm_convnextv2", "torchvision_convnext"})
)
def test_logits_agree(case, load):
    network = load(case)
    found = applied(network.module)(network.variables, jnp.asarray(small.images(64)))
    np.testing.assert_allclose(found, small.expected(case)[0], atol=1e-4, rtol=0)
    narrow = load(case, dtype="bfloat16")
    rounded = applied(narrow.module)(narrow.variables, jnp.asarray(small.images(64)))
    assert rounded.dtype == jnp.float32
    assert np.abs(rounded - found).max() < 0.05 * np.abs(found).max()


def test_names_of_the_official_code(load):
    network = load("timm_convnextv2")
    table = zoo.find(NAME)[1].layouts["official"]
    theirs = {}
    for path, leaf in tree.flatten(network.variables).items():
        path, array = path.removeprefix("params/"), np.asarray(leaf)
        module, _, name = path.rpartition("/")
        kinds = {"kernel": "weight", "scale": "weight", "bias": "bias"}
        their_name = table.get(path) or f"{table[module]}.{kinds[name]}"
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        theirs[their_name] = array[None] if "grn" in path else array
    again = load("timm_convnextv2", theirs)
    assert tree.sha256(again.variables) == tree.sha256(network.variables)


@pytest.mark.exhaustive
def test_the_last_stage_is_explained(load):
    network = load("timm_convnext")
    assert network.layer == "stage3"
    images = jnp.asarray(small.images(75))[:, :, :66]
    maps = saliency.grad_cam(network.model)(network.variables, images, jnp.asarray([3]))
    assert maps.shape == (1, 2, 2) and np.asarray(maps).any()
    earlier = load("timm_convnext", layer="stages.1")
    assert earlier.layer == "stage1"
    features = earlier.model.features(earlier.variables, images)
    assert features.maps.shape == (1, 9, 8, 24)
