"""The evaluation job, as users start it, on a network of random weights."""

import json
import os
import signal
import time

import numpy as np
import pytest
import small_network
from PIL import Image
from pyarrow import parquet

from unlir_jax import adapters, cli, filters
from unlir_jax.data import source
from unlir_jax.evaluation import (
    batch_files,
    comparison,
    evaluate,
    gallery,
    labels,
    scoring,
)
from unlir_jax.models import pretrained
from unlir_jax.report import cautions
from unlir_jax.runtime import config, mesh

CONFIG = (
    "configs/evaluate.py:model=cifar_resnet8,methods=grad_cam+random,"
    "metrics=average_drop+average_gain+insertion+deletion"
)
COUNT = 10


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return small_network.write_noise(tmp_path_factory.mktemp("pictures"), COUNT)


@pytest.fixture(scope="module")
def boxed(tmp_path_factory):
    """Write four pictures that are nothing but object, with a table of their boxes."""
    folder, random = tmp_path_factory.mktemp("boxed"), np.random.default_rng(0)
    lines = ["path,class,x0,y0,x1,y1"]
    for index in range(4):
        pixels = random.integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        lines.append(f"{index}.png,{index},0,0,40,40")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


def settings(folder, *more):
    given = {"data.path": folder, "model.weights": "random", "batch_size": 4}
    given |= {"statistics.resamples": 200, "metric_options.insertion.steps": 4}
    given |= {"metric_options.deletion.steps": 4}
    overrides = [f"--config.{name}={value}" for name, value in given.items()]
    found = config.load(CONFIG, overrides)
    for name, value in more:
        group, _, last = name.rpartition(".")
        (found[group] if group else found)[last] = value
    return found


@pytest.fixture(scope="module")
def evaluated(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    outcome = evaluate.run(settings(pictures), folder)
    return folder, outcome


def table(folder):
    return parquet.read_table(folder / "per_image.parquet").to_pylist()


def test_every_picture_method_and_metric_has_a_line(evaluated, pictures):
    folder, outcome = evaluated
    rows = table(folder)
    assert list(rows[0]) == ["image", "label", "method", "metric", "value"]
    methods = {"grad_cam", "random", "fake_cam", "center", "edges"}
    assert {row["method"] for row in rows} == methods
    assert len(rows) == COUNT * len(methods) * 4
    assert {row["image"] for row in rows} == {path.name for path in pictures.iterdir()}
    for row in rows:
        assert row["label"] == int(row["image"].split("_")[0])
    summary = json.loads((folder / "summary.json").read_text())
    for name, figure in summary.items():
        if "/" not in name:
            continue
        method, metric = name.split("/")
        own = [
            row["value"]
            for row in rows
            if row["method"] == method and row["metric"] == metric
        ]
        assert figure["n"] == COUNT
        assert figure["mean"] == pytest.approx(np.mean(own), abs=1e-6)
        assert figure["low"] - 1e-9 <= figure["mean"] <= figure["high"] + 1e-9
    assert outcome.summary is not None
    assert summary["about"]["controls"] == ["fake_cam", "center", "edges", "random"]
    assert summary["contract"]["insertion"]["settings"]["steps"] == 4
    page = (folder / "report.html").read_text()
    assert "Mean curves" in page
    assert "Explained best" in page
    assert (folder / "per_image.csv").read_text().count("\n") == len(rows) + 1
    words = (folder / "summary.md").read_text()
    assert "| Grad-CAM |" in words
    # Noise, and a network that has learned nothing: no method beats chance.
    assert any(text.startswith("Insertion: Grad-CAM") for text in summary["cautions"])
    for text in summary["cautions"]:
        assert text in words and text in page


def test_the_time_that_is_left_is_said():
    begun = time.monotonic() - 60
    assert scoring._doing("rise", begun, 0.5, 0.0, 2) == "rise, 3 min left"
    assert scoring._doing("rise", begun, 0.0, 0.0, 2) == "rise"


@pytest.mark.exhaustive
def test_one_device_gives_the_table_of_four(evaluated, pictures, tmp_path):
    one = evaluate.run(settings(pictures, ("devices", 1)), tmp_path / "one")
    assert one.summary is not None
    for mine, theirs in zip(table(tmp_path / "one"), table(evaluated[0]), strict=True):
        assert mine["value"] == pytest.approx(theirs["value"], abs=1e-5)
        del mine["value"], theirs["value"]
        assert mine == theirs


@pytest.mark.exhaustive
def test_other_batches_give_the_same_table(evaluated, pictures, tmp_path):
    evaluate.run(settings(pictures, ("batch_size", 8)), tmp_path / "other")
    mine = [row["value"] for row in table(tmp_path / "other")]
    np.testing.assert_allclose(
        mine, [row["value"] for row in table(evaluated[0])], atol=1e-5
    )


@pytest.mark.exhaustive
def test_what_is_lost_is_made_again_and_nothing_else(evaluated, pictures, tmp_path):
    folder = tmp_path / "again"
    evaluate.run(settings(pictures), folder)
    before = (folder / "per_image.parquet").read_bytes()
    kept = folder / "batches" / "000000.npz"
    made = kept.stat().st_mtime_ns
    for name in ("summary.json", "per_image.parquet", "batches/000001.npz"):
        (folder / name).unlink()
    evaluate.run(settings(pictures), folder)
    assert (folder / "per_image.parquet").read_bytes() == before
    assert kept.stat().st_mtime_ns == made
    assert evaluate.run(settings(pictures), folder).message.startswith("Done before")
    with pytest.raises(ValueError, match="belongs to another config: .*seed"):
        evaluate.run(settings(pictures, ("seed", 1)), folder)


def test_who_is_asked_to_stop_keeps_what_is_done_and_leaves_nobody_waiting(
    pictures, tmp_path, monkeypatch
):
    reached = []
    monkeypatch.setattr(mesh, "wait_for_all", reached.append)

    def stop(doing, share):
        if share > 0.2:
            os.kill(os.getpid(), signal.SIGTERM)

    least = (("methods", ("center",)), ("metrics", ("complexity",)))
    given = settings(pictures, *least, ("metric_options", {}), ("controls", False))
    outcome = evaluate.run(given, tmp_path / "run", progress=stop)
    assert outcome.summary is None
    assert "Stopped by SIGTERM after 2 of 3 batches" in outcome.message
    assert reached == ["evaluated"]


@pytest.mark.exhaustive
def test_a_broken_picture_is_counted(pictures, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in sorted(pictures.iterdir())[:3]:
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "5_broken.png").write_bytes(b"no image")
    found = evaluate.run(settings(broken), tmp_path / "out").summary
    assert found["about"]["unreadable"] == ["5_broken.png"]
    words = (tmp_path / "out" / evaluate.WORDS).read_text("utf-8")
    assert "5_broken.png: Image " in words and "(no known format)" in words
    assert found["grad_cam/insertion"]["n"] == 3


@pytest.mark.exhaustive
def test_maps_are_compared_with_boxes_and_explainers_are_asked_again(boxed, tmp_path):
    wanted = ("pointing_game", "official_metric", "energy_pointing_game", "coherency")
    given = settings(boxed, ("metrics", wanted), ("metric_options", {}))
    found = evaluate.run(given, tmp_path / "out").summary
    # The box is the whole picture: every map points into it.
    assert found["center/pointing_game"]["mean"] == 1
    assert found["center/energy_pointing_game"]["mean"] == pytest.approx(1, abs=1e-5)
    assert 0 <= found["edges/official_metric"]["mean"] <= 1
    assert found["edges/coherency"]["n"] == 4
    assert found["contract"]["pointing_game"]["higher_is_better"] is True


def test_localisation_without_boxes_is_refused(pictures, tmp_path):
    given = settings(pictures, ("metrics", ("iou",)), ("metric_options", {}))
    with pytest.raises(ValueError, match="iou, which need boxes, but the data has no"):
        evaluate.run(given, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("metrics", ("insertions",)), "did you mean 'insertion'"),
        (("metrics", ("iou@mean",)), "'iou' has no variants"),
        (("methods", ("grad_cams",)), "did you mean 'grad_cam'"),
        (("labels", "guessed"), "`labels`='guessed'"),
        (("method_options", {"opti_cam": {}}), "configures nothing that is evaluated"),
        (("metric_options", {"insertion": {"step": 3}}), "is no setting of insertion"),
        (("batch_size", 3), "cannot be dealt out"),
        (("devices", 9), "`devices`=9"),
        (("data.limit", -1), "`data.limit`=-1"),
        (("data.path", ""), "`data.path` is missing"),
        (("methods", ("parts",)), "does not decide by parts"),
    ],
)
def test_bad_settings_get_one_sentence(pictures, tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        evaluate.run(settings(pictures, change), tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_the_command_complains_in_one_line(capsys, tmp_path):
    code = cli.main(["evaluate", "--config", CONFIG, f"--workdir={tmp_path / 'x'}"])
    assert code == 2
    assert "`data.path` is missing" in capsys.readouterr().err


def make(classes, found, files=()):
    found = None if found is None else np.asarray(found, np.int32)
    names = list(files) or [f"{index}.png" for index in range(len(found))]
    return source.Source(lambda i: {}, len(names), classes, names.__getitem__, found)


NETWORK = ("tiger cat", "tabby", "great white shark")


def found_of(classes, labels_, files=(), names=NETWORK, **settings):
    made = make(classes, labels_, files)
    found, how = labels.of_source(made, names, len(names) or 3, **settings)
    return found.tolist(), how


def test_labels_are_found_by_name_number_order_or_file():
    assert found_of(NETWORK, [0, 2]) == ([0, 2], "names of classes")
    other = ("Great_White-Shark", "tabby")
    assert found_of(other, [0, 1, 0])[0] == [2, 1, 2]
    assert found_of(("1", "2"), [0, 1, -1]) == ([1, 2, -1], "numbers of classes")
    assert found_of(("a", "b", "c"), [2, 0], names=()) == ([2, 0], "order of classes")
    told = (["d/002_shark.jpg", "001-tabby.jpg"], [2, 1])
    assert found_of((), None, told[0])[0] == told[1]
    # A number that comes twice is no counter.
    assert found_of((), None, ["2_x.jpg", "2_y.jpg"])[0] == [2, 2]
    assert found_of((), None, ["2_x.jpg", "1_y.jpg"], numbered=True)[0] == [2, 1]
    assert found_of((), None, ["x.jpg"]) == ([-1], "none")


@pytest.mark.parametrize(
    ("classes", "files", "sentence"),
    [
        ((), ["7_x.jpg"], "expected 0 to 2"),
        ((), ["2_x.jpg", "1_y.jpg"], "expected --config.labels=numbers or"),
        (("a", "b", "tabby"), (), "2 are not among the 3 of the network"),
        (("shark", "tabby"), (), "'shark' .did you mean 'great white shark'"),
        (("0", "3"), (), "has the class '3', but the network has 3 classes"),
        (("tabby", "Tabby"), (), "'tabby' and 'Tabby', which would both be 'tabby'"),
    ],
)
def test_classes_that_are_none_are_refused_by_name(classes, files, sentence):
    known = np.arange(len(classes)) if classes else None
    with pytest.raises(ValueError, match=sentence):
        found_of(classes, known, files)


def test_what_is_taken_for_granted_is_said():
    assert "in their order" in labels.said("order of classes")
    assert "names of the images" in labels.said("numbers in file names")
    assert not labels.said("names of classes")


def test_a_method_that_does_not_beat_a_control_is_named():
    random = np.random.default_rng(0)
    base = random.random(60)
    better, same = base + 0.2, base + 0.001 * random.normal(size=60)
    values = np.stack([better, same, base], 1)[..., None]
    names = ["good", "empty", "center"]
    found = comparison.compare(values, names, ("center",), ("insertion",))
    (caution,) = found.unbeaten
    assert (caution["method"], caution["control"]) == ("empty", "center")
    assert not caution["worse"] and abs(caution["behind"]) < 0.001
    pair = next(pair for pair in found.pairs if pair["first"] == "good")
    assert pair["win_rate"] > 0.99 and pair["holm"] < 0.01
    assert found.means["good/insertion"]["n"] == 60
    values[3, 1, 0] = np.nan
    again = comparison.compare(values, names, ("center",), ("insertion",))
    assert again.means["good/insertion"]["n"] == 59


def test_cautions_are_one_sentence_a_metric():
    def unbeaten(metric, method, control, behind, worse):
        keys = ("metric", "method", "control", "behind", "worse")
        return dict(zip(keys, (metric, method, control, behind, worse), strict=True))

    found = cautions.sentences(
        [
            unbeaten("deletion", "grad_cam", "edges", 0.031, True),
            unbeaten("deletion", "opti_cam", "edges", 0.134, True),
            unbeaten("deletion", "opti_cam", "center", 0.001, False),
            unbeaten("infidelity@mean", "rise", "edges", 0.0123, True),
            unbeaten("infidelity@mean", "rise", "center", 2.0, True),
        ],
        ("center", "edges"),
    )
    assert found == [
        "Deletion: Opti-CAM cannot be told from Centre; Grad-CAM and Opti-CAM are "
        "worse than Edges (by 3.1 to 13.4 points).",
        "Infidelity (mean): RISE is worse than every control (by 0.0123 to 2).",
    ]


@pytest.mark.exhaustive
def test_sanity_chosen_thresholds_and_baselines_in_one_run(boxed, tmp_path):
    wanted = (
        *("cascading_randomization", "cascading_randomization@hog"),
        *("max_iou", "max_box_accuracy_v2", "pixel_average_precision"),
        *("deletion", "deletion@mean"),
    )
    options = {
        "deletion": {"steps": 2},
        "max_box_accuracy_v2": {"thresholds": 5},
        "cascading_randomization": {"stages": 2},
    }
    given = settings(boxed, ("metrics", wanted), ("metric_options", {}))
    with given.unlocked():
        given.metric_options = options
    found = evaluate.run(given, tmp_path / "out").summary
    # What knows nothing of the network does not change with it.
    assert found["edges/cascading_randomization"]["mean"] == pytest.approx(1, abs=1e-3)
    assert found["center/cascading_randomization@hog"]["mean"] > 0.99
    assert found["grad_cam/cascading_randomization"]["mean"] < 0.95
    assert (
        found["contract"]["cascading_randomization"]["settings"]["order"][0] == "stem"
    )
    # The box is the whole picture, and so is every map at threshold 0.
    for metric in ("max_iou", "pxap", "pixel_average_precision"):
        assert found[f"center/{metric}"]["mean"] == pytest.approx(1, abs=1e-5)
    assert found["thresholds"]["center/max_iou"] == [[0.0, 0.0]]
    assert found["fake_cam/max_box_accuracy_v2"]["mean"] == 1
    assert found["rankings"]["deletion"]["metrics"] == ["deletion", "deletion@mean"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The contract of each metric" in page and "Does the baseline decide" in page
    assert "Deletion (mean)" in page and "MaxBoxAccV2" in page


def test_a_network_of_random_labels_has_to_be_named(pictures, tmp_path):
    given = settings(pictures, ("metrics", ("random_labels",)), ("metric_options", {}))
    with pytest.raises(ValueError, match="`model.random_labels` is missing"):
        evaluate.run(given, tmp_path / "out")


@pytest.mark.exhaustive
def test_weighted_filters_are_evaluated_beside_a_network_of_other_labels(
    pictures, tmp_path
):
    frozen, random = (
        pretrained.load("cifar_resnet8", "random"),
        np.random.default_rng(0),
    )
    weights = {
        name: random.uniform(0.1, 2, np.shape(leaf)).astype(np.float32)
        for name, leaf in filters.init(frozen.variables, "layer3/.*", "output").items()
    }
    adapter = adapters.save(
        tmp_path / "adapter.safetensors",
        weights,
        backbone=frozen.name,
        fingerprint=adapters.fingerprint(frozen.variables),
    )
    adapted = str(tmp_path / "adapted.safetensors")
    command = ["adapters", "apply", "cifar_resnet8", str(adapter), adapted]
    assert cli.main([*command, "--weights", "random"]) == 0
    wanted = ("random_labels", "random_labels@spearman")
    given = settings(
        pictures,
        *(("metrics", wanted), ("metric_options", {}), ("model.weights", adapted)),
        *(("methods", ("grad_cam",)), ("method_options", {})),
        ("model.random_labels", "random"),
    )
    found = evaluate.run(given, tmp_path / "run").summary
    assert found["about"]["weights"]["source"] == "adapted.safetensors"
    for name in wanted:
        # What knows nothing of the network stays; what shows it does not.
        assert found[f"edges/{name}"]["mean"] == pytest.approx(1, abs=1e-3)
        assert found[f"grad_cam/{name}"]["mean"] < 0.99


def test_the_gallery_has_the_best_the_worst_and_the_disputed():
    values = np.asarray([[0.9, 0.8], [0.1, 0.2], [0.1, 0.95], [0.5, 0.5]])
    flat = np.zeros((4, 2), bool)
    chosen = gallery.choose(values, flat, True, 1)
    assert chosen == [("best", 0), ("worst", 1), ("disputed", 2)]
    assert gallery.choose(values, flat, False, 1)[0] == ("best", 1)
    flat[0] = True
    assert gallery.choose(values, flat, True, 1)[1] == ("worst", 0)


@pytest.mark.exhaustive
def test_maps_of_the_gallery_are_kept_and_made_again_only_where_they_are_lost(
    pictures, tmp_path, monkeypatch
):
    folder, drawn, explained, said = tmp_path / "run", [], [], []
    make = gallery._explained

    def again(setup, indices):
        explained.append(len(indices))
        return make(setup, indices)

    def page(document, rows, shown):
        drawn.append(shown)
        return "page"

    monkeypatch.setattr(gallery, "_explained", again)
    monkeypatch.setattr(evaluate.report, "page", page)
    # Not in the order of the alphabet.
    given = settings(pictures, ("methods", ("gradient", "grad_cam")), ("gallery", 1))
    kept = folder / gallery.FOLDER / "0.npz"
    evaluate.run(given, folder)
    assert len(batch_files.unpack(kept)[0]["index"]) <= 5
    for spoil in (kept.unlink, lambda: kept.write_bytes(b"no zip")):
        spoil()
        (folder / evaluate.SUMMARY).unlink()
        evaluate.run(given, folder, say=said.append)
    assert explained == [0, 3, 3]
    assert any("0.npz' is damaged" in text for text in said)
    first, *others = drawn
    assert [each.kind for each in first] == ["best", "worst", "disputed"]
    for other in others:
        for mine, theirs in zip(first, other, strict=True):
            assert (mine.kind, mine.name, mine.scores) == theirs[:2] + (theirs.scores,)
            for name, view in mine.views.items():
                pair = (view.overlay, theirs.views[name].overlay)
                one, same = (np.asarray(image, int) for image in pair)
                assert np.abs(one - same).max() <= 2
        gradient, cam = (np.asarray(v.overlay, int) for v in first[0].views.values())
        assert list(first[0].views) == ["gradient", "grad_cam"]
        assert np.abs(gradient - cam).max() > 20
