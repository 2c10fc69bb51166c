"""Objectives from elsewhere, their options and hooks, and what a checkpoint notes."""

import ast
import importlib
import inspect
import json
import shutil
import sys

import numpy as np
import pytest
from training.conftest import TINY

import unlir_jax
from unlir_jax import objectives, tree
from unlir_jax.objectives import robust_evaluation
from unlir_jax.runtime import config
from unlir_jax.training import run_record, train
from unlir_jax.training.run_record import RunRecord

TOY = '''
"""An objective with a hook at each end, as somebody else may write one."""

import jax
from unlir_jax.objectives.classify import evaluation
from unlir_jax.objectives.objective import Hook, Objective, Outcome
from unlir_jax.objectives.registry import objective
from unlir_jax.objectives import losses, network


@objective
def squared(apply, classes, *, scale=1.0, floor):
    def train(variables, batch, key):
        logits, statistics = apply.train(variables, network.pixels(batch["image"]), key)
        wanted = losses.targets(batch["label"], classes)
        loss = ((jax.nn.softmax(logits) - wanted) ** 2).sum(-1)
        return Outcome(floor + scale * loss, {}, statistics)

    def begin(variables, session):
        params = {**variables["params"], "classifier": jax.tree.map(
            lambda leaf: 0 * leaf + 0.25, variables["params"]["classifier"])}
        return {**variables, "params": params}, {"toy/calls": 1}

    def end(variables, session):
        return jax.tree.map(lambda leaf: leaf / 2, variables), {"toy/ended": True}

    return Objective(train, *evaluation(apply, classes), (Hook(begin, end),))
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    (tmp_path / "toy_objective.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("toy_objective")
    yield
    del objectives.OBJECTIVES["squared"], sys.modules["toy_objective"]


def settings(*overrides, **objective):
    found = config.load(str(TINY), ["steps=3", "checkpoint.every=2", *overrides])
    with found.unlocked():
        found.optimizer.learning_rate = 0.0
        found.objective = objective
    return found


@pytest.mark.exhaustive
def test_an_objective_of_another_module_is_found_trained_and_resumed(toy, tmp_path):
    chosen, folder = settings(name="squared", scale=2.0, floor=5.0), tmp_path / "run"
    first = train.run(chosen, folder).summary
    assert first["toy/calls"] == 1 and first["toy/ended"] is True
    # At rate 0 the classifier is what the first hook made, halved by the second.
    params = unlir_jax.load(str(folder)).variables["params"]
    for leaf in tree.flatten(params["classifier"]).values():
        np.testing.assert_array_equal(leaf, 0.125)
    # Equal logits: 2 ((1 - 1/6)^2 + 5 / 36) above the floor.
    assert first["train/loss"] == pytest.approx(5 + 2 * 30 / 36, abs=1e-5)
    for name in ("summary.json", "weights.safetensors"):
        (folder / name).unlink()
    shutil.rmtree(folder / "checkpoints" / "3")
    lines = []
    again = train.run(chosen, folder, say=lines.append).summary
    assert "Going on from step 2 of 3." in lines
    for name in ("toy/calls", "toy/ended", "weights_sha256", "train/loss"):
        assert again[name] == first[name]
    assert "Nothing to do" in train.run(chosen, folder).message


@pytest.mark.parametrize(
    ("objective", "sentence"),
    [
        ({"name": "squared"}, "`objective.floor` is missing; expected the value"),
        ({"name": "squared", "floor": 0.0, "mixup": 0.5}, "expected .* scale, floor"),
        ({"name": "parts", "mixup": 0.2}, "`objective.mixup`=0.2 is no option of 'par"),
        ({"name": "classify", "anneal": 0.5}, "`objective.anneal`=0.5 is no option of"),
        ({"name": "square"}, "`objective.name`='square'; expected one of .*squared"),
    ],
)
def test_options_are_those_of_the_objective(toy, objective, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        train.run(settings(**objective), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.exhaustive
def test_another_objective_may_leave_usual_options_as_they_are(toy, tmp_path):
    usual = {"mixup": 0.0, "cutmix": 0.0, "label_smoothing": 0.0}
    chosen = settings(name="squared", floor=0.0, **usual)
    assert train.run(chosen, tmp_path / "run").summary["toy/ended"] is True


@pytest.mark.exhaustive
def test_a_notice_is_said_and_kept(tmp_path, monkeypatch):
    def told(known, best, steps, single_step):
        names = [name for name in sorted(known) if "accuracy" in name]
        return f"{steps} steps, best at {best['step']}, {names[1:3]}, {single_step}"

    monkeypatch.setattr(robust_evaluation, "overfitting", told)
    chosen = settings(
        "steps=2",
        "evaluate.every=1",
        **{"name": "adversarial", "method": "fast", "evaluation_steps": 1},
    )
    lines = []
    summary = train.run(chosen, tmp_path / "run", say=lines.append).summary
    best = summary["best/step"]
    names = ["test/fgsm_accuracy", "test/robust_accuracy"]
    sentence = f"1 steps, best at {best}, {names}, True"
    assert summary["notice"] == sentence
    assert f"step 2: {sentence}" in lines
    rows = [
        json.loads(line)
        for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert any("test/robust_accuracy" in row for row in rows)


def test_a_name_belongs_to_one_module():
    def classify(apply, classes):
        """Have a name that is taken."""

    with pytest.raises(ValueError, match="`classify` is an objective of unlir_jax"):
        objectives.registry.objective(classify)
    assert objectives.OBJECTIVES["classify"] is objectives.classify


def test_the_trainer_imports_no_client():
    parsed = ast.parse(inspect.getsource(train))
    modules = {n.module for n in ast.walk(parsed) if isinstance(n, ast.ImportFrom)}
    rooms = {name.split(".")[1] for name in modules if name.startswith("unlir_jax.")}
    assert rooms and not rooms & {"parts", "filters", "adapters", "models", "report"}


RECORD = RunRecord(
    train={"train/loss": 0.5},
    test={"test/loss": 0.25},
    best={"step": 2, "test/loss": 0.125},
    unreadable={"train": ["a.png"], "test": []},
    means={"values": {"loss": 1.5}, "count": 3},
    clock={"images": 32, "seconds": 0.5, "waited": 0.0},
    start={"start/left_out_accuracy": 0.5},
)


@pytest.mark.parametrize("record", [RunRecord(), RECORD])
def test_a_record_is_read_as_it_was_written(record):
    kept = json.loads(json.dumps(run_record.document(record)))
    assert run_record.read(kept) == record
    # What there is not is left out, as earlier versions did.
    assert "duplicates" not in kept and ("start" in kept) == bool(record.start)


@pytest.mark.parametrize(
    "damage",
    [
        {"train": []},
        {"best": {"step": "two"}},
        {"unreadable": {"train": []}},
        {"unreadable": {"train": [], "test": "a"}},
        {"means": {"values": {}}},
        {"means": {"values": {"loss": "much"}, "count": 1}},
        {"clock": {"images": 1, "seconds": 2.0}},
        {"start": ["accuracy"]},
        {"duplicates": 3},
    ],
    ids=str,
)
def test_what_is_no_record_is_refused(damage):
    with pytest.raises(ValueError, match="not those of a training"):
        run_record.read(run_record.document(RECORD) | damage)
    for kept in (None, [], {}, {"train": {}}):
        with pytest.raises(ValueError, match="not those of a training"):
            run_record.read(kept)


@pytest.mark.parametrize(("largest", "best"), [(True, [1, 2, 2]), (False, [1, 1, 1])])
def test_the_best_evaluation_is_the_first_of_equal_ones(largest, best):
    record = RunRecord()
    for step, value, expected in zip((1, 2, 3), (0.5, 0.75, 0.75), best, strict=True):
        record = run_record.with_test(record, {"a": value}, step, "a", largest)
        assert record.best["step"] == expected and record.test == {"a": value}
