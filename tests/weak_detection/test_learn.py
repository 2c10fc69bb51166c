"""A detector is learned, resumed, tested and used, as a user does it."""

import json
import shutil

import numpy as np
import pytest
from detection_worlds import small, square, write_folder, write_table
from PIL import Image

from unlir_jax.weak_detection import detector, find, learn, state_file


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    write_folder(root / "data")
    given = small(root / "data")
    return root, learn.run(given, root / "work"), given


def test_a_folder_with_boxes_gives_a_detector_and_its_figures(trained):
    root, found, _ = trained
    kept = json.loads((root / "work" / "summary.json").read_text())
    assert kept.pop("not_finite") == 0 and kept == found.summary
    for name in ("test/map50", "test/map", "test/corloc"):
        assert 0 <= kept[name] <= 1
    assert kept["classes"] == ["a", "b", "c", "d"]
    assert kept["images"] == {"train": 12, "test": 4}
    assert set(kept["test/classes"]) == set(kept["classes"])
    assert (root / "work" / "detections.png").is_file()
    assert not (root / "work" / state_file.FILE).exists()


def test_a_finished_one_is_not_trained_again(trained):
    root, found, given = trained
    before = (root / "work" / detector.FILE).read_bytes()
    again = learn.run(given, root / "work")
    assert again.message.startswith("Nothing to do") and again.summary == found.summary
    assert (root / "work" / detector.FILE).read_bytes() == before


def test_boxes_of_training_images_are_not_needed(trained, tmp_path):
    rows = write_folder(tmp_path / "data")
    told = [(*row[:3], *[""] * 4) if row[1] == "train" else row for row in rows]
    write_table(tmp_path / "data", told)
    root, found, _ = trained
    learn.run(small(tmp_path / "data"), tmp_path / "work")
    one, other = (np.load(place / "work" / detector.FILE) for place in (root, tmp_path))
    for name in one.files:
        np.testing.assert_array_equal(one[name], other[name])


def test_a_stopped_training_goes_on_to_the_same_detector(trained, monkeypatch):
    root, _, given = trained
    calls = []

    def stopping(folder, step, state):
        calls.append(step)
        write(folder, step, state)
        raise KeyboardInterrupt

    write = state_file.write
    monkeypatch.setattr(learn, "EVERY", 2)
    monkeypatch.setattr(state_file, "write", stopping)
    with pytest.raises(KeyboardInterrupt):
        learn.run(given, root / "stopped")
    assert calls == [2] and (root / "stopped" / state_file.FILE).is_file()
    monkeypatch.setattr(state_file, "write", write)
    learn.run(given, root / "stopped")
    one, other = (np.load(root / work / detector.FILE) for work in ("work", "stopped"))
    for name in one.files:
        np.testing.assert_array_equal(one[name], other[name])


def test_objects_are_found_and_drawn(trained, tmp_path):
    root, _, _ = trained
    square().save(tmp_path / "one.png")
    (tmp_path / "two.png").write_bytes(b"no image")
    told = [str(tmp_path / name) for name in ("one.png", "two.png")]
    found = find.run(told, root / "work", tmp_path / "found", most=3)
    (entry,) = found.document["images"]
    assert len(found.failed) == 1 and 1 <= len(entry["objects"]) <= 3
    scores = [each["score"] for each in entry["objects"]]
    assert scores == sorted(scores, reverse=True)
    for each in entry["objects"]:
        assert 0 <= each["x0"] < each["x1"] <= 32 and each["class"] in "abcd"
    with Image.open(tmp_path / "found" / entry["drawing"]) as drawn:
        assert min(drawn.size) >= 256
    with pytest.raises(ValueError, match="not empty; expected a new one"):
        find.run(told, root / "work", tmp_path / "found")
    find.run(told, root / "work", tmp_path / "found", overwrite=True)


def test_dark_images_are_seen_as_in_training(trained, tmp_path):
    """Values up to 1023 are white only where somebody says so."""
    root, _, _ = trained
    values = np.asarray(square())[..., 0].astype(np.int32) * 4
    Image.fromarray(values).save(tmp_path / "dark.tif")
    told = [str(tmp_path / "dark.tif")]
    (failed,) = find.run(told, root / "work", tmp_path / "auto").failed
    assert "integers from 0 to 1016, but white is 255" in failed["error"]
    found = find.run(told, root / "work", tmp_path / "told", white_level="1016")
    assert not found.failed and found.document["settings"]["white_level"] == 1016
    work = tmp_path / "work"
    shutil.copytree(root / "work", work)
    settings = json.loads((work / "config.json").read_text())
    settings["data"]["white_level"] = "1016"
    (work / "config.json").write_text(json.dumps(settings))
    again = find.run(told, work, tmp_path / "trained")
    assert again.document["images"] == found.document["images"]


def test_what_is_no_detector_is_refused(trained, tmp_path):
    square().save(tmp_path / "one.png")
    told = [str(tmp_path / "one.png")]
    with pytest.raises(
        ValueError, match="is no detector; expected the finished workdir"
    ):
        find.run(told, tmp_path, tmp_path / "out")
    root, _, _ = trained
    with pytest.raises(ValueError, match="`share`=2"):
        find.run(told, root / "work", tmp_path / "out", share=2.0)
    template = {"wsddn": np.zeros((1, 1), np.float32)}
    with pytest.raises(ValueError, match="lacks 'variables/wsddn'"):
        detector.read(root / "work" / detector.FILE, template)
    (tmp_path / "detector.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="cannot be read"):
        detector.read(tmp_path / "detector.npz", template)


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", ["wsddn", "cam"])
def test_other_methods_learn_too(method, tmp_path):
    given = small(method=method, steps=1)
    found = learn.run(given, tmp_path / "work")
    assert found.summary["classes"] == [f"animal{number}" for number in range(4)]
    square().save(tmp_path / "one.png")
    told = [str(tmp_path / "one.png")]
    assert not find.run(told, tmp_path / "work", tmp_path / "out").failed
    with np.load(tmp_path / "work" / detector.FILE) as file:
        matrix = file["whitening/matrix"]
    # The control reads filters as they are, but for a factor.
    factor = matrix[0, 0] * np.eye(*matrix.shape)
    assert np.array_equal(matrix, factor) == (method == "cam")


def test_a_test_without_objects_is_refused(tmp_path):
    rows = write_folder(tmp_path / "data")
    kept = [row for row in rows if row[1] == "train"]
    write_table(tmp_path / "data", [*kept, ("test/0.png", "test", *[""] * 5)])
    with pytest.raises(ValueError, match="'test' has no object that should be found"):
        learn.run(small(tmp_path / "data"), tmp_path / "work")


@pytest.mark.exhaustive
def test_one_class_alone_is_said(tmp_path):
    rows = write_folder(tmp_path / "data")
    write_table(tmp_path / "data", [(*row[:2], "bird", *row[3:]) for row in rows])
    said = []
    found = learn.run(small(tmp_path / "data"), tmp_path / "work", say=said.append)
    assert found.summary["everywhere"] == [True]
    assert said[0].startswith("Class 'bird' is in all training images")
    square().save(tmp_path / "one.png")
    told = [str(tmp_path / "one.png")]
    assert not find.run(told, tmp_path / "work", tmp_path / "out").failed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "yolo"}, "`method`='yolo' is no detector"),
        ({"nms": 2.0}, "`nms`=2.0"),
        ({"steps": -1}, "`steps`=-1"),
        ({"rule": "voc12"}, "`rule`='voc12' is no rule of average precision"),
    ],
)
def test_wrong_settings_are_refused(changes, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        learn.run(small(**changes), tmp_path / "work")
    assert not (tmp_path / "work").exists()
