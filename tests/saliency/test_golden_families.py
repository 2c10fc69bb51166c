"""The families against PyTorch's references, with toy and with real weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from unlir_jax import saliency, types
from unlir_jax.models import pretrained, zoo
from unlir_jax.weights import packages

NETWORKS = {"mobilenetv2": "mobilenet_v2", "efficientnet_lite0": "efficientnet_lite0"}
# Method, settings, key of the reference, tolerance at the cut and at an inner layer as
# a share of the map's maximum.
CAMS = [
    ("grad_cam", {}, "gradcam", 1e-3, 2e-2),
    ("grad_cam", {"rectify": False}, "gradcam_raw", 1e-3, 2e-2),
    ("grad_cam_plus_plus", {}, "gradcam_plus_plus", 1e-3, 1e-1),
    ("grad_cam_plus_plus", {"epsilon": 1e-6}, "gradcam_plus_plus_eps", 1e-3, 1e-1),
    ("xgrad_cam", {}, "xgrad_cam", 1e-3, 1e-1),
    ("hires_cam", {}, "hires_cam", 1e-3, 2e-2),
    ("layer_cam", {}, "layer_cam", 1e-3, 2e-2),
    ("elementwise_grad_cam", {}, "elementwise", 1e-3, 2e-2),
    ("eigen_cam", {}, "eigen_cam", 1e-3, 1e-3),
]
KEEP = {"channels": "keep"}


@pytest.fixture(scope="module")
def reference(shared):
    with np.load(shared / "golden" / "toy_float64.npz") as file:
        return {name: file[name] for name in file.files}


def inputs(golden):
    return golden, jnp.asarray(golden["x"]), jnp.asarray(golden["target"])


@pytest.mark.parametrize(("name", "settings", "key", "_", "__"), CAMS)
def test_float64_cams(x64, reference, name, settings, key, _, __):
    for cut, layer in zip(toy.golden_models(), ("relu1", "relu2"), strict=True):
        found = saliency.METHODS[name](cut, **settings)(*inputs(reference))
        assert found.dtype == jnp.float64
        expected = reference[f"{layer}_{key}"]
        np.testing.assert_allclose(found, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", ["ablation_cam", "score_cam"])
@pytest.mark.parametrize("loop", ["host", "device"])
def test_float64_passes_for_each_filter(x64, reference, name, loop):
    _, cut = toy.golden_models()
    explain = saliency.METHODS[name](cut, loop=loop, batch_size=7)
    found = explain(*inputs(reference))
    expected = reference[f"relu2_{name}"]
    np.testing.assert_allclose(found, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("name", "settings", "key"),
    [
        ("gradient", {}, "gradient"),
        ("guided_backpropagation", {}, "guided_backprop"),
        ("deconvolution", {}, "deconvolution"),
        ("integrated_gradients", {"steps": 64}, "integrated_gradients"),
    ],
)
def test_float64_gradients(x64, reference, name, settings, key):
    for cut in toy.golden_models():
        explain = saliency.METHODS[name](cut, **settings, **KEEP)
        found = explain(*inputs(reference))
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, reference[key], atol=1e-10, rtol=0)


@pytest.mark.parametrize("loop", ["host", "device"])
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


def load(shared, name, kind, layer=None):
    network = NETWORKS[name]
    if packages.find(zoo.find(network)[1].package) is None:
        pytest.skip(f"the weights of {network} are not installed")
    with np.load(shared / "golden" / f"{name}_images.npz") as file:
        images = jnp.asarray(file["images"] / np.float32(255))
        labels = jnp.asarray(file["labels"])
    with np.load(shared / "golden" / f"{name}_{kind}.npz") as file:
        expected = {key: file[key] for key in file.files}
    return pretrained.load(network, layer=layer), images, labels, expected


def worst(found, expected):
    """Give the largest difference as a share of each map's own maximum."""
    difference = np.abs(np.asarray(found) - expected).max((1, 2))
    return (difference / np.abs(expected).max((1, 2))).max()


def distance(found, expected):
    """Give the largest relative L2 distance of an image."""
    axes = (1, 2, 3)
    difference = np.square(np.asarray(found, np.float64) - expected).sum(axes)
    return np.sqrt(difference / np.square(expected).sum(axes)).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_cams_with_real_weights(shared, name):
    loaded, images, labels, expected = load(shared, name, "cams")
    features = loaded.model.features(loaded.variables, images).maps
    # Cut again at its own maps, so that the trunk runs once for all methods.
    cut = types.SplitModel(lambda v, maps: types.Features(maps), loaded.model.head)
    for method, settings, key, tolerance, _ in CAMS:
        explain = saliency.METHODS[method](cut, **settings)
        found = explain(loaded.variables, features, labels)
        assert worst(found, expected[key]) < tolerance, key


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_ablation_cam_with_real_weights(shared, name):
    loaded, images, labels, expected = load(shared, name, "cams")
    explain = saliency.ablation_cam(loaded.model)
    found = explain(loaded.variables, images[:4], labels[:4])
    assert worst(found, expected["ablation_cam"][:4]) < 2e-3


# At one place of this image Grad-CAM++ divides by 2e-4 (2 + sum(A) g), and a ReLU6 of
# the last layer whose input is 2e-6 there moves g by a thousandth in float32.
POLE = 20


@pytest.mark.slow
def test_inner_layer_with_real_weights(shared):
    name, some = "mobilenetv2", slice(8)
    loaded, images, labels, expected = load(shared, name, "inner_cams", "features.13")
    for method, settings, key, _, tolerance in CAMS:
        explain = saliency.METHODS[method](loaded.model, **settings)
        found = explain(loaded.variables, images[some], labels[some])
        assert worst(found, expected[key][some]) < tolerance, key


@pytest.mark.slow
def test_inner_layer_with_real_weights_in_double_precision(x64, shared):
    name, one = "mobilenetv2", slice(POLE, POLE + 1)
    loaded, _, labels, expected = load(shared, name, "inner_cams", "features.13")
    with np.load(shared / "golden" / f"{name}_images.npz") as file:
        image = jnp.asarray(file["images"][one] / 255)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), loaded.variables)
    # Grad-CAM++ beside a map that has no pole there.
    for method, settings, key, *_ in CAMS[1:3]:
        explain = saliency.METHODS[method](loaded.model, **settings)
        found = explain(variables, image, labels[one])
        # The references were rounded to float32.
        assert worst(found, expected[key][one]) < 1e-6, key


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_with_real_weights(shared, name):
    loaded, images, labels, expected = load(shared, name, "gradients")
    for method, key, tolerance in (
        ("gradient", "gradient", 3e-2),
        ("guided_backpropagation", "guided_backprop", 1e-2),
        ("integrated_gradients", "integrated_gradients", 1e-2),
    ):
        if key in expected:
            count = len(expected[key])
            explain = saliency.METHODS[method](loaded.model, **KEEP)
            found = explain(loaded.variables, images[:count], labels[:count])
            assert distance(found, expected[key]) < tolerance, key


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "alignment"),
    [("mobilenetv2", "half_pixel"), ("efficientnet_lite0", "corners")],
)
def test_score_cam_with_real_weights(shared, name, alignment):
    loaded, images, labels, expected = load(shared, name, "cams")
    explain = saliency.score_cam(loaded.model, alignment=alignment)
    found = explain(loaded.variables, images[:1], labels[:1])
    key = "score_cam" if alignment == "half_pixel" else "score_cam_peer"
    assert worst(found, expected[key][:1]) < 1e-3
