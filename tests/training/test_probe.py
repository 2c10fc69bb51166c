"""A probe's pooling, decay and steps are chosen on held-out training pictures."""

import contextlib
import json

import numpy as np
import pytest
import safetensors.numpy

import unlir_jax
from unlir_jax.features import cache
from unlir_jax.models import conversion
from unlir_jax.runs import workdir
from unlir_jax.runtime import config, mesh, preemption
from unlir_jax.training import held_out, probe, probe_search, train
from unlir_jax.training import setup as setups
from unlir_jax.training import state as states

SMALL = (
    *("model.weights=random", "batch_size=12", "data.threads=1", "mesh.mode=jit"),
    *("probe.steps=(2, 4, 8)", "probe.weight_decays=(0.1, 20.0)", "evaluate.every=0"),
)


@pytest.fixture
def settings(pictures, tmp_path):
    """Give the settings of the default probe on a folder of small pictures."""

    def load(*overrides, path=pictures):
        own = (f"data.path={path}", f"features.folder={tmp_path / 'cache'}")
        return config.load(
            "configs/linear_probe.py:backbone=cifar_resnet8",
            [*SMALL, *own, *overrides],
        )

    return load


def weights(folder):
    return safetensors.numpy.load_file(folder / "weights.safetensors")


def prepared(settings, count=30, channels=64, classes=6):
    """Give a setup, and features of which the class can be told with some luck."""
    setup = setups.prepare(settings)
    generator = np.random.default_rng(0)
    label = (np.arange(count) % classes).astype(np.int32)
    rows = generator.normal(size=(count, 3, 1, channels))
    rows[np.arange(count), :, 0, label] += 2.0
    kept = cache.Features(np.abs(rows).astype(np.float32), label, np.ones(count))
    return setup, kept._replace(weight=kept.weight.astype(np.float32))


def test_every_picture_is_held_out_once_but_the_only_one_of_its_class():
    labels = np.array([0] * 20 + [1] * 11 + [2])
    weight = np.ones(32)
    weight[3] = 0
    folds = held_out.deal(labels, weight, seed=0)
    assert len(folds) == held_out.FOLDS
    outside = np.sort(np.concatenate([out for _, out in folds]))
    np.testing.assert_array_equal(outside, np.delete(np.arange(31), 3))
    for inside, out in folds:
        np.testing.assert_array_equal(
            np.sort(np.concatenate([inside, out])), np.delete(np.arange(32), 3)
        )
        assert {0, 1, 2} == set(labels[inside])


def test_too_few_pictures_are_not_held_out_and_too_many_only_in_part(monkeypatch):
    assert held_out.deal(np.arange(50), np.ones(50), 0) == []
    assert held_out.deal(np.zeros(50, int), np.ones(50), 0) == []
    assert held_out.deal(np.arange(18) % 2, np.ones(18), 0) == []
    monkeypatch.setattr(held_out, "MOST_HELD_OUT", 10)
    ((inside, outside),) = held_out.deal(np.arange(95) % 2, np.ones(95), 0)
    assert 8 <= len(outside) <= 10 and len(inside) + len(outside) == 95


@pytest.mark.exhaustive
def test_a_candidate_is_trained_as_the_trainer_trains(settings):
    """Several decays at once end where the trainer's own steps end with each."""
    setup, train_rows = prepared(settings())
    one = cache.pooled_by(train_rows, ("average", "gem", "max"), "gem")
    inside, outside = np.arange(22), np.arange(22, 30)
    decays, steps = (0.1, 20.0), 8
    found = held_out.measure(
        setup,
        one,
        (inside, outside),
        (steps, decays),
        held_out.compiler(setup),
        lambda: None,
    )
    for place, decay in enumerate(decays):
        settled = setups.settle(setup, probe.Candidate("average", decay, steps))
        update, measure = setups.compile_steps(settled)
        state = mesh.put_state(settled.laid, settled.state)
        rows = cache.training(one, batch_size=12, seed=0, known=inside)
        for _ in range(steps):
            state, _ = update(state, mesh.put_batch(settled.laid, next(rows)))
        right = loss = 0.0
        for batch in cache.evaluation(one, batch_size=12, known=outside):
            batch = mesh.put_batch(settled.laid, batch)
            report = measure(states.variables(state), batch)
            right += float(report.values["accuracy"])
            loss += float(report.values["loss"])
        assert found[0][place] == right and found[2][place] == 8
        assert found[1][place] == pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize(
    ("right", "chosen", "tried"),
    [
        # As long as more steps help, more are tried; fewer only where they do not.
        ({2: 1, 4: 2, 8: 3}, 8, [4, 8]),
        ({2: 1, 4: 3, 8: 2}, 4, [4, 8, 2]),
        ({2: 4, 4: 3, 8: 2}, 2, [4, 8, 2]),
    ],
)
def test_pooling_and_decay_are_chosen_first_and_then_the_steps(
    settings, monkeypatch, right, chosen, tried
):
    setup, rows = prepared(settings("batch_size=8"))
    assert setup.steps == 4
    marked = np.broadcast_to(np.arange(3.0)[:, None, None], (30, 3, 1, 1))
    rows, asked = rows._replace(features=marked), []

    def measure(setup, train, split, candidates, *rest):
        way, (steps, decays) = int(train.features.flat[0]), candidates
        asked.append((way, steps, len(decays)))
        accuracy = [1.0 - 2 * abs(way - 1) + right[steps]] * len(decays)
        return [accuracy, [1 / decay for decay in decays], [10.0] * len(decays)]

    monkeypatch.setattr(held_out, "measure", measure)
    choice = probe_search.choose(setup, rows, tried={})
    # Of equal decays the one with the smaller loss.
    assert choice.candidate == probe.Candidate("gem", 20.0, chosen)
    assert list(dict.fromkeys(asked)) == [
        *((way, 4, 2) for way in range(3)),
        *((1, steps, 1) for steps in tried[1:]),
    ]
    assert choice.pictures == 30 and choice.folds == 3
    assert "gem pooling, weight decay 20" in choice.reason
    assert len(choice.scores) == 6 + len(tried) - 1


@pytest.mark.parametrize(("pictures", "chosen"), [(40, "average"), (4000, "max")])
def test_another_pooling_must_be_better_by_a_standard_error(pictures, chosen, settings):
    """At 90 % the standard error is 4.7 points of 40 pictures, 0.5 of 4000."""
    scores = {
        probe.Candidate("average", 1.0, 4): probe_search.Score(0.86, 1.0),
        probe.Candidate("average", 10.0, 4): probe_search.Score(0.86, 2.0),
        probe.Candidate("gem", 1.0, 4): probe_search.Score(0.5, 1.0),
        probe.Candidate("max", 1.0, 4): probe_search.Score(0.9, 1.0),
    }
    ways = "average", "gem", "max"
    best = probe_search._choose_pooling(scores, ways, pictures, settings())
    assert best == probe.Candidate(chosen, 1.0, 4)


@pytest.mark.exhaustive
def test_a_probe_says_what_it_chose_and_is_a_network(settings, tmp_path):
    lines = []
    summary = train.run(settings(), tmp_path / "run", say=lines.append).summary
    assert summary is not None
    chosen = summary["probe"]
    assert chosen["chosen"] == [probe.POOLING, probe.WEIGHT_DECAY, probe.STEPS]
    assert chosen["held_out_pictures"] == 36 and chosen["folds"] == 3
    assert len(chosen["candidates"]) >= 7
    assert any(line == chosen["reason"] for line in lines)
    assert summary["steps"] == chosen["steps"]
    with_choice = summary["config"]
    assert with_choice["probe"]["pooling"] == chosen["pooling"]
    assert with_choice["optimizer"]["weight_decay"] == chosen["weight_decay"]
    network = unlir_jax.load(str(tmp_path / "run"))
    assert network.module.pooling == chosen["pooling"]
    # The workdir belongs to what was asked for, with its choices open.
    again = train.run(settings(), tmp_path / "run")
    assert "Nothing to do" in again.message


@pytest.mark.exhaustive
def test_no_test_picture_has_a_say(settings, pictures, tmp_path):
    choices = []
    for name, overrides in {"test": [], "none": ["data.test="]}.items():
        train.run(settings(*overrides), tmp_path / name)
        choices.append((tmp_path / name / workdir.CHOICE).read_text())
    # Every label of the test is another one.
    other = tmp_path / "other"
    other.mkdir()
    (other / "train").symlink_to(pictures / "train")
    for index in range(6):
        folder = other / "test" / f"kind {index}"
        folder.parent.mkdir(exist_ok=True)
        folder.symlink_to(pictures / "test" / f"kind {(index + 1) % 6}")
    train.run(settings(path=other), tmp_path / "shuffled")
    choices.append((tmp_path / "shuffled" / workdir.CHOICE).read_text())
    assert choices[0] == choices[1] == choices[2]


@pytest.mark.exhaustive
def test_what_is_fixed_is_not_chosen(settings, tmp_path):
    fixed = ("steps=3", "optimizer.weight_decay=0.5", "probe.pooling=gem")
    train.run(settings(*fixed), tmp_path / "fixed")
    summary = json.loads((tmp_path / "fixed" / "summary.json").read_text())
    assert summary["steps"] == 3 and summary["probe"]["chosen"] == []
    assert summary["probe"]["candidates"] == []
    # Nothing but the search is left out.
    asked = ("steps=3", "optimizer.weight_decay=0.5", "probe.poolings=('gem',)")
    train.run(settings(*asked), tmp_path / "asked")
    for path, leaf in weights(tmp_path / "asked").items():
        np.testing.assert_allclose(leaf, weights(tmp_path / "fixed")[path], atol=1e-5)
    plain = settings("steps=3", "optimizer.weight_decay=0.5", "probe.choose=false")
    train.run(plain, tmp_path / "plain")
    assert unlir_jax.load(str(tmp_path / "plain")).module.pooling == "average"
    assert not (tmp_path / "plain" / workdir.CHOICE).exists()


@pytest.mark.exhaustive
@pytest.mark.parametrize("after", [9])
def test_a_search_that_is_stopped_goes_on_and_ends_the_same(
    settings, tmp_path, monkeypatch, after
):
    train.run(settings(), tmp_path / "whole")
    calls = []

    @contextlib.contextmanager
    def watch():
        yield lambda: calls.append(0) or ("SIGTERM" if len(calls) > after else "")

    with monkeypatch.context() as patch:
        patch.setattr(preemption, "watch", watch)
        stopped = train.run(settings(), tmp_path / "parted")
    assert stopped.summary is None and "what has been tried is kept" in stopped.message
    kept = json.loads((tmp_path / "parted" / workdir.CHOICE).read_text())["tried"]
    assert kept
    measured = held_out.measure
    again = []
    monkeypatch.setattr(
        held_out, "measure", lambda *given: again.append(0) or measured(*given)
    )
    train.run(settings(), tmp_path / "parted")
    choice = json.loads((tmp_path / "whole" / workdir.CHOICE).read_text())
    blocks = {(c["pooling"], c["steps"]) for c in choice["choice"]["candidates"]}
    assert len(again) == 3 * len(blocks) - len(kept)
    for name in (workdir.CHOICE, "weights.safetensors"):
        one, other = (tmp_path / run / name for run in ("whole", "parted"))
        assert one.read_bytes() == other.read_bytes()


def test_a_candidate_that_is_no_number_stops_the_search(
    settings, tmp_path, monkeypatch
):
    measured = held_out.measure

    def broken(*given):
        values, loss, count = measured(*given)
        return [values, [float("nan"), *loss[1:]], count]

    monkeypatch.setattr(held_out, "measure", broken)
    with pytest.raises(FloatingPointError, match="loss of weight decay .* fold 0"):
        train.run(settings(), tmp_path / "run")
    assert not (tmp_path / "run" / workdir.CHOICE).exists()
    assert not (tmp_path / "run" / workdir.SUMMARY).exists()


@pytest.mark.parametrize(
    "text",
    ["{}", '{"tried": {"a": [[1], 2]}}', '{"choice": {"pooling": "x"}}', "[" * 9],
)
def test_a_search_that_is_damaged_is_said(settings, tmp_path, text):
    given = settings()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / workdir.CHOICE).write_text(text)
    with pytest.raises(ValueError, match=r"probe.json"):
        train.run(given, tmp_path / "run")


@pytest.mark.exhaustive
def test_one_picture_a_class_takes_the_defaults_and_says_so(
    settings, pictures, tmp_path
):
    few = tmp_path / "few"
    for index in range(6):
        folder = few / "train" / f"kind {index}"
        folder.mkdir(parents=True)
        picture = sorted((pictures / "train" / f"kind {index}").iterdir())[0]
        (folder / "a.png").symlink_to(picture)
    (few / "test").symlink_to(pictures / "test")
    lines = []
    train.run(settings(path=few), tmp_path / "run", say=lines.append)
    (line,) = [line for line in lines if line.startswith("probe:")]
    assert "6 training images of 6 classes are too few to hold some out" in line
    assert "average pooling, weight decay 20, 2 steps" in line


@pytest.mark.exhaustive
def test_a_new_start_pools_as_the_old_one_did(settings, tmp_path):
    fixed = ("steps=2", "optimizer.weight_decay=0.5", "probe.pooling=max")
    train.run(settings(*fixed), tmp_path / "max")
    begun = ("probe.choose=false", "steps=1", "optimizer.weight_decay=0.0")
    for place in (tmp_path / "max", tmp_path / "max" / "checkpoints" / "2"):
        setup = setups.prepare(settings(*begun, f"init_from={place}"))
        assert setup.network.module.pooling == "max"
    file = tmp_path / "plain.safetensors"
    conversion.convert(str(tmp_path / "max"), None, file)
    assert unlir_jax.load("cifar_resnet8", file).module.pooling == "max"
    (tmp_path / "max" / "weights.safetensors").unlink()
    setup = setups.prepare(settings(*begun, f"init_from={tmp_path / 'max'}"))
    assert setup.network.module.pooling == "max"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["features.cache=false"], "expected features.cache=True"),
        (["probe.choose=false", "steps=1"], "`optimizer.weight_decay`=None"),
        (["probe.pooling=mean"], "`pooling`='mean'; expected one of average, max, gem"),
        (["probe.poolings=('rmac',)"], "`probe.poolings`"),
        (["probe.weight_decays=(-1.0,)"], "`probe.weight_decays`"),
        (["probe.steps=(0, 3)"], "`probe.steps`"),
        (["model.dropout=1.5"], "`model.dropout`=1.5; expected a share"),
        (["model.dropout=0.5"], "a ResNet drops nothing"),
        (["model.name=vgg11", "probe.pooling=gem"], "a VGG has a head of its own"),
        (["steps=2", "epochs=1"], "expected one of them"),
    ],
)
def test_bad_settings_are_one_clear_sentence(settings, tmp_path, overrides, sentence):
    with pytest.raises(ValueError, match=sentence):
        train.run(settings(*overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.exhaustive
def test_a_workdir_begun_before_there_was_a_probe_goes_on(tmp_path):
    from training.conftest import TINY

    given = config.load(str(TINY), ["steps=1"])
    train.run(given, tmp_path / "run")
    path = tmp_path / "run" / workdir.CONFIG
    old = json.loads(path.read_text())
    del old["probe"], old["model"]["dropout"]
    path.write_text(json.dumps(old))
    assert "Nothing to do" in train.run(given, tmp_path / "run").message
    old["model"]["name"] = "other"
    path.write_text(json.dumps(old))
    with pytest.raises(ValueError, match=r"config: model.name: 'cifar_resnet8' here"):
        train.run(given, tmp_path / "run")
