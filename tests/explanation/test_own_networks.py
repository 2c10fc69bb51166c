"""Nine networks of newcomers: explained, scored and reported by the command line."""

import inspect
import json

import numpy as np
import own_networks
import pytest
import small_network

from unlir_jax import cli
from unlir_jax.explanation import explain
from unlir_jax.runtime import programs

METHODS = (
    *("grad_cam", "grad_cam_plus_plus", "xgrad_cam", "hires_cam", "layer_cam"),
    *("eigen_cam", "gradient", "input_x_gradient", "integrated_gradients"),
    "smooth_grad",
)
METRICS = (
    *("average_drop", "average_increase", "average_gain", "insertion", "deletion"),
    "sparseness",
)
# What each network's output is scored by; "" is the softmax of its classes.
SCORES = {
    **dict.fromkeys(("linen_cnn", "nnx_cnn", "nnx_vit", "equinox_cnn"), ""),
    **dict.fromkeys(("plain_function", "two_outputs"), ""),
    "multi_label": "sigmoid",
    "regression": "logit",
    "segmentation": "region",
}
FAST = ("plain_function",)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return small_network.write_noise(tmp_path_factory.mktemp("noise"), 4)


@pytest.fixture(autouse=True)
def _no_programs(monkeypatch):
    monkeypatch.setattr(programs, "keep", lambda: None)


def factory(name):
    """Name a network's factory; skip where something that it needs is not here."""
    if name == "equinox_cnn":
        pytest.importorskip("equinox", reason="Equinox is not installed")
    known = inspect.signature(explain.run).parameters
    if SCORES[name] and "score" not in known:
        pytest.skip("explain.run has no `score` yet")
    return f"own_networks:{name}"


def evaluate_words(name, photos, folder, methods=METHODS, metrics=METRICS):
    words = ["evaluate", "--model", factory(name), "--workdir", str(folder)]
    words += ["--config", f"configs/evaluate.py:methods={'+'.join(methods)},"]
    words[-1] += f"metrics={'+'.join(metrics)}"
    words += [f"--config.data.path={photos}", "--config.labels=predicted"]
    words += ["--config.batch_size=4", "--config.statistics.resamples=100"]
    words += ["--config.devices=1", "--quiet"]
    curves = {"insertion", "deletion"} & set(metrics)
    words += [f"--config.metric_options.{each}.steps=4" for each in sorted(curves)]
    return [*words, *(["--score", SCORES[name]] if SCORES[name] else [])]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", SCORES)
def test_ten_methods_by_six_metrics(name, photos, tmp_path):
    assert cli.main(evaluate_words(name, photos, tmp_path / "run")) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    for method in METHODS:
        for metric in METRICS:
            assert np.isfinite(summary[f"{method}/{metric}"]["mean"])
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FAST else pytest.mark.exhaustive)
        for name in SCORES
    ],
)
def test_a_report_by_the_command_line(name, photos, tmp_path):
    methods = METHODS[:1] if name in FAST else METHODS
    words = ["explain", str(photos), "--model", factory(name), "--quiet"]
    words += ["--output", str(tmp_path / "out"), "--method", ",".join(methods)]
    words += ["--score", SCORES[name]] if SCORES[name] else []
    assert cli.main(words) == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["model"] == found["weights"]["source"] == f"own_networks:{name}"
    assert len(found["weights"]["sha256"]) == 64
    assert found["settings"]["image_size"] == own_networks.SIZE
    for entry in found["images"]:
        assert set(entry["methods"]) == set(methods)
        for row in entry["methods"].values():
            assert np.isfinite(list(row["insertion_curve"])).all()
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"own_networks:{name}" in page


@pytest.mark.exhaustive
def test_an_evaluation_resumes_with_the_same_network_only(
    photos, tmp_path, monkeypatch, capsys
):
    asked = ("grad_cam",), ("average_drop", "cascading_randomization")
    folder = tmp_path / "run"
    words = evaluate_words("plain_function", photos, folder, *asked)
    words += ["--config.controls=False", "--config.gallery=0"]
    assert cli.main(words) == 0
    summary = (folder / "summary.json").read_text()
    # Scores of batches stay; what follows from them is made again.
    (folder / "summary.json").unlink()
    assert cli.main(words) == 0
    assert (folder / "summary.json").read_text() == summary

    plain = own_networks.plain_variables
    make = own_networks.plain_function

    def moved(outputs=own_networks.CLASSES):
        return {name: 2 * leaf for name, leaf in plain(outputs).items()}

    capsys.readouterr()
    monkeypatch.setattr(own_networks, "plain_variables", moved)
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "the weights of `model` have the hash" in said and said.count("\n") == 1

    monkeypatch.setattr(own_networks, "plain_variables", plain)
    rectify = own_networks.jax.nn.relu
    monkeypatch.setattr(own_networks.jax.nn, "relu", lambda x: rectify(x) ** 2)
    assert make().sha256 == json.loads(summary)["about"]["weights"]["sha256"]
    assert cli.main(words) == 2
    assert "the code has the hash" in capsys.readouterr().err
