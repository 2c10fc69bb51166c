"""One score for a whole evaluation, and options of single methods that differ."""

import json

import numpy as np
import pytest
import score_worlds as world
import small_network
from pyarrow import parquet

from unlir_jax import cli
from unlir_jax.evaluation import evaluate, scorers, setup
from unlir_jax.evaluation import settings as default_settings
from unlir_jax.explanation import explainers
from unlir_jax.runtime import config
from unlir_jax.split import scores

METRICS = "average_drop+average_gain+insertion"
CONFIG = (
    "configs/evaluate.py:model=cifar_resnet8,methods=grad_cam+rise,metrics=" + METRICS
)


def made(*overrides):
    """Give the settings of methods and metrics as an evaluation takes them."""
    found = config.load(CONFIG, default_settings.renamed(overrides))
    score = explainers.find_score(found.score) if found.score else None
    methods = setup._parameters(
        ("grad_cam", "rise"), found.method_options.to_dict(), score
    )
    options = found.metric_options.to_dict()
    return methods, scorers._values(found.metrics, options, (), score)


def scores_of(given):
    return {n: scores.recorded(settings["score"]) for n, settings in given.items()}


def test_one_score_reaches_all_but_those_that_have_their_own():
    methods, metrics = made()
    assert scores_of(methods) == {"grad_cam": "logit", "rise": "softmax"}
    assert set(scores_of(metrics).values()) == {"softmax"}
    methods, metrics = made("score=sigmoid", "method_options.grad_cam.score=logit")
    assert scores_of(methods) == {"grad_cam": "logit", "rise": "sigmoid"}
    assert set(scores_of(metrics).values()) == {"sigmoid"}
    former = "--config.method_options.grad_cam.target=margin"
    assert scores_of(made(former)[0])["grad_cam"] == "margin"
    hand_made = {"grad_cam": {"target": "margin"}}
    found = setup._parameters(("grad_cam",), hand_made, scores.NAMED["sigmoid"])
    assert found["grad_cam"]["score"] == "margin"


def test_metrics_of_different_scores_are_computed_apart():
    sigmoid = scores.NAMED["sigmoid"]
    model, names = world.NETWORKS["two"], ("average_drop", "average_gain")
    together, _ = scorers.make(model, names, {}, (), sigmoid)
    assert [tuple(each.columns) for each in together] == [names]
    options = {"average_gain": {"score": "logit"}}
    apart, contracts = scorers.make(model, names, options, (), sigmoid)
    assert [tuple(each.columns) for each in apart] == [(name,) for name in names]
    assert contracts["average_gain"]["settings"]["score"] == "logit"
    assert contracts["average_drop"]["settings"]["score"] == "sigmoid"


def test_an_unknown_score_is_refused_before_the_network_is_loaded(tmp_path):
    found = config.load(CONFIG, ["score=sigmod", f"data.path={tmp_path}"])
    with pytest.raises(ValueError, match="did you mean 'sigmoid'"):
        setup.prepare(found)


FORMER = {
    "methods": ["grad_cam", "rise"],
    "method_options": {
        "grad_cam": {"target": "logit", "rectify": True},
        "rise": {"masks": 9, "target": "margin"},
        "opti_cam": {"steps": 5},
    },
    "metric_options": {
        "aopc_morf": {"patch": 7, "score": "probability"},
        "insertion": {"steps": 4},
    },
}


def test_settings_of_an_earlier_version_are_those_of_today():
    found = default_settings.renewed(FORMER)
    assert found["method_options"] == {
        "grad_cam": {"score": "", "rectify": True},
        "rise": {"masks": 9, "score": "margin"},
        "opti_cam": {"steps": 5},
    }
    assert found["metric_options"]["aopc_morf"] == {"patch": 7, "score": ""}
    assert default_settings.renewed({"score": ""} | FORMER) == {"score": ""} | FORMER


@pytest.mark.exhaustive
def test_an_evaluation_without_bounds_and_one_that_an_earlier_version_began(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    small_network.write_noise(pictures, 4)
    words = ["evaluate", "--config", CONFIG.replace("+rise", ""), "--workdir"]
    words += [str(tmp_path / "run"), "--score", "logit"]
    given = {"data.path": pictures, "model.weights": "random", "batch_size": 4}
    given |= {"controls": False, "metric_options.insertion.steps": 4}
    words += [f"--config.{name}={value}" for name, value in given.items()]
    assert cli.main(words) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["about"]["score"] == "logit"
    for contract in summary["contract"].values():
        assert contract["score"] == "logit of the label"
        assert contract["unbounded"].startswith("(s - b) / (c - b)")
    values = parquet.read_table(tmp_path / "run" / "per_image.parquet")["value"]
    assert np.isfinite(values).all()
    # Begun with neither `score` nor the settings of that name.
    plain = [word for word in words if word not in ("--score", "logit")]
    plain[plain.index(str(tmp_path / "run"))] = str(tmp_path / "old")
    assert cli.main(plain) == 0
    file = tmp_path / "old" / "config.json"
    old = json.loads(file.read_text())
    del old["score"]
    options = old["method_options"]["grad_cam"]
    options["target"] = "logit"
    for each in (options, *old["metric_options"].values()):
        each.pop("score", None)
    file.write_text(json.dumps(old))
    (tmp_path / "old" / evaluate.SUMMARY).unlink()
    assert cli.main(plain) == 0
