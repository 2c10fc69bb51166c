"""What explains by modules or attention sees a wrapped network's own images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unlir_jax
from unlir_jax import saliency, split
from unlir_jax.models.vision_transformer import VisionTransformer


@pytest.mark.exhaustive
def test_a_wrapped_network_is_run_and_read_on_standardised_images():
    module = VisionTransformer(4, 8, 1, 2, 12, num_classes=3)
    images = jnp.asarray(np.random.default_rng(0).random((1, 16, 16, 3)), jnp.float32)
    variables = module.init(jax.random.key(0), images)
    inner = split.from_linen(module, "block0", tokens=(1, "square"))
    network = unlir_jax.wrap(
        inner, variables, image_size=16, mean=(0.5, 0.4, 0.3), std=0.2
    )
    model = network.model
    expected = split.whole(model)(network.variables, images)
    assert model.run is not None and model.attention is not None
    found = model.run(network.variables, images)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    read = model.attention.run(network.variables, images)
    np.testing.assert_allclose(read.logits, expected, atol=1e-5)
    for factory in (saliency.raw_attention, saliency.attn_lrp):
        given = network.variables, images, jnp.asarray([0])
        assert np.asarray(factory(model)(*given)).any()
