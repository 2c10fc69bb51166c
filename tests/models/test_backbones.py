"""Every backbone gives torchvision's or timm's logits, on weights made by rule."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax import split, tree
from unlir_jax.models import drawing, placing, pretrained, zoo

FOLDER = Path(__file__).parents[1] / "golden" / "backbones"
sys.path.insert(0, str(FOLDER))

import random_state  # noqa: E402

LIBRARIES = {
    "torchvision_": "",
    "timm_": "",
    "efficientnet_lite_pytorch_": "efficientnet_",
}
# ResNets of timm have torchvision's names: one of them is enough.
FILES = [
    path
    for path in sorted(FOLDER.glob("*.npz"))
    if not path.stem.startswith("timm_resnet") or path.stem == "timm_resnet18"
]


def network_of(path):
    """Translate a file's name into the network's name in this library."""
    for prefix, ours in LIBRARIES.items():
        if path.stem.startswith(prefix):
            name = ours + path.stem.removeprefix(prefix)
            plain_lite = prefix == "timm_" and name.startswith("efficientnet")
            return f"timm_{name}" if plain_lite else name
    raise AssertionError(path)


def sizes(file):
    """List the picture sizes whose definition this library shares."""
    for name in file.files:
        if name.startswith("logits_") and name != "logits_256x288":
            height, width = name.removeprefix("logits_").split("x")
            yield int(height), int(width)


# Some of each family are computed. The others differ from them in counts and widths,
# which the shapes of their arrays settle.
COMPUTED = {
    "efficientnet_lite_pytorch_lite0",
    "timm_efficientnet_lite0",
    "timm_mobilenetv2_100",
    "timm_tf_efficientnet_lite0",
    "timm_tf_efficientnet_lite3",
    "timm_vgg11",
    "torchvision_mobilenet_v2",
    "torchvision_resnet18",
    "torchvision_resnet50",
    "torchvision_vgg11",
    "torchvision_vgg11_bn",
}


def built(path, file, arrays):
    """Build a file's network, and fill it with arrays of the other library."""
    name, network = zoo.find(network_of(path))
    module = network.build()
    np.testing.assert_allclose(module.mean, file["mean"], rtol=1e-6)
    np.testing.assert_allclose(module.deviation, file["std"], rtol=1e-6)
    variables = placing.fill(module, network, arrays, name, path.stem)
    assert tree.count(variables["params"]) == zoo.networks()[name].parameters
    return module, variables


OTHERS = [path for path in FILES if path.stem not in COMPUTED]


@pytest.mark.exhaustive
@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_every_array_has_a_place_of_its_shape(path):
    nothing = np.float32(0)
    with np.load(path) as file:
        arrays = {
            str(name): np.broadcast_to(nothing, random_state.parse_shape(text))
            for name, text in zip(file["names"], file["shapes"], strict=True)
        }
        name, _ = zoo.find(network_of(path))
        _, variables = built(path, file, arrays)
    assert tree.count(variables["params"]) == zoo.networks()[name].parameters


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "stem",
    tiers.by_tier(
        sorted(COMPUTED),
        {"torchvision_resnet18", "torchvision_mobilenet_v2", "torchvision_vgg11_bn"},
    ),
)
def test_logits_agree_with_the_other_library(stem):
    path = FOLDER / f"{stem}.npz"
    with np.load(path) as file:
        arrays = random_state.state_dict(file["names"], file["shapes"])
        module, variables = built(path, file, arrays)
        compute = jax.jit(module.apply)
        # The last size is odd and not square: padding and pooling show there.
        for height, width in list(sizes(file))[-1:]:
            images = jnp.asarray(random_state.images(height, width))
            expected = file[f"logits_{height}x{width}"]
            np.testing.assert_allclose(
                compute(variables, images), expected, atol=1e-4, rtol=0
            )


@pytest.mark.exhaustive
def test_torchvision_pools_vgg_to_seven_cells_at_any_size():
    path = FOLDER / "torchvision_vgg11.npz"
    with np.load(path) as file:
        arrays = random_state.state_dict(file["names"], file["shapes"])
        expected = file["logits_256x288"]
    name, network = zoo.find("vgg11")
    module = network.build()
    variables = placing.fill(module, network, arrays, name, path.stem)
    found = jax.jit(module.apply)(variables, jnp.asarray(random_state.images(256, 288)))
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "maps"),
    tiers.by_tier(
        [
            ("mobilenet_v2", (2, 2, 1280)),
            ("efficientnet_lite0", (2, 2, 1280)),
            ("resnet18", (2, 2, 512)),
            ("vgg11_bn", (4, 4, 512)),
            ("cifar_resnet20", (16, 16, 64)),
            ("cifar_resnet18", (8, 8, 512)),
            ("cifar_mobilenet_v2", (8, 8, 1280)),
        ],
        {"mobilenet_v2", "cifar_resnet20"},
    ),
)
def test_default_layer_is_where_features_ends(name, maps):
    _, network = zoo.find(name)
    module = network.build(num_classes=7)
    shape = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), shape)
    by_methods = split.from_methods(module)
    by_path = split.from_linen(module, network.layer)
    first = jax.eval_shape(by_methods.features, variables, shape)
    second = jax.eval_shape(by_path.features, variables, shape)
    assert first.maps.shape == second.maps.shape == (2, *maps)
    assert jax.eval_shape(by_methods.head, variables, first).shape == (2, 7)
    assert network.layer in split.module_paths(module, shape)


@pytest.mark.exhaustive
def test_both_cuts_of_the_default_layer_give_the_same_numbers():
    _, network = zoo.find("mobilenet_v2")
    module = network.build(num_classes=7)
    images = jnp.asarray(random_state.images(64, 64))
    variables = drawing.random_variables(module, network)
    by_methods = split.from_methods(module)
    by_path = split.from_linen(module, network.layer)
    np.testing.assert_array_equal(
        split.whole(by_methods)(variables, images),
        split.whole(by_path)(variables, images),
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "millions"),
    [
        # Parameter counts as published with torchvision's and timm's weights.
        ("mobilenet_v2", 3.504872),
        ("efficientnet_lite0", 4.652008),
        ("efficientnet_lite4", 13.006568),
        ("resnet18", 11.689512),
        ("resnet50", 25.557032),
        ("resnet152", 60.192808),
        ("vgg16", 138.357544),
        ("vgg19_bn", 143.678248),
        ("cifar_resnet20", 0.27),
    ],
)
def test_parameters_are_as_many_as_published(name, millions):
    tolerance = 0.02 if name.startswith("cifar") else 1e-9
    found = zoo.networks()[name].parameters / 1e6
    assert found == pytest.approx(millions, rel=tolerance)


@pytest.mark.exhaustive
def test_bfloat16_computes_in_bfloat16_and_stays_close():
    images = jnp.asarray(random_state.images(64, 64))
    given = {"weights": "random", "num_classes": 10}
    full = pretrained.load("cifar_resnet20", **given)
    half = pretrained.load("cifar_resnet20", **given, dtype=jnp.bfloat16)
    features = half.model.features(half.variables, images)
    assert features.maps.dtype == jnp.bfloat16
    logits = half.model.head(half.variables, features)
    assert logits.dtype == jnp.float32
    leaves = jax.tree.leaves(half.variables)
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    expected = split.whole(full.model)(full.variables, images)
    np.testing.assert_allclose(logits, expected, atol=0.15 * float(jnp.std(expected)))


@pytest.mark.exhaustive
def test_training_mode_updates_the_statistics():
    _, network = zoo.find("cifar_resnet20")
    module = network.build()
    images = jnp.asarray(random_state.images(32, 32))
    variables = drawing.random_variables(module, network)
    training = functools.partial(module.apply, train=True, mutable=["batch_stats"])
    _, moved = jax.jit(training)(variables, images)
    before = tree.flatten(variables["batch_stats"])
    after = tree.flatten(moved["batch_stats"])
    assert all((after[path] != before[path]).any() for path in before)
