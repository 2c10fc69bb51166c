"""A method and a metric of somebody else: one file each, and the rest follows."""

import importlib
import json
import sys
import types

import pytest
import small_network

from unlir_jax import cli, metrics, saliency
from unlir_jax.evaluation import evaluate
from unlir_jax.explanation import explainers
from unlir_jax.metrics import spec as metric_spec
from unlir_jax.report import words
from unlir_jax.runtime import config
from unlir_jax.saliency import spec as explainer_spec

EXPLAINER = '''
from unlir_jax import maps, split
from unlir_jax.saliency import explainer


@explainer(
    title="Bright spots",
    family="toys",
    formula="luminance to a power",
    passes="0",
    source="nobody",
    synonyms=("luminance_map",),
)
def bright_spots(model, *, power=1):
    """Mark what is bright."""

    @split.guarded(model)
    def explain(variables, images, labels, *, key=None):
        return maps.luminance(images) ** power

    return explain
'''
METRIC = '''
import jax.numpy as jnp

from unlir_jax.metrics import metric
from unlir_jax.metrics.spec import MAP, RAW


@metric(
    title="Dimness",
    better="lower",
    needs="map",
    family="toys",
    meaning="How bright is the map?",
    contract=MAP._replace(normalization=RAW),
    fooled_by="night",
    passes="0",
    source="nobody",
    scale="number",
)
def dimness(model, *, factor=1.0):
    """Measure the mean of the map."""

    def score(variables, images, labels, saliency, *, key=None):
        return {"dimness": factor * jnp.mean(jnp.asarray(saliency), axis=(1, 2))}

    return score
'''


@pytest.fixture
def registries():
    """Forget at the end what a test registers."""
    tables = [
        (table, table.copy())
        for module in (explainer_spec, metric_spec)
        for name, table in vars(module).items()
        if name.isupper() and isinstance(table, dict | set)
    ]
    yield
    for table, before in tables:
        table.clear()
        table.update(before)
    explainers.load_plugins.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch, registries):
    """Install a package of two modules, with the entry points of its own."""
    folder = tmp_path / "site"
    about = folder / "unlir_toys-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: unlir-toys\nVersion: 1.0\n"
    )
    (about / "entry_points.txt").write_text(
        "[unlir_jax]\nmethod = toy_method\nmetric = toy_metric\n"
    )
    (folder / "toy_method.py").write_text(EXPLAINER)
    (folder / "toy_metric.py").write_text(METRIC)
    monkeypatch.syspath_prepend(folder)
    explainers.load_plugins.cache_clear()
    yield folder
    for name in ("toy_method", "toy_metric"):
        sys.modules.pop(name, None)


def test_a_method_and_a_metric_of_another_package(package, tmp_path, capsys):
    assert cli.main(["methods"]) == 0
    listed = capsys.readouterr().out
    assert "\nbright_spots " in listed and "Mark what is bright." in listed
    assert "\ndimness " in listed and "Measure the mean of the map." in listed
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    small_network.write_noise(pictures, 4)
    given = config.load(
        "configs/evaluate.py:model=cifar_resnet8,methods=luminance_map+random,"
        "metrics=dimness",
        [
            *(f"data.path={pictures}", "model.weights=random", "controls=False"),
            *("batch_size=4", "statistics.resamples=20", "gallery=1", "devices=1"),
            *("method_options.bright_spots.power=2", "metric_options.dimness.factor=3"),
        ],
    )
    evaluate.run(given, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 0 < summary["bright_spots/dimness"]["mean"] < 3
    assert summary["contract"]["dimness"]["higher_is_better"] is False
    assert summary["contract"]["dimness"]["settings"] == {"factor": 3}
    for name in ("summary.md", "report.html"):
        text = (tmp_path / "run" / name).read_text("utf-8")
        assert "Bright spots" in text and "Dimness ↓" in text


def test_a_package_that_cannot_be_imported_is_named(package, capsys):
    (package / "toy_metric.py").write_text("import nothing_of_this_name")
    assert cli.main(["methods"]) == 2
    assert "'toy_metric' cannot be imported (No module" in capsys.readouterr().err


def test_a_metric_has_a_direction_and_a_name_of_its_own(registries):
    fields = metrics.SPECS["iou"]._asdict()
    with pytest.raises(TypeError, match="better"):
        metrics.metric(**{k: v for k, v in fields.items() if k != "better"})
    with pytest.raises(ValueError, match="`better`='up' is unknown; expected one of"):
        metrics.metric(**fields | {"better": "up"})(toy("mine"))
    with pytest.raises(ValueError, match="`needs`='luck' is unknown; expected one of"):
        metrics.metric(**fields | {"needs": "luck"})(toy("mine"))
    with pytest.raises(ValueError, match="`iou` is a metric of unlir_jax.*pixels;"):
        metrics.metric(**fields)(toy("iou"))
    with pytest.raises(ValueError, match="`saliency` is an explainer of unlir_jax"):
        saliency.explainer(**saliency.SPECS["rise"]._asdict())(toy("saliency"))
    assert "mine" not in metrics.FACTORIES and metrics.SPECS["iou"].title == "IoU"


def toy(name):
    """Make a factory of nothing."""
    return types.FunctionType((lambda model: None).__code__, {"__name__": "toys"}, name)


def test_a_name_that_nobody_registered_has_no_direction():
    with pytest.raises(ValueError, match="'accuracy' is no metric"):
        words.arrow("accuracy")
    assert words.method_title("their_method") == "Their method"


def test_every_public_name_of_a_method_is_its_factory():
    for module, table in ((saliency, saliency.METHODS), (metrics, metrics.FACTORIES)):
        for name, factory in table.items():
            assert getattr(module, name) is factory
            home = importlib.import_module(factory.__module__)
            assert getattr(home, name) is factory
