"""What PyTorch's peers make of networks with trained weights, where those are there."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import maps, metrics, saliency, split, types
from unlir_jax.models import pretrained, zoo
from unlir_jax.weights import packages

pytestmark = pytest.mark.golden
FOLDER = Path(__file__).parent / "golden" / "trained"
INNER = "features.13"
KEEP = {"channels": "keep"}
# Method, settings, and the tolerance in float64 as a share of a map's largest value;
# grad-cam gives EigenCAM's map and Ablation-CAM's scores in float32.
CAMS = (
    ("grad_cam", {"rectify": False}, 1e-6),
    ("grad_cam_plus_plus", {"epsilon": 1e-6}, 1e-6),
    ("xgrad_cam", {}, 1e-6),
    ("hires_cam", {}, 1e-6),
    ("layer_cam", {}, 1e-6),
    ("elementwise_grad_cam", {}, 1e-6),
    ("eigen_cam", {}, 1e-4),
    ("ablation_cam", {}, 1e-3),
)


def load(name, **settings):
    package = zoo.find(name)[1].package
    if packages.find(package) is None:
        pytest.skip(f"the weights of {name} are missing: {packages.advice(package)}")
    return pretrained.load(name, **settings)


def read(name):
    with np.load(FOLDER / f"{name}.npz") as file:
        found = {key: file[key] for key in file.files}
    # grad-cam leaves the sign of a singular vector to the solver.
    return {k: np.abs(v) if k.endswith("eigen_cam") else v for k, v in found.items()}


@pytest.fixture(scope="module")
def pictures():
    """Give three pictures of `golden/trained`, and their classes."""
    found = read("images")
    return found["images"] / np.float32(255), found["labels"]


def worst(found, expected):
    """Give the largest difference as a share of each map's own maximum."""
    difference = np.abs(np.asarray(found) - expected).max((1, 2))
    return (difference / np.abs(expected).max((1, 2))).max()


def distance(found, expected):
    """Give the relative L2 distance of an image."""
    difference = np.asarray(found, np.float64) - expected
    return np.linalg.norm(difference) / np.linalg.norm(expected)


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0"])
def test_logits_and_gradients(pictures, name):
    loaded, expected, (images, labels) = load(name), read(name), pictures
    found = split.whole(loaded.model)(loaded.variables, images)
    np.testing.assert_allclose(found, expected["logits"], atol=1e-3, rtol=0)
    for method, tolerance in (
        ("gradient", 3e-2),
        ("guided_backpropagation", 1e-2),
        ("integrated_gradients", 1e-2),
    ):
        if method in expected:
            explain = saliency.METHODS[method](loaded.model, **KEEP)
            found = explain(loaded.variables, images[:1], labels[:1])
            whole = expected[method] * expected[f"{method}_scale"]
            assert distance(found, whole) < tolerance, method


def cut_again(loaded, images):
    """Cut a network at its own maps, so that the layers before run once."""
    features = jax.jit(loaded.model.features)(loaded.variables, images)

    def again(variables, maps):
        return types.Features(maps, features.context)

    return types.SplitModel(again, loaded.model.head), features.maps


def test_maps_and_scores_of_the_last_layer(pictures):
    loaded, (images, labels) = load("mobilenet_v2"), pictures
    expected = read("mobilenet_v2")
    cut, stack = cut_again(loaded, images)
    for method in ("grad_cam", "layer_cam", "eigen_cam"):
        settings = {"rectify": False} if method == "grad_cam" else {}
        explain = saliency.METHODS[method](cut, **settings)
        found = explain(loaded.variables, stack, labels)
        assert worst(found, expected[f"last/{method}"]) < 1e-3, method
    probabilities = np.asarray(jax.nn.softmax(expected["logits"]))
    clean = probabilities[np.arange(len(labels)), labels]
    change = expected["confidence_change"]
    masks = jnp.asarray(expected["masks"] / np.float32(255))
    score = metrics.average_scores(loaded.model)
    found = score(loaded.variables, images, labels, masks)
    for name, value in {
        "average_drop": np.maximum(-change, 0) / clean,
        "average_gain": np.maximum(change, 0) / (1 - clean),
        "average_increase": change > 0,
    }.items():
        np.testing.assert_allclose(found[name], value, atol=1e-3, err_msg=name)


def test_maps_of_an_inner_layer(x64, pictures):
    """In float64: a ReLU6 whose input is 2e-6 moves a map by a tenth in float32."""
    loaded, (_, labels) = load("mobilenet_v2", layer=INNER), pictures
    expected = read("mobilenet_v2")
    images = jnp.asarray(read("images")["images"] / 255)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), loaded.variables)
    loaded = loaded._replace(variables=variables)
    cut, stack = cut_again(loaded, images)
    one, first = cut_again(loaded, images[:1])
    for method, settings, tolerance in CAMS:
        wanted = expected[f"inner/{method}"]
        whose, seen = (cut, stack) if len(wanted) > 1 else (one, first)
        explain = saliency.METHODS[method](whose, **settings)
        found = explain(variables, seen, labels[: len(wanted)])
        assert worst(found, wanted) < tolerance, method


def test_score_cam_of_an_inner_layer(pictures):
    loaded, (images, labels) = load("mobilenet_v2", layer=INNER), pictures
    # grad-cam enlarges maps so that their corners stay.
    explain = saliency.score_cam(loaded.model, alignment="corners")
    found = explain(loaded.variables, images[:1], labels[:1])
    assert worst(found, read("mobilenet_v2")["inner/score_cam"]) < 1e-3


def test_opti_cam_follows_the_masked_logit(shared):
    loaded = load("mobilenet_v2")
    with np.load(shared / "golden" / "mobilenetv2_images.npz") as file:
        images = jnp.asarray(file["images"][:2] / np.float32(255))
        labels = jnp.asarray(file["labels"][:2])
    with np.load(shared / "golden" / "mobilenetv2_opticam.npz") as file:
        expected = file["logit"][:2]
    for steps, tolerance in ((0, 1e-3), (20, 0.2)):
        explain = saliency.opti_cam(loaded.model, steps=steps)
        found = explain(loaded.variables, images, labels)
        mask = maps.normalize(maps.resize(found, images.shape[1:3]))
        logits = split.whole(loaded.model)(
            loaded.variables, maps.apply_mask(images, mask)
        )[jnp.arange(2), labels]
        np.testing.assert_allclose(
            logits, expected[:, steps], atol=tolerance, rtol=0, err_msg=f"step {steps}"
        )


def test_deletion_and_insertion(shared):
    loaded = load("mobilenet_v2")
    with np.load(shared / "golden" / "mobilenetv2_images.npz") as file:
        images = jnp.asarray(file["images"][:2] / np.float32(255))
        labels = jnp.asarray(file["labels"][:2])
    with np.load(shared / "golden" / "mobilenetv2_metrics.npz") as file:
        expected = {key: file[key] for key in file.files}
    kernel = maps.blur_kernel()
    np.testing.assert_allclose(np.outer(kernel, kernel), expected["blur_kernel"])
    blurred = maps.background(images, "blur", mean=loaded.model.mean)
    np.testing.assert_allclose(blurred, expected["blurred"], atol=1e-5)
    inputs = loaded.variables, images, labels, jnp.asarray(expected["mask"][:2])
    for name, baseline in (("deletion", "mean"), ("insertion", "blur")):
        metric = metrics.METRICS[name](loaded.model, baseline=baseline, steps=28)
        found = metric(*inputs)
        key = f"{name}_{baseline}"
        np.testing.assert_allclose(found[f"{name}_curve"], expected[key][:2], atol=1e-3)
        np.testing.assert_allclose(found[name], expected[f"{key}_auc"][:2], atol=1e-3)


def test_accuracy_on_real_pictures(shared):
    loaded = load("efficientnet_lite0", fold=True)
    files = sorted((shared / "data" / "imagenet200").glob("*.jpg"))
    labels = np.asarray([int(file.name[:3]) for file in files])
    network = split.whole(loaded.model)
    predicted = []
    for start in range(0, len(files), 20):
        batch = [loaded.preprocess(file) for file in files[start : start + 20]]
        logits = network(loaded.variables, jnp.asarray(np.stack(batch)))
        predicted.append(np.argmax(logits, axis=1))
    assert np.mean(np.concatenate(predicted) == labels) >= 0.86
