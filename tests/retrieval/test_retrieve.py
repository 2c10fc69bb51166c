"""The search for pictures that are alike, on a network of random weights."""

import base64
import io
import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

from unlir_jax import adapters, cli, filters
from unlir_jax.data import image_files as files
from unlir_jax.models import pooling, pretrained
from unlir_jax.retrieval import retrieve


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    random = np.random.default_rng(0)
    for place, name in enumerate(("blue", "red")):
        (folder / name).mkdir()
        for index in range(4):
            pixels = random.integers(0, 60, (32, 32, 3), np.uint8)
            pixels[..., 2 * place] += 190
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def search(pictures, output, **settings):
    asked = [str(pictures / "red" / "0.png")]
    return retrieve.run(
        asked,
        [str(pictures)],
        output,
        model="cifar_resnet8",
        weights="random",
        top=3,
        batch_size=3,
        **settings,
    )


@pytest.mark.parametrize(("pool", "whiten"), [("gem", 0), ("rmac", 0), ("average", 1)])
def test_pictures_of_one_colour_find_each_other(pictures, tmp_path, pool, whiten):
    found = search(pictures, tmp_path / "out", pool=pool, whiten=whiten)
    matches = found.document["queries"][0]["matches"]
    assert len(matches) == 3
    assert all(match["file"].startswith("red/") for match in matches)
    assert not any(match["file"].endswith("red/0.png") for match in matches)
    assert found.document["measured"]["mean_average_precision"] > 0.9
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored["index"] == 8
    assert "red" in (tmp_path / "out" / "retrieval.html").read_text()


def test_descriptors_are_whitened_at_unit_length(pictures, tmp_path):
    found = search(pictures, tmp_path / "out", pool="average", whiten=3)
    network = pretrained.load("cifar_resnet8", "random")
    files = sorted(pictures.glob("*/*.png"))
    images = np.stack([network.preprocess(file) for file in files])
    maps = jax.jit(network.module.apply, static_argnames="method")(
        network.variables, images, method="features"
    )

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    rows = unit(np.asarray(maps, np.float64).mean((1, 2)))
    rows -= rows.mean(0)
    _, values, directions = np.linalg.svd(rows, full_matrices=False)
    rows = rows @ directions[:3].T
    total = (values**2).sum() / 8 / directions.shape[1]
    rows = unit(rows / np.sqrt(values[:3] ** 2 / 8 + 1e-4 * total))
    asked = rows[files.index(pictures / "red" / "0.png")]
    names = [str(file.relative_to(pictures)) for file in files]
    scores = dict(zip(names, rows @ asked, strict=True))
    matches = found.document["queries"][0]["matches"]
    assert len(matches) == 3
    for match in matches:
        assert match["score"] == pytest.approx(scores[match["file"]], abs=0.02)


def test_bad_input_gets_one_sentence(pictures, tmp_path):
    with pytest.raises(ValueError, match="`pool`='mean'"):
        search(pictures, tmp_path / "out", pool="mean")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        search(pictures, tmp_path / "full")
    for size in (0, 40_000):
        with pytest.raises(ValueError, match=f"`image_size`={size}"):
            search(pictures, tmp_path / "out", image_size=size)
    # Eight pictures have seven directions, of 64 filters.
    with pytest.raises(ValueError, match="`whiten`=8 .* expected at most 7"):
        search(pictures, tmp_path / "out", whiten=8)
    assert search(pictures, tmp_path / "seven", whiten=7).document["whiten"] == 7
    with pytest.raises(ValueError, match="Nothing to search can be read"):
        retrieve.run(
            [str(pictures)],
            [str(tmp_path / "none")],
            tmp_path / "out",
            model="cifar_resnet8",
            weights="random",
        )


def test_a_network_that_gives_no_numbers_is_no_search(pictures, tmp_path, monkeypatch):
    def none(maps):
        return maps.mean((1, 2)) * np.nan

    ways = {**pooling.POOLINGS, "rmac": none}
    monkeypatch.setattr(pooling, "POOLINGS", ways)
    with pytest.raises(FloatingPointError, match="the descriptor of the search") as e:
        search(pictures, tmp_path / "out", pool="rmac")
    assert "and 3 more" in str(e.value)
    assert not (tmp_path / "out").exists()


def test_the_command_prints_what_it_measured(pictures, tmp_path, capsys):
    words = ["retrieve", str(pictures / "blue"), "--index", str(pictures)]
    words += ["--model", "cifar_resnet8", "--weights", "random", "--top", "2"]
    assert cli.main([*words, "--output", str(tmp_path / "out")]) == 0
    assert "mean average precision" in capsys.readouterr().out


def test_turned_and_deep_pictures_are_shown_as_they_are_seen(tmp_path):
    """The page shows what the network saw: upright, and of the brightness asked for."""
    folder = tmp_path / "index"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20), "red").save(folder / "turned.jpg", exif=exif)
    Image.fromarray(np.full((32, 32), 0.6, np.float32)).save(folder / "deep.tif")
    words = ["retrieve", str(folder), "--index", str(folder), "--white-level", "1"]
    words += ["--model", "cifar_resnet8", "--weights", "random", "--quiet"]
    assert cli.main([*words, "--output", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / retrieve.PAGE).read_text("utf-8")
    shown = [
        Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
        for data in re.findall('data:image/webp;base64,([^"]*)', page)
    ]
    assert {image.size for image in shown} == {(20, 40), (32, 32)}
    grey = [image.getpixel((5, 5)) for image in shown if image.size == (32, 32)]
    np.testing.assert_allclose(grey, 153, atol=3)


@pytest.mark.exhaustive
def test_an_adapter_is_folded_in(pictures, tmp_path, capsys):
    frozen = pretrained.load("cifar_resnet8", "random")
    random = np.random.default_rng(1)
    weights = {
        name: random.normal(1, 0.3, leaf.shape)
        for name, leaf in filters.init(frozen.variables, "layer[23]/.*").items()
    }
    mark = adapters.fingerprint(frozen.variables)
    file = adapters.save(
        tmp_path / "a.safetensors",
        weights,
        backbone=frozen.name,
        fingerprint=mark,
        metadata={"image_size": 24, "crop": 0.75},
    )
    whole = tmp_path / "whole.safetensors"
    words = ["adapters", "apply", "cifar_resnet8", str(file), str(whole)]
    assert cli.main([*words, "--weights", "random"]) == 0

    sizes = {}

    def scores(name, *more):
        words = ["retrieve", str(pictures / "red" / "0.png"), "--index", str(pictures)]
        words += ["--model", "cifar_resnet8", "--output", str(tmp_path / name), *more]
        assert cli.main(words) == 0
        document = json.loads((tmp_path / name / "results.json").read_text())
        sizes[name] = document["image_size"]
        (row,) = document["queries"]
        return {match["file"]: match["score"] for match in row["matches"]}

    adapted = scores("adapted", "--weights", "random", "--adapter", str(file))
    assert adapted == pytest.approx(scores("folded", "--weights", str(whole)), abs=1e-4)
    plain = scores("plain", "--weights", "random", "--image-size", "24")
    assert max(abs(adapted[name] - plain[name]) for name in plain) > 1e-3
    more = ("--weights", "random", "--adapter", str(file), "--image-size", "32")
    larger = scores("larger", *more)
    assert max(abs(adapted[name] - larger[name]) for name in plain) > 1e-3
    # The adapter's, unless another is asked for; what it is folded into remembers it.
    assert sizes == {"adapted": 24, "folded": 24, "plain": 24, "larger": 32}
    words = [
        "retrieve",
        str(pictures),
        "--index",
        str(pictures),
        "--adapter",
        str(file),
    ]
    words += ["--model", "cifar_resnet20", "--weights", "random"]
    capsys.readouterr()
    assert cli.main([*words, "--output", str(tmp_path / "other")]) == 2
    assert "is for cifar_resnet8, not for" in capsys.readouterr().err


def test_a_class_is_the_folder_below_the_index_or_below_its_split(tmp_path):
    names = ("a/deep/1.png", "b/2.png", "train/a/3.png", "test/b/deep/4.png")
    paths = [tmp_path / ("split" if "t" in name else "plain") / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.touch()
    roots = [tmp_path / "plain", tmp_path / "split"]
    assert files.classes_of(paths, roots) == ["a", "b", "a", "b"]
    # Asked for by themselves, the folder that each is in.
    assert files.classes_of(paths, []) == ["deep", "b", "a", "deep"]
    # Pictures beside folders are of no class; a folder of pictures alone is one.
    beside = tmp_path / "plain" / "5.png"
    assert files.classes_of([*paths[:2], beside], roots) == ["a", "b", None]
    assert files.classes_of([paths[1]], [paths[1].parent]) == ["b"]
