"""Evaluations of open sets from a folder of colours to the page, also interrupted."""

import json

import numpy as np
import pytest
from open_set_worlds import COUNT, asked, draw_colours, read_settings

from unlir_jax import cli
from unlir_jax.open_set import descriptions, recognise, score_names, setup, trial

SCORES = "msp+relative_mahalanobis+parts+best"


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return draw_colours(tmp_path_factory.mktemp("colours"))


def read(folder, scores=SCORES, **more):
    return read_settings(folder, scores, **more)


@pytest.fixture(scope="module")
def finished(colours):
    place = colours / "run"
    told = []
    outcome = recognise.run(
        read(colours, similarity=True),
        place,
        progress=lambda doing, share: told.append((doing, share)),
    )
    return place, outcome, told


def test_a_summary_has_means_intervals_and_what_was_chosen(finished):
    place, outcome, told = finished
    summary = outcome.summary
    for name in SCORES.split("+"):
        area = summary[f"{name}/auroc"]
        assert area["low"] <= area["mean"] <= area["high"]
        assert area["mean"] == pytest.approx(np.mean(area["values"]))
        assert len(area["values"]) == 2
    assert summary["accuracy"]["mean"] > 0.8
    assert summary["relative_mahalanobis/auroc"]["mean"] > 0.8
    single = summary[f"{summary['best/single']}/auroc"]["values"]
    np.testing.assert_allclose(
        summary["best/auroc_against_single"]["values"],
        np.subtract(summary["best/auroc"]["values"], single),
    )
    assert all(set(names) < set(SCORES.split("+")) for names in summary["best/chosen"])
    assert json.loads((place / "summary.json").read_text()) == {
        **summary,
        "not_finite": 0,
    }
    shares = [share for _, share in told]
    assert shares == sorted(shares) and shares[-1] == 1


def test_splits_keep_the_scores_of_all_images(finished):
    place, outcome, _ = finished
    split = json.loads((place / "splits" / "001.json").read_text())
    assert len(split["known"]) == len(split["unknown"]) == 4
    assert not set(split["known"]) & set(split["unknown"])
    assert len(split["images"]) == len(split["scores"]["best"]) == 8 * COUNT["test"]
    is_known = np.asarray(
        [name.split("/")[1] in split["known"] for name in split["images"]]
    )
    assert np.asarray(split["is_known"]).tolist() == is_known.astype(int).tolist()
    right = np.asarray(split["right"])
    assert split["accuracy"] == right.sum() / is_known.sum()
    area = outcome.summary["msp/auroc"]["values"][1]
    scores = np.asarray(split["scores"]["msp"])
    pairs = np.sign(scores[is_known][:, None] - scores[~is_known]) / 2 + 0.5
    assert area == pytest.approx(pairs.mean())
    hard, easy = (
        split["measures"]["msp"][f"auroc_{half}"] for half in ("hard", "easy")
    )
    assert (hard + easy) / 2 == pytest.approx(area)


def test_the_page_shows_scores_histograms_and_images(finished):
    place, outcome, _ = finished
    page = (place / "report.html").read_text()
    assert "4 known and 4 unknown classes, 2 splits, 24 test images" in page
    assert page.count("data:image/png") == 2 and page.count("data:image/webp") == 4
    assert "Unknown images that look known" in page and "Hard and easy" in page
    mean = 100 * outcome.summary["msp/auroc"]["mean"]
    assert f"{mean:.1f} [" in page and "http" not in page.split("</style>")[1]


def test_unknown_training_images_change_no_score(finished, colours):
    given = setup.prepare(read(colours))
    quiet = lambda doing, share: None  # noqa: E731
    train = descriptions.read(given, given.train, "train", quiet)
    test = descriptions.read(given, given.test, "test", quiet)
    found = trial.run(given, 0, train, test)
    unknown = np.isin(train.labels, given.divisions[0].unknown)
    maps = np.array(train.maps)
    maps[unknown] = 7 - maps[unknown]
    pooled = train.pooled.copy()
    pooled[unknown] = 7 - pooled[unknown]
    other = trial.run(given, 0, train._replace(pooled=pooled, maps=maps), test)
    assert found["scores"] == other["scores"]
    assert found["chosen"] == other["chosen"]


def test_a_finished_run_is_left_alone_and_a_damaged_split_is_made_again(
    finished, colours
):
    place, outcome, _ = finished
    wanted = read(colours, similarity=True)
    again = recognise.run(wanted, place)
    assert again.message.startswith("Done before") and "AUROC" in again.message
    file, kept = place / "splits" / "000.json", place / "splits" / "001.json"
    before, written = file.read_text(), kept.stat().st_mtime_ns
    file.write_text(before.replace("0.", "1.", 1))
    (place / "report.html").unlink()
    said = []
    renewed = recognise.run(wanted, place, say=said.append)
    assert renewed.summary == outcome.summary and file.read_text() == before
    assert kept.stat().st_mtime_ns == written
    assert len(said) == 1 and "is damaged (it is not what was written)" in said[0]


def test_a_workdir_of_other_settings_is_refused(finished, colours):
    place, _, _ = finished
    with pytest.raises(ValueError, match="seed"):
        recognise.run(read(colours, similarity=True, seed=1), place)


def test_the_command_takes_a_file_of_unknown_classes(colours, tmp_path, capsys):
    file = tmp_path / "unknown.txt"
    file.write_text("colour7\ncolour0\n")
    words = ["evaluate", "--config", "configs/open_set.py:backbone=cifar_resnet8"]
    words[-1] += ",scores=msp+energy"
    words += [*asked(colours), f"--config.unknown={file}"]
    assert cli.main([*words, f"--workdir={tmp_path / 'run'}"]) == 0
    assert "Done: 1 splits" in capsys.readouterr().out
    split = json.loads((tmp_path / "run" / "splits" / "000.json").read_text())
    assert split["unknown"] == ["colour0", "colour7"]
    assert cli.main([*words, f"--workdir={tmp_path / 'other'}", "--dry-run"]) == 0
    assert not (tmp_path / "other").exists()
    assert cli.main([*words, f"--workdir={tmp_path / 'other'}", "--maps=x"]) == 2


@pytest.mark.parametrize(
    ("scores", "more", "sentence"),
    [
        ("mps+energy", {}, "`scores` has 'mps', which is no score; did you mean 'msp'"),
        ("msp+msp", {}, "`scores` has 'msp' twice"),
        ("best", {}, "has 'best' alone; expected another score"),
        ("msp", {"known": 0.1}, "leaves 1 known"),
        ("msp", {"known": 1.5}, "`known`=1.5; expected a number above 0"),
        ("msp", {"splits": 0}, "`splits`=0"),
        ("msp", {"head": "prototype"}, "`head`='prototype' is unknown; did you mean"),
        ("msp", {"label_smoothing": 0.1}, "is of `head`='softmax', not of 'prototyp"),
        ("msp", {"kept": 1.0}, "`kept`=1.0"),
        ("msp", {"protocol": "cifar"}, "`protocol`='cifar' is unknown"),
        ("msp", {"protocol": "mnist"}, "is of 10 classes, but the data has 8"),
        ("msp", {"pooling": "gemm"}, "`pooling`='gemm' is none of .*did you mean"),
        ("msp", {"data.test": ""}, "nothing to score"),
        ("msp", {"known_classes": "x.txt"}, "`known_classes` without `unknown`"),
        ("msp+energy+best", {"known": 0.3}, "but there are 2; expected 4 or more"),
    ],
)
def test_bad_settings_get_one_sentence(colours, tmp_path, scores, more, sentence):
    with pytest.raises(ValueError, match=sentence):
        recognise.run(read(colours, scores, **more), tmp_path / "bad")


def test_a_score_of_another_kind_has_no_settings_here(colours):
    wanted = read(colours, "openmax+knn", **{"score_options.knn.neighbours": 3})
    assert setup.prepare(wanted).plan.options["knn"] == {"neighbours": 3}
    assert score_names.score_settings("openmax")["distance"] == "euclidean"
    with pytest.raises(ValueError, match="no such setting"):
        read(colours, "knn", **{"score_options.knn.neighbour": 3})


def test_a_stopped_run_continues(colours, tmp_path, monkeypatch):
    real, made = trial.run, []

    def stopping(given, number, *arguments):
        made.append(number)
        if len(made) == 2:
            raise KeyboardInterrupt
        return real(given, number, *arguments)

    monkeypatch.setattr(trial, "run", stopping)
    wanted = read(colours, "msp+energy")
    with pytest.raises(KeyboardInterrupt):
        recognise.run(wanted, tmp_path / "run")
    assert not (tmp_path / "run" / "summary.json").exists()
    assert recognise.run(wanted, tmp_path / "run").summary is not None
    assert made == [0, 1, 1]
