"""Every config that is shipped says what it is for, and can be read."""

import re
from pathlib import Path

import pytest

from unlir_jax.data import presets
from unlir_jax.evaluation import scorers, setup
from unlir_jax.evaluation import settings as evaluation
from unlir_jax.evaluation.robustness import settings as robustness
from unlir_jax.explanation import explainers
from unlir_jax.few_shot import settings as adaptation
from unlir_jax.objectives import constraints
from unlir_jax.open_set import settings as open_sets
from unlir_jax.runtime import config
from unlir_jax.training import defaults
from unlir_jax.weak_detection import settings as detectors

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
EVALUATIONS = [
    path.stem for path in CONFIGS if "evaluation import settings" in path.read_text()
]
# Whose settings are not a training's.
OTHERS = dict.fromkeys(EVALUATIONS, evaluation.evaluation)
OTHERS |= {"few_shot": adaptation.few_shot, "robustness": robustness.robustness}
OTHERS["open_set"] = open_sets.open_set
OTHERS["weak_detection"] = detectors.weak_detection


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_says_what_to_expect_and_how(path):
    docstring = re.match(r'r?"""(.*?)"""', path.read_text(), re.DOTALL)[1]
    evaluates = path.stem in (*EVALUATIONS, "robustness", "open_set")
    command = "evaluate" if evaluates else "train"
    assert f"unlir {command} --config configs/{path.name}" in docstring
    assert "--workdir" in docstring
    assert "Expected:" in docstring and "Time:" in docstring
    assert "EXPECTED" not in docstring


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_has_the_settings_of_all(path):
    settings = config.load(str(path))
    whole = OTHERS.get(path.stem, defaults.training)()
    known = set(config._flatten(config.to_dict(whole)))
    free = ("data.options", "data.train_options", "data.test_options")
    free += ("objective.terms", "model.decision", "method_options", "metric_options")
    free += ("attack_options", "score_options")
    free += ("objective.anneal", "objective.weight", "objective.distance")
    free += ("objective.detached", "model.attention_pooling")
    free += ("objective.method", "objective.norm", "objective.epsilon")
    free += ("objective.steps", "objective.step_size", "objective.random_start")
    free += ("objective.patches", "objective.share", "objective.colour")
    free += ("objective.layers", "objective.drop_rate", "objective.threshold")
    free += ("objective.replays", "objective.gamma", "objective.alpha")
    free += ("objective.aim", "objective.crafting_mode", "objective.evaluation_steps")
    for name in config._flatten(config.to_dict(settings)):
        optional = name.startswith((*free, "optimizer.options"))
        assert name in known or optional, name
    assert settings.is_locked
    if path.stem not in OTHERS:
        chosen = settings.probe.choose and not settings.steps
        assert (settings.steps > 0) + (settings.epochs > 0) + chosen == 1


SWEPT = [path for path in CONFIGS if "def get_variants(" in path.read_text()]


@pytest.mark.parametrize("path", SWEPT, ids=lambda path: path.stem)
def test_variants_can_name_folders(path):
    assert config.variants(str(path))


STUDIES = [path for path in SWEPT if "arms=" in path.read_text()]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_single_training_of_a_study_refuses_what_the_study_would(path):
    with pytest.raises(ValueError, match="`arms` has 'nothing'; expected some of"):
        config.load(f"{path}:arms=nothing")
    with pytest.raises(ValueError, match="`seeds`=0; expected 1 or more"):
        config.load(f"{path}:seeds=0")
    if "weight=7.5e-3" in path.read_text():
        with pytest.raises(ValueError, match=r"`weight`=-1\.0; expected 0 or more"):
            config.load(f"{path}:weight=-1")


@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluations_name_what_there_is(name):
    """Every method, metric and setting; the argument reaches all."""
    found = config.load(f"configs/{name}.py")
    chosen = explainers.check(tuple(found.methods), by_parts=False)
    setup._parameters(chosen, found.method_options.to_dict())
    wanted = scorers.check(tuple(found.metrics))
    scorers._values(wanted, found.metric_options.to_dict(), ())
    more = ",refine=none" if name in ("localization", "segmentation") else ""
    given = f"methods=cam,metrics=road,model=resnet18{more}"
    less = config.load(f"configs/{name}.py:{given}")
    assert (less.methods, less.metrics) == (("cam",), ("road",))
    assert less.model.name == "resnet18"


def test_every_setting_of_a_method_and_a_metric_can_be_given():
    wanted = (
        "configs/evaluate.py:methods=gradcam+occlusion,metrics=max_iou+deletion@mean"
    )
    given = {"method_options.grad_cam.score": "margin", "labels": "predicted"}
    given |= {"method_options.occlusion.window": 8, "metric_options.deletion.steps": 3}
    given |= {"metric_options.max_iou.chosen_on": "evaluated"}
    found = config.load(wanted, config.as_overrides(given))
    chosen = setup._parameters(
        ("grad_cam", "occlusion"), found.method_options.to_dict()
    )
    assert chosen["grad_cam"] == {"score": "margin", "rectify": True}
    assert chosen["occlusion"]["window"] == 8
    values = scorers._values(found.metrics, found.metric_options.to_dict(), ())
    assert values["deletion@mean"]["steps"] == 3
    assert values["deletion@mean"]["baseline"] == "mean"
    assert values["max_iou"]["chosen_on"] == "evaluated"
    # Whoever changes the methods afterwards need not clear away their defaults.
    setup._parameters(
        ("cam", "occlusion"), config.load(wanted).method_options.to_dict()
    )
    with pytest.raises(ValueError, match="did you mean .*grad_cam.score"):
        config.load(wanted, ["method_options.grad_cam.scores=margin"])


def test_steps_of_the_paper():
    found = config.load("configs/opti_cam_table3.py:steps=28")
    assert found.metric_options.insertion.steps == 28
    found = config.load("configs/opti_cam_table6.py:objective=diff,normalization=max")
    assert found.method_options.opti_cam.objective == "diff"


def test_a_packaged_config_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config.load("configs/quickstart.py") == config.load("quickstart.py")


@pytest.mark.parametrize("name", [*presets.PREPARED, *presets.SYNONYMS, "elpv"])
def test_data_sets_by_name(name):
    for file in ("linear_probe", "fine_tune", "supervised"):
        settings = config.load(f"configs/{file}.py:data={name}")
        kind = "elpv" if name == "elpv" else "tfds"
        assert settings.data.source == kind
        assert settings.model.weights == ("random" if file == "supervised" else None)


@pytest.mark.parametrize(
    "method",
    [
        *("descriptors", "unsupervised", "few_label", "fine_tune", "bag"),
        *("prototypes", "projection", "landmarks", "scratch", "pod"),
    ],
)
def test_parts_by_method(method):
    settings = config.load(f"configs/train_parts.py:method={method},parts=3")
    decision = settings.model.decision.to_dict()
    assert decision.get("parts", decision.get("per_class")) == 3
    terms = settings.objective.get("terms", {})
    assert not set(terms) - set(constraints.TERMS)
    assert not terms or set(terms) == set(constraints.TERMS)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="`method`='bags'"):
        config.load("configs/train_parts.py:method=bags")


def test_any_prepared_data_set():
    settings = config.load("configs/supervised.py:data=tfds:mine")
    assert settings.data.options.name == "mine"


def test_unknown_data_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match="did you mean 'cars196'"):
        config.load("configs/fine_tune.py:data=cars19")
