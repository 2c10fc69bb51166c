"""Which filters an adapter uses, on a network of random weights."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import refused
from PIL import Image

from unlir_jax import adapters, cli, filters, split
from unlir_jax.adapters import network as networks
from unlir_jax.filter_report import describe_filters, inspection
from unlir_jax.models import pretrained
from unlir_jax.report import filter_sheet

NAME, SELECT = "cifar_resnet8", "layer[23]/.*"
RAISED = "layer2/block0/conv1/norm/output"
LOWERED = "layer3/block0/conv2/norm/output"


@functools.cache
def network():
    """Load an untrained network."""
    return pretrained.load(NAME, "random")


def adapter(**metadata):
    """Make an adapter that raises one filter most, and lowers another one most."""
    weights = {
        name: np.ones(leaf.shape, np.float32)
        for name, leaf in filters.init(network().variables, SELECT).items()
    }
    weights[RAISED][[5, 9]] = 1.5, 1.25
    weights[LOWERED][[7, 3]] = 0.5, 0.75
    head = {}
    if metadata:
        random = np.random.default_rng(3)
        head = {"kernel": random.normal(size=(64, 4)).astype(np.float32)}
    print_ = adapters.fingerprint(network().variables)
    return adapters.Adapter(weights, NAME, print_, SELECT, "output", head, metadata)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write pictures, noise with a bright square somewhere."""
    place = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number in range(5):
        pixels = random.integers(0, 90, (32, 32, 3), np.uint8)
        top, left = random.integers(0, 24, 2)
        pixels[top : top + 8, left : left + 8] += 160
        Image.fromarray(pixels).save(place / f"{number}.png")
    return place


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("adapter") / "task.safetensors"
    says = {"head": "cosine", "scale": 9.0, "pooling": "gem"}
    own = adapter(**says, class_names=["ant", "bee", "cat", "dog"])
    return adapters.save(path, **own._asdict())


def pixels_of(folder):
    paths = sorted(folder.glob("*.png"))
    return np.stack([np.asarray(Image.open(p), np.float32) / 255 for p in paths])


def test_what_was_raised_and_lowered_most_is_found():
    raised, lowered = inspection.most(adapter().weights, 3)
    assert raised == [
        inspection.Filter(RAISED, (5,), 1.5),
        inspection.Filter(RAISED, (9,), 1.25),
    ]
    assert lowered == [
        inspection.Filter(LOWERED, (7,), 0.5),
        inspection.Filter(LOWERED, (3,), 0.75),
    ]
    pair = {"a/conv/filter": np.array([[1, 0.5], [2, 1]])}
    raised, lowered = inspection.most(pair, 1)
    assert raised[0].place == (1, 0) and lowered[0].place == (0, 1)


def test_filters_fire_where_a_loop_finds_the_largest(folder):
    images = pixels_of(folder)
    raised, lowered = inspection.most(adapter().weights, 1)
    chosen = [*raised, *lowered]
    known = network()
    batches = [images[:3], images[3:]]
    spots = inspection.fire(known.module, known.variables, chosen, batches, 2)
    for number, each in enumerate(chosen):
        path = each.name.rpartition("/")[0]
        found = []
        for place in range(len(images)):
            maps = np.asarray(
                split.run_to(
                    known.module, path, known.variables, images[[place]], "features"
                )
            )[0, :, :, each.place[0]]
            best = (-np.inf, 0, 0)
            for row in range(maps.shape[0]):
                for column in range(maps.shape[1]):
                    if maps[row, column] > best[0]:
                        best = (float(maps[row, column]), row, column)
            found.append((*best, place))
        assert tuple(spots.grids[number]) == maps.shape
        for rank, (value, row, column, place) in enumerate(sorted(found)[:-3:-1]):
            assert spots.pictures[number, rank] == place
            assert spots.cells[number, rank].tolist() == [row, column]
            np.testing.assert_allclose(spots.values[number, rank], value, rtol=1e-4)


@pytest.mark.exhaustive
def test_weights_of_inputs_look_at_what_the_kernel_is_given(folder):
    images, known = pixels_of(folder)[:2], network()
    each = inspection.Filter("layer2/block0/conv2/conv/input", (4,), 1.2)
    (maps,) = inspection.respond(known.module, [each])(known.variables, images)
    before = split.run_to(
        known.module, "layer2/block0/conv1", known.variables, images, "features"
    )
    # The first layer of the block ends with its norm, and the block activates it.
    np.testing.assert_allclose(maps, jax.nn.relu(before)[..., 4], rtol=1e-5, atol=1e-6)


def test_regions_are_squares_round_where_cells_look(folder):
    known, images = network(), pixels_of(folder)
    raised, _ = inspection.most(adapter().weights, 1)
    (centres,) = inspection.centres(known.module, known.variables, raised, images)
    middle = inspection.region(centres, (8, 8), (16, 16))
    assert middle[2] - middle[0] == pytest.approx(0.3)
    assert (middle[0] + middle[2]) / 2 == pytest.approx(centres.columns[8])
    assert (middle[1] + middle[3]) / 2 == pytest.approx(centres.rows[8])
    corner = inspection.region(centres, (0, 15), (16, 16))
    assert corner == pytest.approx((0.7, 0.0, 1.0, 0.3))
    assert inspection.region(centres, (0, 0), (2, 2)) == (0.0, 0.0, 1.0, 1.0)


def test_layers_come_in_order_of_depth():
    known = network()
    names = ["classifier/output", LOWERED, RAISED, "layer3/block0/conv1/norm/output"]
    assert inspection.by_depth(names, known.module, 32) == [
        RAISED,
        "layer3/block0/conv1/norm/output",
        LOWERED,
        "classifier/output",
    ]
    kept = inspection.in_trunk(dict.fromkeys(names, np.ones(1)), known.module, 32)
    assert "classifier/output" not in kept and len(kept) == 3
    assert filter_sheet.layer_title(RAISED) == "layer2 block0 conv1"
    assert filter_sheet.layer_title("block7/expand/conv/input") == (
        "block7 expand, inputs"
    )


def test_the_head_of_the_adapter_decides(folder):
    images, known = jnp.asarray(pixels_of(folder)), network()
    own = adapter(head="cosine", scale=9.0, pooling="average")
    model, names, is_own = inspection.decision(own, known)
    assert is_own and names == ("class 0", "class 1", "class 2", "class 3")
    maps = known.model.features(known.variables, images).maps
    pooled = np.asarray(maps, np.float64).mean((1, 2))
    kernel = own.head["kernel"].astype(np.float64)
    cosines = (pooled @ kernel) / (
        np.linalg.norm(pooled, axis=1)[:, None] * np.linalg.norm(kernel, axis=0)
    )
    found = split.whole(model)(known.variables, images)
    np.testing.assert_allclose(found, 9 * cosines, rtol=1e-4, atol=1e-4)
    # A head that nobody knows leaves the network's own.
    odd = own._replace(metadata={"head": "oracle", "pooling": "average"})
    assert not inspection.decision(odd, known)[2]


def run(folder, file, output, **settings):
    few = {"count": 2, "best": 2, "shown": 2, "batch_size": 2}
    return describe_filters.run(
        file, [str(folder)], output, weights="random", **(few | settings)
    )


def test_the_report_shows_filters_and_saliency(folder, file, tmp_path, capsys):
    output = tmp_path / "out"
    words = ["adapters", "explain", str(file), "--images", str(folder), "--filters"]
    words += ["2", "--weights", "random", "--output", str(output)]
    assert cli.main(words) == 0
    assert f"open {output / 'filters.html'}" in capsys.readouterr().out
    document = json.loads((output / "results.json").read_text())
    assert sorted(p.name for p in output.iterdir()) == document["files"]
    assert [each["weight"] for each in document["raised"]] == [1.5, 1.25]
    assert [each["place"] for each in document["lowered"]] == [[7], [3]]
    assert document["layers"][0]["name"] == RAISED and document["head"] == "adapter"
    assert document["weights"]["raised"] == pytest.approx(2 / document["count"])
    # The best picture of the most raised filter, by asking about each of them.
    known, images = network(), pixels_of(folder)
    path = RAISED.rpartition("/")[0]
    maps = split.run_to(known.module, path, known.variables, images, "features")
    best = np.asarray(maps)[..., 5].reshape(len(images), -1).max(1)
    region = document["raised"][0]["regions"][0]
    assert region["file"].endswith(f"{best.argmax()}.png")
    assert region["value"] == pytest.approx(best.max(), rel=1e-4)
    for entry in document["saliency"]:
        assert entry["label"]["name"] in ("ant", "bee", "cat", "dog")
        assert entry["after"]["first"]["index"] == entry["label"]["index"]
    page = (output / "filters.html").read_text()
    assert page.count("<img") == 1 + 4 * 5 + 3 * 5
    assert "layer2 block0 conv1 5" in page and "× 1.500 (+50.0 %)" in page


def test_bad_input_gets_one_sentence(folder, file, tmp_path):
    own = adapter()
    wrong = adapters.save(
        tmp_path / "a.safetensors", **own._replace(fingerprint="0" * 64)._asdict()
    )
    refused("other weights of cifar_resnet8", run, folder, wrong, tmp_path / "out")
    other = own._replace(backbone="cifar_resnet20")
    wrong = adapters.save(tmp_path / "b.safetensors", **other._asdict())
    refused("other weights of cifar_resnet20", run, folder, wrong, tmp_path / "out")
    refused("`count`=0", run, folder, file, tmp_path / "out", count=0)
    refused("No image of 1 can be read", run, tmp_path / "none", file, tmp_path / "out")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    refused("is not empty", run, folder, file, full)
    refused(
        "which no previous report wrote",
        run,
        folder,
        file,
        _with_page(tmp_path),
        overwrite=True,
    )
    assert (full / "mine.txt").read_text() == "mine" and len(list(full.iterdir())) == 1
    assert not (tmp_path / "out").exists()


def _with_page(tmp_path):
    """Make a folder that holds somebody's own page."""
    place = tmp_path / "own"
    place.mkdir()
    (place / "filters.html").write_text("mine")
    return place


def test_only_modules_of_the_trunk_can_be_watched(folder):
    known = network()
    with pytest.raises(ValueError, match="has layer9, which are no modules"):
        split.watch(known.module, ["layer9"], known.variables, pixels_of(folder))


def test_pictures_are_framed_as_the_adapter_saw_them():
    known = network()
    own = adapter(image_size=24, crop=0.5)
    assert networks.framed(own, known) == (24, 0.5, "bilinear")
    # What makes no sense is refused when the file is read.
    found = networks.framed(own._replace(metadata={}), known)
    assert found == (known.image_size, known.crop, known.interpolation)
