import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from unlir_jax import saliency, split
from unlir_jax.types import Features


@pytest.fixture(scope="module")
def model(pictures):
    module = toy.Plain()
    variables = toy.random_variables(module, pictures)
    return split.from_linen(module, "conv2"), variables


@pytest.fixture(scope="module")
def pooled(pictures):
    module = toy.Halves()
    return split.from_methods(module), toy.random_variables(module, pictures)


LABELS = jnp.asarray([0, 3, 1, 2])


@pytest.mark.exhaustive
def test_float64_network_to_1e_10(x64):
    golden = toy.golden()
    first, second = toy.golden_models()
    inputs = (golden, jnp.asarray(golden["x"]), jnp.asarray(golden["target"]))
    for found, name in (
        (split.whole(first)(*inputs[:2]), "logits"),
        (saliency.cam(second)(*inputs), "cam"),
        (saliency.grad_cam(second)(*inputs), "relu2_gradcam"),
        (saliency.grad_cam(first)(*inputs), "relu1_gradcam"),
    ):
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, golden[name], atol=1e-10, rtol=0)


def test_grad_cam_is_cam_on_a_pooled_linear_head(pooled, pictures):
    cut, variables = pooled
    cells = pictures.shape[1] * pictures.shape[2]
    evidence = saliency.cam(cut)(variables, pictures, LABELS)
    found = saliency.grad_cam(cut)(variables, pictures, LABELS)
    np.testing.assert_allclose(found, jax.nn.relu(evidence) / cells, atol=1e-7)


def test_cam_is_the_classifier_s_weights_times_the_maps(pooled, pictures):
    cut, variables = pooled
    maps = cut.features(variables, pictures).maps
    kernel = variables["params"]["dense"]["kernel"]
    expected = jnp.einsum("bhwk,kb->bhw", maps, kernel[:, LABELS])
    found = saliency.cam(cut)(variables, pictures, LABELS)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_cam_adds_up_to_the_logit(pooled, pictures):
    cut, variables = pooled
    logits = split.whole(cut)(variables, pictures)[jnp.arange(4), LABELS]
    bias = variables["params"]["dense"]["bias"][LABELS]
    evidence = saliency.cam(cut)(variables, pictures, LABELS)
    np.testing.assert_allclose(evidence.mean((1, 2)), logits - bias, atol=1e-5)


def test_cam_of_a_flattened_head_adds_up_too(pictures):
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(32 * 32 * 3, 4)))
    flat = split.from_functions(
        lambda v, images: images,
        lambda v, maps: maps.reshape((len(maps), -1)) @ v["w"] + v["b"][None],
    )
    variables = {"w": weights.astype(jnp.float32), "b": jnp.arange(4.0)}
    logits = split.whole(flat)(variables, jnp.asarray(pictures))
    expected = logits[jnp.arange(4), LABELS] - variables["b"][LABELS]
    evidence = saliency.cam(flat)(variables, pictures, LABELS)
    np.testing.assert_allclose(evidence.mean((1, 2)), expected, rtol=1e-4, atol=1e-3)


def test_cam_refuses_a_head_that_is_not_affine(pictures):
    module = toy.Plain()
    variables = toy.random_variables(module, pictures)
    inner = split.from_linen(module, "conv1")
    with pytest.raises(ValueError, match="affine.*grad_cam"):
        saliency.cam(inner)(variables, pictures, LABELS)


@pytest.mark.parametrize("name", ["cam", "grad_cam"])
def test_order_of_filters_does_not_matter(pooled, pictures, name):
    cut, variables = pooled
    order = jnp.asarray([3, 1, 5, 0, 2, 4])
    params = variables["params"]
    permuted = {
        "params": {
            "conv": {
                "kernel": params["conv"]["kernel"][..., order],
                "bias": params["conv"]["bias"][order],
            },
            "dense": params["dense"] | {"kernel": params["dense"]["kernel"][order]},
        }
    }
    explain = saliency.METHODS[name](cut)
    np.testing.assert_allclose(
        explain(variables, pictures, LABELS),
        explain(permuted, pictures, LABELS),
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["cam", "grad_cam", "edges", "center", "random"])
def test_an_image_s_map_does_not_depend_on_its_batch(pooled, pictures, name):
    cut, variables = pooled
    explain, key = saliency.METHODS[name](cut), jax.random.key(0)
    together = explain(variables, pictures, LABELS, key=key)
    turned = explain(variables, pictures[::-1], LABELS[::-1], key=key)
    np.testing.assert_allclose(turned[::-1], together, atol=1e-6)
    alone = explain(variables, pictures[2:3], LABELS[2:3], key=key)
    np.testing.assert_allclose(alone[0], together[2], atol=1e-6)


@pytest.mark.exhaustive
def test_grad_cam_runs_inside_jit_and_in_bfloat16(model, pictures):
    cut, variables = model
    explain = saliency.grad_cam(cut)
    expected = explain(variables, pictures, LABELS)
    np.testing.assert_allclose(
        jax.jit(explain)(variables, pictures, LABELS), expected, atol=1e-6
    )
    halved = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables)
    rough = explain(halved, jnp.asarray(pictures, jnp.bfloat16), LABELS)
    scale = float(jnp.max(expected))
    assert float(jnp.max(jnp.abs(rough.astype(jnp.float32) - expected))) < 0.1 * scale


def test_the_same_factory_call_compiles_once(model):
    cut, _ = model
    assert saliency.grad_cam(cut) is saliency.grad_cam(cut)
    assert saliency.opti_cam(cut, steps=3) is saliency.opti_cam(cut, steps=3)
    assert saliency.opti_cam(cut, steps=3) is not saliency.opti_cam(cut, steps=4)


def test_maps_without_space_are_refused(pictures):
    vector = split.from_functions(
        lambda v, images: images.mean((1, 2)), lambda v, maps: maps
    )
    with pytest.raises(
        ValueError, match=re.escape("(4, 3); expected maps [batch, height")
    ):
        saliency.grad_cam(vector)({}, pictures, LABELS % 3)


def test_context_crosses_the_cut(pictures):
    cut = split.from_functions(
        lambda v, images: Features(images, images[:, :, :, :1]),
        lambda v, features: (features.maps * features.context).mean((1, 2)),
    )
    labels = jnp.asarray([0, 1, 2, 0])
    found = saliency.grad_cam(cut)({}, jnp.asarray(pictures), labels)
    weight = pictures[..., 0].mean((1, 2)) / (32 * 32)
    chosen = pictures[np.arange(4), :, :, np.asarray(labels)]
    np.testing.assert_allclose(found, weight[:, None, None] * chosen, rtol=1e-4)
