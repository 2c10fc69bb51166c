"""The families against PyTorch's references, on a toy network in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
import tiers
import toy

from unlir_jax import saliency

# Method, settings, key of the reference.
CAMS = [
    ("grad_cam", {}, "gradcam"),
    ("grad_cam", {"rectify": False}, "gradcam_raw"),
    ("grad_cam_plus_plus", {}, "gradcam_plus_plus"),
    ("grad_cam_plus_plus", {"epsilon": 1e-6}, "gradcam_plus_plus_eps"),
    ("xgrad_cam", {}, "xgrad_cam"),
    ("hires_cam", {}, "hires_cam"),
    ("layer_cam", {}, "layer_cam"),
    ("elementwise_grad_cam", {}, "elementwise"),
    ("eigen_cam", {}, "eigen_cam"),
]
KEEP = {"channels": "keep"}


@pytest.fixture(scope="module")
def reference():
    return toy.golden()


def inputs(golden):
    return golden, jnp.asarray(golden["x"]), jnp.asarray(golden["target"])


@pytest.mark.parametrize(
    ("name", "settings", "key"),
    tiers.by_tier(CAMS, {"grad_cam", "layer_cam", "eigen_cam"}),
)
def test_float64_cams(x64, reference, name, settings, key):
    for cut, layer in zip(toy.golden_models(), ("relu1", "relu2"), strict=True):
        found = saliency.METHODS[name](cut, **settings)(*inputs(reference))
        assert found.dtype == jnp.float64
        expected = reference[f"{layer}_{key}"]
        np.testing.assert_allclose(found, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", ["ablation_cam", "score_cam"])
@pytest.mark.parametrize("loop", tiers.by_tier(["host", "device"], {"device"}))
def test_float64_passes_for_each_filter(x64, reference, name, loop):
    _, cut = toy.golden_models()
    explain = saliency.METHODS[name](cut, loop=loop, batch_size=7)
    found = explain(*inputs(reference))
    expected = reference[f"relu2_{name}"]
    np.testing.assert_allclose(found, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("name", "settings", "key"),
    tiers.by_tier(
        [
            ("gradient", {}, "gradient"),
            ("guided_backpropagation", {}, "guided_backprop"),
            ("deconvolution", {}, "deconvolution"),
            ("integrated_gradients", {"steps": 64}, "integrated_gradients"),
        ],
        {"gradient", "guided_backpropagation"},
    ),
)
def test_float64_gradients(x64, reference, name, settings, key):
    for cut in toy.golden_models():
        explain = saliency.METHODS[name](cut, **settings, **KEEP)
        found = explain(*inputs(reference))
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, reference[key], atol=1e-10, rtol=0)


@pytest.mark.parametrize("loop", tiers.by_tier(["host", "device"], {"device"}))
def test_float64_moments_over_noise(x64, reference, loop):
    cut, _ = toy.golden_models()
    moments = saliency.noise_moments(cut, loop=loop)
    found = moments(*inputs(reference), reference["noise"])
    for field, key in (
        ("mean", "smoothgrad"),
        ("square", "smoothgrad_squared"),
        ("variance", "vargrad"),
    ):
        np.testing.assert_allclose(
            getattr(found, field), reference[key], atol=1e-10, rtol=0
        )
