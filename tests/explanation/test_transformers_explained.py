"""A vision transformer by name and file: listed, explained and scored by commands."""

import json

import numpy as np
import pytest
import small_network
import small_transformers as small

import unlir_jax
from unlir_jax import cli
from unlir_jax.models import backbone
from unlir_jax.runtime import programs

NAME = "vit_small_patch8_32"


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Register a small network, and write its weights."""
    monkeypatch.setattr(programs, "keep", lambda: None)
    small.register(NAME)
    np.savez(tmp_path / "weights.npz", **small.state("timm_plain"))
    yield tmp_path / "weights.npz"
    del backbone.NETWORKS[NAME]


def test_layers_with_tokens_are_grids(file, capsys):
    assert cli.main(["models", NAME, "--json"]) == 0
    rows = {row["layer"]: row["shape"] for row in json.loads(capsys.readouterr().out)}
    assert rows["patches"] == rows["block1"] == rows["norm"] == [4, 4, 64]
    assert rows["block0/mlp/expand"] == [4, 4, 128]
    assert "block0/attention/weights" not in rows and "classifier" not in rows


@pytest.mark.exhaustive
def test_a_transformer_is_explained_and_scored(file, tmp_path):
    photos = small_network.write_noise(tmp_path, 4)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for path in photos.glob("*.png"):
        path.rename(pictures / path.name)
    words = ["--model", NAME, "--weights", str(file)]
    out = ["--output", str(tmp_path / "out"), "--quiet"]
    methods = ["--method", "grad_cam,attention_rollout"]
    photo = str(next(pictures.glob("*.png")))
    assert cli.main(["explain", photo, *words, *methods, *out]) == 0
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written
    words = ["evaluate", "--workdir", str(tmp_path / "scores")]
    words += ["--config"]
    words += [f"configs/evaluate.py:model={NAME},methods=grad_cam,metrics=insertion"]
    words += [f"--config.model.weights={file}", f"--config.data.path={pictures}"]
    words += ["--config.labels=predicted", "--config.statistics.resamples=100"]
    assert cli.main(words) == 0
    assert (tmp_path / "scores" / "summary.json").is_file()


@pytest.mark.exhaustive
def test_images_are_found_by_the_grid_of_another_size(file, tmp_path):
    photos = small_network.write_noise(tmp_path, 4)
    first, *_ = sorted(photos.glob("*.png"))
    words = ["retrieve", str(first), "--index", str(photos), "--model", NAME]
    words += ["--weights", str(file), "--image-size", "48", "--quiet"]
    assert cli.main([*words, "--output", str(tmp_path / "alike")]) == 0
    found = json.loads((tmp_path / "alike" / "results.json").read_text())
    assert found["image_size"] == 48


def test_what_does_not_fit_the_tokens_is_a_sentence(file):
    network = unlir_jax.load(NAME, file)
    images = np.zeros((1, 48, 48, 3), np.float32)
    apply = network.module.apply
    with pytest.raises(ValueError, match=r"6 x 6 patches.*positions of 4 x 4"):
        apply(network.variables, images)
    maps = apply(network.variables, images[:, :32, :32], method="features")
    assert maps.shape == (1, 4, 4, 64)
    with pytest.raises(ValueError, match="tokens before it.*head_at"):
        apply(network.variables, maps, method="head")
