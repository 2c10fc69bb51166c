"""`unlir parts` and `unlir explain` of a part network: pages, pictures, complaints."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_network
import small_parts
from PIL import Image

from unlir_jax import cli, split, tree
from unlir_jax.models import pretrained
from unlir_jax.parts import gallery as part_gallery
from unlir_jax.report import part_page
from unlir_jax.runs import workdir
from unlir_jax.weights import exported


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    small_parts.write_pictures(root)
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return small_parts.write(tmp_path_factory.mktemp("runs") / "w", data)[0]


@pytest.fixture(scope="module")
def gallery(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "gallery"
    arguments = ["parts", "--workdir", str(run), "--output", str(folder)]
    assert cli.main([*arguments, "--contrast", "ant,bee"]) == 0
    return folder


@pytest.fixture(scope="module")
def report(run, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "report"
    pictures = [str(data / "train" / "ant" / "00.png")]
    pictures += [str(data / "train" / "cat" / "12.png")]
    arguments = ["explain", *pictures, "--model", str(run), "--output", str(folder)]
    assert cli.main([*arguments, "--steps", "2", "--no-controls"]) == 0
    return folder


def check_page(page):
    """See that a page loads nothing from elsewhere and links to what is there."""
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert addresses
    for address in addresses:
        inside = address.startswith(("data:image/", "#"))
        assert inside or re.fullmatch(r"[\w.-]+\.(png|npz|json)", address)
    # The one script of a report is read by `tests/report/test_browser.py`.
    words = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "url(" not in words and "@import" not in words and "<script" not in words
    targets = {address[1:] for address in addresses if address.startswith("#")}
    assert targets <= set(re.findall(r'id="([^"]*)"', page))


@pytest.mark.exhaustive
def test_the_gallery_shows_all_parts_and_categories(gallery, run):
    names = {path.name for path in gallery.iterdir()}
    assert names == {"parts.html", "parts.png", "results.json"}
    page = (gallery / "parts.html").read_text("utf-8")
    check_page(page)
    for part in range(small_parts.PARTS):
        assert page.count(f'id="part-{part}"') == 1
    for label, name in enumerate(small_parts.CLASSES):
        assert page.count(f'id="category-{label}"') == 1
        assert f"<h3>{name}</h3>" in page
    assert "Why ant and not bee" in page
    shown = 8 * small_parts.PARTS + 3 * small_parts.PARTS * 4 + small_parts.PARTS * 6
    assert page.count("<img ") == shown
    assert len(page) < 2_000_000
    with Image.open(gallery / "parts.png") as image:
        image.load()
        assert min(image.size) > 300


def test_the_contrast_is_the_difference_of_mean_logits(gallery, run, data):
    found = json.loads((gallery / "results.json").read_text())["contrast"]
    network = pretrained.load(str(run))
    files = sorted((data / "train" / "ant").iterdir())
    images = np.stack([network.preprocess(file) for file in files])
    logits = split.whole(network.model)(network.variables, images)
    mean = np.asarray(logits).mean(0)
    np.testing.assert_allclose(found["logits"], mean[:2], atol=1e-4)
    assert found["total"] == pytest.approx(float(mean[0] - mean[1]), abs=1e-4)
    amounts = sum(line["contribution"] for line in found["shown"])
    rest = found["others"]["contribution"] + found["bias"]
    assert amounts + rest == pytest.approx(found["total"], abs=1e-6)
    assert found["pictures"] == small_parts.EACH
    for line in found["shown"]:
        assert {"ant"} == {r["picture"].split("/")[-2] for r in line["regions"]}
        assert {"bee"} == {r["picture"].split("/")[-2] for r in line["rival_regions"]}


@pytest.mark.exhaustive
def test_chosen_categories_and_json(run, tmp_path, capsys):
    arguments = ["parts", "--workdir", str(run), "--output", str(tmp_path / "out")]
    assert cli.main([*arguments, "--classes", "cat,1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["shown"]["categories"] == [2, 1]
    assert [entry["class"] for entry in document["categories"]] == [2, 1]
    assert len(document["parts"]) == small_parts.PARTS
    assert cli.main(arguments) == 2
    assert "is not empty" in capsys.readouterr().err
    assert cli.main([*arguments, "--overwrite"]) == 0


@pytest.mark.exhaustive
def test_the_report_says_which_parts_decided(report):
    results = json.loads((report / "results.json").read_text())
    assert set(results["files"]) == {path.name for path in report.iterdir()}
    assert results["settings"]["methods"] == ["parts", "grad_cam", "opti_cam"]
    page = (report / "report.html").read_text("utf-8")
    check_page(page)
    for entry in results["images"]:
        found = entry["parts"]
        assert found["class"]["index"] == entry["label"]["index"]
        total = sum(found["contributions"]) + found["bias"]
        assert found["total"] == pytest.approx(total, abs=1e-5)
        own, rival = found["class"]["name"], found["contrast"]["class"]["name"]
        assert f"Why {own} and not {rival}" in page
        assert f"= logit of {own}" in page
        with Image.open(report / found["sheet"]) as image:
            image.load()
        for metric in ("average_drop", "insertion", "deletion"):
            assert 0 <= entry["methods"]["parts"][metric] <= 1
    # Views of the parts, five regions of each, and small views for the contrast; all
    # parts are shown, as there are fewer than a report has room for.
    parts = 2 * small_parts.PARTS
    assert page.count("<img ") == 2 * 7 + parts * (1 + 5 + 1)
    assert "not where they were" not in page


@pytest.mark.exhaustive
def test_the_report_answers_why_not_another_class(run, data, tmp_path, capsys):
    picture = str(data / "train" / "ant" / "00.png")
    network = pretrained.load(str(run))
    image = network.preprocess(picture)[None]
    logits = np.asarray(split.whole(network.model)(network.variables, image))[0]
    label, *_, last = (small_parts.CLASSES[i] for i in np.argsort(-logits))
    arguments = ["explain", picture, "--model", str(run), "--method", "parts"]
    arguments += ["--no-controls", "--output", str(tmp_path), "--overwrite"]
    for asked, rival in ((last, last), (label, None)):
        assert cli.main([*arguments, "--against", asked]) == 0
        (entry,) = json.loads((tmp_path / "results.json").read_text())["images"]
        found = entry["parts"]["contrast"]
        gap = logits.max() - np.sort(logits)[0 if rival else 1]
        assert found["total"] == pytest.approx(float(gap), abs=1e-4)
        if rival:
            page = (tmp_path / "report.html").read_text("utf-8")
            assert f"Why {label} and not {rival}" in page
    assert cli.main([*arguments, "--against", "cow"]) == 2
    assert "is not a class" in capsys.readouterr().err


@pytest.mark.exhaustive
def test_without_training_pictures_the_report_says_so(run, data, tmp_path):
    shutil.copytree(run, tmp_path / "w")
    settings = json.loads((run / workdir.CONFIG).read_text())
    settings["data"]["path"] = str(tmp_path / "gone")
    (tmp_path / "w" / workdir.CONFIG).write_text(json.dumps(settings))
    picture = str(data / "train" / "ant" / "00.png")
    arguments = ["explain", picture, "--model", str(tmp_path / "w"), "--no-controls"]
    arguments += ["--method", "parts", "--output", str(tmp_path / "out")]
    assert cli.main(arguments) == 0
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert page.count("The training images are not where they were") == 1
    assert "Training region 1" not in page
    (tmp_path / "w" / part_gallery.FILE).unlink()
    assert cli.main([*arguments, "--overwrite"]) == 0
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert page.count("No training regions are shown: Workdir") == 1
    arguments = ["parts", "--workdir", str(tmp_path / "w"), "--output"]
    shutil.copy(run / part_gallery.FILE, tmp_path / "w")
    assert cli.main([*arguments, str(tmp_path / "gallery")]) == 0
    page = (tmp_path / "gallery" / "parts.html").read_text("utf-8")
    assert page.count("The training images are not where they were") == 1


def plain_network(folder):
    network = pretrained.load("cifar_resnet8", "random")
    folder.mkdir()
    leaves = tree.flatten(network.variables)
    exported.write(
        folder, leaves, exported.Purpose("cifar_resnet8", ("a",) * 10, 32, 1.0)
    )


def bare(folder, run):
    shutil.copytree(run, folder)
    (folder / part_gallery.FILE).unlink()


def moved(folder, run):
    shutil.copytree(run, folder)
    (folder / workdir.CONFIG).write_text("{}")


BAD = {
    "no workdir": ([], "--workdir"),
    "missing": (["--workdir", "none"], "holds no weights.safetensors"),
    "not finished": (["--workdir", "begun"], "is not finished"),
    "no parts": (["--workdir", "plain"], "does not decide by parts"),
    "no gallery": (["--workdir", "bare"], "holds no parts.json"),
    "class": (["--workdir", "run", "--classes", "cow"], "is not a class"),
    "one class": (["--workdir", "run", "--contrast", "ant"], "expected two: A,B"),
    "same": (["--workdir", "run", "--contrast", "ant,0"], "'ant' twice"),
    "no images": (["--workdir", "moved", "--contrast", "0,1"], "needs the training"),
    "folder": (["--workdir", "run", "--output", "full"], "is not empty"),
    "not ours": (["--workdir", "run", "--output", "full", "--overwrite"], "which no"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, run, tmp_path, monkeypatch, capsys):
    """Exit code 2, one line on stderr, nothing on stdout, nothing written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").symlink_to(run)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / workdir.CONFIG).write_text("{}")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "parts.html").write_text("mine")
    if case == "no parts":
        plain_network(tmp_path / "plain")
    bare(tmp_path / "bare", run)
    moved(tmp_path / "moved", run)
    before = sorted(tmp_path.rglob("*"))
    arguments, expected = BAD[case]
    if "--output" not in arguments:
        arguments = [*arguments, "--output", "out/deeper"]
    assert cli.main(["parts", *arguments]) == 2
    output = capsys.readouterr()
    assert not output.out
    assert expected in output.err
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith("unlir: ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.exhaustive
def test_a_workdir_is_tuned_whole(run, data, tmp_path):
    """One step from what was there, small in the trunk, with terms on parts."""
    config = Path(__file__).parents[2] / "configs" / "train_parts.py"
    named = f"backbone=cifar_resnet8,method=fine_tune,parts={small_parts.PARTS}"
    settings = [f"data.path={data}", "model.weights=random", f"init_from={run}"]
    settings += ["model.decision.layer=layer2", "model.decision.damping=0.5"]
    settings += ["data.test=", "epochs=0.0", "steps=1", "batch_size=8"]
    settings += ["data.threads=1", "objective.terms.presence=0.1"]
    arguments = ["train", "--config", f"{config}:{named}", "--quiet"]
    arguments += [f"--config.{setting}" for setting in settings]
    assert cli.main([*arguments, "--workdir", str(tmp_path / "w")]) == 0
    before, after = (
        tree.flatten(pretrained.load(str(folder)).variables)
        for folder in (run, tmp_path / "w")
    )
    moved = {
        path: float(np.abs(np.asarray(after[path]) - np.asarray(leaf)).max())
        for path, leaf in before.items()
    }
    trunk = [path for path in moved if path.startswith("params/backbone")]
    assert 0 < max(moved[path] for path in trunk) <= 1.1e-4
    assert 0 < moved["params/classifier/parts/kernel"] <= 1.1e-3
    assert not any(moved[path] for path in moved if path.startswith("batch_stats"))
    summary = json.loads((tmp_path / "w" / workdir.SUMMARY).read_text())
    for term in ("balance", "equivariance", "presence"):
        assert 0 <= summary[f"train/{term}"] <= 1
    assert "train/diversity" not in summary


TRAININGS = {
    "more parts than regions": (
        ("parts=257", []),
        "`parts`=257, but an image has 256 regions",
    ),
    "smaller than the stride": (
        ("method=bag", ["data.image_size=3"]),
        "`data.image_size`=3 is smaller than the network's stride, which is 4 pixels",
    ),
    "a class without images": (
        ("method=bag", ["data.path=empty"]),
        "Class 'dog' has no images",
    ),
    "workdir of another training": (
        ("method=bag", ["seed=1"]),
        "Workdir 'w' belongs to another config",
    ),
    "no prototypes": (
        ("method=projection", ["init_from=run"]),
        "`init_from`='run' has no prototypes of this network",
    ),
}


@pytest.mark.parametrize("case", TRAININGS)
def test_bad_trainings(case, run, data, tmp_path, monkeypatch, capsys):
    """Exit code 2, one line on stderr, nothing written."""
    config = Path(__file__).parents[2] / "configs" / "train_parts.py"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").symlink_to(run)
    shutil.copytree(data, tmp_path / "empty")
    (tmp_path / "empty" / "train" / "dog").mkdir()
    if "workdir" in case:
        (tmp_path / "w").mkdir()
        shutil.copy(run / workdir.CONFIG, tmp_path / "w")
    before = sorted(tmp_path.rglob("*"))
    (argument, overrides), expected = TRAININGS[case]
    settings = ["data.path=" + str(data), "model.weights=random", *overrides]
    settings += ["data.test=", "features.cache=True", "data.threads=1"]
    arguments = ["train", "--config", f"{config}:backbone=cifar_resnet8,{argument}"]
    arguments += [f"--config.{setting}" for setting in settings]
    assert cli.main([*arguments, "--workdir", "w"]) == 2
    output = capsys.readouterr()
    assert expected in output.err
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith("unlir: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_parts_are_no_method_of_other_networks(data, tmp_path, capsys):
    weights = small_network.write(tmp_path)
    picture = str(data / "train" / "ant" / "00.png")
    arguments = ["explain", picture, "--model", small_network.NAME, "--method", "parts"]
    arguments += ["--weights", str(weights), "--output", str(tmp_path / "out")]
    assert cli.main(arguments) == 2
    assert "the network does not decide by parts" in capsys.readouterr().err
    first = arguments.index("--method")
    arguments[first : first + 2] = ["--against", "1"]
    assert cli.main(arguments) == 2
    assert "`against`='1' is answered by parts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "plain"),
    [("046.Gadwall", "Gadwall"), ("tiger_cat", "tiger cat"), ("7", "7"), ("3D", "3D")],
)
def test_names_for_people(name, plain):
    assert part_page.plain(name) == plain
