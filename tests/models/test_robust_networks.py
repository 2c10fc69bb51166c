"""ResNets with parameter-free shortcuts, and the network of provable defences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import split, tree
from unlir_jax.models import pretrained, resnet, zoo
from unlir_jax.models.layers import Style
from unlir_jax.weights import layouts, readers

# Numbers of parameters by akamaster/pytorch_resnet_cifar10, in millions.
PUBLISHED = {20: "0.27", 32: "0.46", 44: "0.66", 56: "0.85", 110: "1.73"}


def test_networks_of_the_paper_have_its_numbers_of_parameters():
    for depth, published in PUBLISHED.items():
        count = zoo.networks()[f"cifar_resnet{depth}_option_a"].parameters
        assert f"{count / 1e6:.2f}" == published, depth


def test_a_padded_shortcut_takes_every_other_pixel_and_adds_channels():
    block = resnet.Basic(8, 2, Style(), shortcut="padding")
    images = np.random.default_rng(0).uniform(size=(1, 6, 6, 4)).astype(np.float32)
    variables = block.init(jax.random.key(0), images)
    assert not any("downsample" in path for path in tree.flatten(variables))
    # Without the second convolution the shortcut is all that is left.
    kernel = variables["params"]["conv2"]["conv"]["kernel"]
    variables["params"]["conv2"]["conv"]["kernel"] = jnp.zeros_like(kernel)
    found = np.asarray(block.apply(variables, images))
    assert found.shape == (1, 3, 3, 8)
    np.testing.assert_allclose(found[..., 2:6], images[:, ::2, ::2])
    assert not found[..., :2].any() and not found[..., 6:].any()


def renamed(name, variables, layout, prefix=""):
    """Write variables down in another library's names and axes."""
    prefixes = zoo.networks()[name].layouts[layout]
    found = {}
    for path, leaf in tree.flatten(variables).items():
        array = np.asarray(leaf)
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        found[prefix + layouts.their_name(path, prefixes)] = array
    return found


def test_a_file_without_shortcuts_is_of_the_network_without_projections(tmp_path):
    made = pretrained.load("cifar_resnet8_option_a", "random", num_classes=10)
    arrays = renamed(made.name, made.variables, "pytorch-cifar", "module.")
    assert "module.linear.weight" in arrays
    path = tmp_path / "weights.npz"
    np.savez(path, **arrays)
    for name in ("cifar_resnet8", "cifar_resnet8_option_a"):
        loaded = pretrained.load(name, path)
        assert loaded.name == "cifar_resnet8_option_a"
        assert tree.sha256(loaded.variables) == tree.sha256(made.variables)
    folded = pretrained.load("cifar_resnet8", path, fold=True)
    images = jnp.linspace(0, 1, 2 * 32 * 32 * 3).reshape((2, 32, 32, 3))
    logits = [split.whole(e.model)(e.variables, images) for e in (made, folded)]
    np.testing.assert_allclose(*logits, atol=1e-4)


def test_a_file_with_shortcuts_keeps_its_network(tmp_path):
    made = pretrained.load("cifar_resnet8", "random", num_classes=10)
    path = tmp_path / "weights.safetensors"
    arrays = renamed(made.name, made.variables, "pytorch-cifar")
    assert "layer2.0.shortcut.0.weight" in arrays
    readers.write_safetensors(path, arrays)
    loaded = pretrained.load("cifar_resnet8", path)
    assert loaded.name == "cifar_resnet8"
    assert tree.sha256(loaded.variables) == tree.sha256(made.variables)


def arrays_of_the_authors():
    generator = np.random.default_rng(1)
    shapes = {"0": (16, 3, 4, 4), "2": (32, 16, 4, 4), "5": (100, 2048), "7": (10, 100)}
    found = {}
    for name, shape in shapes.items():
        scale = np.sqrt(2 / np.prod(shape[1:]))
        found[f"{name}.weight"] = generator.normal(size=shape) * scale
        found[f"{name}.bias"] = generator.normal(size=shape[:1])
    return {name: array.astype(np.float32) for name, array in found.items()}


def test_the_strided_network_computes_what_its_authors_write_down(tmp_path):
    arrays = arrays_of_the_authors()
    np.savez(tmp_path / "weights.npz", **arrays)
    loaded = pretrained.load("cifar_strided", tmp_path / "weights.npz")
    images = np.random.default_rng(2).uniform(size=(3, 32, 32, 3)).astype(np.float32)
    # In the order of PyTorch: channels first, and flattened so.
    maps = (images - np.float32([0.485, 0.456, 0.406])) / np.float32(0.225)
    maps = jnp.asarray(maps.transpose(0, 3, 1, 2))
    for name in ("0", "2"):
        maps = jax.lax.conv_general_dilated(
            maps, arrays[f"{name}.weight"], (2, 2), ((1, 1), (1, 1))
        )
        maps = jnp.maximum(maps + arrays[f"{name}.bias"].reshape((1, -1, 1, 1)), 0)
    values = maps.reshape((3, -1)) @ arrays["5.weight"].T + arrays["5.bias"][None]
    values = jnp.maximum(values, 0) @ arrays["7.weight"].T + arrays["7.bias"][None]
    found = split.whole(loaded.model)(loaded.variables, jnp.asarray(images))
    np.testing.assert_allclose(found, values, atol=2e-5)
    assert tree.count(loaded.variables["params"]) == 214_918


@pytest.mark.parametrize("side", [16, 48])
def test_the_strided_network_takes_other_sizes(side):
    loaded = pretrained.load("cifar_strided", "random")
    images = jnp.full((1, side, side, 3), 0.5)
    assert split.whole(loaded.model)(loaded.variables, images).shape == (1, 10)
