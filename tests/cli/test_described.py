"""`unlir methods NAME`, `unlir metrics` and `unlir metrics NAME`."""

import json

import pytest

from unlir_jax import cli, metrics, saliency
from unlir_jax.explanation import descriptions, explainers

METHOD_KEYS = (
    *("name", "title", "summary", "family", "formula", "signed", "signed_with"),
    *("head", "passes", "source", "synonyms", "settings"),
)
METRIC_KEYS = (
    *("name", "title", "summary", "better", "scale", "needs", "family", "question"),
    *("contract", "fooled_by", "passes", "source", "variants", "outputs", "caution"),
    "settings",
)


@pytest.mark.parametrize("name", [*saliency.METHODS, explainers.PARTS])
def test_a_method_is_described(name):
    found = json.loads(json.dumps(descriptions.method(name)))
    assert tuple(found) == METHOD_KEYS
    told = {key: found[key] for key in METHOD_KEYS if key not in ("signed", "synonyms")}
    for key in ("title", "summary", "formula", "passes", "source"):
        assert told[key], key
    own = explainers.defaults(name)
    assert list(found["settings"]) == list(own)
    for setting, about in found["settings"].items():
        assert about["default"] == json.loads(json.dumps(own[setting]))
        assert about["meaning"], setting
        assert not about["meaning"].endswith(":")


@pytest.mark.parametrize("name", metrics.FACTORIES)
def test_a_metric_is_described(name):
    found = json.loads(json.dumps(descriptions.metric(name)))
    assert tuple(found) == METRIC_KEYS
    assert found["better"] == metrics.SPECS[name].better
    assert set(found["contract"]) == {*metrics.Contract._fields, "resize"}
    for setting, about in found["settings"].items():
        assert about["meaning"], setting


def shown(capsys, *words):
    assert cli.main(list(words)) == 0
    return capsys.readouterr().out


def test_what_people_see(capsys):
    text = shown(capsys, "methods", "rise")
    assert "\npasses   `masks` (4000) forwards" in text
    assert "\nsigned with:\n  centered  True\n" in text
    assert "Also: steps, samples, regions, stages." in text
    assert max(map(len, text.splitlines())) <= 88
    text = shown(capsys, "metrics", "insertion@mean")
    assert "better     higher" in text and "\n  baseline       mean\n" in text
    text = shown(capsys, "metrics")
    assert all(f"\n{name} " in text for name in metrics.FACTORIES)
    assert "grad_cam" not in text


def test_what_programs_read(capsys):
    found = json.loads(shown(capsys, "methods", "gradcam", "--json"))
    assert found["name"] == "grad_cam" and found["synonyms"] == ["gradcam"]
    assert found["signed_with"] == {"rectify": [False]} and not found["signed"]
    assert found["settings"]["score"]["aliases"] == ["target"]
    found = json.loads(shown(capsys, "metrics", "--json"))
    assert list(found["metrics"]) == list(metrics.FACTORIES)
    found = json.loads(shown(capsys, "metrics", "insertion@mean", "--json"))
    assert found["name"] == "insertion@mean"
    assert found["settings"]["baseline"]["default"] == "mean"


REFUSED = {
    "methods grad_cm": "did you mean 'grad_cam', ",
    "methods insertion": "is not an explainer",
    "metrics insertio": "did you mean 'insertion'",
    "metrics iou@mean": "'iou' has no variants",
}


@pytest.mark.parametrize("line", REFUSED)
def test_a_name_that_there_is_not(line, capsys):
    assert cli.main(line.split()) == 2
    said = capsys.readouterr()
    assert REFUSED[line] in said.err and len(said.err.splitlines()) == 1
    assert not said.out
