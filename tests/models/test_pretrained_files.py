"""Files of trainers load as what they are, and say which weights they have."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import tiers
from PIL import Image

from unlir_jax import split, tree
from unlir_jax.data import pipeline, source
from unlir_jax.models import backbone, conversion, pretrained, zoo
from unlir_jax.training import init_from
from unlir_jax.weights import exported, layouts, readers

NAME = "cifar_resnet8"


@pytest.fixture(scope="module")
def drawn():
    return [pretrained.load(NAME, "random", seed=seed) for seed in (0, 1)]


def theirs(network, prefix=""):
    """Write a network down in torchvision's names and axes."""
    prefixes = zoo.find(NAME)[1].layouts["torchvision"]
    arrays = {}
    for path, leaf in tree.flatten(network.variables).items():
        leaf = np.asarray(leaf)
        array = leaf.transpose(3, 2, 0, 1) if leaf.ndim == 4 else leaf.T
        name = prefix + layouts.their_name(path, prefixes)
        arrays[name] = np.ascontiguousarray(array)
    return arrays


def write(path, arrays, **metadata):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        readers.write_safetensors(path, arrays, metadata)
    return path


def same(found, network):
    return tree.sha256(found.variables) == tree.sha256(network.variables)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_averaged_weights_by_default_and_others_by_key(drawn, tmp_path, suffix):
    raw, mean = drawn
    both = theirs(raw, "model.") | theirs(mean, "model_ema.module.")
    path = write(tmp_path / f"both{suffix}", both)
    found = pretrained.load(NAME, path)
    assert same(found, mean) and found.weights_key == "model_ema.module"
    assert found.source == f"{path} (model_ema.module, averaged)"
    found = pretrained.load(NAME, path, weights_key="model")
    assert same(found, raw) and found.source == f"{path} (model, as trained)"
    assert pretrained.provenance(found)["key"] == "model"


def test_a_changed_file_is_refused_with_the_prefix_and_the_names(drawn, tmp_path):
    arrays = theirs(drawn[0], "net.module.") | {"loss.w": np.ones(3)}
    assert same(pretrained.load(NAME, write(tmp_path / "a.npz", arrays)), drawn[0])
    del arrays["net.module.bn1.bias"]
    arrays["net.module.fc.bias"] = np.ones(11, np.float32)
    arrays["net.module.layer2.0.se.weight"] = np.ones(3, np.float32)
    with pytest.raises(ValueError) as caught:
        pretrained.load(NAME, write(tmp_path / "b.npz", arrays))
    said = str(caught.value)
    total = len(tree.flatten(drawn[0].variables))
    assert f"{total - 1} of {total} names match after 'net.module'" in said
    assert "1 missing: bn1.bias" in said and "unexpected: layer2.0.se.weight" in said
    assert "fc.weight (10, 64)" in said and "another network" not in said


def test_a_file_without_classifier(drawn, tmp_path):
    arrays = theirs(drawn[0], "backbone.")
    trunk = {name: a for name, a in arrays.items() if ".fc." not in name}
    path = write(
        tmp_path / "a.safetensors", trunk | {"backbone.fc.0.weight": np.ones(2)}
    )
    with pytest.raises(ValueError, match=r"no classifier.*fc.weight.*num_classes=N"):
        pretrained.load(NAME, path)
    found = pretrained.load(NAME, path, num_classes=3)
    assert found.variables["params"]["classifier"]["kernel"].shape == (64, 3)
    assert found.source.endswith("(without backbone.fc.0.weight)")
    for part in ("stem", "layer3"):
        ours = drawn[0].variables["params"][part]
        assert tree.sha256(found.variables["params"][part]) == tree.sha256(ours)
    assert same(
        pretrained.load(NAME, path, trunk_only=True),
        pretrained.load(NAME, path, num_classes=10),
    )


def test_a_classifier_on_other_maps_is_not_drawn_anew(drawn, tmp_path):
    arrays = theirs(drawn[0]) | {"fc.weight": np.ones((10, 32), np.float32)}
    path = write(tmp_path / "a.npz", arrays)
    for classes in (None, 10):
        with pytest.raises(ValueError, match=r"1 mis-shaped: fc.weight \(10, 32\)"):
            pretrained.load(NAME, path, num_classes=classes)


def test_half_precision_is_read_to_the_bit(drawn, tmp_path):
    half = {n: jnp.asarray(a, jnp.bfloat16) for n, a in theirs(drawn[0]).items()}
    found = pretrained.load(NAME, write(tmp_path / "a.safetensors", half))
    kernel = found.variables["params"]["stem"]["conv"]["kernel"]
    expected = half["conv1.weight"].astype(jnp.float32).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)


@pytest.fixture
def prepared(drawn, tmp_path):
    said = {
        "input_size": [3, 40, 40],
        "crop_pct": 0.95,
        "interpolation": "bicubic",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.5, 0.25, 0.125],
    }
    config = {"architecture": "mine", "pretrained_cfg": said}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return write(tmp_path / "model.safetensors", theirs(drawn[0]))


PIXELS = np.random.default_rng(0).integers(0, 256, (61, 83, 3), np.uint8)


def test_weights_are_given_the_pictures_that_they_want(drawn, prepared):
    found = pretrained.load(NAME, prepared)
    assert (found.image_size, found.crop, found.interpolation) == (40, 0.95, "bicubic")
    assert found.prepared_by == "config.json of mine"
    # Resized to 40 / 0.95 = 42.1, rounded down, and cut.
    whole = Image.fromarray(PIXELS).resize((57, 42), Image.Resampling.BICUBIC)
    expected = np.asarray(whole.crop((8, 1, 48, 41)), np.float32) / 255
    picture = found.preprocess(PIXELS)
    np.testing.assert_array_equal(picture, expected)
    # What its first convolution sees is (x - mean) / deviation.
    usual = drawn[0].module
    mine = (picture - [0.5, 0.4, 0.3]) / [0.5, 0.25, 0.125]
    as_usual = mine * usual.deviation + usual.mean
    np.testing.assert_allclose(
        split.whole(found.model)(found.variables, jnp.asarray(picture)[None]),
        split.whole(drawn[0].model)(drawn[0].variables, jnp.asarray(as_usual)[None]),
        atol=1e-4,
    )
    assert found.model.mean == (0.5, 0.4, 0.3)


def test_training_and_evaluation_see_the_same_pixels(prepared):
    found = pretrained.load(NAME, prepared)
    data = source.Source(
        lambda index: {"image": PIXELS, "label": 0}, 1, ("a",), lambda index: "one"
    )
    (batch,) = pipeline.evaluation(
        data,
        batch_size=1,
        image_size=found.image_size,
        crop=found.crop,
        interpolation=found.interpolation,
    )
    np.testing.assert_array_equal(
        batch["image"][0].astype(np.float32) / 255, found.preprocess(PIXELS)
    )


def test_the_frame_can_be_set_and_is_recorded(prepared):
    found = pretrained.load(NAME, prepared, crop=1.0, interpolation="nearest")
    assert (found.crop, found.interpolation) == (1.0, "nearest")
    assert pretrained.prepared(found, image_size=32) == {
        "image_size": 32,
        "crop": 1.0,
        "interpolation": "nearest",
        "mean": [0.5, 0.4, 0.3],
        "deviation": [0.5, 0.25, 0.125],
        "said_by": "config.json of mine; crop as asked for; interpolation as asked "
        "for; image_size as set",
    }
    for wrong in ({"crop": 1.2}, {"interpolation": "cubic"}):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}`="):
            pretrained.load(NAME, prepared, **wrong)


def test_a_converted_file_keeps_the_frame(prepared, tmp_path):
    (tmp_path / "away").mkdir()
    output = tmp_path / "away" / "ours.safetensors"
    conversion.convert(NAME, prepared, output)
    first, again = pretrained.load(NAME, prepared), pretrained.load(NAME, output)
    assert same(again, first)
    for field in ("image_size", "crop", "interpolation", "class_names"):
        assert getattr(again, field) == getattr(first, field), field
    assert again.module == first.module
    (tmp_path / "config.json").unlink()
    purpose = exported.purpose(output)
    assert purpose.mean == (0.5, 0.4, 0.3)
    # An older file, which does not say, is bilinear.
    header = {
        name: text
        for name, text in readers.read_metadata(output).items()
        if name not in ("interpolation", "mean", "deviation")
    }
    arrays = readers.read(output)
    readers.write_safetensors(output, arrays, header, overwrite=True)
    assert exported.purpose(output).interpolation == "bilinear"
    assert pretrained.load(NAME, output).model.mean == backbone.CIFAR_MEAN


@pytest.mark.parametrize(
    "dtype",
    tiers.by_tier(
        [np.complex64, np.complex128, bool, np.int8, np.int64, np.uint8], {bool}
    ),
)
@pytest.mark.parametrize("every", [True, False])
def test_only_floating_point_numbers_are_weights(drawn, tmp_path, dtype, every):
    arrays = theirs(drawn[0])
    changed = arrays if every else ["fc.weight"]
    other = {name: arrays[name].astype(dtype) for name in changed}
    counter = {"bn1.num_batches_tracked": np.array(3)}
    path = tmp_path / "w.npz"
    np.savez(path, **arrays | other | counter)
    name = np.dtype(dtype).name
    with pytest.raises(ValueError, match=f"{name}.*expected floating point") as caught:
        pretrained.load(NAME, path)
    assert str(path) in str(caught.value) and "fc.weight" in str(caught.value) or every
    np.savez(path, **arrays | counter)
    assert same(pretrained.load(NAME, path), drawn[0])


def test_a_negative_variance_is_refused_by_its_name(drawn, tmp_path):
    arrays = theirs(drawn[0])
    name = next(name for name in arrays if name.endswith("running_var"))
    arrays[name] = arrays[name].copy()
    arrays[name][1] = -1e-3
    path = write(tmp_path / "w.safetensors", arrays)
    with pytest.raises(ValueError, match=rf"variance '{name}' .* -0.001; expected"):
        pretrained.load(NAME, path)
    with pytest.raises(ValueError, match=rf"variance '{name}'"):
        init_from.start_from(str(path), drawn[1].variables, zoo.find(NAME)[1])


def finished(folder, network):
    leaves = {p: np.asarray(x) for p, x in tree.flatten(network.variables).items()}
    path = exported.write(folder, leaves, pretrained.purpose(network))
    known = {"weights_sha256": readers.sha256(path)}
    (folder / exported.SUMMARY).write_text(json.dumps(known))
    return path


def test_a_flipped_bit_of_a_finished_training_is_noticed(drawn, tmp_path):
    path = finished(tmp_path, drawn[0])
    assert same(pretrained.load(str(tmp_path)), drawn[0])
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    for load in (
        lambda: pretrained.load(str(tmp_path)),
        lambda: pretrained.load(NAME, path),
        lambda: init_from.start_from(
            str(tmp_path), drawn[1].variables, zoo.find(NAME)[1]
        ),
    ):
        with pytest.raises(ValueError, match="SHA-256 .* summary.json beside it says"):
            load()
    (tmp_path / exported.SUMMARY).unlink()
    assert not same(pretrained.load(str(tmp_path)), drawn[0])


def test_names_of_classes_are_as_many_as_classes(drawn, tmp_path):
    purpose = pretrained.purpose(drawn[0])
    leaves = {p: np.asarray(x) for p, x in tree.flatten(drawn[0].variables).items()}
    for names in (purpose.class_names[:-1], (*purpose.class_names, "one more")):
        path = exported.write(tmp_path, leaves, purpose._replace(class_names=names))
        told = f"names {len(names)} classes, and its classifier has 10; expected"
        with pytest.raises(ValueError, match=told):
            pretrained.load(NAME, path)
        # Another classifier does not ask for them.
        assert pretrained.load(NAME, path, num_classes=3).class_names[0] == "class 0"
