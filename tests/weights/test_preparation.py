"""Pictures are prepared as the weights' file, config or publisher says."""

import json

import numpy as np
import pytest

from unlir_jax.models import zoo
from unlir_jax.weights import contents, preparation, readers

SAID = {
    "input_size": [3, 288, 288],
    "crop_pct": 0.95,
    "interpolation": "bicubic",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
}
PREPARED = (288, 0.95, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
HASH = "0" * 64


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    readers.write_safetensors(path, {"w": np.ones(2, np.float32)}, {"format": "pt"})
    return path


def find(path, sha256=HASH, is_other=lambda architecture: False):
    known = zoo.networks()["resnet50"].prepared
    header = readers.read_metadata(path) if path.exists() else {}
    file = contents.WeightFile(contents.Contents({}, dict), header, sha256)
    return preparation.find(str(path), path, file, is_other, known)


def test_nothing_is_said(file):
    assert find(file) == preparation.Preparation()


@pytest.mark.parametrize(
    "config",
    [
        {"architecture": "resnet50", "pretrained_cfg": SAID | {"tag": "a1_in1k"}},
        {"architecture": "resnet50", **SAID},  # As timm < 0.9 wrote it.
    ],
)
def test_the_config_of_timm(file, config):
    (file.parent / "config.json").write_text(json.dumps(config))
    found = find(file)
    assert found[:5] == PREPARED and found.origin == "config.json of resnet50"
    assert find(file, is_other=lambda name: name == "resnet50")[:5] == (None,) * 5


@pytest.mark.parametrize(
    "header",
    [{name: json.dumps(v) for name, v in SAID.items()}, {"interpolation": "bicubic"}],
)
def test_the_header_goes_first(file, header):
    readers.write_safetensors(file, {"w": np.ones(2)}, header, overwrite=True)
    (file.parent / "config.json").write_text(
        json.dumps({"architecture": "x", "crop_pct": 0.5})
    )
    found = find(file)
    assert found.interpolation == "bicubic" and "header" in found.origin
    assert found.crop == (0.95 if "crop_pct" in header else None)


def test_other_files_of_that_name_say_nothing(file):
    for config in ({"data": {"crop": 0.5}}, {"architectures": ["ViT"]}, [1]):
        (file.parent / "config.json").write_text(json.dumps(config))
        assert find(file) == preparation.Preparation()
    (file.parent / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        find(file)


@pytest.mark.parametrize(
    ("name", "sha256"),
    [("resnet50-11ad3fa6.pth", HASH), ("mine.pth", "11ad3fa6" + "0" * 56)],
)
def test_torchvisions_second_weights_are_known(tmp_path, name, sha256):
    path = tmp_path / name
    found = find(path, sha256)
    assert found.image_size == 224 and "IMAGENET1K_V2" in found.origin
    assert found.image_size / found.crop == pytest.approx(232)
    assert find(tmp_path / "resnet50-0676ba61.pth").crop is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop_pct": 1.5},
        {"crop_pct": "0.9"},
        {"crop_mode": "squash"},
        {"input_size": [3, 224, 256]},
        {"input_size": [1, 28, 28]},
        {"std": [0.5, 0.5, 0]},
        *({"std": [0.5, 0.5, far]} for far in (1e-30, 1e30, int("9" * 400))),
        {"mean": [0.5]},
        *({"mean": [0.5, 0.5, far]} for far in (-1e30, float("nan"), int("9" * 400))),
        {"interpolation": 3},
    ],
)
def test_what_cannot_be_followed_is_refused(file, wrong):
    config = {"architecture": "resnet50", "pretrained_cfg": wrong}
    (file.parent / "config.json").write_text(json.dumps(config))
    (key,) = wrong
    with pytest.raises(ValueError, match=f"config.json of resnet50 has {key}="):
        find(file)
