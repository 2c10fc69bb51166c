import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import unlir_jax
from unlir_jax import split, tree
from unlir_jax.models import backbone, drawing, pretrained, zoo
from unlir_jax.weights import layouts, readers


@pytest.fixture(scope="module")
def small():
    return pretrained.load("cifar_resnet20", weights="random")


def as_torch(network, variables):
    """Write our variables down in torchvision's names and axes."""
    prefixes = network.layouts["torchvision"]
    arrays = {}
    for path, leaf in tree.flatten(variables).items():
        name = layouts.their_name(path, prefixes)
        leaf = np.asarray(leaf)
        arrays[name] = leaf.transpose(3, 2, 0, 1) if leaf.ndim == 4 else leaf.T
    return arrays


@pytest.fixture
def torch_file(small, tmp_path):
    _, network = zoo.find("cifar_resnet20")
    path = tmp_path / "weights.safetensors"
    readers.write_safetensors(path, as_torch(network, small.variables))
    return path


@pytest.mark.golden
def test_the_packaged_network_works_out_of_the_box():
    loaded = unlir_jax.load("efficientnet_lite0")
    assert loaded.image_size == 224 and loaded.layer == "top"
    assert loaded.class_names[281] == "tabby"
    assert loaded.sha256 == zoo.networks()["efficientnet_lite0"].package.sha256
    grey = loaded.preprocess(np.full((300, 400, 3), 128, np.uint8))
    assert grey.shape == (224, 224, 3) and grey.dtype == np.float32
    np.testing.assert_allclose(grey, 128 / 255, rtol=1e-6)
    logits = split.whole(loaded.model)(loaded.variables, jnp.asarray(grey)[None])
    assert logits.shape == (1, 1000) and jnp.isfinite(logits).all()
    assert loaded.model.mean == (0.5, 0.5, 0.5)


def test_a_file_in_other_names_gives_the_same_network(small, torch_file):
    again = pretrained.load("cifar_resnet20", weights=torch_file)
    assert tree.sha256(again.variables) == tree.sha256(small.variables)
    assert again.source == str(torch_file)
    assert again.sha256 == readers.sha256(torch_file)


def test_our_own_names_come_back_bit_by_bit(small, tmp_path):
    path = tmp_path / "ours.safetensors"
    readers.write_safetensors(path, tree.flatten(small.variables))
    again = pretrained.load("cifar_resnet20", weights=path)
    assert tree.sha256(again.variables) == tree.sha256(small.variables)


def test_everything_that_does_not_fit_is_named(small, torch_file, tmp_path):
    arrays = readers.read(torch_file)
    del arrays["layer1.0.conv1.weight"]
    arrays["extra.weight"] = np.zeros(3, np.float32)
    arrays["layer2.0.bn1.bias"] = np.zeros(7, np.float32)
    path = tmp_path / "broken.safetensors"
    readers.write_safetensors(path, arrays)
    with pytest.raises(ValueError) as caught:
        pretrained.load("cifar_resnet20", weights=path)
    message = str(caught.value)
    assert "1 missing: layer1.0.conv1.weight" in message
    assert "1 unexpected: extra.weight" in message
    assert "1 mis-shaped: layer2.0.bn1.bias (7,) for params/layer2/block0" in message


def test_weights_of_another_network_are_refused(torch_file):
    with pytest.raises(ValueError, match="does not fit cifar_resnet32.*missing: "):
        pretrained.load("cifar_resnet32", weights=torch_file)


def test_weights_with_other_names_altogether_are_told_apart(tmp_path):
    path = tmp_path / "other.safetensors"
    readers.write_safetensors(path, {"blocks.9.attention": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="of another network.*1 unexpected: blocks"):
        pretrained.load("cifar_resnet20", weights=path)


def test_classes_come_from_the_file_unless_asked_for(tmp_path, torch_file):
    four = pretrained.load("cifar_resnet20", weights="random", num_classes=4)
    path = tmp_path / "four.safetensors"
    readers.write_safetensors(path, tree.flatten(four.variables))
    loaded = pretrained.load("cifar_resnet20", weights=path)
    assert len(loaded.class_names) == 4
    renewed = pretrained.load("cifar_resnet20", weights=torch_file, num_classes=6)
    assert renewed.variables["params"]["classifier"]["kernel"].shape == (64, 6)
    original = pretrained.load("cifar_resnet20", weights=torch_file)
    for loaded_part in ("stem", "layer3"):
        assert tree.sha256(renewed.variables["params"][loaded_part]) == tree.sha256(
            original.variables["params"][loaded_part]
        )


@pytest.mark.parametrize(
    ("name", "layer", "path"),
    [
        ("mobilenet_v2", "features.13", "block13"),
        ("mobilenet_v2", "features.18", "top"),
        ("mobilenet_v2", "features.0", "stem"),
        ("mobilenet_v2", "blocks.2.1", "block5"),
        ("mobilenet_v2", "block3/expand", "block3/expand"),
        ("mobilenet_v2", "block3.expand", "block3/expand"),
        ("efficientnet_lite0", "_blocks.4", "block5"),
        ("resnet50", "layer3.5", "layer3/block5"),
        ("resnet50", "layer4", "layer4"),
        ("vgg16_bn", "features.42", "conv5_3"),
        ("vgg16", "features.29", "conv5_3"),
        ("vgg11", "conv2_1", "conv2_1"),
    ],
)
def test_layers_go_by_our_names_and_by_others(name, layer, path):
    name, network = zoo.find(name)
    assert pretrained.find_layer(name, network, layer) == path


@pytest.mark.exhaustive
def test_an_inner_layer_is_cut(torch_file):
    loaded = pretrained.load("cifar_resnet20", weights=torch_file, layer="layer2.1")
    images = jnp.full((1, 32, 32, 3), 0.5)
    features = loaded.model.features(loaded.variables, images)
    assert loaded.layer == "layer2/block1"
    assert features.maps.shape == (1, 16, 16, 32)
    whole = pretrained.load("cifar_resnet20", weights=torch_file)
    np.testing.assert_allclose(
        loaded.model.head(loaded.variables, features),
        split.whole(whole.model)(whole.variables, images),
        atol=1e-5,
    )


def test_folding_changes_nothing_but_the_arrays(torch_file):
    plain = pretrained.load("cifar_resnet20", weights=torch_file)
    folded = pretrained.load("cifar_resnet20", weights=torch_file, fold=True)
    images = jnp.full((1, 32, 32, 3), 0.5)
    np.testing.assert_allclose(
        split.whole(folded.model)(folded.variables, images),
        split.whole(plain.model)(plain.variables, images),
        rtol=1e-4,
        atol=1e-4,
    )
    assert "batch_stats" not in folded.variables


@pytest.mark.parametrize("layer", ["stem/conv", "layer2/block0/conv1/norm"])
def test_folding_never_changes_what_a_layer_means(torch_file, layer):
    plain, folded = (
        pretrained.load("cifar_resnet20", weights=torch_file, layer=layer, fold=fold)
        for fold in (False, True)
    )
    images = jnp.full((1, 32, 32, 3), 0.5)
    np.testing.assert_allclose(
        folded.model.features(folded.variables, images).maps,
        plain.model.features(plain.variables, images).maps,
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet51"}, "did you mean 'resnet50'"),
        ({"name": "resnet50"}, "no weights of resnet50 are at hand"),
        ({"name": "cifar_resnet20", "layer": "layer9"}, "its modules: .*layer3/block2"),
        ({"name": "cifar_resnet20", "layer": "laye3"}, "did you mean 'layer3'"),
        ({"name": "cifar_resnet20", "weights": "random", "num_classes": 0}, "at least"),
    ],
)
def test_wrong_requests_say_what_there_is(arguments, message):
    with pytest.raises(ValueError, match=message):
        pretrained.load(**arguments)


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.pth"):
        pretrained.load("cifar_resnet20", weights=tmp_path / "nothing.pth")
    text = tmp_path / "notes.pth"
    text.write_text("not weights")
    with pytest.raises(ValueError, match="notes.pth"):
        pretrained.load("cifar_resnet20", weights=text)


@pytest.mark.exhaustive
def test_timm_names_say_which_efficientnet_lite_is_meant(tmp_path):
    """One set of names stands for two networks; the name or the file tells."""
    name, network = zoo.find("efficientnet_lite0")
    module = network.build(num_classes=2)
    variables = drawing.random_variables(module, network)
    arrays = {}
    for path, leaf in tree.flatten(variables).items():
        leaf = np.asarray(leaf)
        array = leaf.transpose(3, 2, 0, 1) if leaf.ndim == 4 else leaf.T
        arrays[layouts.their_name(path, network.layouts["timm"])] = array
    plain = tmp_path / "model.safetensors"
    readers.write_safetensors(plain, arrays)
    tensorflow = tmp_path / "tf_efficientnet_lite0.safetensors"
    readers.write_safetensors(tensorflow, arrays)
    found = {
        (asked, path.stem): pretrained.load(asked, weights=path).name
        for asked in (name, "tf_efficientnet_lite0")
        for path in (plain, tensorflow)
    }
    assert found == {
        (name, "model"): "timm_efficientnet_lite0",
        (name, "tf_efficientnet_lite0"): name,
        ("tf_efficientnet_lite0", "model"): name,
        ("tf_efficientnet_lite0", "tf_efficientnet_lite0"): name,
    }


def test_a_converted_file_knows_its_network(small, tmp_path):
    path = tmp_path / "ours.safetensors"
    metadata = {"format": "unlir_jax", "network": "cifar_resnet32"}
    readers.write_safetensors(path, tree.flatten(small.variables), metadata)
    with pytest.raises(ValueError, match="weights of cifar_resnet32, not of"):
        pretrained.load("cifar_resnet20", weights=path)


def test_weights_that_are_not_numbers_are_refused(torch_file, tmp_path):
    arrays = readers.read(torch_file)
    arrays["fc.bias"][3] = np.nan
    path = tmp_path / "nan.safetensors"
    readers.write_safetensors(path, arrays)
    with pytest.raises(ValueError, match="not finite in params/classifier/bias"):
        pretrained.load("cifar_resnet20", weights=path)


def test_a_packaged_file_of_other_bytes_is_refused(monkeypatch):
    known = backbone.NETWORKS["efficientnet_lite0"]
    wrong = known._replace(package=known.package._replace(sha256="0" * 64))
    monkeypatch.setitem(backbone.NETWORKS, "efficientnet_lite0", wrong)
    with pytest.raises(ValueError, match="SHA-256.*reinstall"):
        pretrained.load("efficientnet_lite0")


@pytest.mark.exhaustive
def test_importing_the_package_starts_no_backend_and_loads_no_flax():
    code = (
        "import sys, unlir_jax; assert 'flax' not in sys.modules; "
        "import unlir_jax.saliency, unlir_jax.metrics, unlir_jax.models.pretrained; "
        "from jax._src import xla_bridge; "
        "assert not xla_bridge.backends_are_initialized(); print(unlir_jax.__all__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "load" in run.stdout


def test_unknown_attributes_are_errors():
    with pytest.raises(AttributeError, match=re.escape("'nonsense'")):
        unlir_jax.nonsense  # noqa: B018
    assert "load" in dir(unlir_jax)
