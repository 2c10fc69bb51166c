"""Masks of the data in an evaluation: what is void, and what has to be asked for."""

import numpy as np
import pytest
from PIL import Image

from unlir_jax.evaluation import evaluate
from unlir_jax.runtime import config

CONFIG = (
    "configs/evaluate.py:model=cifar_resnet8,methods=random,"
    "metrics=energy_pointing_game+f1+pixel_average_precision+max_iou"
)


def write(folder, *stored, split=""):
    """Write noise, and masks beside it."""
    random = np.random.default_rng(0)
    (folder / "masks").mkdir(exist_ok=True)
    lines = ["path,class,split"] if split else ["path,class"]
    for index, values in enumerate(stored):
        pixels = random.integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        Image.fromarray(values).save(folder / "masks" / f"{index}.png")
        lines.append(f"{index}.png,{index}{split and ',' + split}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


def settings(folder, *more):
    given = ["data.path=" + str(folder), "model.weights=random", "batch_size=4"]
    given += ["statistics.resamples=200", "gallery=0", "controls=false", *more]
    return config.load(CONFIG, [f"--config.{each}" for each in given])


def mask(left, right):
    values = np.full((40, 40), right, np.uint8)
    values[:, :20] = left
    return values


@pytest.mark.exhaustive
def test_what_is_void_counts_for_nothing(tmp_path):
    """Where all is object or void, every map lies on the object."""
    folder = write(
        tmp_path, mask(15, 255), mask(255, 9), mask(15, 255), mask(255, 0), mask(0, 255)
    )
    found = evaluate.run(settings(folder), tmp_path / "out").summary
    # The last two have no object, and the last is a batch of its own.
    for metric in (
        "energy_pointing_game",
        "pixel_average_precision",
        "max_iou",
        "pxap",
    ):
        assert found[f"random/{metric}"]["n"] == 3
        assert found[f"random/{metric}"]["mean"] == pytest.approx(1, abs=1e-5)
    assert 0.5 < found["random/f1"]["mean"] < 0.9
    assert found["about"]["masks"] == "classes, as their values tell; 255 is void"
    assert found["contract"]["f1"]["void"].startswith("left out")
    assert found["contract"]["max_iou"]["void"].startswith("left out")


@pytest.mark.exhaustive
def test_without_void_the_rim_counts(tmp_path):
    folder = write(tmp_path, mask(15, 100), mask(15, 100))
    given = settings(folder, "data.options.ignore=100")
    found = evaluate.run(given, tmp_path / "void").summary
    assert found["random/max_iou"]["mean"] == pytest.approx(1, abs=1e-5)
    given = settings(folder, "data.options.ignore=none", "data.options.mask=classes")
    found = evaluate.run(given, tmp_path / "none").summary
    assert found["random/max_iou"]["mean"] == pytest.approx(1, abs=1e-5)
    folder = write(tmp_path, mask(15, 0), mask(15, 0))
    found = evaluate.run(settings(folder), tmp_path / "background").summary
    assert found["random/energy_pointing_game"]["mean"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.exhaustive
def test_masks_that_leave_open_what_they_are_stop_before_anything_is_written(tmp_path):
    """Nor is another split taken instead."""
    folder = write(tmp_path, mask(255, 255), mask(255, 255), split="test")
    with pytest.raises(ValueError, match=r"^Mask .*0.png' has the values 255, and"):
        evaluate.run(settings(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    given = settings(folder, "data.options.mask=object")
    found = evaluate.run(given, tmp_path / "out").summary
    assert found["random/energy_pointing_game"]["mean"] == pytest.approx(1, abs=1e-5)
    assert found["about"]["masks"] == "object; nothing is void"
