"""Explainers run on a network that decides by parts, as on any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers
from flax import linen as nn

from unlir_jax import maps, saliency, split
from unlir_jax.models import layers, part_network
from unlir_jax.models.part_network import descriptors

SIZE, CLASSES = 16, 5
KEY = jax.random.key(0)
# Of each family one: whatever asks the network in a way of its own.
FAMILIES = (
    *("grad_cam", "score_cam", "ablation_cam", "shapley_cam", "eigen_cam", "full_grad"),
    *("guided_backpropagation", "opti_cam", "rise", "meaningful_perturbation"),
)


class Backbone(nn.Module):
    """Two convolutions, with what a backbone of ours says of itself."""

    style = layers.Style()
    mean = (0.5, 0.5, 0.5)

    def setup(self):
        self.first = nn.Conv(4, (3, 3), (2, 2))
        self.last = nn.Conv(6, (3, 3))

    def features(self, images, train=False):
        return nn.relu(self.last(nn.relu(self.first(images))))


@pytest.fixture(scope="module")
def network():
    head = descriptors.Descriptors(CLASSES, 4, 6, dimensions=(5, 0), temperature=0.3)
    module = part_network.PartNet(Backbone(), head, 6)
    random = np.random.default_rng(0)
    images = jnp.asarray(random.random((2, SIZE, SIZE, 3), np.float32))
    variables = jax.jit(module.init)(KEY, images)
    kernel = variables["params"]["classifier"]["kernel"]
    drawn = random.normal(size=kernel.shape).astype(np.float32)
    variables["params"]["classifier"]["kernel"] = jnp.asarray(drawn)
    return split.from_methods(module, mean=module.mean), variables, images


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", tiers.by_tier(FAMILIES, {"grad_cam"}))
def test_explainers_run_on_part_networks(network, name):
    model, variables, images = network
    explain = saliency.METHODS[name](model, **saliency.SPECS[name].quick)
    labels = jnp.asarray([0, 2])
    found = np.asarray(explain(variables, images, labels, key=KEY))
    assert found.ndim == 3 and len(found) == 2
    assert np.isfinite(found).all()
    assert not np.asarray(maps.is_flat(found)).all()


def test_cam_says_that_it_needs_a_linear_head(network):
    model, variables, images = network
    with pytest.raises(ValueError, match="linear"):
        saliency.cam(model)(variables, images, jnp.asarray([0, 2]), key=KEY)
