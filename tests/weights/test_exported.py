"""A trained network as one file says what it is for, and equal ones are equal."""

import json

import numpy as np
import pytest

from unlir_jax.weights import exported, readers

# A whole number that no float holds.
HUGE = f"[{'9' * 400}, 1, 1]"
LEAVES = {"params/b": np.arange(3.0, dtype=np.float32), "params/a": np.ones((2, 2))}
PURPOSE = exported.Purpose("cifar_resnet8", ("Bär", "cat, dog"), 48, 0.875)


def test_what_is_written_is_read(tmp_path):
    path = exported.write(tmp_path, LEAVES, PURPOSE)
    assert exported.find(tmp_path) == path
    assert exported.purpose(path) == PURPOSE
    assert exported.pooling(exported.header(path)) == ""
    pooled = PURPOSE._replace(pooling="gem")
    exported.write(tmp_path, LEAVES, pooled)
    assert exported.purpose(path) == pooled
    assert exported.pooling(exported.header(path)) == "gem"
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
    [
        *({"image_size": size} for size in ("many", "0", "4097", "40000", "9" * 5000)),
        *({"crop": crop} for crop in ("2", "1e-9", "0.04", "0", "nan", "inf", "x")),
        {"image_size": "4096", "crop": "0.4"},
        *(
            {"class_names": names}
            for names in ("{", '"ab"', '{"a": 1}', "[1, 2]", "[[]]", "[" * 100_000)
        ),
        *({"decision": text} for text in ("[" * 100_000, "3", "{")),
        *({"mean": text} for text in ("[1, 2]", "[NaN, 0, 0]", "[1e300, 0, 0]", "{}[")),
        *(
            {"deviation": text}
            for text in ("[0, 1, 1]", "[1e-30, 1, 1]", "[[], 1, 1]", HUGE)
        ),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(changed, tmp_path):
    path = exported.write(tmp_path, LEAVES, PURPOSE)
    metadata = readers.read_metadata(path) | changed
    readers.write_safetensors(path, LEAVES, metadata, overwrite=True)
    with pytest.raises(ValueError, match=r"[Hh]eader of '.*expected") as caught:
        exported.purpose(path)
    assert len(str(caught.value)) < 600


def test_the_bounds_themselves_are_taken(tmp_path):
    for size, crop in ((1, 1.0), (4096, 0.5), (224, 0.05), (400, 0.05)):
        purpose = PURPOSE._replace(image_size=size, crop=crop)
        assert exported.purpose(exported.write(tmp_path, LEAVES, purpose)) == purpose


def test_finished_weights_are_those_of_their_summary(tmp_path):
    path = exported.write(tmp_path, LEAVES, PURPOSE)
    true = readers.sha256(path)
    exported.check_hash(path, true)  # There is no summary yet.
    summary = tmp_path / exported.SUMMARY
    summary.write_text(json.dumps({"weights_sha256": true}))
    exported.check_hash(path, true)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    now = readers.sha256(path)
    with pytest.raises(ValueError, match=rf"{now}.*summary.json.*{true}.*expected"):
        exported.check_hash(path, now)
    exported.check_hash(tmp_path / "other.safetensors", now)
    summary.write_text("[]")  # Of an evaluation, or of anybody.
    exported.check_hash(path, now)
    summary.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"summary.json' is nested too deeply"):
        exported.check_hash(path, now)


def test_a_folder_without_weights_says_why(tmp_path):
    with pytest.raises(ValueError, match="holds no weights.safetensors"):
        exported.find(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is not finished"):
        exported.find(tmp_path)
