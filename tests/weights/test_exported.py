"""A trained network as one file says what it is for, and equal ones are equal."""

import numpy as np
import pytest

from unlir_jax.weights import exported, readers

LEAVES = {"params/b": np.arange(3.0, dtype=np.float32), "params/a": np.ones((2, 2))}
PURPOSE = exported.Purpose("cifar_resnet8", ("Bär", "cat, dog"), 48, 0.875)


def test_what_is_written_is_read(tmp_path):
    path = exported.write(tmp_path, LEAVES, PURPOSE)
    assert exported.find(tmp_path) == path
    assert exported.purpose(path) == PURPOSE and exported.pooling(path) == ""
    pooled = PURPOSE._replace(pooling="gem")
    exported.write(tmp_path, LEAVES, pooled)
    assert exported.purpose(path) == pooled and exported.pooling(path) == "gem"
    for name, leaf in readers.read(path).items():
        np.testing.assert_array_equal(leaf, LEAVES[name])


def test_equal_networks_are_equal_files(tmp_path):
    """Even where names come in another order."""
    (tmp_path / "other").mkdir()
    one = exported.write(tmp_path, LEAVES, PURPOSE)
    turned = dict(reversed(LEAVES.items()))
    other = exported.write(tmp_path / "other", turned, PURPOSE)
    assert one.read_bytes() == other.read_bytes()


def test_a_file_of_other_origin_has_no_purpose(tmp_path):
    path = tmp_path / "weights.safetensors"
    readers.write_safetensors(path, LEAVES, {"format": "pt"})
    assert exported.purpose(path) is None
    assert exported.purpose(tmp_path / "weights.pth") is None


@pytest.mark.parametrize(
    "changed",
    [{"image_size": "many"}, {"image_size": "0"}, {"crop": "2"}, {"class_names": "{"}],
)
def test_a_header_that_makes_no_sense_is_refused(changed, tmp_path):
    path = exported.write(tmp_path, LEAVES, PURPOSE)
    metadata = readers.read_metadata(path) | changed
    readers.write_safetensors(path, LEAVES, metadata, overwrite=True)
    with pytest.raises(ValueError, match="header of"):
        exported.purpose(path)


def test_a_folder_without_weights_says_why(tmp_path):
    with pytest.raises(ValueError, match="holds no weights.safetensors"):
        exported.find(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is not finished"):
        exported.find(tmp_path)
