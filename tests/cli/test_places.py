"""No job writes down where its files lie, so that what it wrote can be published."""

import csv
import json
from pathlib import Path

import few_colours
import numpy as np
import pytest
import small_network
import small_parts
from PIL import Image
from pyarrow import parquet
from training.conftest import TINY

from unlir_jax import adapters, cli, filters
from unlir_jax.data import image_files
from unlir_jax.models import pretrained
from unlir_jax.storage import paths

SECRET = "somebody-s-folder"
PRIVATE = ("config.json",)
"""What a later start compares, and from which it opens the data again."""


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / SECRET
    folder.mkdir()
    return folder


def published(folder):
    """Give the texts of all that a job wrote for others to read."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.name in PRIVATE or "checkpoints" in file.parts:
            continue
        if file.suffix in (".json", ".jsonl", ".csv", ".md", ".html", ".txt"):
            found[file.name] = file.read_text("utf-8")
        if file.suffix == ".parquet":
            found[file.name] = str(parquet.read_table(file).to_pylist())
    return found


def check(folder, *names):
    texts = published(folder)
    assert set(names) <= set(texts)
    for name, text in texts.items():
        for secret in (SECRET, str(folder), str(Path.home()) + "/"):
            assert secret not in text, f"{name}: …{_around(text, secret)}…"


def _around(text, part):
    at = text.index(part)
    return text[max(at - 80, 0) : at + 80]


def command(*words):
    code = cli.main([*map(str, words), "--quiet"])
    assert code in (0, 1)


def test_explain(place):
    photos, broken = place / "photos", place / "broken.png"
    (photos / "deep").mkdir(parents=True)
    small_network.write_noise(photos, 1)
    small_network.write_noise(photos / "deep", 1)
    broken.write_text("no image")
    weights = small_network.write(place)
    asked = [photos, photos / "deep" / "0_0.png", broken, place / "no*.jpg"]
    command(
        *("explain", *asked, "--model", small_network.NAME, "--weights", weights),
        *("--output", place / "out", "--method", "gradient", "--no-controls"),
    )
    check(place / "out", "results.json", "report.html")
    results = json.loads((place / "out" / "results.json").read_text())
    assert [entry["file"] for entry in results["images"]] == ["0_0.png", "deep/0_0.png"]
    assert [entry["file"] for entry in results["failed"]] == ["no*.jpg", "broken.png"]
    assert results["weights"]["source"] == weights.name
    assert "'broken.png' cannot be read" in results["failed"][1]["error"]


def test_retrieve(place):
    for name in ("red", "blue"):
        (place / "index" / name).mkdir(parents=True)
        small_network.write_noise(place / "index" / name, 2)
    small_network.write_noise(place, 1)
    (place / "index" / "torn.png").write_text("no image")
    command(
        *("retrieve", place / "0_0.png", "--index", place / "index"),
        *("--model", small_network.NAME, "--weights", small_network.write(place)),
        *("--output", place / "out", "--pool", "average"),
    )
    check(place / "out", "results.json", "retrieval.html")
    results = json.loads((place / "out" / "results.json").read_text())
    (row,) = results["queries"]
    assert row["file"] == "0_0.png" and len(row["matches"]) == 4
    assert "red/0_0.png" in [match["file"] for match in row["matches"]]
    assert [entry["file"] for entry in results["failed"]] == ["torn.png"]


def test_adapters_explain(place):
    photos = place / "photos"
    photos.mkdir()
    small_network.write_noise(photos, 2)
    variables = pretrained.load(small_network.NAME, "random").variables
    made = filters.init(variables, "layer3/.*")
    weights = {n: np.full(leaf.shape, 1.5, np.float32) for n, leaf in made.items()}
    print_ = adapters.fingerprint(variables)
    about = weights, small_network.NAME, print_, "layer3/.*", "output"
    task = adapters.Adapter(*about, {}, {})
    adapters.save(place / "task.safetensors", **task._asdict())
    words = ["adapters", "explain", place / "task.safetensors", "--images", photos]
    words += ["--weights", "random", "--output", place / "out"]
    assert cli.main([*map(str, words)]) == 0
    check(place / "out", "results.json", "filters.html")


@pytest.mark.exhaustive
def test_a_part_network(place):
    """Its gallery where the training images are gone, and its report."""
    data = place / "data"
    small_parts.write_pictures(data)
    run, _ = small_parts.write(place / "run", data)
    picture = place / "a.png"
    small_parts.picture(0).save(picture)
    (data / "train").rename(place / "elsewhere")
    command("parts", "--workdir", run, "--output", place / "gallery")
    check(place / "gallery", "results.json", "parts.html")
    words = ("--method", "parts", "--no-controls", "--output", place / "out")
    command("explain", picture, "--model", run, *words)
    check(place / "out", "results.json", "report.html")


@pytest.mark.filterwarnings("ignore:1 file in")
def test_evaluate(place):
    data, file = place / "data", small_network.write(place)
    data.mkdir()
    small_network.write_noise(data, 4)
    (data / "3_7.png").write_text("no image")
    Image.new("RGB", (40, 40)).save(data / "strange", "PNG")
    settings = {"data.path": data, "model.weights": file, "controls": False}
    settings |= {"statistics.resamples": 20, "batch_size": 4}
    words = [f"--config.{name}={value}" for name, value in settings.items()]
    config = "configs/evaluate.py:model=cifar_resnet8,methods=gradient,"
    words = ["evaluate", f"--config={config}metrics=average_drop", *words]
    command(*words, "--workdir", place / "run")
    check(place / "run", "summary.json", "summary.md", "report.html", "per_image.csv")
    with (place / "run" / "per_image.csv").open() as file:
        assert {row["image"] for row in csv.DictReader(file)} >= {"0_0.png"}
    # The config still has the path: the same command finds all done.
    command(*words, "--workdir", place / "run")


def test_train(place):
    overrides = ["--config.steps=2", "--config.data.test="]
    overrides += [f"--config.model.weights={small_network.write(place)}"]
    overrides += ["--config.features.cache=False"]
    overrides += [f"--config.features.folder={place / 'features'}"]
    words = ["train", "--config", TINY, *overrides, "--workdir", place / "run"]
    command(*words)
    check(place / "run", "summary.json", "metrics.jsonl", "began_with.json")
    summary = json.loads((place / "run" / "summary.json").read_text())
    assert summary["initial_weights"]["source"] == "small.safetensors"
    assert summary["config"]["features"]["folder"] == "features"
    command(*words)


def test_few_shots(place):
    data = place / "data"
    few_colours.write(data)
    settings = {"data.path": data, "model.weights": "random", "draws": 1}
    settings |= {"data.image_size": 32}
    words = [f"--config.{name}={value}" for name, value in settings.items()]
    config = "configs/few_shot.py:backbone=cifar_resnet8,k=2,method=prototypes"
    command("train", "--config", config, *words, "--workdir", place / "run")
    check(place / "run", "summary.json")


def test_names_of_images_in_records(tmp_path, monkeypatch):
    for name in ("a/x.png", "b/x.png", "b/deep/y.png"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.chdir(tmp_path)

    def names(*asked):
        return image_files.find_pictures(asked).names

    assert names("a", "b/*.png") == ["a/x.png", "b/x.png"]
    here = str(tmp_path)
    assert names(here) == ["a/x.png", "b/deep/y.png", "b/x.png"]
    assert names(f"{here}/a/x.png", f"{here}/b/x.png") == ["x.png", "x.png (2)"]
    assert names(f"{here}/*/x.png") == ["a/x.png", "b/x.png"]
    assert names(f"{here}/b/**/y.png") == ["deep/y.png"]


def test_places_in_documents():
    before = {
        "path": "/home/ada/x.npz",
        "said": ["'/home/ada/it.png' is \"/home/ada/o'x.png\"", 3, None],
        "free": "1/2 of layer3/block0, 'features/7' and hf:ada/net",
    }
    assert paths.without_folders(before) == {
        "path": "x.npz",
        "said": ["'it.png' is \"o'x.png\"", 3, None],
        "free": before["free"],
    }
    assert paths.told(r"C:\Users\ada\x.png") == "x.png"
    assert paths.told("~/x.png") == "x.png" and paths.told("../x.png") == "../x.png"
