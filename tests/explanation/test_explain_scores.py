"""`unlir explain` of networks that are no softmax classifiers."""

import json
import types

import numpy as np
import pytest
import score_worlds as world
import tiers
from PIL import Image

from unlir_jax import cli
from unlir_jax.explanation import explain
from unlir_jax.models import pretrained
from unlir_jax.split import scores
from unlir_jax.storage import files as record


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """Write a picture of 4 x 4 white pixels, the image of the worlds."""
    file = tmp_path_factory.mktemp("photo") / "white.png"
    Image.new("L", (world.SIDE, world.SIDE), 255).save(file)
    return str(file)


def give(monkeypatch, kind, outputs):
    """Let every name stand for a linear network; its images have three colours."""
    model = world.NETWORKS[kind]
    grey = model._replace(
        features=lambda v, images: model.features(v, images.mean(-1, keepdims=True))
    )
    found = pretrained.Pretrained(
        model=grey,
        variables={},
        preprocess=lambda image: np.asarray(image),
        class_names=tuple(f"class {index}" for index in range(outputs)),
        image_size=world.SIDE,
        layer="maps",
        name=kind,
        module=types.SimpleNamespace(mean=(0.0,) * 3, deviation=(1.0,) * 3),
        source="nowhere",
        sha256="0" * 64,
        crop=1.0,
    )
    monkeypatch.setattr(pretrained, "load", lambda *args, **settings: found)


def command(photo, output, *more):
    words = ["explain", photo, "--model", "vgg11", "--method", "grad_cam,opti_cam"]
    words += ["--steps", "2", "--no-controls", "--output", str(output), *more]
    return cli.main(words)


@pytest.mark.parametrize(
    ("kind", "outputs", "score", "label", "expected"),
    tiers.by_tier(
        [
            ("single", 1, "logit", 0, {"value": 0.8}),
            (
                *("dense", 2, "region", 0),
                {"probability": world.inside(world.sigmoid)(0.8)},
            ),
            ("single", 1, "sigmoid", 0, {"probability": world.sigmoid(0.8)}),
            # Of -0.8, 0.8 and 0.5 the second is the most likely.
            ("labels", 3, "sigmoid", 1, {"probability": world.sigmoid(0.8)}),
            ("two", 2, "margin", 0, {"value": 0.8}),
        ],
        2,
    ),
)
def test_a_score_is_explained_measured_and_recorded(
    monkeypatch, photo, tmp_path, kind, outputs, score, label, expected
):
    give(monkeypatch, kind, outputs)
    assert command(photo, tmp_path / "out", "--score", score) == 0
    results = json.loads((tmp_path / "out" / record.RESULTS).read_text("utf-8"))
    settings, (entry,) = results["settings"], results["images"]
    assert settings["score"] == scores.NAMED[score].meaning
    for found in settings["contract"].values():
        assert found["settings"]["score"] == score
    for own in settings["hyper_parameters"].values():
        assert own["score"] == score
    assert entry["label"]["index"] == label
    ((key, value),) = expected.items()
    assert entry["label"][key] == pytest.approx(float(value), abs=1e-5)
    for row in entry["methods"].values():
        whole = value if key == "probability" else 1.0
        assert row["insertion_curve"][-1] == pytest.approx(float(whole), abs=1e-5)
        assert 0 <= row["average_drop"] <= 1 and 0 <= row["average_gain"] <= 1
    page = (tmp_path / "out" / explain.PAGE).read_text("utf-8")
    shown = "probability of the class" if key == "probability" else "share of the score"
    assert f"Insertion: {shown}" in page


@pytest.mark.parametrize(
    ("kind", "outputs", "score", "sentence"),
    [
        ("single", 1, (), "expected `score`='sigmoid', the probability of yes, or"),
        ("dense", 2, (), "expected `score`='region', 'region_sigmoid'"),
        ("two", 2, ("--score", "region"), "for others give 'softmax'"),
        ("two", 2, ("--score", "sofmax"), "did you mean 'softmax'?"),
        ("two", 2, ("--score", "nowhere:f"), "cannot be imported"),
        ("two", 2, ("--score", "score_worlds:SIDE"), "is a int; expected package"),
        ("two", 2, ("--score", "score_worlds:none"), "is nothing; expected package"),
        ("two", 2, ("--score", "score_worlds:all_of_them"), "one number an image"),
    ],
)
def test_what_a_network_does_not_give_is_one_sentence(
    monkeypatch, photo, tmp_path, capsys, kind, outputs, score, sentence
):
    give(monkeypatch, kind, outputs)
    assert command(photo, tmp_path / "out", *score) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said and "\n" not in said
    assert not (tmp_path / "out").exists()


def test_a_function_of_the_logits(monkeypatch, photo, tmp_path):
    give(monkeypatch, "embedding", 2)
    words = ["explain", photo, "--model", "vgg11", "--method", "grad_cam"]
    words += ["--no-controls", "--output", str(tmp_path / "out")]
    assert cli.main([*words, "--score", "score_worlds:ALIKE"]) == 0
    results = json.loads((tmp_path / "out" / record.RESULTS).read_text("utf-8"))
    (entry,) = results["images"]
    assert entry["label"]["value"] == pytest.approx(world.cosine(0.8), abs=1e-5)
    assert (
        results["settings"]["hyper_parameters"]["grad_cam"]["score"]
        == "score_worlds:ALIKE"
    )
