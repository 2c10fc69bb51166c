"""`unlir evaluate --dry-run`: what would be done and what it may cost."""

import json

import pytest
import small_network

from unlir_jax import cli
from unlir_jax.evaluation import dry_run

WHAT = (
    "configs/evaluate.py:model=cifar_resnet8,"
    "methods=grad_cam+opti_cam+ablation_cam+occlusion,"
    "metrics=average_drop+average_gain+insertion+coherency"
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return small_network.write_noise(tmp_path_factory.mktemp("pictures"), 6)


@pytest.fixture
def words(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"data.path": pictures, "model.weights": "random", "batch_size": 4}
    given |= {"method_options.opti_cam.steps": 5, "metric_options.insertion.steps": 4}
    given |= {"devices": 1}
    changed = [f"--config.{name}={value}" for name, value in given.items()]
    return ["evaluate", "--config", WHAT, *changed, "--dry-run"]


def passes(forwards, backwards=0, heads=0, explanations=0):
    given = {"forwards": forwards, "backwards": backwards, "heads": heads}
    return given | {"explanations": explanations}


def test_passes_are_counted_by_hand(words, tmp_path, capsys):
    assert cli.main([*words, "--json", "--workdir", "run/deep"]) == 0
    found = json.loads(capsys.readouterr().out)
    counted = found["passes"]
    # An eighth of the side is 4 pixels; steps of 2 are 15 along each side of 32.
    windows = counted["methods"]["occlusion"]["forwards"] - 1
    assert windows == 15**2
    assert counted["methods"] == {
        "grad_cam": passes(1),
        "opti_cam": passes(1 + 5, 5),
        "ablation_cam": passes(1, heads=64),
        "occlusion": passes(1 + windows),
        **dict.fromkeys(("fake_cam", "random", "center", "edges"), passes(0)),
    }
    # Drop and gain share a pass, and all metrics that of the image itself.
    assert counted["metrics"] == {
        "average_drop": passes(1),
        "insertion": passes(5),
        "coherency": passes(0, explanations=1),
    }
    maps = 1 + 6 + 1 + 1 + windows
    assert counted["image"]["forwards"] == 1 + 2 * maps + 8 * (1 + 5)
    assert counted["image"]["backwards"] == 2 * 5
    assert counted["image"]["heads"] == 2 * 64
    assert counted["all"] == {k: 6 * v for k, v in counted["image"].items()}
    assert not counted["uncounted"]
    assert (found["images"], found["batches"], found["image_size"]) == (6, 2, 32)
    assert found["methods"] == ["grad_cam", "opti_cam", "ablation_cam", "occlusion"]
    assert found["controls"] == ["fake_cam", "random", "center", "edges"]
    seconds = found["seconds"]
    assert seconds["forward"] > 0 and seconds["head"] > 0
    image = counted["image"]
    equal = image["forwards"] + dry_run.BACKWARD * image["backwards"]
    each = equal * seconds["forward"] + image["heads"] * seconds["head"]
    assert seconds["all"] == pytest.approx(8 * each)
    assert found["workdir"]["folder"] == "run/deep"
    assert "per_image.parquet" in found["workdir"]["would_hold"]
    assert not list(tmp_path.iterdir())


def test_people_read_sentences(words, tmp_path, capsys):
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    for begins in ("images: 6, batches of 4: 2,", "controls: fake_cam", "time: about"):
        assert f"\n{begins}" in said
    assert "an estimate" in said and said.endswith("Nothing was written.\n")
    assert not list(tmp_path.iterdir())


def test_what_the_evaluation_would_refuse_is_refused(words, capsys, tmp_path):
    assert cli.main([*words, "--config.labels=tru"]) == 2
    assert "`labels`='tru'" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text("{}")
    assert cli.main([*words, "--workdir", "run"]) == 2
    assert "holds summary.json but no config.json" in capsys.readouterr().err


def test_it_needs_a_workdir_or_says_so(words, capsys):
    assert cli.main(words[:-1]) == 2
    assert "--workdir is missing" in capsys.readouterr().err
    assert cli.main([*words[:-1], "--json", "--workdir", "run"]) == 2
    assert "expected --dry-run too" in capsys.readouterr().err


@pytest.mark.exhaustive
def test_the_files_are_those_that_an_evaluation_writes(words, tmp_path, capsys):
    words = [word.replace("+opti_cam+ablation_cam+occlusion", "") for word in words]
    words = [word.replace("+insertion+coherency", "") for word in words]
    words = [word for word in words if "_options" not in word]
    words += ["--workdir", "run", "--config.statistics.resamples=20"]
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    words.remove("--dry-run")
    assert cli.main([*words, "--quiet"]) == 0
    would = {name.rstrip("/") for name in told["workdir"]["would_hold"]}
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    there = {path.relative_to(tmp_path / "run").parts[0] for path in files}
    assert would == {name for name in there if not name.startswith(".")}
    size = sum(path.stat().st_size for path in files)
    assert size / 5 < told["bytes"] < 5 * size
    assert cli.main([*words, "--dry-run"]) == 0
    assert "\ndone already: 2 batches\n" in capsys.readouterr().out
