"""The evaluation of robustness, on a network whose distances are known."""

import csv
import json
import signal
import sys
import types

import helpers
import numpy as np
import pytest
from PIL import Image

import unlir_jax
from unlir_jax import cli, split
from unlir_jax.evaluation.robustness import (
    evaluate_robustness,
    scoring,
    settings,
    summary,
    task,
)
from unlir_jax.runtime import config
from unlir_jax.statistics import proportions

NAMES = ("red", "green", "blue")
SIDE, COUNT = 8, 4
LIGHT, DARK = 140, (100, 110, 120, 130)
"""Levels of an image's own colour, and of the next one in each of its class."""
GAPS = np.asarray([LIGHT - each for each in DARK]) / 255 / 2
MEAN = split.from_functions(lambda _, x: x, lambda _, maps: 9 * maps.mean((1, 2)))
ATTACKS = "pgd+fmn"


def colours():
    return unlir_jax.wrap(MEAN, {}, image_size=SIDE, class_names=NAMES)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Write pictures of one colour, one of which lies in the wrong folder."""
    folder = tmp_path_factory.mktemp("colours")
    for own, name in enumerate(NAMES):
        (folder / name).mkdir()
        for number, dark in enumerate(DARK):
            pixels = np.full((SIDE, SIDE, 3), 20, np.uint8)
            pixels[..., own], pixels[..., (own + 1) % 3] = LIGHT, dark
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    pixels[...] = (200, 0, 0)
    Image.fromarray(pixels).save(folder / "blue" / "wrong.png")
    return folder


@pytest.fixture(autouse=True)
def nets(monkeypatch):
    module = types.ModuleType("colour_nets")
    module.colours = colours
    monkeypatch.setitem(sys.modules, module.__name__, module)


def chosen(place, what=f"attacks={ATTACKS},epsilon=0.05+0.03", **more):
    given = {"data.path": place, "batch_size": 5, "statistics.resamples": 100}
    given |= {"data.crop": 1.0}
    if "pgd" in what:
        given |= {"attack_options.pgd.steps": 8, "attack_options.fmn.steps": 40}
    given |= more
    overrides = [f"--config.{name}={value}" for name, value in given.items()]
    return config.load(
        f"configs/robustness.py:model=colour_nets:colours,{what}", overrides
    )


@pytest.fixture(scope="module")
def evaluated(place, tmp_path_factory):
    module = types.ModuleType("colour_nets")
    module.colours = colours
    sys.modules[module.__name__] = module
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    return folder, evaluate_robustness.run(chosen(place), folder)


def test_figures_are_those_of_the_closed_form(evaluated):
    """Of a mean colour, half the difference of two channels is the l-inf distance."""
    _, outcome = evaluated
    found, images = outcome.summary, 3 * COUNT + 1
    assert found["accuracy"]["mean"] == pytest.approx(3 * COUNT / images)
    for epsilon in (0.03, 0.05):
        held = 3 * int((GAPS > epsilon).sum())
        for name in ("pgd", "fmn", "all"):
            figure = found[f"{name}/robust_accuracy@{epsilon}"]
            assert figure["mean"] == pytest.approx(held / images)
            expected = proportions.wilson(held, images)
            assert (figure["low"], figure["high"]) == (expected.low, expected.high)
    # PGD has no budget for the two widest gaps.
    assert found["pgd/failures"] == 3 * int((GAPS > 0.05).sum())
    assert found["fmn/failures"] == 0
    assert "pgd/mean" not in found
    assert found["fmn/mean"]["mean"] == pytest.approx(GAPS.mean(), rel=0.03)
    assert found["fmn/median"]["mean"] == pytest.approx(np.median(GAPS), rel=0.03)
    assert found["fmn/mean"]["n"] == 3 * COUNT
    curve = found["curves"]["fmn"]
    assert curve["share"][-1] == 1 and len(curve["distance"]) == 3 * COUNT
    np.testing.assert_allclose(
        curve["distance"], np.repeat(np.sort(GAPS), 3), rtol=0.03
    )
    assert found["all/optimality"] == 1
    assert found["fmn/optimality"] >= 0.99 > found["pgd/optimality"]


def test_the_files_hold_every_image(evaluated):
    folder, outcome = evaluated
    stored = json.loads((folder / "summary.json").read_text())
    assert stored["fmn/mean"] == outcome.summary["fmn/mean"]
    text = (folder / "per_image.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert len({row["image"] for row in rows}) == 3 * COUNT + 1
    clean = [row for row in rows if row["method"] == "clean"]
    wrong = [row["image"] for row in clean if float(row["value"]) == 0]
    assert wrong == ["blue/wrong.png"]
    own = [r for r in rows if (r["method"], r["metric"]) == ("fmn", "linf")]
    assert len(own) == 3 * COUNT
    failed = [r for r in rows if (r["method"], r["metric"]) == ("pgd", "budget")]
    assert {float(row["value"]) for row in failed} == {0.03, 0.05}
    assert json.loads((folder / "per_image.json").read_text())["lines"]
    page = (folder / "report.html").read_text()
    assert "Operating characteristic" in page and "Robust accuracy" in page


def test_a_run_resumes_with_the_same_table(evaluated, place, tmp_path, monkeypatch):
    folder, outcome = evaluated
    assert "Done before" in evaluate_robustness.run(chosen(place), folder).message
    plain, made = scoring.score, []

    def scored(*given):
        if len(made) == 1:
            signal.raise_signal(signal.SIGTERM)
        made.append(1)
        return plain(*given)

    monkeypatch.setattr(scoring, "score", scored)
    stopped = evaluate_robustness.run(chosen(place), tmp_path / "run")
    assert stopped.summary is None and "2 of 3 batches" in stopped.message
    again = evaluate_robustness.run(chosen(place), tmp_path / "run")
    assert len(made) == 3
    again.summary["about"].pop("versions")
    expected = dict(outcome.summary)
    expected["about"] = dict(expected["about"])
    expected["about"].pop("versions")
    assert again.summary == expected
    tables = [each / "per_image.csv" for each in (folder, tmp_path / "run")]
    assert tables[0].read_bytes() == tables[1].read_bytes()
    # A damaged batch is made again, and one of another evaluation is refused.
    file = tmp_path / "run" / "batches" / "000001.npz"
    file.write_bytes(file.read_bytes()[:100])
    (tmp_path / "run" / "report.html").unlink()
    said = []
    evaluate_robustness.run(chosen(place), tmp_path / "run", say=said.append)
    assert len(made) == 4 and "damaged" in said[0]
    helpers.refused(
        "another config: seed", evaluate_robustness.run, chosen(place, seed=1), folder
    )


def test_statistics_alone_may_change(evaluated, place, monkeypatch):
    folder, _ = evaluated
    monkeypatch.setattr(scoring, "score", None)
    changed = chosen(place, **{"statistics.confidence": 0.5})
    found = evaluate_robustness.run(changed, folder).summary
    figure = found["fmn/success"]
    expected = proportions.wilson(3 * COUNT, 3 * COUNT, confidence=0.5)
    assert figure["low"] == expected.low


def test_corruptions_divide_by_the_reference(place, tmp_path):
    what = "corruptions=contrast+brightness"
    first = evaluate_robustness.run(chosen(place, what), tmp_path / "one").summary
    assert first["about"]["attacks"] == []
    # The means of images of one colour stay, so that no decision changes.
    for shares in first["corruptions"].values():
        assert [each["mean"] for each in shares] == [first["accuracy"]["mean"]] * 5
    assert first["mean_corruption_error"] == pytest.approx(1 / 13)
    assert "mce" not in first
    with_it = chosen(place, what, reference=str(tmp_path / "one" / "summary.json"))
    second = evaluate_robustness.run(with_it, tmp_path / "two").summary
    assert second["mce"] == pytest.approx(1)
    assert second["relative_mce"] is None
    assert "divided by" in (tmp_path / "two" / "report.html").read_text()


def test_relative_errors_are_those_of_the_paper():
    """Equations of Section 4 by hand."""
    about = {"corruptions": ["fog"], "severities": [1, 2], "images": 10}

    def told(clean, *errors):
        shares = [{"mean": 1 - each} for each in errors]
        accuracy = {"mean": 1 - clean}
        return {"about": about, "accuracy": accuracy, "corruptions": {"fog": shares}}

    found = summary.corruption_errors(told(0.1, 0.3, 0.4), told(0.2, 0.5, 0.9))
    assert found["mean_corruption_error"] == pytest.approx(0.35)
    assert found["mce"] == pytest.approx(0.7 / 1.4)
    assert found["relative_mce"] == pytest.approx((0.2 + 0.3) / (0.3 + 0.7))


def test_alexnet_has_an_mce_of_one():
    """A network divided by itself is 1, whatever its errors are."""
    about = {"corruptions": list(summary.ALEXNET), "images": 7}
    about["severities"] = [1, 2, 3, 4, 5]
    own = summary.alexnet(about)
    found = summary.corruption_errors(own, own)
    assert found["mce"] == pytest.approx(1) == found["relative_mce"]
    expected = np.mean([*summary.ALEXNET.values()])
    assert found["mean_corruption_error"] == pytest.approx(expected)
    helpers.refused(
        "`reference` has severities",
        *(summary.corruption_errors, {**own, "about": {**about, "severities": [1]}}),
        own,
    )


def test_optimality_is_the_share_of_the_areas():
    """Areas under the two step functions, added up by hand."""
    best, other = np.asarray([1.0, 2.0, 4.0]), np.asarray([2.0, 2.0, np.inf])
    # Up to 4: the envelope stands 1 + 2 + 4, the other 2 + 2 + 4, none 3 * 4.
    assert summary.optimality(other, best) == pytest.approx(1 - 1 / 5)
    assert summary.optimality(other, np.full(3, np.inf)) is None


def test_intervals_of_shares_invert_the_score_test():
    """At the ends, the share lies as many standard errors away as the level says."""
    for count, n in ((3, 10), (9, 10), (50, 200)):
        found = proportions.wilson(count, n, confidence=0.95)
        for end in (found.low, found.high):
            error = np.sqrt(end * (1 - end) / n)
            assert abs(count / n - end) / error == pytest.approx(1.959964, rel=1e-5)
    assert proportions.wilson(0, 4).low == 0
    helpers.refused("`count`=3 of `n`=2", proportions.wilson, 3, 2)


def test_budgets_may_be_fractions():
    assert settings.number("8/255") == pytest.approx(8 / 255)
    helpers.refused("`epsilon`='8/x'", settings.number, "8/x")


def test_what_makes_no_sense_is_refused(place, tmp_path):
    def refused(match, what="attacks=pgd+fmn", **more):
        given = chosen(place, what, **more) if more else None
        run = evaluate_robustness.run
        if given is None:
            helpers.refused(match, chosen, place, what)
        else:
            helpers.refused(match, run, given, tmp_path / "refused")
        assert not (tmp_path / "refused").exists()

    refused("did you mean 'pgd'", "attacks=pgdd")
    refused("did you mean 'frost'", "corruptions=frots")
    refused("`norm`='l3' is unknown", "norm=l3")
    refused("not in `norm`='l0'", norm="l0")
    refused("`epsilons` is empty", epsilons="()")
    refused("`severities`=6", severities="(6,)")
    refused("`labels`='predicted'", labels="predicted")
    refused("ImageNet, but the network has 3", reference="alexnet")
    refused("`reference`='none.json' does not exist", reference="none.json")
    helpers.refused(
        "are empty; expected at least one",
        task.check,
        chosen(place, "attacks=none"),
        (),
        (),
    )


def test_the_command_says_what_it_did(place, tmp_path, capsys):
    words = [
        "evaluate",
        "--config",
        "configs/robustness.py:model=colour_nets:colours,"
        "attacks=none,corruptions=contrast",
        f"--config.data.path={place}",
        "--config.severities=(1,)",
        "--workdir",
        str(tmp_path / "run"),
    ]
    assert cli.main(words) == 0
    assert "Done: open" in capsys.readouterr().out
    assert cli.main([*words, "--json"]) != 0
