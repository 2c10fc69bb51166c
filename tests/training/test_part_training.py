"""Trainings of part networks, from a config to a network that explains itself."""

import json

import numpy as np
import pytest
from helpers import applied
from training.conftest import TINY

import unlir_jax
from unlir_jax import adapters, filters, tree
from unlir_jax.evaluation import evaluate
from unlir_jax.runtime import config
from unlir_jax.training import setup, train

DECISION = {"name": "descriptors", "layer": "auto", "parts": 4, "dimensions": (8, 8)}


def settings(folder, *overrides, decision=DECISION, cache=True):
    changed = config.load(str(TINY), ["steps=2", *overrides])
    with changed.unlocked():
        changed.model.decision = decision
        changed.data.augment = ""
        changed.data.train_options = {"size": 60}
        changed.features.cache = cache
        changed.features.folder = str(folder / "features")
        changed.start.parts, changed.start.classifier = "kmeans", "ridge"
        changed.optimizer.learning_rate = 1e-3
        changed.optimizer.table = (
            ("classifier/(kernel|bias)", {}),
            (".*", {} if not cache else None),
        )
    return changed


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    outcome = train.run(settings(folder), folder / "run")
    return folder, outcome


@pytest.mark.exhaustive
def test_the_summary_measures_parts_beside_baselines_and_controls(finished):
    folder, outcome = finished
    summary = json.loads((folder / "run" / "summary.json").read_text())
    for name in (
        *("test/accuracy", "test/keypoint_share_top30", "test/nmi", "test/ari"),
        *("test/part_cosine", "test/mask_nmi", "test/assignment_entropy"),
        *("baseline/average_pooling", "baseline/max_pooling", "baseline/gem_pooling"),
        *("control/position_nmi", "start/left_out_accuracy"),
        *("test/consistency", "test/stability", "test/purity_top10"),
        "test/part_overlap",
    ):
        assert (-0.1 if name == "test/ari" else 0) <= summary[name] <= 1, name
    for name in ("removal", "swap", "keypoint_removal"):
        low, mean, high = (
            summary[f"test/{name}_spearman{end}"] for end in ("_low", "", "_high")
        )
        assert -1 <= low < mean < high <= 1
    assert (
        abs(summary["test/region_drop"]) < 1 > abs(summary["test/random_region_drop"])
    )
    # Of four parts, whose contributions are not alike.
    assert 1 < summary["test/parts_for_95_percent"] < 4
    assert (folder / "run" / "parts.json").is_file()
    assert "test/nmi" in outcome.message
    assert "_low" not in outcome.message and "_high" not in outcome.message


@pytest.mark.exhaustive
def test_a_workdir_is_a_part_network(finished):
    folder, outcome = finished
    network = unlir_jax.load(str(folder / "run"))
    images = np.random.default_rng(0).random((2, 32, 32, 3)).astype(np.float32)
    maps = network.model.features(network.variables, images).maps
    reading = applied(network.module)(network.variables, maps, method="read")
    assert reading.contributions.shape == (2, 4, 6)
    logits = network.model.head(
        network.variables, network.model.features(network.variables, images)
    )
    total = reading.contributions.sum(1) + reading.bias[None]
    np.testing.assert_allclose(total, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.exhaustive
def test_a_workdir_is_evaluated_like_any_network(finished, tmp_path):
    folder, _ = finished
    wanted = config.load(
        f"configs/evaluate.py:model={folder / 'run'},methods=parts+grad_cam,"
        "metrics=average_drop+pointing_game,data=synthetic_parts",
        ["batch_size=4", "statistics.resamples=50", "controls=False"],
    )
    with wanted.unlocked():
        wanted.data.options = {"classes": 6, "image_size": 32, "size": 6}
    found = evaluate.run(wanted, tmp_path / "run").summary
    assert found["about"]["weights"]["source"] == "weights.safetensors"
    assert found["about"]["labelled_by"] == "names of classes"
    # Of the training's 40 pictures and these 6, all are different ones.
    twice = found["about"]["duplicates"]
    assert twice["count"] == 0 and twice["compared"] == twice["of"] > 6
    # These pictures come with masks of the object.
    for name in ("parts/average_drop", "parts/pointing_game", "grad_cam/pointing_game"):
        assert found[name]["n"] == 6


@pytest.mark.exhaustive
def test_a_finished_training_is_left_alone(tmp_path):
    """Nothing is tested: what is measured then takes most of the time."""
    given = settings(tmp_path, "data.test=")
    outcome = train.run(given, tmp_path / "run")
    assert (tmp_path / "run" / "parts.json").is_file()
    again = train.run(given, tmp_path / "run")
    assert "Nothing to do" in again.message
    assert 0 <= outcome.summary["start/left_out_accuracy"] <= 1
    assert again.summary == outcome.summary


def test_a_start_in_closed_form_needs_kept_features(tmp_path):
    with pytest.raises(ValueError, match="expected features.cache=True"):
        train.run(settings(tmp_path, cache=False), tmp_path / "run")


def test_more_parts_than_regions_are_refused_before_anything_is_written(tmp_path):
    many = DECISION | {"parts": 257}
    with pytest.raises(ValueError, match="has 256 regions; expected 1 to 256 parts"):
        train.run(settings(tmp_path, decision=many), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.exhaustive
def test_proposals_learn_with_the_trunk_that_they_look_at(tmp_path):
    decision = {"name": "bag", "parts": 6, "dimensions": (8, 0), "boxes": 4}
    decision |= {"region": "proposals", "assignment": "learned", "dropout": 0.0}
    changed = settings(tmp_path, "data.test=", decision=decision, cache=False)
    changed.start.parts = changed.start.classifier = "random"
    with changed.unlocked():
        terms = {"binary": 0.1, "consistency": 0.1, "equivariance": 0.1}
        changed.objective = {"name": "parts", "terms": terms, "anneal": 0.5}
        changed.optimizer.table = ((".*", {}),)
    before = tree.flatten(setup.prepare(changed).state.params)
    before = {path: np.asarray(leaf) for path, leaf in before.items()}
    summary = train.run(changed, tmp_path / "run").summary
    after = tree.flatten(unlir_jax.load(str(tmp_path / "run")).variables["params"])
    learnt = {path for path, leaf in before.items() if (after[path] != leaf).any()}
    proposals = {f"classifier/proposals/{name}" for name in ("places", "sides")}
    proposals |= {f"classifier/proposals/{name}" for name in ("queries", "kernel")}
    assert proposals <= learnt
    assert {"classifier/gates", "backbone/stem/conv/kernel"} <= learnt
    for term in terms:
        assert 0 <= summary[f"train/{term}"] <= 1


@pytest.mark.exhaustive
def test_an_adapter_weighs_the_trunk_before_anything_is_looked_at(tmp_path):
    frozen = setup.prepare(settings(tmp_path)).network
    trunk = {
        name: frozen.variables[name]["backbone"] for name in ("params", "batch_stats")
    }
    weights = filters.init(trunk, "layer3/.*", "output")
    weights = {name: 0 * np.asarray(leaf) + 1.5 for name, leaf in weights.items()}
    file = adapters.save(
        tmp_path / "adapter.safetensors",
        weights,
        backbone=frozen.name,
        fingerprint=adapters.fingerprint(trunk),
    )
    weighed = setup.prepare(settings(tmp_path, f"model.adapter={file}"))
    found = tree.flatten(weighed.state.params["backbone"])
    raised = 0
    for path, leaf in tree.flatten(trunk["params"]).items():
        gated = path.startswith("layer3") and path.endswith(("norm/scale", "norm/bias"))
        raised += gated
        np.testing.assert_allclose(found[path], leaf * (1.5 if gated else 1), rtol=1e-6)
    assert raised
