"""Studies of ways to train: what is refused and compared, and one from end to end."""

import json

import numpy as np
import pytest

from unlir_jax.evaluation.study import compare_trainings, comparison, measures, networks
from unlir_jax.report import study_page
from unlir_jax.runtime import config

CONFIG = "configs/interpretable_training.py"
ARMS = "arms=plain+mixup,seeds=2"
METRICS = ("average_drop", "insertion")
FACTS = study_page.FACTS


def settings(root, arms=ARMS, **changes):
    return config.load(f"{CONFIG}:{arms},root={root}", config.as_overrides(changes))


@pytest.fixture
def root(tmp_path):
    """Write what trainings leave, but for their weights."""
    for name, sets in config.variants(f"{CONFIG}:{ARMS}").items():
        theirs = config.load(f"{CONFIG}:{ARMS}", config.as_overrides(sets))
        (tmp_path / name).mkdir()
        text = json.dumps(config.to_dict(theirs))
        (tmp_path / name / "config.json").write_text(text)
        (tmp_path / name / "summary.json").write_text('{"test/accuracy": 0.5}')
    return tmp_path


def change(root, name, group, setting, value):
    path = root / name / "config.json"
    theirs = json.loads(path.read_text())
    (theirs[group] if group else theirs)[setting] = value
    path.write_text(json.dumps(theirs))


def test_networks_are_found_seed_by_seed(root):
    found = networks.find(settings(root))
    assert [each.name for each in found] == ["plain-0", "mixup-0", "plain-1", "mixup-1"]


def test_what_an_arm_sets_may_be_several_numbers(tmp_path):
    what = "configs/localization_training.py:arms=hide_and_seek,seeds=1"
    for name, sets in config.variants(what).items():
        theirs = config.load(what, config.as_overrides(sets))
        (tmp_path / name).mkdir()
        text = json.dumps(config.to_dict(theirs))
        (tmp_path / name / "config.json").write_text(text)
        (tmp_path / name / "summary.json").write_text('{"test/accuracy": 0.5}')
    study = config.load(f"{what},root={tmp_path}")
    found = networks.find(study)
    assert [each.name for each in found] == ["plain-0", "hide_and_seek-0"]
    change(tmp_path, "hide_and_seek-0", "objective", "patches", [0, 4])
    said = r"objective.patches=\(0, 4\), and this study's arm sets .*\(0, 2, 5, 6, 8\)"
    with pytest.raises(ValueError, match=said):
        networks.find(study)


def test_a_missing_network(root):
    (root / "mixup-1" / "summary.json").unlink()
    with pytest.raises(ValueError, match="'mixup-1', which is not finished"):
        networks.find(settings(root))
    with pytest.raises(ValueError, match="'b_cos-0', which does not exist"):
        networks.find(settings(root, "arms=b_cos,seeds=1"))


def test_an_unequal_recipe(root):
    change(root, "mixup-1", "", "batch_size", 64)
    said = "no arm sets: batch_size: 32 in 'plain-0', 64 in 'mixup-1'"
    with pytest.raises(ValueError, match=said):
        networks.find(settings(root))
    change(root, "mixup-1", "", "batch_size", 32)
    change(root, "plain-1", "optimizer", "learning_rate", 0.1)
    with pytest.raises(ValueError, match="optimizer.learning_rate: 0.05 in 'plain-0'"):
        networks.find(settings(root))


def test_another_seed_or_arm(root):
    change(root, "plain-1", "", "seed", 7)
    with pytest.raises(ValueError, match="'plain-1' was trained with seed=7.*seed=1"):
        networks.find(settings(root))
    change(root, "plain-1", "", "seed", 1)
    change(root, "mixup-0", "objective", "mixup", 0.4)
    with pytest.raises(ValueError, match="objective.mixup=0.4.*objective.mixup=0.2"):
        networks.find(settings(root))


def test_what_cannot_be_a_study(root):
    with pytest.raises(ValueError, match="`baseline`='sparse' is no arm"):
        networks.find(settings(root, baseline="sparse"))
    with pytest.raises(ValueError, match="expected two arms"):
        networks.find(settings(root, "arms=plain,seeds=1"))
    with pytest.raises(ValueError, match="`images`=999 of a test split of 1000"):
        compare_trainings.prepare(settings(root, images=999))
    with pytest.raises(ValueError, match="`arms` has 'sparse'"):
        settings(root, "arms=sparse")


def test_scored_and_fitted_images_are_apart():
    places = measures.deal(20, 5)
    assert places.scored.tolist() == [0, 4, 8, 12, 16]
    assert places.fitted.tolist() == [1, 3, 6, 9, 11, 14, 17, 19]


def scored(arm, seed, better, right):
    """Give scores that depend on seed and image, and an arm that adds to them."""
    values = seed + np.linspace(0, 1, 4)
    table = {"cam/average_drop": values - better, "cam/insertion": values + better / 2}
    each = {"accuracy": np.ones(4), "nll": values + better}
    tables = {"as_trained": table, "calibrated": table}
    facts = {"temperature": 1.0, "accuracy": 1.0}
    return comparison.Scored(arm, seed, facts, each, np.asarray(right), tables)


def test_differences_are_paired_by_seed_and_image():
    found = []
    for seed in range(2):
        found.append(scored("plain", seed, 0.0, [True, True, False, False]))
        found.append(scored("other", seed, 0.1, [True, False, True, False]))
    document = comparison.compare(found, "plain", METRICS, resamples=20)
    cells = {(each["condition"], each["cell"]): each for each in document["cells"]}
    drop = cells["as_trained", "cam/average_drop"]
    # The tables vary by 2, and their differences by nothing.
    assert drop["low"] == pytest.approx(-0.1) and drop["high"] == pytest.approx(-0.1)
    assert (drop["verdict"], drop["n"]) == ("better", 8)
    np.testing.assert_allclose(drop["seeds"], [-0.1, -0.1])
    right = cells["both_right", "cam/insertion"]
    assert right["n"] == 2 and right["difference"] == pytest.approx(0.05)
    assert right["baseline"] == pytest.approx(0.5)
    assert cells["as_trained", "network/accuracy"]["verdict"] == "open"
    assert cells["as_trained", "network/nll"]["verdict"] == "worse"
    signs = {(s["condition"], s["metric"]): s for s in document["signs"]}
    both = signs["as_trained", "all"]
    assert (both["improved"], both["changed"], both["p_value"]) == (2, 2, 0.5)
    assert signs["as_trained", "insertion"]["cells"] == 1


def test_a_page_has_all_arms_side_by_side_and_localisation_with_the_methods():
    found = []
    for arm, better in (("plain", 0.0), ("other", 0.1), ("third", -0.1)):
        one = scored(arm, 0, better, [True] * 4)
        table = {"loss/gradient_cosine": np.full(4, np.nan)}
        for metric in (*METRICS, "energy_pointing_game"):
            table[f"grad_cam/{metric}"] = np.linspace(0, 1, 4) + better
        tables = {"as_trained": table, "calibrated": table}
        found.append(one._replace(tables=tables, facts=dict.fromkeys(FACTS, 0.5)))
    about = {
        **{"arms": ["plain", "other", "third"], "baseline": "plain", "given": []},
        **{"sets": {"other": (), "third": ()}, "seeds": 1, "images": 4, "fitted": 2},
        **{"methods": ["grad_cam"], "metrics": list(METRICS), "model": "tiny"},
        **{"localization": "energy_pointing_game", "versions": {"unlir_jax": "0"}},
    }
    compared = comparison.compare(found, "plain", METRICS, resamples=20)
    page = study_page.page({"about": about, **compared}, [])
    overview = page.split('id="overview"')[1].split("</section>")[0]
    rows = {row.split("</th>")[0]: row for row in overview.split('<th scope="row">')}
    pointing = rows["Grad-CAM: Energy pointing game ↑"]
    assert pointing.count("<td>") == 2
    assert '<span class="best">+10.0' in pointing
    assert '<span class="rival">-10.0' in pointing
    # What has no number is a dash: no network here has a guided gradient.
    assert rows["Cosine of plain and guided gradient"].count("<td>–</td>") == 2
    assert page.count("Energy pointing game ↑</th>") == 2 * 3 + 1
    old = {name: value for name, value in about.items() if name != "localization"}
    assert "Energy pointing" in study_page.page({"about": old, **compared}, [])


def test_cells_print_as_their_kind():
    assert study_page.number("cam/insertion", 0.123, signed=True) == "+12.3"
    assert study_page.number("network/accuracy", 0.5) == "50.0"
    assert study_page.number("loss/gradient_cosine", 0.1234) == "0.123"
    assert study_page.number("network/nll", 0.79) == "0.790"
    assert study_page.number("cam/insertion", None) == "–"


@pytest.mark.exhaustive
def test_a_study_from_end_to_end(tmp_path):
    from unlir_jax.training import train

    argument = f"{CONFIG}:arms=plain+b_cos,seeds=1"
    changes = {
        "data.options": {"image_size": 32, "classes": 6},
        "data.image_size": 32,
        "data.train_options": {"size": 8},
        "data.test_options": {"size": 16},
        "epochs": 1.0,
        "batch_size": 4,
    }
    for name, sets in config.variants(argument).items():
        theirs = config.load(argument, config.as_overrides({**sets, **changes}))
        train.run(theirs, tmp_path / name, say=lambda text: None)
    given = config.load(
        f"{argument},root={tmp_path}",
        config.as_overrides(
            {
                "images": 8,
                "batch_size": 8,
                "methods": ("grad_cam", "layer_cam"),
                "metrics": ("average_drop", "insertion"),
                "metric_options": {"insertion": {"steps": 2}},
                "sanity.images": 4,
                "sanity.metrics": ("cascading_randomization",),
                "statistics.resamples": 50,
                "gallery": 2,
            }
        ),
    )
    folder = tmp_path / "scores"
    outcome = compare_trainings.run(given, folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert outcome.message.startswith("Done: ")
    cells = {(each["condition"], each["cell"]): each for each in summary["cells"]}
    assert {"as_trained", "calibrated", "both_right"} == {each[0] for each in cells}
    for cell in ("grad_cam/insertion", "grad_cam/energy_pointing_game"):
        assert cells["calibrated", cell]["n"] == 8
    assert cells["as_trained", "gradient/cascading_randomization"]["n"] == 4
    # A B-cos network has no rectifier, so that nothing is guided.
    assert cells["as_trained", "loss/gradient_cosine"]["verdict"] == "undefined"
    assert cells["as_trained", "loss/gradient_gini"]["n"] == 8
    # The mean of an evaluation that anybody can read.
    theirs = json.loads(
        (folder / "networks/b_cos-0/as_trained/summary.json").read_text()
    )
    found = cells["as_trained", "layer_cam/insertion"]["mean"]
    assert found == pytest.approx(theirs["layer_cam/insertion"]["mean"], abs=1e-9)
    page = (folder / "report.html").read_text()
    assert page.count("<img") == 2 * (1 + 2 * 2)
    assert compare_trainings.run(given, folder).message.startswith("Done before: ")
