"""Trainings of networks that pool by attention, from a config to a map."""

import json

import jax
import numpy as np
import pytest
import small_network
from training.conftest import TINY

import unlir_jax
from unlir_jax import saliency, split, tree
from unlir_jax.evaluation import evaluate
from unlir_jax.features import cache
from unlir_jax.models import pretrained
from unlir_jax.runtime import config
from unlir_jax.training import attention_start, pooling, setup, train
from unlir_jax.training import state as states
from unlir_jax.weights import exported

TABLE = (("(pool|classifier)/.*", {}), (".*", None))
STREAM = {"name": "ca_stream", "classifier": "auto", "stages": "layer3"}


def settings(folder, wanted=STREAM, weights="random", cache=True):
    changed = config.load(str(TINY), ["steps=3", "data.augment="])
    with changed.unlocked():
        usual = {"classifier": "auto", "classifier_start": "random"}
        changed.model.attention_pooling = usual | wanted
        changed.model.weights = str(weights)
        changed.model.freeze_norms = True
        changed.features.cache = cache
        changed.features.folder = str(folder / "features")
        changed.optimizer.table = TABLE
    return changed


def write(folder, names):
    """Write weights that name their classes."""
    arrays = small_network.draw(num_classes=len(names))
    exported.write(folder, arrays, exported.Purpose(small_network.NAME, names, 32, 1.0))
    return folder / exported.FILE


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pooling")
    return folder, train.run(settings(folder), folder / "run")


def test_a_workdir_is_a_network_that_pools_by_attention(finished):
    folder, outcome = finished
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert 0 <= summary["test/accuracy"] <= 1
    assert summary["classifier"] == {"from": "new", "learns": True}
    network = unlir_jax.load(str(folder / "run"))
    assert network.module.stages == ("layer3",)
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    labels = np.array([0, 5])
    model, variables = network.model, network.variables
    map_ = saliency.attention_pooling(model)(variables, images, labels)
    assert map_.shape == (2, 8, 8) and (np.ptp(map_, axis=(1, 2)) > 0).all()
    packed = network.module.apply(variables, images, method="features")
    logits = network.module.apply(variables, packed, method="head")
    found = split.whole(model)(variables, images)
    np.testing.assert_allclose(found, logits, rtol=1e-5, atol=1e-5)


@pytest.mark.exhaustive
def test_a_workdir_is_evaluated(finished, tmp_path):
    folder, _ = finished
    wanted = config.load(
        f"configs/evaluate.py:model={folder / 'run'},"
        "methods=attention_pooling+grad_cam,metrics=average_drop"
    )
    with wanted.unlocked():
        wanted.data.source = "synthetic_parts"
        wanted.data.options = {"classes": 6, "image_size": 32, "size": 4}
        wanted.data.path = ""
    evaluate.run(wanted, tmp_path / "scores")
    assert "Attention pooling" in (tmp_path / "scores" / "summary.md").read_text()


@pytest.mark.exhaustive
@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("name", ["simpool", "efficient_probing"])
def test_its_summary_is_of_the_network_that_is_written(tmp_path, name, cache):
    wanted = settings(tmp_path, {"name": name}, cache=cache)
    outcome = train.run(wanted, tmp_path / "run")
    begun, network = setup.prepare(wanted), unlir_jax.load(str(tmp_path / "run"))
    rows = [begun.data.test.read(place) for place in range(begun.data.test.size)]
    images = np.stack([row["image"] for row in rows]).astype(np.float32) / 255
    logits = split.whole(network.model)(network.variables, images)
    labels = np.array([row["label"] for row in rows])
    losses = -jax.nn.log_softmax(logits)[np.arange(len(rows)), labels]
    np.testing.assert_allclose(losses.mean(), outcome.summary["test/loss"], rtol=1e-4)


def test_a_classifier_that_knows_the_classes_is_chosen_by_name(tmp_path):
    names = ("ant", "bee", "cat", "dog")
    network = pretrained.load(
        small_network.NAME,
        write(tmp_path, names),
        trunk_only=True,
        decision={"name": "simpool"},
    )
    assert not network.new_classifier
    known, said = pooling.for_classes(network, ("dog", "bee"), 0)
    assert not known.new_classifier and known.module.num_classes == 2
    assert "'dog', 'bee'" in said[0]
    own, taken = (tree.flatten(n.variables) for n in (network, known))
    path = "params/classifier/kernel"
    np.testing.assert_array_equal(taken[path], own[path][:, [3, 1]])
    some, said = pooling.for_classes(network, ("dog", "eel"), 0)
    assert some.new_classifier and "new are 'eel'" in said[0]
    same, said = pooling.for_classes(network, names, 0)
    assert not same.new_classifier and not said


def test_ca_stream_leaves_a_classifier_that_fits_as_it_is(tmp_path):
    begun = setup.prepare(settings(tmp_path))
    names = begun.data.train.classes
    weights = write(tmp_path, names)
    begun = setup.prepare(settings(tmp_path, weights=weights))
    learning = [path for path, rule in begun.rules.items() if rule.train]
    assert {path.partition("/")[0] for path in learning} == {"pool"}
    assert any("does not learn" in sentence for sentence in begun.notices)
    learned = settings(tmp_path, STREAM | {"classifier": "learned"}, weights)
    probing = settings(tmp_path, {"name": "efficient_probing"}, weights)
    for wanted in (learned, probing):
        begun = setup.prepare(wanted)
        assert begun.rules["classifier/kernel"].train
    with pytest.raises(ValueError, match="'frozen', but the weights' own does not"):
        setup.prepare(settings(tmp_path, STREAM | {"classifier": "frozen"}))
    with pytest.raises(ValueError, match="classifier`='kept'"):
        setup.prepare(settings(tmp_path, STREAM | {"classifier": "kept"}))
    both = settings(tmp_path)
    with both.unlocked():
        both.model.decision = {"name": "bag"}
    with pytest.raises(ValueError, match="expected one of them"):
        setup.prepare(both)


@pytest.mark.exhaustive
def test_a_new_classifier_is_that_of_average_pooling(tmp_path):
    """The same seed, batches and steps give the same classifier; then it is frozen."""
    weights = write(tmp_path, [f"other {number}" for number in range(4)])
    wanted = settings(tmp_path, STREAM | {"classifier_start": "average"}, weights)
    plain = settings(tmp_path, {"name": ""}, weights)
    with plain.unlocked():
        plain.probe.pooling = "average"
        plain.optimizer.table = (("classifier/.*", {}), (".*", None))
    expected = train.run(plain, tmp_path / "plain").summary
    summary = train.run(wanted, tmp_path / "run").summary
    assert summary["classifier"] == {"from": "new", "learns": False}
    assert summary["average_pooling"]["steps"] == expected["steps"] == 3
    own, found = (
        tree.flatten(unlir_jax.load(str(tmp_path / name)).variables)
        for name in ("plain", "run")
    )
    for name in ("kernel", "bias"):
        path = f"params/classifier/{name}"
        np.testing.assert_allclose(found[path], own[path], rtol=1e-4, atol=1e-6)
    without = settings(tmp_path, STREAM | {"classifier_start": "average"}, cache=False)
    with pytest.raises(ValueError, match="classifier_start`='average' trains"):
        setup.prepare(without)


def test_packed_features_fit_the_size_of_the_images(tmp_path):
    wanted = settings(tmp_path)
    with wanted.unlocked():
        wanted.data.image_size = 16
    begun = setup.prepare(wanted)
    assert begun.network.module.cells == (64, 16)
    packed = jax.eval_shape(
        lambda images: begun.network.module.init_with_output(
            jax.random.key(0), images, method="features"
        )[0],
        jax.ShapeDtypeStruct((1, 16, 16, 3), np.float32),
    )
    assert packed.shape == (1, 1, 1, 64 * 32 + 16 * 64)


def test_kept_features_belong_to_their_stages(tmp_path):
    found = []
    for wanted in (STREAM, STREAM | {"stages": ""}, {"name": "simpool"}):
        begun = setup.prepare(settings(tmp_path, wanted))
        found.append(
            cache.identity(
                begun.data.train,
                states.variables(begun.state),
                begun.network.module,
                name=begun.network.name,
                **begun.frame,
            )
        )
    assert found[0]["stages"] == ["layer3"] and found[0] != found[1]
    assert found[1] == found[2]


@pytest.mark.exhaustive
def test_efficient_probing_starts_in_closed_form(tmp_path):
    wanted = {"name": "efficient_probing", "start": "parts", "queries": 4}
    chosen = settings(tmp_path, wanted)
    with chosen.unlocked():
        chosen.optimizer.learning_rate = chosen.optimizer.weight_decay = 0.0
    summary = train.run(chosen, tmp_path / "run").summary
    # Of few images of noise, none may be right.
    assert 0 <= summary["start/left_out_accuracy"] <= 1
    network = unlir_jax.load(str(tmp_path / "run"))
    assert network.module.pool.start == "parts"
    leaves = tree.flatten(network.variables)
    values = leaves["params/pool/values"]
    assert not np.array_equal(values, np.eye(len(values)))
    with pytest.raises(ValueError, match="start`='parts' fits queries to kept"):
        train.run(settings(tmp_path, wanted, cache=False), tmp_path / "other")


def test_a_rate_of_its_own_learns_what_else_has_a_closed_form():
    path = "configs/attention_pooling.py:pooling=efficient_probing"
    closed = config.load(path)
    assert closed.model.attention_pooling.start == "parts"
    assert closed.optimizer.table[0] == ("pool/.*", None)
    learned = config.load(f"{path},rate=3e-4")
    assert learned.model.attention_pooling.start == "average"
    assert learned.optimizer.table[0][1]["learning_rate"] == 3e-4
    for wrong in ("average,rate=1", "simpool,recipe=resnet,rate=1", "simpool,rate=-1"):
        with pytest.raises(ValueError, match="`rate`="):
            config.load(f"configs/attention_pooling.py:pooling={wrong}")


@pytest.mark.parametrize("few", [1, 200])
def test_attention_starts_behind_classifiers_that_have_not_seen_the_image(
    few, tmp_path, monkeypatch
):
    monkeypatch.setattr(attention_start, "FEW", few)
    wanted = STREAM | {"start": "left_out", "classifier_start": "average"}
    chosen = settings(tmp_path, wanted)
    with chosen.unlocked():
        chosen.optimizer.table = (
            ("pool/.*", {"learning_rate": 0.0, "weight_decay": False}),
            ("classifier/.*", {}),
            (".*", None),
        )
    summary = train.run(chosen, tmp_path / "run").summary
    assert 0.01 <= summary["start/temperature"] <= 100
    if few == 1:
        steps, losses = summary["start/steps"], summary["start/left_out_losses"]
        assert 0 <= steps <= summary["steps"] and losses["0"] > 0
        assert str(steps) in losses
        return
    assert "start/steps" not in summary
    leaves = tree.flatten(unlir_jax.load(str(tmp_path / "run")).variables)
    last = leaves["params/pool/last/kernel"]
    np.testing.assert_array_equal(last, np.eye(len(last)))
    assert np.any(leaves["params/pool/link0/kernel"])
    with pytest.raises(ValueError, match="start`='left_out' fits attention to kept"):
        pooling.fitted_first(settings(tmp_path, wanted, cache=False))


RULES = {
    "all are better": ([-1, -2, -3], (0, 0, 0), 30, 4),
    "worse for a while": ([0.3, -0.1, 0.3], (0, 0, 0), 20, 4),
    "the least": ([-0.5, -0.7, -0.6], (0, 0, 0), 20, 4),
    "more errors": ([-1, -2, -3], (0, 1, 1), 10, 4),
    "the first is worse": ([2, -9, -9], (0, 0, 0), 0, 2),
}


@pytest.mark.parametrize("case", RULES)
def test_attention_learns_as_long_as_left_out_images_allow(
    case, monkeypatch, unchecked
):
    """The paired differences have a standard error of a half."""
    excess, errors, expected, count = RULES[case]
    kept = cache.Features(np.zeros((12, 1)), np.repeat(np.arange(4), 3), np.ones(12))
    spread = np.sqrt(0.75) * np.asarray([1, -1, 1, -1])
    table = {0: (np.full(4, 9.0), 0)} | {
        step: (9 + each + spread, wrong)
        for step, each, wrong in zip((10, 20, 30), excess, errors, strict=True)
    }
    sides = {}

    def attend(*_, known, goes_further, **others):
        sides["known"] = known
        all(goes_further(step, step) for step in (10, 20, 30))

    def losses(module, kept, judges, places, batch_size):
        sides["held"] = places
        return lambda step: table[step]

    monkeypatch.setattr(attention_start, "attend", attend)
    monkeypatch.setattr(attention_start, "_losses", losses)
    given = None, 0, kept, None
    steps, found = attention_start.choose_steps(
        *given, steps=30, rate=None, batch_size=4, seed=0
    )
    assert steps == expected and len(found) == count
    assert sorted([*sides["known"], *sides["held"]]) == list(range(12))


def test_images_are_dealt_out_to_folds_class_by_class():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 9))
    weight = np.where(np.arange(36) == 5, 0.0, 1.0)
    found = attention_start.deal(labels, weight, 3, 0)
    kept = weight > 0
    counts = np.zeros((4, 3), int)
    np.add.at(counts, (labels[kept], found[kept]), 1)
    assert counts.min() >= 2 and counts.max() == 3
    kept = cache.Features(np.zeros((36, 1)), labels, weight)
    assert attention_start._fewest(kept, 4) == 8
    assert attention_start._fewest(kept, 5) == 0
