"""What an evaluation refuses, notices, and makes again: nothing wrong goes unsaid."""

import errno
import json
import os
import shutil

import filelock
import numpy as np
import pytest
import small_network
import tiers
from PIL import Image

from unlir_jax import cli
from unlir_jax.evaluation import evaluate, scoring
from unlir_jax.explanation import scoring as shared
from unlir_jax.runtime import config
from unlir_jax.storage import files, locks
from unlir_jax.weights import readers

COUNT = 6
CONFIG = "configs/evaluate.py:model=cifar_resnet8,methods=center,metrics=complexity"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return small_network.write_two(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return small_network.write_noise(tmp_path_factory.mktemp("pictures"), COUNT)


def settings(pictures, weights, *more):
    given = {"data.path": pictures, "model.weights": weights / "one.safetensors"}
    given |= {"batch_size": 4, "controls": False, "devices": 1}
    given |= {"statistics.resamples": 50, "labels": "numbers"} | dict(more)
    return config.load(CONFIG, [f"--config.{n}={v}" for n, v in given.items()])


@pytest.fixture(scope="module")
def whole(pictures, weights, tmp_path_factory):
    """Evaluate once; tests copy it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    evaluate.run(settings(pictures, weights), folder)
    return folder


@pytest.fixture
def run(whole, tmp_path):
    """Give a copy of the finished run."""
    return shutil.copytree(whole, tmp_path / "run")


@pytest.fixture
def stopped(run):
    """Give a run that was stopped after its first batch."""
    for name in ("summary.json", *evaluate.WRITTEN, "batches/000001.npz"):
        (run / name).unlink()
    return run


def same_files(one, other):
    for name in ("per_image.csv", "per_image.parquet", "summary.json", "report.html"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


BAD = [
    ("statistics.confidence", 2.0),
    ("statistics.confidence", 0.0),
    ("statistics.resamples", 0),
    ("statistics.resamples", -5),
    ("statistics.resamples", 10**12),
    ("seed", -1),
    ("seed", 10**20),
    ("gallery", -1),
    ("batch_size", 0),
    ("devices", -1),
    ("data.crop", 2.0),
    ("data.crop", -0.5),
    ("data.image_size", -8),
    ("data.image_size", 10**6),
    ("data.threads", -1),
    ("data.workers", -1),
    ("data.limit", -1),
    ("data.compare", "names"),
    ("labels", "guessed"),
    ("methods", "('cente',)"),
    ("methods", "()"),
    ("metrics", "()"),
    ("data.interpolation", "nearest-ish"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_setting_is_named_before_any_work(
    pictures, weights, tmp_path, monkeypatch, name, value
):
    monkeypatch.setattr(scoring, "batches", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(
        ValueError, match=name.split(".")[-1].removesuffix("s")
    ) as error:
        evaluate.run(settings(pictures, weights, (name, value)), tmp_path / "run")
    assert "expected" in str(error.value) or "known" in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("metric", "option", "value", "words"),
    tiers.by_tier(
        [
            ("insertion", "steps", 0, "`steps`=0"),
            (
                "insertion",
                "steps",
                10**9,
                "metric_options.insertion.steps`=1000000000; exp",
            ),
            (
                "insertion",
                "loop",
                "foo",
                "metric_options.insertion.loop`='foo'; expected",
            ),
            ("max_sensitivity", "samples", 0, "`samples`=0"),
            ("max_sensitivity", "radius", -1.0, "`radius`=-1"),
            ("cascading_randomization", "stages", 0, "`stages`=0"),
            (
                "infidelity",
                "scaled",
                3,
                "metric_options.infidelity.scaled`=3; expected",
            ),
        ],
        3,
    ),
)
def test_a_bad_option_of_a_metric_is_named_before_any_work(
    pictures, weights, tmp_path, monkeypatch, metric, option, value, words
):
    monkeypatch.setattr(scoring, "batches", lambda *_: pytest.fail("work was begun"))
    given = settings(pictures, weights, ("metrics", f"('{metric}',)"))
    with given.unlocked():
        given.metric_options = {metric: {option: value}}
    with pytest.raises(ValueError, match=words):
        evaluate.run(given, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_what_only_the_first_batch_refuses_leaves_no_workdir(
    pictures, weights, tmp_path, monkeypatch
):
    def refuse(*_, first):
        raise ValueError("`option`=3 is refused by a metric when it is called.")

    monkeypatch.setattr(scoring, "score", refuse)
    with pytest.raises(ValueError, match="refused by a metric"):
        evaluate.run(settings(pictures, weights), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.exhaustive
def test_other_statistics_summarise_again_and_score_nothing(
    pictures, weights, whole, run, monkeypatch
):
    monkeypatch.setattr(scoring, "score", lambda *_: pytest.fail("scored anew"))
    said = []
    other = settings(pictures, weights, ("statistics.confidence", 0.5), ("gallery", 1))
    outcome = evaluate.run(other, run, say=said.append)
    assert outcome.message.startswith("Done: ")
    assert any("statistics, gallery" in text for text in said)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["about"]["statistics"]["confidence"] == 0.5
    assert "intervals of 50 %" in (run / "report.html").read_text()
    assert evaluate.run(other, run).message.startswith("Done before")
    # And back: the same bytes.
    evaluate.run(settings(pictures, weights), run)
    same_files(run, whole)


def copied(pictures, folder):
    return shutil.copytree(pictures, folder)


def change_pictures(folder, change):
    """Change a folder of pictures; give what a refusal says of it, and an undoing."""
    first, data = folder / "0_0.png", (folder / "0_0.png").read_bytes()
    other = folder / {"added": "0_00.png", "labels": "1_0.png"}.get(change, first.name)
    if change == "removed":
        first.unlink()
    elif change == "added":
        other.write_bytes(data)
    elif change == "labels":
        first.rename(other)
    elif change == "content":
        Image.new("RGB", (9, 9)).save(first)

    def undo():
        other.unlink(missing_ok=True)
        first.write_bytes(data)

    return undo


@pytest.mark.exhaustive
def test_other_pictures_are_refused_by_name(pictures, weights, tmp_path):
    mine = copied(pictures, tmp_path / "mine")
    given, run = settings(mine, weights), tmp_path / "run"
    evaluate.run(given, run)
    for name in ("summary.json", "batches/000001.npz"):
        (run / name).unlink()
    (batch,) = (run / "batches").glob("*.npz")
    before = batch.read_bytes()
    for change, wanted in {
        "added": "6 there and 7 here, new here '0_00.png'",
        "removed": "6 there and 5 here, no longer here '0_0.png'",
        "labels": "new here '1_0.png'",
        "content": "'0_0.png'",
        "none but its time": "data.compare=sizes",
    }.items():
        undo = change_pictures(mine, change)
        if change.startswith("none"):
            os.utime(mine / "0_0.png", (1, 1))
        with pytest.raises(ValueError, match="was begun with something else") as error:
            evaluate.run(given, run)
        assert wanted in str(error.value), change
        assert batch.read_bytes() == before, change
        undo()
    found = settings(mine, weights, ("data.compare", "sizes"))
    assert evaluate.run(found, run).message.startswith("Done: ")


def test_other_weights_are_refused_with_both_hashes(pictures, weights, tmp_path):
    mine = copied(weights, tmp_path / "weights")
    given, run = settings(pictures, mine), tmp_path / "run"
    evaluate.run(given, run)
    one = readers.sha256(mine / "one.safetensors")
    shutil.copy(mine / "other.safetensors", mine / "one.safetensors")
    other = readers.sha256(mine / "one.safetensors")

    def refused(match):
        with pytest.raises(ValueError, match=match) as error:
            evaluate.run(given, run)
        assert one[:12] in str(error.value) and other[:12] in str(error.value)

    refused("the weights of `model`")
    for name in ("summary.json", "batches/000001.npz"):
        (run / name).unlink()
    refused("the weights of `model`")
    # Nor does it help to delete what says so: each batch knows.
    (run / "began_with.json").unlink()
    refused("000000.npz' is of something else")


@pytest.mark.exhaustive
def test_the_weights_of_random_labels_are_compared_too(pictures, weights, tmp_path):
    mine = copied(weights, tmp_path / "weights")
    given = settings(
        pictures,
        mine,
        ("metrics", "('random_labels',)"),
        ("model.random_labels", mine / "other.safetensors"),
    )
    evaluate.run(given, tmp_path / "run")
    shutil.copy(mine / "one.safetensors", mine / "other.safetensors")
    with pytest.raises(ValueError, match="the weights of `model.random_labels`"):
        evaluate.run(given, tmp_path / "run")


@pytest.mark.exhaustive
def test_done_before_where_the_data_are_gone_is_said(pictures, weights, tmp_path):
    mine = copied(pictures, tmp_path / "mine")
    evaluate.run(settings(mine, weights), tmp_path / "run")
    shutil.rmtree(mine)
    outcome = evaluate.run(settings(mine, weights), tmp_path / "run")
    assert outcome.message.startswith("Done before")
    assert "cannot be looked at now" in outcome.message


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


@pytest.mark.exhaustive
def test_damaged_batches_are_said_and_made_again(pictures, weights, whole, run):
    for name in ("summary.json", *evaluate.WRITTEN):
        (run / name).unlink()
    first, second = (run / "batches" / f"00000{batch}.npz" for batch in (0, 1))
    first.write_bytes(first.read_bytes()[:-99])
    rewritten(second, values=np.zeros((2, 2, 1)))
    said = []
    evaluate.run(settings(pictures, weights), run, say=said.append)
    assert len([text for text in said if "is damaged" in text]) == 2
    same_files(run, whole)


@pytest.fixture
def batch(pictures, weights, run):
    """Give the first batch of a run: its file, and a function that reads it."""
    from unlir_jax.evaluation import batch_files, setup

    whose = setup.prepare(settings(pictures, weights)).whose()
    file = run / "batches" / "000000.npz"
    return file, lambda: batch_files.read(file, 0, whose)


def test_every_flipped_byte_is_found_or_means_nothing(batch):
    file, read = batch
    intact, found = file.read_bytes(), 0
    rows, _ = read()
    for place in range(0, len(intact), 7):
        file.write_bytes(flipped(intact, place))
        again, damage = read()
        found += bool(damage)
        if again is not None:
            for one, other in zip(again[:6], rows[:6], strict=True):
                np.testing.assert_array_equal(one, other)
    assert found > 100
    for data in (b"", b"no archive", intact[: len(intact) // 2]):
        file.write_bytes(data)
        again, damage = read()
        assert again is None and damage


def rewritten(file, **changed):
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays |= changed
    np.savez(file, **{n: array for n, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("values", np.zeros((4, 2, 1)), "shape (4, 2, 1)"),
        ("values", np.zeros((4, 1, 1), "<U3"), "values"),
        ("values", None, "too few or too many arrays"),
        ("more", np.zeros(3), "too few or too many arrays"),
        ("index", np.arange(4, 8, dtype=np.int32), "images 0 to 3"),
        ("label", np.zeros((4, 1), np.int32), "shape (4, 1)"),
        ("about", np.frombuffer(b"[" * 100_000, np.uint8), "nested too deeply"),
        ("about", np.frombuffer(b"3", np.uint8), "does not say what it is of"),
    ],
)
def test_a_batch_of_other_arrays_is_damaged(batch, name, value, words):
    file, read = batch
    rewritten(file, **{name: value})
    again, damage = read()
    assert again is None and words in damage


def test_a_batch_that_did_not_look_for_nearly_flat_masks_is_taken(batch):
    file, read = batch
    rewritten(file, nearly_flat=None)
    rows, damage = read()
    assert not damage and (rows.nearly_flat == -1).all()
    assert rows.nearly_flat.shape == rows.flat.shape


@pytest.mark.parametrize(
    ("methods", "signs"),
    [(["grad_cam", "edges"], "relu"), (["grad_cam", "occlusion"], "range")],
)
def test_an_earlier_version_masked_maps_with_a_sign_by_their_range(methods, signs):
    known = config.to_dict(evaluate.default_settings.evaluation())
    options = {"average_drop": {"signs": "relu"}, "insertion": {"steps": 4}}
    ours = known | {"methods": methods, "metric_options": options}
    found = evaluate._before(known, ours)
    assert found["metric_options"] == {"average_drop": {"signs": signs}}
    assert found["maps"] == ""


def test_batches_of_maps_with_a_sign_say_how_they_were_masked(pictures, weights):
    from unlir_jax.evaluation import setup

    nothing = np.asarray([], int)
    for methods, rule in ((("center",), None), (("occlusion",), "relu")):
        given = settings(pictures, weights, ("methods", repr(methods)))
        given.metrics, given.metric_options = ("average_drop",), {}
        about = setup.prepare(given).whose().about(nothing, nothing)
        assert about.get("signs") == rule


@pytest.mark.exhaustive
def test_a_batch_of_another_evaluation_is_refused(pictures, weights, stopped, tmp_path):
    other = settings(pictures, weights, ("methods", "('edges',)"))
    evaluate.run(other, tmp_path / "other")
    shutil.copy(tmp_path / "other" / "batches" / "000001.npz", stopped / "batches")
    with pytest.raises(ValueError, match="methods 'edges' there, 'center' here"):
        evaluate.run(settings(pictures, weights), stopped)
    about = json.dumps({"weights": {}}).encode()
    rewritten(stopped / "batches" / "000001.npz", about=np.frombuffer(about, np.uint8))
    with pytest.raises(ValueError, match="is of something else: weights"):
        evaluate.run(settings(pictures, weights), stopped)


@pytest.mark.exhaustive
def test_a_batch_of_an_earlier_version_is_taken(pictures, weights, whole, run):
    for name in ("summary.json", "began_with.json"):
        (run / name).unlink()
    for batch in (0, 1):
        rewritten(run / "batches" / f"00000{batch}.npz", about=None)
    said = []
    evaluate.run(settings(pictures, weights), run, say=said.append)
    assert any("as an earlier version left it" in text for text in said)
    same_files(run, whole)
    (run / "summary.json").unlink()
    rewritten(run / "batches" / "000000.npz", label=np.full(4, 9, np.int32))
    with pytest.raises(ValueError, match="'0_0.png' has the class 9 there, 0 here"):
        evaluate.run(settings(pictures, weights), run)


def test_a_workdir_without_its_config_is_refused(pictures, weights, stopped, run):
    (stopped / "config.json").unlink()
    with pytest.raises(ValueError, match="holds batches, gallery but no config.json"):
        evaluate.run(settings(pictures, weights), stopped)


@pytest.mark.parametrize(
    "names",
    [("report.html",)]
    + [
        pytest.param(names, marks=pytest.mark.exhaustive)
        for names in (evaluate.WRITTEN, ("batches",))
    ],
)
def test_what_is_deleted_of_a_finished_run_is_made_again(
    pictures, weights, whole, run, names
):
    for name in names:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    said = []
    outcome = evaluate.run(settings(pictures, weights), run, say=said.append)
    same_files(run, whole)
    if names == ("batches",):
        assert outcome.message.startswith("Done before")
    else:
        assert outcome.message.startswith("Done: ")
        assert any(names[0] in text and "made again" in text for text in said)


@pytest.mark.exhaustive
@pytest.mark.parametrize("text", ["[" * 100_000, "\udcff", '{"about": 3}'])
def test_rubbish_for_documents_is_a_sentence(pictures, weights, whole, run, text):
    data = text.encode("utf-8", "surrogateescape")
    for name in ("summary.json", "config.json", "began_with.json"):
        kept = (run / name).read_bytes()
        (run / name).write_bytes(data)
        try:
            evaluate.run(settings(pictures, weights), run)
        except ValueError as error:
            assert name in str(error) or "another config" in str(error)
            (run / name).write_bytes(kept)
        same_files(run, whole)


def test_logits_that_are_not_finite_end_with_three_and_names(
    pictures, weights, tmp_path, capsys
):
    arrays = readers.read(weights / "one.safetensors")
    huge = {
        path: np.full_like(leaf, 3e38) if "classifier" in path else leaf
        for path, leaf in arrays.items()
    }
    readers.write_safetensors(tmp_path / "huge.safetensors", huge)
    words = ["evaluate", "--config", CONFIG, f"--config.data.path={pictures}"]
    words += [f"--config.model.weights={tmp_path / 'huge.safetensors'}"]
    words += ["--config.controls=False", f"--workdir={tmp_path / 'run'}"]
    assert cli.main(words) == 3
    said = capsys.readouterr()
    assert "logits of cifar_resnet8 are not finite" in said.err
    assert "'0_0.png'" in said.err and "Done" not in said.out
    assert not (tmp_path / "run").exists()


def test_maps_and_scores_that_are_not_finite_are_named(
    pictures, weights, tmp_path, monkeypatch
):
    measure = shared._measure

    def spoilt(*arguments):
        return {
            name: np.where(np.arange(len(values)) == 1, np.inf, values)
            for name, values in measure(*arguments).items()
        }

    monkeypatch.setattr(shared, "_measure", spoilt)
    with pytest.raises(
        FloatingPointError, match="Complexity of center is not finite, on '0_1.png';"
    ):
        evaluate.run(settings(pictures, weights), tmp_path / "run")


@pytest.mark.exhaustive
def test_a_picture_without_object_is_undefined_and_said(weights, tmp_path):
    folder, random = tmp_path / "pictures", np.random.default_rng(0)
    (folder / "masks").mkdir(parents=True)
    lines = ["path,class"]
    for index in range(3):
        pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        mask = np.zeros((32, 32), np.uint8)
        mask[:, : 16 * (index > 0)] = 1
        Image.fromarray(mask).save(folder / "masks" / f"{index}.png")
        lines.append(f"{index}.png,{index}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    given = settings(folder, weights, ("labels", "predicted"), ("metrics", "('iou',)"))
    summary = evaluate.run(given, tmp_path / "run").summary
    assert summary["center/iou"]["n"] == 2
    for name in ("summary.md", "report.html"):
        text = (tmp_path / "run" / name).read_text()
        assert "undefined for 1 of 3 images" in text and ">nan" not in text


@pytest.mark.exhaustive
def test_what_the_writer_says_of_a_disk_has_the_way_out_too(
    pictures, weights, whole, stopped, monkeypatch
):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    given = settings(pictures, weights)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ValueError, match="no space is left") as error:
            evaluate.run(given, stopped)
    told = f"complete in {str(stopped)!r} stays, and the same command goes on."
    assert str(error.value).endswith(told)
    evaluate.run(given, stopped)
    same_files(stopped, whole)


@pytest.mark.exhaustive
def test_a_disk_that_cannot_be_written_to_is_a_sentence(
    pictures, weights, whole, stopped, monkeypatch
):
    code = errno.EROFS
    write, left = files.write_bytes, [3]

    def full(path, data):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(code, os.strerror(code))
        write(path, data)

    given = settings(pictures, weights)
    with monkeypatch.context() as patched:
        patched.setattr(files, "write_bytes", full)
        with pytest.raises(ValueError, match="cannot be written to") as error:
            evaluate.run(given, stopped)
    assert str(stopped) in str(error.value) and os.strerror(code) in str(error.value)
    assert "the same command goes on" in str(error.value)
    evaluate.run(given, stopped)
    same_files(stopped, whole)


def test_a_place_that_may_not_be_written_to_is_refused_first(
    pictures, weights, tmp_path, monkeypatch
):
    monkeypatch.setattr(scoring, "batches", lambda *_: pytest.fail("work was begun"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match="cannot be written to, for"):
        evaluate.run(settings(pictures, weights), tmp_path / "run")
    with pytest.raises(ValueError, match="is a file; expected a folder|cannot be"):
        (tmp_path / "file").write_text("")
        evaluate.run(settings(pictures, weights), tmp_path / "file" / "run")


@pytest.mark.exhaustive
def test_of_two_that_begin_at_once_the_second_of_another_config_is_refused(
    pictures, weights, tmp_path, monkeypatch
):
    place = tmp_path / "run"
    scored = scoring.score

    def meanwhile(*arguments, **named):
        monkeypatch.setattr(scoring, "score", scored)
        evaluate.run(settings(pictures, weights, ("seed", 1)), place)
        return scored(*arguments, **named)

    monkeypatch.setattr(scoring, "score", meanwhile)
    with pytest.raises(ValueError, match="belongs to another config: seed"):
        evaluate.run(settings(pictures, weights), place)
    assert json.loads((place / "config.json").read_text())["seed"] == 1


@pytest.mark.exhaustive
def test_two_of_one_config_share_a_workdir(
    pictures, weights, whole, tmp_path, monkeypatch
):
    place = tmp_path / "run"
    scored = scoring.score

    def meanwhile(*arguments, **named):
        monkeypatch.setattr(scoring, "score", scored)
        evaluate.run(settings(pictures, weights), place)
        return scored(*arguments, **named)

    monkeypatch.setattr(scoring, "score", meanwhile)
    outcome = evaluate.run(settings(pictures, weights), place)
    assert outcome.message.startswith("Done: ")
    same_files(place, whole)
    assert not locks.held(place / locks.LOCK)


def test_what_a_killed_run_left_is_swept_away_and_what_another_writes_is_not(
    pictures, weights, whole, stopped
):
    left = [
        stopped / ".unlir-0123456789ab.tmp",
        stopped / "batches" / ".unlir-0123456789ac.tmp",
    ]
    written = stopped / "batches" / ".unlir-0123456789ad.tmp"
    for path in (*left, written):
        path.write_bytes(b"half")
    with written.open("rb") as file:
        filelock.lock_descriptor(file.fileno())
        evaluate.run(settings(pictures, weights), stopped)
    assert [path.exists() for path in left] == [False, False] and written.exists()
    same_files(stopped, whole)
