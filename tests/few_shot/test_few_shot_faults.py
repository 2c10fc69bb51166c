"""What few shots refuse, notice, and make again: nothing wrong goes unsaid."""

import errno
import json
import os
import shutil

import few_colours
import numpy as np
import pytest
import small_network
import tiers

from unlir_jax import cli
from unlir_jax.few_shot import adapt, episode_files, probes, trial
from unlir_jax.few_shot import frozen_features as looking
from unlir_jax.storage import files
from unlir_jax.weights import readers

CLASSES = few_colours.CLASSES
ALONE = "k=2,method=cosine"


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return few_colours.write(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return small_network.write_two(tmp_path_factory.mktemp("weights"))


def settings(colours, weights, argument=ALONE, **more):
    given = {"model.weights": weights / "one.safetensors", "data.duplicates": False}
    return few_colours.settings(colours, argument, **(given | more))


@pytest.fixture(scope="module")
def whole(colours, weights, tmp_path_factory):
    """Learn once; tests copy it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    adapt.run(settings(colours, weights), folder)
    return folder


@pytest.fixture
def run(whole, tmp_path):
    """Give a copy of the finished run."""
    return shutil.copytree(whole, tmp_path / "run")


@pytest.fixture
def stopped(run):
    """Give a run that was stopped after its first draw."""
    for name in ("summary.json", "draws/001.json"):
        (run / name).unlink()
    return run


def summary_of(folder):
    found = json.loads((folder / "summary.json").read_text())
    del found["seconds_per_draw"]
    return found


BAD = [
    ("seed", -1),
    ("seed", 10**20),
    ("k", 0),
    ("ways", -1),
    ("ways", 9),
    ("draws", 0),
    ("steps", -1),
    ("batch_size", 0),
    ("head_rate", 0.0),
    ("head_rate", -1.0),
    ("crops", -1),
    ("head", "round"),
    ("pooling", "median"),
    ("unlabelled", "-1"),
    ("unlabelled", "9" * 5000),
    ("penalty.weight", -1.0),
    ("penalty.name", "l3"),
    ("penalty.select", "("),
    ("data.crop", 2.0),
    ("data.image_size", -4),
    ("data.threads", -1),
    ("data.workers", -1),
    ("data.compare", "names"),
    ("data.cache", "tape"),
    ("data.interpolation", "nearest-ish"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_setting_is_named_before_any_work(
    colours, weights, tmp_path, monkeypatch, name, value
):
    monkeypatch.setattr(
        looking, "FrozenFeatures", lambda *_: pytest.fail("images were looked at")
    )
    with pytest.raises(ValueError, match=name.split(".")[-1]) as error:
        adapt.run(settings(colours, weights, **{name: value}), tmp_path / "run")
    assert "expected" in str(error.value) and len(str(error.value)) < 400
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argument", "more", "words"),
    [
        ("k=2,method=filters", {"crops": 0}, "`crops`=0 with `method`='filters'"),
        (
            "k=2,method=filters_single",
            {"penalty.name": "l1", "penalty.weight": 0.1, "penalty.select": "nowhere"},
            "`penalty.select`='nowhere' is in no name of a weight",
        ),
    ],
)
def test_settings_that_a_method_refuses_are_named_before_any_work(
    colours, weights, tmp_path, monkeypatch, argument, more, words
):
    monkeypatch.setattr(
        looking, "FrozenFeatures", lambda *_: pytest.fail("images were looked at")
    )
    with pytest.raises(ValueError, match=words):
        adapt.run(settings(colours, weights, argument, **more), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.exhaustive
def test_other_pictures_are_refused_by_name(colours, weights, tmp_path):
    mine, run = shutil.copytree(colours, tmp_path / "mine"), tmp_path / "run"
    given = settings(mine, weights)
    adapt.run(given, run)
    for name in ("summary.json", "draws/001.json"):
        (run / name).unlink()
    first, tested = mine / "train" / "red" / "0.png", mine / "test" / "red" / "0.png"
    more, kept = first.with_name("00.png"), tmp_path / "kept.png"

    def refused(wanted):
        with pytest.raises(ValueError, match="was begun with something else") as error:
            adapt.run(given, run)
        assert wanted in str(error.value)
        assert not (run / "draws" / "001.json").exists()

    shutil.copy2(first, more)
    refused("15 there and 16 here, new here 'train/red/00.png'")
    more.unlink()
    for file, wanted in (
        (first, "no longer here 'train/red/0.png'"),
        (tested, "`test` has other examples"),
    ):
        shutil.move(file, kept)
        refused(wanted)
        shutil.move(kept, file)
    os.utime(first, (1, 1))
    refused("data.compare=sizes")


@pytest.mark.exhaustive
@pytest.mark.parametrize("argument", tiers.by_tier([ALONE, "k=1+2,method=cosine"], 1))
def test_other_weights_are_refused_with_both_hashes(
    colours, weights, tmp_path, argument
):
    mine = shutil.copytree(weights, tmp_path / "weights")
    given, folder = settings(colours, mine, argument), tmp_path / "run"
    adapt.run(given, folder)
    one = readers.sha256(mine / "one.safetensors")
    shutil.copy(mine / "other.safetensors", mine / "one.safetensors")
    other = readers.sha256(mine / "one.safetensors")

    def refused(match):
        with pytest.raises(ValueError, match=match) as error:
            adapt.run(given, folder)
        assert one[:12] in str(error.value) and other[:12] in str(error.value)

    refused("the weights of `model`")
    (folder / "summary.json").unlink()
    for path in folder.rglob("001.json"):
        path.unlink()
        (path.parent.parent / "summary.json").unlink(missing_ok=True)
    refused("the weights of `model`")
    # Nor does it help to delete what says so: each draw knows.
    for path in list(folder.rglob("began_with.json")):
        path.unlink()
    refused("000.json' is of something else: weights")


@pytest.mark.exhaustive
def test_one_of_several_knows_what_it_began_with(colours, weights, tmp_path):
    mine = shutil.copytree(weights, tmp_path / "weights")
    adapt.run(settings(colours, mine, "k=1+2,method=cosine"), tmp_path / "run")
    shutil.copy(mine / "other.safetensors", mine / "one.safetensors")
    with pytest.raises(ValueError, match="cosine_2' was begun with something else"):
        adapt.run(settings(colours, mine), tmp_path / "run" / "cosine_2")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[: len(text) // 2], "is no JSON"),
        (lambda text: "[" * 100_000, "nested too deeply"),
        (lambda text: "3", "is no JSON object"),
        (lambda text: '{"a": 1}', "its 'accuracy' is no number"),
        (lambda text: text.replace('"loss": ', '"loss": 1'), "not what was written"),
        (lambda text: text.replace('"loss"', '"boss"'), "not what was written"),
        (lambda text: "", "is no JSON"),
    ],
)
def test_a_damaged_draw_is_known(run, change, words):
    whose = episode_files.Whose(0, "a" * 64, CLASSES, ("a.png",), 12)
    file = run / "draws" / "000.json"
    file.write_text(change(file.read_text()))
    draw, damage = episode_files.read(file, whose)
    assert draw is None and words in damage


def test_a_damaged_draw_is_said_and_made_again(colours, weights, whole, run):
    (run / "summary.json").unlink()
    file = run / "draws" / "000.json"
    file.write_text(file.read_text()[:-9])
    said = []
    adapt.run(settings(colours, weights), run, say=said.append)
    (text,) = [text for text in said if "is damaged" in text]
    assert str(file) in text and "is no JSON" in text and "made again" in text
    assert summary_of(run) == summary_of(whole)


@pytest.mark.exhaustive
def test_a_draw_without_a_sum_is_of_an_earlier_version(colours, weights, whole, run):
    (run / "summary.json").unlink()
    file = run / "draws" / "000.json"
    draw = json.loads(file.read_text())
    del draw["crc32"], draw["weights"]
    file.write_text(json.dumps(draw))
    said = []
    adapt.run(settings(colours, weights), run, say=said.append)
    assert said == [] and summary_of(run) == summary_of(whole)
    (run / "summary.json").unlink()
    for change, words in (
        ({"accuracy": 0.123}, "its accuracy is not that of its images"),
        ({"right": []}, "its 'right' is no list"),
        ({"loss": float("nan")}, "its 'loss' is no number"),
        ({"classes": [1]}, "its 'classes' is no list of the right kind"),
    ):
        file.write_text(json.dumps(draw | change))
        adapt.run(settings(colours, weights), run, say=said.append)
        assert words in said[-2]
        (run / "summary.json").unlink()
    file.write_text(json.dumps(draw | {"pictures": ["x.png"]}))
    with pytest.raises(ValueError, match="something else: pictures 'x.png' there"):
        adapt.run(settings(colours, weights), run)


@pytest.mark.parametrize("text", ["[" * 100_000, "\udcff", '{"a": 3}'])
@pytest.mark.parametrize("name", ["summary.json", "config.json", "began_with.json"])
def test_rubbish_for_documents_is_a_sentence(colours, weights, whole, run, name, text):
    kept = (run / name).read_bytes()
    (run / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    try:
        adapt.run(settings(colours, weights), run)
    except ValueError as error:
        assert name in str(error) or "another config" in str(error)
        (run / name).write_bytes(kept)
    assert summary_of(run) == summary_of(whole)


def test_a_workdir_without_its_config_is_refused(colours, weights, stopped):
    (stopped / "config.json").unlink()
    with pytest.raises(ValueError, match="holds draws but no config.json"):
        adapt.run(settings(colours, weights), stopped)


@pytest.mark.exhaustive
def test_a_deleted_page_of_several_is_drawn_again(colours, weights, tmp_path):
    given = settings(colours, weights, "k=1+2,method=cosine")
    folder = tmp_path / "run"
    adapt.run(given, folder)
    page = (folder / "report.html").read_bytes()
    draws = {path: path.stat().st_mtime_ns for path in folder.rglob("draws/*.json")}
    (folder / "report.html").unlink()
    said = []
    outcome = adapt.run(given, folder, say=said.append)
    assert outcome.message.startswith("Done: ") and "report.html is gone" in said[0]
    assert (folder / "report.html").read_bytes() == page
    assert {path: path.stat().st_mtime_ns for path in draws} == draws
    assert adapt.run(given, folder).message.startswith("Done before")


def test_features_that_are_not_finite_end_with_three_and_names(
    colours, weights, tmp_path, capsys
):
    arrays = readers.read(weights / "one.safetensors")
    huge = {
        path: np.full_like(leaf, 3e38) if path.endswith("kernel") else leaf
        for path, leaf in arrays.items()
    }
    readers.write_safetensors(tmp_path / "huge.safetensors", huge)
    words = ["train", "--config", "configs/few_shot.py:backbone=cifar_resnet8,k=2"]
    words += [f"--config.data.path={colours}", "--config.data.image_size=32"]
    words += [f"--config.model.weights={tmp_path / 'huge.safetensors'}"]
    assert cli.main([*words, f"--workdir={tmp_path / 'run'}"]) == 3
    said = capsys.readouterr()
    assert "features of cifar_resnet8 are not finite, on 'test/blue/0.png'" in said.err
    assert "Done" not in said.out
    assert not (tmp_path / "run").exists()


def test_scores_that_are_not_finite_are_named_and_not_kept(
    colours, weights, tmp_path, monkeypatch
):
    def broken(views, labels, classes):
        def classify(test):
            scores = probes.by_cosine(views, labels, classes)(test)
            scores[2] = np.nan
            return scores

        return classify

    monkeypatch.setitem(probes.PROBES, "cosine", broken)
    with pytest.raises(
        FloatingPointError, match="What cosine says after draw 0 is not finite"
    ):
        adapt.run(settings(colours, weights), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_view_of_one_picture_a_class_has_no_spread_and_is_classified():
    """Distances are divided by the spread within classes, which is 0 here."""
    random = np.random.default_rng(0)
    centres = 10 * random.normal(size=(3, 8)).astype(np.float32)
    classify = probes.by_prototypes(centres[None], np.arange(3), 3)
    near = centres + random.normal(size=(3, 8)).astype(np.float32)
    found = classify(near[None])
    assert np.isfinite(found).all() and found.argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "method", tiers.by_tier(sorted(probes.PROBES), {"cosine", "prototypes"})
)
def test_one_view_of_one_picture_a_class_is_enough_for_every_probe(method):
    random = np.random.default_rng(0)
    views = random.normal(size=(1, 3, 8)).astype(np.float32)
    found = probes.PROBES[method](views, np.arange(3), 3)(views)
    assert np.isfinite(found).all() and found.argmax(1).tolist() == [0, 1, 2]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("code", "fine"), [(errno.EROFS, 0), (errno.ENOSPC, 2)])
def test_a_disk_that_cannot_be_written_to_is_a_sentence(
    colours, weights, whole, stopped, monkeypatch, code, fine
):
    write, left = files.write_bytes, [fine]

    def full(path, data):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(code, os.strerror(code))
        write(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_bytes", full)
        with pytest.raises(ValueError, match="cannot be written to") as error:
            adapt.run(settings(colours, weights), stopped)
    assert str(stopped) in str(error.value) and os.strerror(code) in str(error.value)
    adapt.run(settings(colours, weights), stopped)
    assert summary_of(stopped) == summary_of(whole)


@pytest.mark.exhaustive
def test_two_of_one_config_share_a_workdir(
    colours, weights, whole, tmp_path, monkeypatch
):
    learn = trial._learn

    def meanwhile(*arguments):
        monkeypatch.setattr(trial, "_learn", learn)
        adapt.run(settings(colours, weights), tmp_path / "run")
        return learn(*arguments)

    monkeypatch.setattr(trial, "_learn", meanwhile)
    outcome = adapt.run(settings(colours, weights), tmp_path / "run")
    assert outcome.message.startswith("Done: ")
    assert summary_of(tmp_path / "run") == summary_of(whole)


def test_what_a_killed_run_left_is_swept_away(colours, weights, stopped):
    left = [
        folder / f".unlir-0123456789a{place}.tmp"
        for place, folder in enumerate((stopped, stopped / "draws"))
    ]
    for path in left:
        path.write_bytes(b"half")
    adapt.run(settings(colours, weights), stopped)
    assert not any(path.exists() for path in left)
