"""Segments of several classes, from a classifier of images to figures."""

import json

import numpy as np
import pytest
from detection_worlds import small, write_folder
from PIL import Image

from unlir_jax.cli import program
from unlir_jax.data import objects, synthetic_scenes
from unlir_jax.runtime import config
from unlir_jax.weak_detection import learn, seeds, segment, segment_measures
from unlir_jax.weak_detection import segmentation as setups


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """Train on a folder with masks; the last test image has none."""
    root = tmp_path_factory.mktemp("segments")
    write_folder(root / "data")
    write_masks(root / "data", 3)
    learn.run(small(root / "data", method="cam"), root / "work")
    return root


def write_masks(root, count, change=lambda mask: mask):
    for index in range(count):
        scene = synthetic_scenes.draw_scene("test", index, image_size=48)
        file = root / "masks" / "test" / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(change(scene.mask.copy())).save(file)


def settings(root, *more):
    found = config.load(f"configs/segmentation.py:seeds={root / 'work'}", [*more])
    found.statistics.resamples = 50
    return found


def test_a_folder_with_masks_is_segmented(seeded, tmp_path):
    said = []
    given = settings(seeded, "--config.thresholds=20")
    found = segment.run(given, tmp_path / "out", say=said.append)
    kept = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert kept.pop("not_finite") == 0 and kept == found.summary
    assert kept["images"] == 3 and "1 images of 'test' of" in said[0]
    names = ("class_map", "class_map@walk", "class_map@crf", "center@crf")
    for name in names:
        figure = kept[f"{name}/miou"]
        assert 0 <= figure["low"] <= figure["mean"] <= figure["high"] <= 1
        each = [iou for iou in kept[f"{name}/classes"].values() if iou is not None]
        assert figure["mean"] == pytest.approx(np.mean(each)) and figure["n"] == 3
    assert set(kept["differences"]) >= {"class_map@walk - center@walk"}
    with Image.open(tmp_path / "out" / segment.DRAWING) as drawn:
        assert drawn.size == (8 * 160, 20 + 3 * 160)
    again = segment.run(given, tmp_path / "out")
    assert again.message.startswith("Done before: mIoU")


def test_a_perfect_map_finds_all_but_void(seeded, monkeypatch):
    """Maps that are the masks give 1, whatever the void pixels hold."""

    def void(mask):
        mask[:3] = 255
        return mask

    write_masks(seeded / "data", 3, void)
    given = setups.prepare(settings(seeded, "--config.labels=true"))
    true = np.stack([given.test.images.read(place)["mask"] for place in range(3)])

    def perfect(cells, images, labels, *, key=None):
        return (true == np.asarray(labels)[:, None, None] + 1).astype(np.float32)

    side = given.trained_on.eye._replace(image_size=48)
    given = given._replace(
        trained_on=given.trained_on._replace(eye=side),
        explainers={seeds.PLAIN: perfect, seeds.CENTER: perfect},
    )
    found = segment._count(given, lambda doing, share: None, lambda: "")
    assert found.void == pytest.approx(3 / 48) and found.known == 3
    _, figures = segment_measures.measure(found.both, found.either, given.settings)
    assert figures["class_map/miou"]["mean"] == 1.0
    assert figures["differences"]["class_map - center"]["mean"] == 0.0
    write_masks(seeded / "data", 3)


def test_each_half_is_cut_where_the_other_is_best():
    """By hand: one class and the background, two backgrounds, two images."""
    both = np.asarray([[[8, 1], [4, 2]], [[3, 2], [9, 1]]])
    either = np.asarray([[[9, 2], [8, 6]], [[8, 7], [9, 1]]])
    given = setups.segmentation()
    chosen, figures = segment_measures.measure(
        {"class_map": both, "center": both},
        {"class_map": either, "center": either},
        given,
    )
    # The second image is best at 1, where the first is cut; and the other way round.
    assert chosen["class_map"] == (1, 0)
    expected = np.mean([(4 + 3) / (8 + 8), (2 + 2) / (6 + 7)])
    assert figures["class_map/miou"]["mean"] == pytest.approx(expected)


def test_masks_of_other_classes_are_refused(seeded, tmp_path):
    def more(mask):
        mask[mask > 0] = 5
        return mask

    def other(mask):
        return np.where(mask > 0, mask % 4 + 1, 0).astype(np.uint8)

    for change, said in (
        (more, "has the value 5, but there are 4 classes; expected 0, 255 for void"),
        (other, "have classes that these images do not have; expected the place"),
    ):
        write_masks(seeded / "data", 3, change)
        with pytest.raises(ValueError, match=said):
            segment.run(settings(seeded), tmp_path / said[:5])
    write_masks(seeded / "data", 3)


def test_what_has_no_masks_or_maps_is_refused(seeded, tmp_path):
    write_folder(tmp_path / "bare")
    with pytest.raises(ValueError, match="No image of 'test' of .* has a mask; expect"):
        setups.prepare(settings(seeded, f"--config.data.path={tmp_path / 'bare'}"))
    learn.run(small(), tmp_path / "boxes")
    found = setups.choose(f"seeds={tmp_path / 'boxes'}")
    with pytest.raises(ValueError, match="method=oicr, which has no class maps"):
        setups.prepare(found)
    with pytest.raises(ValueError, match="`seeds`=.* is no detector; expected the fin"):
        setups.prepare(setups.choose(f"seeds={tmp_path}"))
    with pytest.raises(ValueError, match="`refine`='walks' has 'walks'"):
        setups.choose("seeds=x,refine=walks")
    with pytest.raises(ValueError, match="`thresholds`=0"):
        setups.prepare(settings(seeded, "--config.thresholds=0"))
    with pytest.raises(ValueError, match="`labels`='numbers'"):
        setups.prepare(settings(seeded, "--config.labels=numbers"))


def test_scenes_have_masks_of_their_classes():
    found = objects.scenes("test", 4, image_size=48)
    for place in range(4):
        example = found.images.read(place)
        there = np.unique(example["mask"])
        assert set(there[there > 0] - 1) == set(found.labels[place])
        for box, label in zip(example["boxes"], found.labels[place], strict=True):
            x0, y0, x1, y1 = box.astype(int)
            assert (example["mask"][y0:y1, x0:x1] == label + 1).any()
        outside = example["mask"].copy()
        for x0, y0, x1, y1 in example["boxes"].astype(int):
            outside[y0:y1, x0:x1] = 0
        assert not outside.any()


def test_the_command_segments_scenes(tmp_path, capsys):
    learn.run(small(method="cam"), tmp_path / "work")
    arguments = config.arguments("configs/segmentation.py")
    assert arguments["seeds"] == "" and "model" in arguments
    asked = ["evaluate", "--config", f"configs/segmentation.py:seeds={tmp_path}/work"]
    more = ["--config.labels=predicted", "--config.data.limit=2", "--config.gallery=0"]
    assert program.main([*asked, *more, "--dry-run"]) == 0
    assert "2 images, 6 ways to segment" in capsys.readouterr().out
    more += ["--workdir", str(tmp_path / "out"), "--config.refine=('walk',)"]
    assert program.main([*asked, *more]) == 0
    assert "mIoU" in capsys.readouterr().out
    kept = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert kept["labels"] == "predicted" and "class_map@crf/miou" not in kept
