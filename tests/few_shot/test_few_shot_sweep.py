"""Several methods and numbers of shots by one command, side by side."""

import io
import json

import few_colours
import numpy as np
import pytest
from PIL import Image

from unlir_jax.few_shot import (
    adapt,
    adapter_training,
    comparison,
    frozen_features,
    methods,
)
from unlir_jax.report import few_shots

SWEEP = "k=1+2,method=cosine+ridge+filters_single"


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return few_colours.write(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def swept(colours, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "run"
    adapt.run(few_colours.settings(colours, SWEEP), folder)
    return folder


def read(path):
    return json.loads(path.read_text())


@pytest.mark.exhaustive
def test_each_run_of_many_is_that_run_alone(colours, swept, tmp_path):
    runs = [f"{name}_{k}" for name in ("cosine", "ridge") for k in (1, 2)]
    runs += ["filters_single_1", "filters_single_2"]
    found = sorted(path.name for path in swept.iterdir() if path.is_dir())
    assert found == sorted(runs)
    alone = few_colours.settings(colours, "k=2,method=filters_single")
    adapt.run(alone, tmp_path / "alone")
    for name in ("config.json", "draws/000.json", "draws/001.json"):
        one = read(tmp_path / "alone" / name)
        other = read(swept / "filters_single_2" / name)
        for document in (one, other):
            for what in ("seconds", "crc32"):
                document.pop(what, None)
        assert one == other
    # It is the workdir of that run, finished.
    again = adapt.run(alone, swept / "filters_single_2")
    assert again.message.startswith("Done before")


@pytest.mark.exhaustive
def test_the_summary_compares_pairs_with_the_best_probe(swept):
    summary = read(swept / "summary.json")
    assert summary["k"] == [1, 2] and summary["draws"] == 2
    for k in (1, 2):
        accuracies = {}
        for name in summary["methods"]:
            own = read(swept / f"{name}_{k}" / "summary.json")
            for what in ("test/accuracy", "trained_parameters", "seconds_per_draw"):
                assert summary[f"{name}/{k}/{what}"] == own[what]
            accuracies[name] = np.asarray(own["test/accuracy_draws"])
        best = summary[f"{k}/best_probe"]
        assert accuracies[best].mean() == max(
            accuracies[name].mean() for name in ("cosine", "ridge")
        )
        for name in set(accuracies) - {best}:
            key = f"{name}/{k}/test/accuracy_against_probe"
            differences = accuracies[name] - accuracies[best]
            assert summary[key] == pytest.approx(differences.mean())
            assert differences.min() <= summary[key + "_low"] <= summary[key] + 1e-12
            assert differences.max() >= summary[key + "_high"] >= summary[key] - 1e-12
        assert f"{best}/{k}/test/accuracy_against_probe" not in summary


def test_the_curves_and_the_page_show_every_method(swept):
    with Image.open(swept / "curves.png") as picture:
        assert picture.width > 1000
    page = (swept / "report.html").read_text()
    for text in ("cosine", "ridge", "filters_single", "k = 1", "k = 2", "too narrow"):
        assert text in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_a_method_that_is_the_probes_double_differs_by_nothing():
    def run(method, k, accuracies):
        known = {name: 0.5 for name in comparison.SAID}
        known |= {name: 1 for name in comparison.COMMON}
        known |= {"test/accuracy": float(np.mean(accuracies)), "method": method}
        return known | {"test/accuracy_draws": accuracies, "k": k}

    found = comparison.compare(
        [
            run("ridge", 5, [0.5, 0.7, 0.6]),
            run("full", 5, [0.5, 0.7, 0.6]),
            run("bias", 5, [0.6, 0.8, 0.7]),
        ]
    )
    key = "full/5/test/accuracy_against_probe"
    assert [found[key + end] for end in ("", "_low", "_high")] == [0, 0, 0]
    key = "bias/5/test/accuracy_against_probe"
    # Paired: each draw differs by a tenth, though draws differ by two.
    np.testing.assert_allclose(
        [found[key + end] for end in ("", "_low", "_high")], 0.1, atol=1e-9
    )
    alone = comparison.compare([run("bias", 5, [0.6, 0.8])])
    assert "5/best_probe" not in alone


@pytest.mark.exhaustive
def test_pictures_are_looked_at_once_and_a_killed_run_goes_on(
    colours, tmp_path, monkeypatch
):
    looked = []
    begin = frozen_features.FrozenFeatures.__init__

    def counted(self, task):
        looked.append(task.at)
        begin(self, task)

    monkeypatch.setattr(frozen_features.FrozenFeatures, "__init__", counted)
    settings = few_colours.settings(
        colours, "k=1+2,method=full+cosine+ridge", draws=1, steps=1
    )
    folder = tmp_path / "run"
    adapt.run(settings, folder)
    assert looked == ["stem", ""]
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("draws/*.json")}
    assert len(kept) == 6
    lost = folder / "ridge_2" / "draws" / "000.json"
    for path in (folder / "summary.json", folder / "ridge_2" / "summary.json", lost):
        path.unlink()
    adapt.run(settings, folder)
    assert looked == ["stem", "", "stem"]
    changed = [path for path, time in kept.items() if path.stat().st_mtime_ns != time]
    assert changed == [lost]


@pytest.mark.parametrize(
    ("argument", "more", "sentence"),
    [
        ("k=1+9,method=cosine", {}, "`k`=9 images .* but class 'blue' has 5"),
        ("k=1+2,method=cosine+cosin", {}, "`method`='cosin'; expected one of filters"),
        ("k=1+2,method=cosine", {"k": 2}, "`k`=2 beside `shots`"),
        ("k=1+two,method=cosine", {}, "`k`='1\\+two'; expected a number"),
        ("k=2,method=cosine", {"unlabelled": "some"}, "`unlabelled`='some'; expected"),
        ("k=2+3,method=cosine", {"unlabelled": 7}, "`unlabelled`=7, but 6 images"),
    ],
)
def test_bad_settings_get_one_sentence(colours, tmp_path, argument, more, sentence):
    with pytest.raises(ValueError, match=sentence):
        adapt.run(few_colours.settings(colours, argument, **more), tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_all_is_every_method_that_the_network_allows(colours):
    settings = few_colours.settings(colours, "k=2,method=all")
    tasks = adapt.setup.prepare(settings)
    # A convolutional network has no class token.
    allowed = set(methods.METHODS) - {"probe_token"}
    assert {task.settings.method for task in tasks} == allowed
    assert [task.at for task in tasks].count("") == 1


def figures(names, shots):
    summary = {"methods": names, "k": shots}
    for index, name in enumerate(names):
        for k in shots:
            own = f"{name}/{k}"
            for end in ("", "_low", "_high"):
                summary[f"{own}/test/accuracy{end}"] = 0.5 + (index + k) / 100
            summary[f"{own}/trained_parameters"] = 10**index
            summary[f"{own}/seconds_per_draw"] = 0.0
    return few_shots.draw(summary)


def test_fifteen_methods_fit_on_one_picture():
    png = figures(list(methods.METHODS), [1, 2, 5, 10, 20, 30])
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.height > 500


@pytest.mark.parametrize("shots", [[5], [1, 5]])
def test_every_method_is_seen_on_every_panel(shots):
    with Image.open(io.BytesIO(figures(["cosine", "ridge", "full"], shots))) as file:
        pixels = np.asarray(file.convert("RGB"))
    # The key stands to the right of the three panels.
    for panel in np.array_split(pixels[:, : int(0.92 * pixels.shape[1])], 3, axis=1):
        for colour in few_shots.COLOURS[:3]:
            wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
            assert np.count_nonzero((panel == wanted).all(-1)) > 10


@pytest.mark.parametrize("high", [1.2, 3.0, 25.0, 1e4])
def test_an_axis_has_round_numbers(high):
    found = few_shots._ticks(0.9, high)
    assert found == sorted(found) and 1 in found and len(found) < 8
    assert all(0.9 <= tick <= high for tick in found)


def test_an_adapter_with_fewer_rows_goes_through_them_again():
    def batches(inner, seed=0):
        targets = np.eye(3, dtype=np.float32)[np.arange(12) % 3]
        plan = adapter_training.Plan(steps=5, batch_size=8)
        return list(
            adapter_training._batches(inner, targets, plan, (False, True), seed)
        )

    random = np.random.default_rng(0)
    many = random.random((12, 4), np.float32)
    few = many[:3]
    for (rows, wanted), (same, also) in zip(
        batches([many, few]),
        batches([many, np.concatenate([few] * 4)]),
        strict=True,
    ):
        np.testing.assert_array_equal(rows, same)
        np.testing.assert_array_equal(wanted, also)
    pixels = random.integers(0, 256, (12, 4), np.uint8)
    for (rows, _), (same, _) in zip(
        batches([pixels, pixels]),
        batches([pixels.astype(np.float32) / 255] * 2),
        strict=True,
    ):
        np.testing.assert_array_equal(rows, same)
