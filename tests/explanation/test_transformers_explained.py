"""A vision transformer by name and file: listed, explained and scored by commands."""

import json

import numpy as np
import pytest
import small_network
import small_transformers as small

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
