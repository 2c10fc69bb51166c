"""Rejecters: thresholds, files, and a network that refuses images."""

import json

import jax
import numpy as np
import pytest
from open_set_worlds import draw_colours, read_settings
from PIL import Image

import unlir_jax
from unlir_jax import cli, split, tree
from unlir_jax.open_set import (
    known_network,
    measures,
    protocols,
    recognise,
    recogniser,
    rejecter_file,
    rejection,
    unknown_sets,
)
from unlir_jax.report import open_set_page
from unlir_jax.runtime import config
from unlir_jax.weights import exported, readers

SCORES = "msp+relative_mahalanobis+parts+best"


def draw_stripes(folder):
    """Draw black and white stripes, which no colour is like."""
    folder.mkdir()
    for width in range(1, 6):
        columns = np.arange(32) // width % 2 * 255
        pixels = np.broadcast_to(columns[None, :, None], (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{width}.png")


@pytest.fixture
def unseen(monkeypatch):
    """Leave the page out, whose drawings take longer than all else."""
    monkeypatch.setattr(open_set_page, "page", lambda *given: "")


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    folder = draw_colours(tmp_path_factory.mktemp("judged"))
    draw_stripes(folder / "stripes")
    far = f"stripes={folder / 'stripes'}"
    wanted = read_settings(folder, SCORES, splits=1, far=far, kept=0.9)
    outcome = recognise.run(wanted, folder / "run")
    return folder, outcome


def first(folder):
    return json.loads((folder / "run" / "splits" / "000.json").read_text())


def test_the_threshold_is_the_conformal_quantile():
    scores = np.random.default_rng(0).normal(size=99)
    assert rejection.threshold(scores, 0.95) == np.sort(scores)[4]
    assert rejection.threshold(scores[:5], 0.95) == scores[:5].min()
    # 20 scores and one more: 21 equally likely places, of which two are below.
    draws = np.random.default_rng(1).normal(size=(4000, 21))
    kept = [each[-1] >= rejection.threshold(each[:-1], 0.9) for each in draws]
    assert np.mean(kept) == pytest.approx(19 / 21, abs=0.02)


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [[1.0]]])
def test_scores_without_a_threshold_are_refused(scores):
    with pytest.raises(ValueError, match="expected one or more finite"):
        rejection.threshold(np.asarray(scores))
    with pytest.raises(ValueError, match=r"`kept`=1.0; expected a share in \(0, 1\)"):
        rejection.threshold(np.ones(3), 1.0)


def test_left_out_scores_do_not_know_their_image():
    random = np.random.default_rng(0)
    labels = np.arange(30) % 3
    rows = random.normal(size=(30, 6)) + 4 * np.eye(3, 6)[labels]
    plan = recogniser.Plan(("relative_mahalanobis",))
    train = recogniser.Described(rows)
    seen = recogniser.judge(recogniser.fit(plan, train, labels, 3), train)
    found = rejection.left_out(plan, train, labels, 3)["relative_mahalanobis"]
    assert found.mean() < seen.scores["relative_mahalanobis"].mean()
    fold = rejection.logistic.folds(labels, 5, 0)
    out = fold == fold[7]
    own = recogniser.fit(plan, train.take(~out), labels[~out], 3)
    expected = recogniser.judge(own, train.take(out)).scores["relative_mahalanobis"]
    np.testing.assert_array_equal(found[out], expected)
    with pytest.raises(ValueError, match="has 2 training images; expected 3 or more"):
        rejection.left_out(plan, train.take(np.arange(6)), labels[:6], 3)


def test_a_network_of_known_classes_sees_what_the_evaluation_saw(judged):
    folder, _ = judged
    known = first(folder)
    files = [folder / "data" / name for name in known["images"]]
    for score in ("parts", "best"):
        network = known_network.load(folder / "run", score=score, fold=True)
        assert list(network.class_names) == known["known"]
        images = np.stack([network.preprocess(file) for file in files])
        verdicts = network.judge(images)
        values = [verdict["value"] for verdict in verdicts]
        np.testing.assert_allclose(values, known["scores"][score], rtol=0, atol=2e-3)
        names = [verdict["nearest"]["name"] for verdict in verdicts]
        every = sorted({*known["known"], *known["unknown"]})
        assert names == [every[label] for label in known["predicted"]]
    logits = np.asarray(split.whole(network.model)(network.variables, images))
    inner = known_network.load(folder / "run", layer="layer2")
    np.testing.assert_array_equal(
        [network.class_names[label] for label in logits.argmax(1)], names
    )
    again = split.whole(inner.model)(inner.variables, images)
    np.testing.assert_allclose(again, logits, atol=2e-3)
    gradient = jax.grad(
        lambda maps: inner.model.head(
            inner.variables,
            inner.model.features(inner.variables, images)._replace(maps=maps),
        )[:, 0].sum()
    )(inner.model.features(inner.variables, images).maps)
    assert np.abs(gradient).max() > 0


def test_explain_refuses_what_is_unlike_all_known_classes(judged, capsys):
    folder, _ = judged
    output = folder / "report"
    known = first(folder)
    order = np.argsort(known["scores"]["msp"])
    photos = [str(folder / "data" / known["images"][order[end]]) for end in (0, -1)]
    words = ["explain", *photos, "--model", str(folder / "run"), "--reject", "msp"]
    words += ["--method", "grad_cam", "--no-controls", "--output", str(output)]
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    assert ".png: unknown: nearest colour" in told and "which keeps 90 %" in told
    document = json.loads((output / "results.json").read_text())
    refused, accepted = (entry["open_set"] for entry in document["images"])
    assert not refused["known"] and refused["value"] < refused["threshold"]
    assert accepted["known"] and accepted["score"] == "msp"
    page = (output / "report.html").read_text()
    assert (
        "Refused: <strong>unknown: nearest colour" in page and "Known: <strong>" in page
    )


def test_explain_says_what_it_lacks(judged, tmp_path, capsys):
    folder, _ = judged
    photo, run = str(folder / "stripes" / "1.png"), str(folder / "run")
    end = ["--output", str(tmp_path / "out")]
    for words, sentence in (
        (["--model", run, "--reject", "mps"], "no score of the rejecter; did you mean"),
        (["--reject", "msp"], "'efficientnet_lite0' has no rejecter"),
        (["--model", run, "--crop", "0.5"], "of an evaluation of open sets, which"),
        (["--model", run, "--weights", "x.pth"], "x.pth"),
    ):
        assert cli.main(["explain", photo, *words, *end]) == 2
        assert sentence in capsys.readouterr().err
    with pytest.raises(ValueError, match="only `unlir explain` takes for a network"):
        exported.find(run)


DAMAGES = {
    "a label too large": (lambda a, h: a.update(labels=a["labels"] + 1), "labels"),
    "no features": (lambda a, h: a.pop("features"), "features"),
    "wrong rows": (lambda a, h: a.update(parts=a["parts"][:-1]), "parts"),
    "not finite": (lambda a, h: a["features"].__setitem__(0, np.nan), "finite"),
    "no logits": (lambda a, h: a.update(logits=a["logits"][:, 1:]), "logits"),
    "no score": (lambda a, h: h["plan"].update(names=["x"]), "no score"),
    "a setting": (lambda a, h: h["plan"].update(options={"msp": {"t": 1}}), "setting"),
    "no threshold": (lambda a, h: h.update(thresholds={}), "msp"),
    "a text": (lambda a, h: h["thresholds"].update(msp="0"), "no finite number"),
    "a huge image": (lambda a, h: h["seen"].update(image_size=10**9), "image_size"),
    "a list": (lambda a, h: h.update(seen=[]), "damaged"),
    "a spread": (lambda a, h: h["combination"].update(spreads={}), "damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_rejecter_is_refused_in_one_sentence(judged, tmp_path, damage):
    folder, _ = judged
    source = folder / "run" / rejecter_file.FILE
    arrays = {name: np.array(each) for name, each in readers.read(source).items()}
    texts = readers.read_metadata(source)
    header = json.loads(texts["rejecter"])
    change, sentence = DAMAGES[damage]
    change(arrays, header)
    file = tmp_path / rejecter_file.FILE
    readers.write_safetensors(file, arrays, texts | {"rejecter": json.dumps(header)})
    with pytest.raises(ValueError, match=sentence):
        rejecter_file.load(file)


def test_far_sets_have_rows_of_their_own(judged):
    folder, outcome = judged
    known = first(folder)
    is_known = np.asarray(known["is_known"]) > 0
    for name in SCORES.split("+"):
        far = known["sets"]["far/stripes"]["scores"][name]
        assert len(far) == 5
        inside = np.asarray(known["scores"][name])[is_known]
        area = np.mean(inside[:, None] > np.asarray(far))
        assert outcome.summary[f"far/stripes/{name}/auroc"]["mean"] == pytest.approx(
            area
        )
    assert outcome.summary["sets"] == {"far/stripes": 5}
    assert "far/stripes" in (folder / "run" / "report.html").read_text()
    least = outcome.summary["reject"]["threshold"]
    refused = np.mean(
        np.asarray(known["sets"]["far/stripes"]["scores"]["best"]) < least
    )
    assert outcome.summary["reject"]["sets"]["far/stripes"] == refused


@pytest.mark.exhaustive
def test_all_classes_can_be_known_where_a_set_is_not(judged, unseen, tmp_path):
    folder, _ = judged
    far = str(folder / "stripes")
    network = unlir_jax.load("cifar_resnet8", "random", num_classes=2)
    (tmp_path / "trained").mkdir()
    purpose = exported.Purpose(network.name, ("a", "b"), 32, 1.0)
    exported.write(tmp_path / "trained", tree.flatten(network.variables), purpose)
    given = {"known": 1, "far": far, "model.weights": None}
    given["model.name"] = tmp_path / "trained"
    wanted = read_settings(folder, "msp", **given)
    outcome = recognise.run(wanted, tmp_path / "run")
    summary = outcome.summary
    assert summary["known"] == 8 and not summary["unknown"] and summary["splits"] == 1
    assert summary["msp/auroc"] == summary["far/stripes/msp/auroc"]
    assert summary["reject"]["unknown_refused"] is None
    names = known_network.load(tmp_path / "run").class_names
    assert names == tuple(f"colour{label}" for label in range(8))
    with pytest.raises(ValueError, match="leaves 8 known and 0 unknown"):
        recognise.run(read_settings(folder, "msp", known=1), tmp_path / "other")


@pytest.mark.exhaustive
def test_images_of_neither_side_are_left_out(judged, unseen, tmp_path):
    folder, _ = judged
    for name, classes in (("known", (0, 1, 2)), ("unknown", (5,))):
        text = "\n".join(f"colour{label}" for label in classes)
        (tmp_path / f"{name}.txt").write_text(text)
    given = {
        "unknown": tmp_path / "unknown.txt",
        "known_classes": tmp_path / "known.txt",
        "head": "softmax",
        "label_smoothing": 0.1,
    }
    outcome = recognise.run(read_settings(folder, "msp", **given), tmp_path / "run")
    assert outcome.summary["images"] == 12
    found = json.loads((tmp_path / "run" / "splits" / "000.json").read_text())
    assert {name.split("/")[1] for name in found["images"]} == {
        *(f"colour{label}" for label in (0, 1, 2, 5))
    }
    assert sum(found["is_known"]) == 9
    # The targets are 0.93 for the class itself.
    assert np.exp(max(found["scores"]["msp"])) < 0.96
    network = known_network.load(tmp_path / "run")
    images = np.stack(
        [network.preprocess(folder / "data" / n) for n in found["images"]]
    )
    values = [verdict["value"] for verdict in network.judge(images)]
    np.testing.assert_allclose(values, found["scores"]["msp"], atol=2e-3)
    logits = np.asarray(split.whole(network.model)(network.variables, images))
    expected = np.asarray(jax.nn.log_softmax(logits, axis=1)).max(1)
    np.testing.assert_allclose(values, expected, atol=2e-3)


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_protocols_have_the_sizes_of_the_field(name):
    sizes = {"cifar10+10": (4, 10), "cifar10+50": (4, 50), "tinyimagenet": (20, 180)}
    sizes |= {"ssb_cub": (100, 100), "ssb_aircraft": (50, 50), "ssb_cars": (98, 98)}
    known, unknown = sizes.get(name, (6, 4))
    own = protocols.find(name)
    found = protocols.divisions(name, own.classes, 5)
    assert len(found) == (1 if name.startswith("ssb") else 5)
    for number, division in enumerate(found):
        others = own.added[number] if own.added else division.unknown
        assert len(set(division.known.tolist())) == known
        assert len(set(np.asarray(others).tolist())) == unknown
        assert division.known.max() < own.classes
    with pytest.raises(ValueError, match="but the data has 3"):
        protocols.divisions(name, 3, 5)
    if len(found) == 1:
        # Hard ones, as published: medium ones are among them.
        hard = {"ssb_cub": 68, "ssb_aircraft": 30, "ssb_cars": 22}[name]
        assert len(set(found[0].hard.tolist())) == hard
        assert set(found[0].hard) < set(found[0].unknown)
        return
    assert found[0].hard is None
    with pytest.raises(ValueError, match="expected at most as many"):
        protocols.divisions(name, own.classes, 6)


def test_a_part_of_the_species_keeps_their_sides():
    (whole,) = protocols.divisions("ssb_cub", 200, 1)
    numbers = [9, 0, 1, 2, 4, 5, 199]
    names = [f"{number + 1:03d}.Bird" for number in numbers]
    (found,) = protocols.of_data("ssb_cub", names, 5)
    for side in ("known", "unknown", "hard"):
        labels = set(getattr(whole, side).tolist())
        expected = [place for place, n in enumerate(numbers) if n in labels]
        assert getattr(found, side).tolist() == expected
    # As printed in the list of easy and hard species.
    assert found.hard.tolist() == [3] and found.unknown.tolist() == [2, 3, 4]
    assert "have 7 of the 200 classes of 'ssb_cub'" in protocols.notice("ssb_cub", 7)
    every = [f"{number:03d}.Bird" for number in range(1, 201)]
    (same,) = protocols.of_data("ssb_cub", every, 1)
    assert same.known.tolist() == whole.known.tolist()
    assert protocols.notice("ssb_cub", 200) == protocols.notice("", 3) == ""
    # Without numbers, names have another order.
    for wrong, said in (
        ("Laysan Albatross", "such as 001.Black_footed_Albatross, with 1 to 200"),
        ("201.Bird", "the data have '201.Bird'"),
        ("001.Other", "7 classes have 6 numbers"),
    ):
        with pytest.raises(ValueError, match=said):
            protocols.of_data("ssb_cub", [*names[:6], wrong], 1)
    with pytest.raises(ValueError, match="of 2 classes of the data 0 are known and 2"):
        protocols.of_data("ssb_cub", names[2:4], 1)


def test_ten_added_classes_are_among_the_fifty():
    ten, fifty = (protocols.find(f"cifar10+{count}").added for count in (10, 50))
    assert all(set(few) < set(many) for few, many in zip(ten, fifty, strict=True))


def test_a_protocol_takes_its_classes_of_an_added_set(unseen, tmp_path):
    random = np.random.default_rng(0)
    for name, classes, each in (("ten", 10, 4), ("hundred", 100, 1)):
        labels = np.repeat(np.arange(classes), each)
        pictures = random.integers(0, 255, (len(labels), 8, 8, 3), np.uint8)
        pictures[:, :4] = labels[:, None, None, None] * 2
        arrays = {"x_train": pictures, "y_train": labels}
        np.savez(tmp_path / f"{name}.npz", **arrays, x_test=pictures, y_test=labels)
    given = {"data.source": "npz", "data.path": tmp_path / "ten.npz", "splits": 2}
    given |= {"protocol": "cifar10+10"}
    words = [f"--config.{key}={value}" for key, value in given.items()]
    argument = "configs/open_set.py:backbone=cifar_resnet8,data=npz,scores=msp"
    more = ["--config.model.weights=random", "--config.data.image_size=32"]
    more += [f"--config.features.folder={tmp_path / 'features'}"]
    with pytest.raises(ValueError, match="takes unknown classes of another data set"):
        recognise.run(config.load(argument, [*words, *more]), tmp_path / "bad")
    more += [f"--config.near={tmp_path / 'hundred.npz'}"]
    outcome = recognise.run(config.load(argument, [*words, *more]), tmp_path / "run")
    summary = outcome.summary
    assert summary["sets"] == {"near/hundred": 10} and summary["images"] == 16
    split = json.loads((tmp_path / "run" / "splits" / "001.json").read_text())
    assert split["known"] == ["1", "6", "7", "9"]
    numbers = [int(name.split("/")[-1]) for name in split["set_images"]["near/hundred"]]
    assert set(numbers) == set(protocols.find("cifar10+10").added[1])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a=/nowhere", "which does not exist"),
        ("a b=/tmp", "expected PATH or NAME=PATH"),
        ("{folder},{folder}", "has the name .* twice"),
        ("{empty}", "holds no image"),
    ],
)
def test_bad_sets_get_one_sentence(judged, tmp_path, text, sentence):
    text = text.format(folder=judged[0] / "stripes", empty=tmp_path)
    with pytest.raises(ValueError, match=sentence):
        unknown_sets.opened(text, "")


def test_the_white_of_the_data_is_that_of_further_sets(tmp_path):
    values = np.asarray([[0, 512, 1024]], np.int32)
    Image.fromarray(values).save(tmp_path / "dark.tif")
    (source,) = unknown_sets.opened(str(tmp_path), "", "1024").values()
    assert np.asarray(source.read(0)["image"])[0, :, 0].tolist() == [0, 128, 255]
    (other,) = unknown_sets.opened(str(tmp_path), "").values()
    assert source.fingerprint() != other.fingerprint()
    with pytest.raises(ValueError, match="but white is 255"):
        other.read(0)


def test_measures_are_kept_with_their_scores(judged):
    folder, _ = judged
    known = first(folder)
    is_known = np.asarray(known["is_known"]) > 0
    right = np.asarray(known["right"]) > 0
    for name, own in known["measures"].items():
        scores = np.asarray(known["scores"][name])
        assert measures.measure(scores, is_known, right) == own
