"""The reference outputs with real ImageNet weights, where they are at hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import maps, metrics, saliency, split
from unlir_jax.models import pretrained, zoo
from unlir_jax.weights import packages

NETWORKS = {"mobilenetv2": "mobilenet_v2", "efficientnet_lite0": "efficientnet_lite0"}


def skip_without(name):
    """Skip a test where the weights of a network are not installed."""
    package = zoo.find(name)[1].package
    if packages.find(package) is None:
        pytest.skip(f"the weights of {name} are missing: {packages.advice(package)}")


@pytest.fixture(scope="module", params=NETWORKS)
def reference(request, shared):
    """Load a network with its real weights and the images of its references."""
    name = NETWORKS[request.param]
    skip_without(name)
    with np.load(shared / "golden" / f"{request.param}_images.npz") as file:
        images = jnp.asarray(file["images"] / np.float32(255))
        labels, logits = jnp.asarray(file["labels"]), file["logits"]

    def read(kind):
        with np.load(shared / "golden" / f"{request.param}_{kind}.npz") as file:
            return {key: file[key] for key in file.files}

    return pretrained.load(name), images, labels, logits, read


def test_logits(reference):
    loaded, images, _, logits, _ = reference
    found = split.whole(loaded.model)(loaded.variables, images)
    np.testing.assert_allclose(found, logits, atol=1e-3, rtol=0)


def test_cam(reference):
    loaded, images, labels, _, read = reference
    expected = read("cams")["cam"]
    found = saliency.cam(loaded.model)(loaded.variables, images, labels)
    difference = np.abs(np.asarray(found) - expected).max((1, 2))
    assert (difference / np.abs(expected).max((1, 2))).max() < 1e-3


@pytest.mark.slow
def test_opti_cam_follows_the_masked_logit(reference):
    loaded, images, labels, _, read = reference
    images, labels, expected = images[:4], labels[:4], read("opticam")["logit"][:4]
    for steps, tolerance in ((0, 1e-3), (20, 0.2)):
        explain = saliency.opti_cam(loaded.model, steps=steps)
        found = explain(loaded.variables, images, labels)
        mask = maps.normalize(maps.resize(found, images.shape[1:3]))
        logits = split.whole(loaded.model)(
            loaded.variables, maps.apply_mask(images, mask)
        )[jnp.arange(4), labels]
        np.testing.assert_allclose(
            logits, expected[:, steps], atol=tolerance, rtol=0, err_msg=f"step {steps}"
        )


def test_faithfulness(shared):
    skip_without("mobilenet_v2")
    with np.load(shared / "golden" / "mobilenetv2_images.npz") as file:
        images = jnp.asarray(file["images"] / np.float32(255))
        labels = jnp.asarray(file["labels"])
    with np.load(shared / "golden" / "mobilenetv2_cams.npz") as file:
        grad_cam = jnp.asarray(file["gradcam"])
    with np.load(shared / "golden" / "mobilenetv2_metrics.npz") as file:
        expected = {key: file[key] for key in file.files}
    loaded = pretrained.load("mobilenet_v2")
    inputs = (loaded.variables, images, labels, grad_cam)
    scores = metrics.average_scores(loaded.model)(*inputs)
    for name, tolerance in (
        ("average_drop", 1e-3),
        ("average_increase", 0),
        ("average_gain", 1e-3),
    ):
        np.testing.assert_allclose(scores[name], expected[name], atol=tolerance)
    kernel = maps.blur_kernel()
    np.testing.assert_allclose(np.outer(kernel, kernel), expected["blur_kernel"])
    blurred = maps.background(images[:2], "blur", mean=loaded.model.mean)
    np.testing.assert_allclose(blurred, expected["blurred"], atol=1e-5)
    inputs = (loaded.variables, images[:10], labels[:10], jnp.asarray(expected["mask"]))
    for name, baseline in (
        ("deletion", "black"),
        ("deletion", "mean"),
        ("insertion", "blur"),
        ("insertion", "black"),
    ):
        metric = metrics.METRICS[name](loaded.model, baseline=baseline, steps=28)
        found = metric(*inputs)
        key = f"{name}_{baseline}"
        np.testing.assert_allclose(found[f"{name}_curve"], expected[key], atol=1e-3)
        np.testing.assert_allclose(found[name], expected[f"{key}_auc"], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"), [("mobilenet_v2", 0.82), ("efficientnet_lite0", 0.86)]
)
def test_accuracy_on_real_pictures(shared, name, least):
    skip_without(name)
    files = sorted((shared / "data" / "imagenet200").glob("*.jpg"))
    labels = np.asarray([int(file.name[:3]) for file in files])
    loaded = pretrained.load(name, fold=True)
    network = split.whole(loaded.model)
    predicted = []
    for start in range(0, len(files), 20):
        batch = [loaded.preprocess(file) for file in files[start : start + 20]]
        logits = network(loaded.variables, jnp.asarray(np.stack(batch)))
        predicted.append(np.argmax(logits, axis=1))
    assert np.mean(np.concatenate(predicted) == labels) >= least
