"""Maps from elsewhere: how they are read, matched with images, and scored."""

import io
import json

import numpy as np
import pytest
import small_network
from PIL import Image

from unlir_jax.data.source import Source
from unlir_jax.evaluation import evaluate, given_maps, map_files
from unlir_jax.runtime import config

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (6, 6), np.uint8)


def test_all_kinds_of_files_give_their_numbers(tmp_path):
    deep = GREY.astype(np.uint16) * 200
    np.save(tmp_path / "a.npy", GREY.astype(np.float64) - 7)
    np.savez(tmp_path / "b.npz", anything=GREY.astype(np.float16))
    np.savez_compressed(tmp_path / "c.npz", GREY > 100)
    Image.fromarray(GREY).save(tmp_path / "d.png")
    Image.fromarray(deep).save(tmp_path / "e.PNG")
    expected = (GREY - 7.0, GREY, GREY > 100, GREY, deep)
    for path, values in zip(sorted(tmp_path.iterdir()), expected, strict=True):
        found = map_files.read(path)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.asarray(values, np.float32))


def saved(array, **more):
    buffer = io.BytesIO()
    np.savez(buffer, array, **more) if more else np.save(buffer, array)
    return buffer.getvalue()


NAN = np.where(np.eye(4) > 0, np.nan, 0)
CLAIMING = saved(np.zeros((2, 2))).replace(b"(2, 2)", b"(9**9,")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.npy", saved(np.zeros((1, 7, 7))), r"shape \(1, 7, 7\); expected \[rows, "),
        ("a.npy", saved(np.zeros((7, 5))), r"shape \(7, 5\); expected a square"),
        ("a.npy", saved(np.zeros((0, 0))), r"shape \(0, 0\); expected \[rows, "),
        ("a.npy", saved(NAN), "holds 4 values that are NaN or infinite"),
        ("a.npy", saved(np.asarray([{}])), "no header of numbers"),
        ("a.npy", saved(np.zeros((2, 2), complex)), "no header of numbers"),
        ("a.npy", CLAIMING, "no header of numbers"),
        ("a.npy", saved(np.zeros((9, 9)))[:-8], "other bytes than its header says"),
        ("a.npy", b"hello", "no header of numbers"),
        ("a.npz", saved(GREY, more=GREY), "it holds 2 arrays"),
        ("a.npz", b"PK no archive", "zip archive is damaged"),
        ("a.png", b"no image", "cannot be read"),
    ],
)
def test_what_is_no_map_is_one_sentence(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=words) as caught:
        map_files.read(tmp_path / name)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_colours_and_giants_are_refused(tmp_path, monkeypatch):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="the mode RGB; expected a grey PNG"):
        map_files.read(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", np.zeros((9, 9)))
    monkeypatch.setattr(map_files, "MOST_BYTES", 500)
    with pytest.raises(ValueError, match="its 776 bytes are more than 500"):
        map_files.read(tmp_path / "b.npy")


NAMES = ("cats/1.jpg", "dogs/2.png", "dogs/3.v2.jpg")


def data_of(names):
    def read(index):
        raise AssertionError("Nobody looks at the images.")

    return Source(read, len(names), (), names.__getitem__)


def write(folder, *names, array=GREY):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("wb") as opened:
            np.save(opened, array)


def found_in(folder, names=NAMES, taken=("grad_cam",)):
    return given_maps.find(folder, data_of(names), taken)


def test_maps_are_found_by_path_or_by_name(tmp_path):
    write(tmp_path, "one/cats/1.npy", "one/dogs/2.npy", "one/dogs/3.v2.npy")
    write(tmp_path, "two/1.npy", "two/2.npy", "two/3.v2.npy", array=GREY - 50.0)
    (tmp_path / "notes").mkdir()
    found = found_in(tmp_path)
    assert list(found) == ["one", "two"]
    files = [str(path.relative_to(tmp_path)) for path in found["one"].files]
    assert files == ["one/cats/1.npy", "one/dogs/2.npy", "one/dogs/3.v2.npy"]
    assert not found["one"].signed and found["two"].signed
    assert found["one"].sha256 != found["two"].sha256
    # A folder with maps is a method itself, and what is in it belongs to it.
    write(tmp_path / "two", "deeper/x.npy")
    assert list(found_in(tmp_path / "two")) == ["two"]


@pytest.mark.parametrize(
    ("files", "names", "words"),
    [
        (("m/1.npy", "m/2.npy"), NAMES, "'m' in `maps` has no map for 1 of 3 images, "),
        (("m/1.npy",), ("a/1.jpg", "b/1.jpg"), "is the map of 'a/1.jpg' and of 'b/1.j"),
        (("m/1.npy", "m/1.npz"), ("1.jpg",), "'1.npz' are both maps of '1.jpg'"),
        (("grad_cam/1.npy",), ("1.jpg",), "such as 'grad_cam_elsewhere'"),
        (("m/1.txt",), ("1.jpg",), "holds no map; expected FOLDER/METHOD/IMAGE.npz"),
    ],
)
def test_maps_that_do_not_fit_the_images_are_refused(tmp_path, files, names, words):
    write(tmp_path, *files)
    with pytest.raises(ValueError, match=words) as caught:
        found_in(tmp_path, names)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no folder; expected FOLDER/METHOD"):
        found_in(tmp_path / "nowhere")


def test_maps_are_brought_to_the_size_of_the_image(tmp_path):
    write(tmp_path, "m/1.npy", array=np.asarray([[0.0, 4.0], [8.0, 12.0]]))
    write(tmp_path, "m/2.npy", array=np.ones((4, 4)))
    method = found_in(tmp_path, ("1.jpg", "2.jpg"))["m"]
    explain = given_maps.explainer(method, np.asarray([1, 0, -1]), 4)
    found = np.asarray(explain({}, np.zeros((3, 4, 4, 3), np.float32), np.zeros(3)))
    # Half-pixel centres: a quarter and three quarters of the way.
    line = np.asarray([0, 1, 3, 4])
    np.testing.assert_allclose(found[1], 2 * line[:, None] + line, atol=1e-6)
    np.testing.assert_array_equal(found[0], found[2])
    with pytest.raises(ValueError, match="belongs to its image"):
        given_maps.refuse({}, None, None)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Write six images, and for each two maps: that of a control, and signed noise."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "images").mkdir()
    images = small_network.write_noise(folder / "images", 6)
    axis = np.exp(-0.5 * (((np.arange(32) + 0.5) / 32 - 0.5) / 0.25) ** 2)
    for path in images.iterdir():
        write(folder, f"maps/blob/{path.stem}.npy", array=np.outer(axis, axis))
        noise = RANDOM.normal(size=(8, 8))
        write(folder, f"maps/noise/{path.stem}.npy", array=noise)
    return folder


def settings(world, **more):
    given = {"data.path": world / "images", "model.weights": "random", "batch_size": 4}
    given |= {"statistics.resamples": 200, "metric_options.insertion.steps": 2}
    given |= {"methods": "()", "maps": world / "maps"} | more
    overrides = [f"--config.{name}={value}" for name, value in given.items()]
    file = "configs/evaluate.py:model=cifar_resnet8,metrics=complexity+insertion"
    return config.load(file, overrides)


@pytest.mark.exhaustive
def test_given_maps_stand_in_the_same_table(world, tmp_path):
    summary = evaluate.run(settings(world), tmp_path / "run").summary
    about = summary["about"]
    assert about["methods"] == ["blob", "noise"] and about["signed"] == ["noise"]
    assert about["hyper_parameters"]["blob"]["maps"] == 6
    assert str(world) not in json.dumps(about["hyper_parameters"])
    for metric in ("complexity", "insertion"):
        own, control = (summary[f"{name}/{metric}"] for name in ("blob", "center"))
        assert own == pytest.approx(control, abs=1e-6)
        assert summary[f"noise/{metric}"]["mean"] != pytest.approx(own["mean"])
    pairs = {(each["first"], each["second"]) for each in summary["comparisons"]}
    assert ("center", "blob") in pairs and ("blob", "noise") in pairs
    # Two methods, four controls and two metrics: 16 * 2 / 2^6 is more than 1.
    assert [each["smallest"] for each in summary["power"]] == [0.5, 0.5]
    assert "6 images cannot tell any method from a control" in summary["cautions"][-1]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Blob map over" in page and "Noise map over" in page
    again = evaluate.run(settings(world), tmp_path / "run")
    assert again.message.startswith("Done before")


@pytest.mark.exhaustive
def test_other_maps_are_other_methods(world, tmp_path):
    evaluate.run(settings(world), tmp_path / "run")
    write(world, "maps/noise/0_0.npy", array=np.eye(8))
    with pytest.raises(ValueError, match=r"begun with something else: .*`maps\.noise`"):
        evaluate.run(settings(world), tmp_path / "run")


def test_a_metric_that_asks_again_is_refused(world, tmp_path):
    given = settings(world)
    given.metrics = ("adcc", "insertion")
    with pytest.raises(ValueError, match="`metrics` has adcc, which explain other"):
        evaluate.run(given, tmp_path / "run")
    assert not (tmp_path / "run").exists()
