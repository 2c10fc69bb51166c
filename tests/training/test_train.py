"""The trainer, from a config to a summary."""

import json

import numpy as np
import pytest
import safetensors.numpy
from helpers import applied
from training import double
from training.conftest import TINY

import unlir_jax
from unlir_jax import tree
from unlir_jax.runtime import config
from unlir_jax.training import optim, run_record, train
from unlir_jax.training import setup as setups


def settings(*overrides, argument=""):
    return config.load(f"{TINY}{argument}", ["steps=4", *overrides])


def weights(folder):
    return safetensors.numpy.load_file(folder / "weights.safetensors")


def of_folder(pictures, *overrides):
    changed = config.load(str(TINY), ["steps=4", *overrides])
    with changed.unlocked():
        changed.data.source = "folder"
        changed.data.path = str(pictures)
        for group in ("options", "train_options", "test_options"):
            changed.data[group] = {}
    return changed


def test_a_run_ends_with_a_summary_and_weights(tmp_path):
    lines = []
    outcome = train.run(settings("seed=3"), tmp_path / "run", say=lines.append)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["not_finite"] == 0
    assert summary["seed"] == 3 and summary["config"]["seed"] == 3
    assert summary["test/accuracy"] == outcome.summary["test/accuracy"]
    assert summary["best/accuracy"] == summary["test/accuracy"]
    assert summary["images_per_second"] > 0 and 0 <= summary["data_wait"] <= 1
    assert {"jax", "flax", "python"} <= set(summary["versions"])
    assert summary["train_examples"] == 40 and summary["test_examples"] == 22
    twice = {"count": 0, "pairs": [], "compared": 62, "of": 62}
    assert summary["duplicates"] == twice
    assert "77,782 numbers learn" in lines[0]
    assert "classifier/kernel" in (tmp_path / "run" / "parameters.txt").read_text()
    # The rate that the last step used, of a cosine that has one more step to fall.
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rate = optim.schedule(0.05, 4, **settings().optimizer.schedule)(3)
    told = [json.loads(line).get("learning_rate") for line in lines]
    assert [each for each in told if each is not None][-1] == pytest.approx(float(rate))


def test_pictures_that_are_trained_and_tested_on_are_said_once(tmp_path):
    begun, lines = setups.prepare(settings("data.test=train")), []
    record = run_record.RunRecord()
    for _ in range(2):
        record = train._compare(begun, record, lines.append)
    # Splits of synthetic parts are alike in size only where they are the same.
    count = min(begun.data.train.size, begun.data.test.size)
    assert record.duplicates["count"] == count > 0
    assert len(lines) == 1 and lines[0].startswith(f"{count} test images are")
    with begun.settings.unlocked():
        begun.settings.data.duplicates = False
    silent = train._compare(begun, run_record.RunRecord(), lines.append)
    assert silent.duplicates is None and len(lines) == 1


@pytest.mark.exhaustive
def test_test_accuracy_is_that_of_the_saved_network_over_all_pictures(
    pictures, tmp_path
):
    """30 pictures are a batch of 16 and one that is not full."""
    outcome = train.run(of_folder(pictures), tmp_path / "run")
    network = unlir_jax.load(str(tmp_path / "run"))
    assert network.class_names == tuple(f"kind {label}" for label in range(6))
    assert network.image_size == 32
    files = sorted((pictures / "test").rglob("*.png"))
    images = np.stack([network.preprocess(path) for path in files])
    logits = applied(network.module)(network.variables, images)
    names = [network.class_names[label] for label in np.argmax(logits, 1)]
    right = [name == path.parent.name for name, path in zip(names, files, strict=True)]
    assert outcome.summary["test/accuracy"] == pytest.approx(np.mean(right), abs=1e-12)
    labels = [network.class_names.index(path.parent.name) for path in files]
    own = np.asarray(logits, np.float64)
    own -= np.log(np.exp(own).sum(1, keepdims=True))
    loss = -np.mean(own[np.arange(30), labels])
    assert outcome.summary["test/loss"] == pytest.approx(loss, abs=1e-5)


@pytest.mark.exhaustive
def test_pictures_that_cannot_be_read_are_counted_and_named(pictures, tmp_path):
    folder = tmp_path / "pictures"
    for path in pictures.rglob("*.png"):
        copy = folder / path.relative_to(pictures)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (folder / "train" / "kind 0" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    (folder / "test" / "kind 1" / "empty.png").write_bytes(b"")
    outcome = train.run(of_folder(folder), tmp_path / "run")
    assert outcome.summary["unreadable"] == {
        "train": ["train/kind 0/torn.png"],
        "test": ["test/kind 1/empty.png"],
    }
    assert "2 images could not be read" in outcome.message
    # 30 good ones, whatever the bad one would have been.
    assert (outcome.summary["test/accuracy"] * 30) % 1 == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="torn.png"):
        train.run(of_folder(folder, "data.strict=true"), tmp_path / "strict")


@pytest.mark.exhaustive
def test_not_a_number_stops_with_step_and_pictures(tmp_path):
    wild = settings("optimizer.learning_rate=1e30", "optimizer.schedule.name=constant")
    with pytest.raises(FloatingPointError, match="of step [23] is not a finite") as e:
        train.run(wild, tmp_path / "run")
    assert "synthetic_parts/train/" in str(e.value)
    document = json.loads((tmp_path / "run" / "diverged.json").read_text())
    assert len(document["batch"]) == 16 and document["step"] in (2, 3)
    assert not (tmp_path / "run" / "summary.json").exists()
    assert not any((tmp_path / "run" / "checkpoints").glob("[0-9]*"))


@pytest.mark.exhaustive
def test_a_workdir_of_another_config_is_refused(tmp_path):
    train.run(settings(), tmp_path / "run")
    with pytest.raises(ValueError, match="seed: 1 here, 0 there"):
        train.run(settings("seed=1"), tmp_path / "run")
    again = settings("data.workers=2", "log.every=7", "mesh.mode=pmap")
    assert "Nothing to do" in train.run(again, tmp_path / "run").message


def test_a_folder_with_strange_things_is_refused(tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(ValueError, match="holds summary.json but no config.json"):
        train.run(settings(), tmp_path)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["batch_size=15"], "multiple of 4, such as 12 or 16"),
        (["batch_size=16", "optimizer.accumulate=3"], "accumulated parts"),
        (["steps=0"], "expected one of them to be above 0"),
        (["epochs=1"], "expected one of them to be above 0"),
        (["model.name=resnet19"], "did you mean 'resnet1"),
        (["model.dtype=int8"], "expected one of"),
        (["objective.name=classfy"], "classify"),
        (["objective.label_smoothing=1.5"], "label_smoothing"),
        (["optimizer.name=sdg"], "did you mean 'sgd'"),
        (["optimizer.table=(('classifier/.*', {}),)"], "covers layer1"),
        (["data.train=trian"], "did you mean 'train'"),
        (["data.cache=disk"], "memory"),
        (["data.augment=flop"], "did you mean 'flip'"),
        (["evaluate.best=f1"], "expected one of loss, accuracy, top5"),
        (["features.cache=true"], "freeze all but classifier"),
        (["init_from=nowhere.safetensors"], "nowhere"),
    ],
)
def test_bad_settings_are_one_clear_sentence(overrides, sentence, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        train.run(settings("steps=1", *overrides), tmp_path / "run")


@pytest.mark.parametrize(
    ("model", "objective", "sentence"),
    [
        ("b_cos_small", {"name": "interpretable_gradients"}, "no ReLU.*bend: none"),
        ("cifar_resnet8", {"name": "adl", "layers": ("layer9",)}, "layer9"),
    ],
)
def test_a_network_that_an_objective_is_not_for(model, objective, sentence, tmp_path):
    """It is refused before a workdir begins, and so by a dry run."""
    wrong = settings("optimizer.table=(('.*', {}),)", argument=f":model={model}")
    with wrong.unlocked():
        wrong.objective = objective
    with pytest.raises(ValueError, match=sentence):
        train.run(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.exhaustive
def test_features_are_computed_once_and_give_what_the_network_gives(
    pictures, tmp_path, monkeypatch
):
    """A probe on kept features ends where one on pictures ends."""
    frozen = (
        "model.freeze_norms=true",
        "data.augment=",
        "optimizer.table=(('classifier/.*', {}), ('.*', None))",
        f"features.folder={tmp_path / 'cache'}",
    )
    whole = train.run(of_folder(pictures, *frozen), tmp_path / "whole")
    cached = of_folder(pictures, *frozen, "features.cache=true")
    kept = train.run(cached, tmp_path / "kept")
    assert kept.summary["test/loss"] == pytest.approx(
        whole.summary["test/loss"], abs=0.05
    )
    trunk = [path for path in weights(tmp_path / "kept") if "classifier" not in path]
    for path in trunk:
        one, other = weights(tmp_path / "whole")[path], weights(tmp_path / "kept")[path]
        np.testing.assert_array_equal(one, other)
    with monkeypatch.context() as patch:
        patch.delattr("unlir_jax.data.pipeline.evaluation")
        again = train.run(cached, tmp_path / "again")
    assert again.summary["weights_sha256"] == kept.summary["weights_sha256"]
    assert len(list((tmp_path / "cache").glob("*.lock"))) == 2
    (pictures / "test" / "kind 1" / "01.png").touch()
    train.run(cached, tmp_path / "changed")
    assert len(list((tmp_path / "cache").glob("*.lock"))) == 3, "a file has changed"


@pytest.mark.exhaustive
def test_init_from_takes_what_fits_and_says_what_does_not(pictures, tmp_path):
    train.run(settings("data.options.classes=8", "steps=1"), tmp_path / "eight")
    lines = []
    start = of_folder(pictures, f"init_from={tmp_path / 'eight'}", "steps=1")
    train.run(start, tmp_path / "six", say=lines.append)
    text = "\n".join(lines)
    arrays = len(weights(tmp_path / "eight"))
    assert f"{arrays - 2} of {arrays} arrays are taken" in text
    assert "params/classifier/kernel" in text


@pytest.mark.exhaustive
def test_parts_of_a_batch_add_up_to_it(tmp_path, monkeypatch):
    """Where norms do not look at the batch, accumulation changes nothing."""
    still = ("model.freeze_norms=true", "optimizer.learning_rate=0.01")

    def learnt(name, *overrides):
        found = settings(*still, *overrides)
        return double.weights(tmp_path / name, found, monkeypatch)

    one, four = learnt("one"), learnt("four", "optimizer.accumulate=4")
    assert 0 < double.furthest(one, four) < double.CALM


@pytest.mark.exhaustive
def test_bfloat16_computes_in_it_and_keeps_float32(tmp_path):
    exact = train.run(settings(), tmp_path / "float32")
    rough = train.run(settings("model.dtype=bfloat16"), tmp_path / "b")
    assert {leaf.dtype for leaf in weights(tmp_path / "b").values()} == {
        np.dtype("float32")
    }
    difference = abs(exact.summary["train/loss"] - rough.summary["train/loss"])
    assert 0 < difference < 0.1


@pytest.mark.exhaustive
def test_the_average_is_what_is_tested_and_written(tmp_path):
    train.run(settings(), tmp_path / "last")
    train.run(settings(argument=":average=0.9"), tmp_path / "mean")
    last, mean = weights(tmp_path / "last"), weights(tmp_path / "mean")
    assert any(np.abs(last[name] - mean[name]).max() > 1e-4 for name in last)
    network = unlir_jax.load(str(tmp_path / "mean"))
    for path, leaf in tree.flatten(network.variables).items():
        np.testing.assert_array_equal(leaf, mean[path])


@pytest.mark.exhaustive
def test_the_best_checkpoint_is_kept(tmp_path):
    best = settings(
        "steps=12",
        "evaluate.every=2",
        "checkpoint.best=true",
        "checkpoint.keep_last=1",
        "checkpoint.every=100",
    )
    summary = train.run(best, tmp_path / "run").summary
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines if "test/accuracy" in line]
    top = max(row["test/accuracy"] for row in rows)
    first = next(row["step"] for row in rows if row["test/accuracy"] == top)
    assert summary["best/accuracy"] == top and summary["best/step"] == first
    kept = {int(path.name) for path in (tmp_path / "run/checkpoints").glob("[0-9]*")}
    assert kept == {first, 12}


@pytest.mark.exhaustive
def test_memory_and_workers_change_nothing(pictures, tmp_path):
    plain = train.run(of_folder(pictures), tmp_path / "plain").summary
    kept = train.run(of_folder(pictures, "data.cache=memory"), tmp_path / "kept")
    assert kept.summary["weights_sha256"] == plain["weights_sha256"]


# What a damaged file makes Orbax's reader leave behind is not the subject.
@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_skipped_set_aside_and_made_anew(tmp_path):
    twice = settings("checkpoint.every=2")
    whole = train.run(twice, tmp_path / "run").summary
    (tmp_path / "run" / "summary.json").unlink()
    newest = tmp_path / "run" / "checkpoints" / "4"
    for file in (newest / "state").rglob("d/*"):
        file.write_bytes(file.read_bytes()[::-1])
    lines = []
    with pytest.warns(UserWarning, match="of step 4 .* is damaged and is skipped"):
        again = train.run(twice, tmp_path / "run", say=lines.append)
    assert "Going on from step 2 of 4." in lines
    assert again.summary["weights_sha256"] == whole["weights_sha256"]
    assert (tmp_path / "run" / "damaged_checkpoints" / "4").is_dir()
    assert newest.is_dir(), "the new one"
