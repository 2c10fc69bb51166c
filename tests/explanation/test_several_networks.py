"""One report about several networks, or several layers of one."""

import gc
import json
import re
import weakref

import jax
import numpy as np
import own_networks
import pytest
import small_network
from PIL import Image

from unlir_jax import cli
from unlir_jax.explanation import network_run, targets

OWN = "own_networks:linen_cnn"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return small_network.write_noise(tmp_path_factory.mktemp("photos"), 2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(small_network.write(tmp_path_factory.mktemp("weights")))


def words(photos, output, *more):
    found = ["explain", str(photos), "--output", str(output), "--method", "gradient"]
    return [*found, "--no-controls", "--quiet", *more]


def both(weights):
    return ["--model", f"{small_network.NAME},{OWN}", "--weights", f"{weights},"]


@pytest.fixture(scope="module")
def report(photos, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "report"
    assert cli.main(words(photos, folder, *both(weights))) == 0
    return folder


@pytest.fixture(scope="module")
def results(report):
    return json.loads((report / "results.json").read_text())


@pytest.mark.exhaustive
def test_each_network_has_its_results(report, results):
    small, own = results["runs"]
    assert (small["name"], own["name"]) == (small_network.NAME, "linen_cnn")
    assert (small["model"], own["model"]) == (small_network.NAME, OWN)
    # Each sees images of its own size, and knows classes of its own.
    sizes = [run["settings"]["image_size"] for run in results["runs"]]
    assert sizes == [32, own_networks.SIZE]
    for run in results["runs"]:
        files = [entry["file"] for entry in run["images"]]
        assert files == ["0_0.png", "0_1.png"]
        assert set(run["mean"]) == {"gradient"} and run["failed"] == []
    assert small["images"][0]["label"]["name"].startswith("class ")
    assert own["images"][0]["label"]["name"] in ("ant", "bee", "cat", "dog", "eel")
    assert "images" not in results and results["schema"] == 1


def test_files_and_maps_have_names_of_their_own(report, results):
    assert {path.name for path in report.iterdir()} == set(results["files"])
    for run in results["runs"]:
        for entry in run["images"]:
            stem = f"{entry['file'][:-4]}__{run['name']}"
            assert entry["sheet"] == f"{stem}__sheet.png"
            assert entry["methods"]["gradient"]["overlay"] == f"{stem}__gradient.png"
            with Image.open(report / entry["sheet"]) as sheet:
                sheet.load()
    with np.load(report / "maps.npz") as maps:
        assert set(maps.files) == {
            f"{image}/{name}/gradient"
            for image in ("0_0", "0_1")
            for name in (small_network.NAME, "linen_cnn")
        }
        sides = [
            maps[f"0_0/{run['name']}/gradient"].shape[0] for run in results["runs"]
        ]
    assert sides == [32, own_networks.SIZE]


def test_the_page_groups_networks_by_photo(report, results):
    page = (report / "report.html").read_text("utf-8")
    names = re.findall(r' id="([^"]*)"', page)
    assert len(set(names)) == len(names)
    links = re.findall(r'href="#([^"]*)"', page)
    assert set(links) <= set(names)
    # Photos at the top; in each a line for each network, and then its panels.
    order = re.findall(r'<(?:section class="photo"|article) id="([^"]*)"', page)
    assert [name.count("_2f") for name in order] == [0, 1, 1, 0, 1, 1]
    assert all(inner.startswith(order[0]) for inner in order[1:3])
    assert links[:2] == [order[0], order[3]] and set(order) <= set(links)
    assert page.count('<ul class="guesses verdicts"') == 2
    for run in results["runs"]:
        assert page.count(f"<h3>{run['model']}, layer {run['layer']}</h3>") == 2
        for entry in run["images"]:
            assert entry["label"]["name"] in page and entry["sheet"] in page


@pytest.mark.exhaustive
def test_layers_of_one_network(photos, weights, tmp_path):
    one = ["--model", small_network.NAME, "--weights", weights]
    given = words(photos, tmp_path / "out", *one, "--layer", "layer2,layer3/block0")
    assert cli.main(given) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    runs = results["runs"]
    assert [run["name"] for run in runs] == ["layer2", "layer3-block0"]
    assert [run["layer"] for run in runs] == ["layer2", "layer3/block0"]
    # One network: it says the same of each photo wherever it is cut.
    assert runs[0]["images"][0]["top5"] == runs[1]["images"][0]["top5"]
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert f"What {small_network.NAME} looked at" in page and "by 2 layers" in page
    # A report that was there is replaced, with all of its files.
    assert cli.main(words(photos, tmp_path / "out", *one, "--overwrite")) == 0
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert not [name for name in left if "layer" in name]
    assert "0_0__gradient.png" in left


REFUSED = {
    "--label 3": "`label`='3' is an index, but .* other lists of classes",
    "--label bee": "'bee'",
    "--layer layer2": "`layer` lists 1 for 2 networks; expected one for each",
    "--layer ,nothing": "`layer`='nothing' is given with `model`='own_networks:linen",
    "--weights-key a,b,c": "`weights_key` lists 3 for 2 networks",
    "--method gradient,parts": "does not decide by parts",
}


@pytest.mark.parametrize("more", REFUSED)
def test_what_one_of_them_cannot_is_said_before_all_work(
    more, photos, weights, tmp_path, capsys, monkeypatch
):
    def work(*given):
        raise RuntimeError("work was done")

    monkeypatch.setattr(network_run, "explain", work)
    given = words(photos, tmp_path / "out", *both(weights), *more.split())
    assert cli.main(given) == 2
    said = capsys.readouterr().err
    assert re.search(REFUSED[more], said) and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.exhaustive
def test_memory_holds_one_network_at_a_time(photos, weights, tmp_path, monkeypatch):
    load, held = network_run.factories.load, []

    def watched(*given, **settings):
        gc.collect()
        assert not [each for each in held if each() is not None]
        network = load(*given, **settings)
        held.append(weakref.ref(jax.tree.leaves(network.variables)[0]))
        return network

    monkeypatch.setattr(network_run.factories, "load", watched)
    assert cli.main(words(photos, tmp_path / "out", *both(weights))) == 0
    # Each twice: looked at before all work, and worked with.
    assert len(held) == 4


def tags(*given, **settings):
    return [each.tag for each in targets.listed(*given, **settings)]


def test_names_tell_targets_apart():
    assert tags("vgg16") == [""]
    assert tags("vgg16", layer=["block1", "block2/conv0"]) == ["block1", "block2-conv0"]
    assert tags(["runs/birds", "nets.own:small"]) == ["birds", "small"]
    assert tags(["a/run", "b/run"]) == ["run", "run-2"]
    two = ["vgg16", "vgg16"]
    assert tags(two, ["a.pth", "b.pth"]) == ["vgg16", "vgg16-2"]
    assert tags(two, layer=["Block", "block"]) == ["Block", "block-2"]
    assert len(set(tags(["a" * 99, "a" * 98]))) == 2


def test_one_is_given_for_each():
    both = targets.listed(["a", "b"], ["x.pth", ""], "ema")
    assert [(t.weights, t.weights_key) for t in both] == [
        ("x.pth", "ema"),
        (None, "ema"),
    ]
    layers = targets.listed("a", "x.pth", layer=["1", "2"])
    assert [(t.weights, t.layer) for t in layers] == [("x.pth", "1"), ("x.pth", "2")]
    for given, said in {
        ("a", ("x", "y")): "`weights` lists 2 for one network; expected one",
        (("a", "b"), ("x",)): "in the order of a, b",
        (("a", "a"), None): "ask for a twice",
        ("", None): "expected the name of a network",
    }.items():
        with pytest.raises(ValueError, match=said):
            targets.listed(*given)
