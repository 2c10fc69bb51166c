"""The attention by which networks pool, as a map."""

import jax
import numpy as np
import pytest
import small_pooling
import toy

from unlir_jax import saliency, split

IMAGES = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
LABELS = np.array([0, 3])


@pytest.mark.parametrize("name", ["ca_stream", "efficient_probing"])
def test_the_map_is_the_mean_of_the_queries(name):
    module, model = small_pooling.network(name)
    known = small_pooling.variables(module)
    scores = module.apply(known, IMAGES, method="scores")
    found = saliency.attention_pooling(model)(known, IMAGES, LABELS)
    expected = scores.mean(-1)
    expected = expected - expected.min((1, 2), keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    one = saliency.attention_pooling(model, query=-1, softmax=True)
    weights = module.apply(known, IMAGES, method="attention")
    found = one(known, IMAGES, LABELS[::-1].copy())
    np.testing.assert_allclose(found, weights[..., -1], rtol=1e-4)
    count = scores.shape[-1]
    far = saliency.attention_pooling(model, query=count)
    with pytest.raises(ValueError, match=f"`query`={count}, but the network has"):
        far(known, IMAGES, LABELS)


def test_another_network_is_refused():
    halves = toy.Halves()
    variables = toy.random_variables(halves, IMAGES)
    explain = saliency.attention_pooling(split.from_methods(halves))
    with pytest.raises(ValueError, match="does not pool by attention; expected"):
        explain(variables, IMAGES, LABELS)


def test_grad_cam_weighs_maps_by_derivatives_through_the_attention():
    module, model = small_pooling.network()
    known = small_pooling.variables(module)
    features = model.features(known, IMAGES)

    def score(maps):
        logits = model.head(known, features._replace(maps=maps))
        return logits[np.arange(2), LABELS].sum()

    weights = jax.grad(score)(features.maps).mean((1, 2), keepdims=True)
    expected = np.maximum((weights * features.maps).sum(-1), 0)
    found = saliency.grad_cam(model)(known, IMAGES, LABELS)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale)
