"""Localisation and segmentation of a folder with masks, with refined methods."""

import json

import numpy as np
import pytest
import small_parts
from PIL import Image

from unlir_jax import metrics, saliency
from unlir_jax.cli import early
from unlir_jax.evaluation import evaluate, setup
from unlir_jax.explanation import explainers
from unlir_jax.parts import attribution
from unlir_jax.report import words
from unlir_jax.runtime import config


def write(folder, count=5, classes=1):
    """Write bright squares on dark noise with their masks; the last has no object."""
    random = np.random.default_rng(0)
    (folder / "masks").mkdir(parents=True)
    lines = ["path,class"]
    for index in range(count):
        pixels = random.integers(0, 60, (32, 32, 3), np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        if index < count - 1:
            mask[10 + index : 24, 8:22] = 1
            pixels[mask > 0] += 180
        Image.fromarray(pixels).save(folder / f"{index}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{index}.png")
        lines.append(f"{index}.png,{index % classes}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


def settings(folder, argument, *more):
    given = ["data.path=" + str(folder), "model.weights=random", "batch_size=4"]
    given += ["statistics.resamples=200", "data.crop=1.0", "data.options.mask=object"]
    file = f"configs/{argument}"
    return config.load(file, [f"--config.{each}" for each in (*given, *more)])


@pytest.mark.exhaustive
def test_boxes_of_masks_and_refined_maps_stand_in_one_table(tmp_path):
    folder = write(tmp_path / "data")
    argument = (
        "localization.py:model=cifar_resnet8,methods=random,"
        "metrics=max_iou+corloc+mean_iou"
    )
    more = "gallery=1", "method_options.walk.steps=64"
    found = evaluate.run(settings(folder, argument, *more), tmp_path / "out").summary
    about = found["about"]
    assert about["methods"] == []
    assert {"center", "random", "edges", "random@walk", "center@walk"} < {
        *about["controls"]
    }
    assert about["hyper_parameters"]["center@walk"]["walk"]["steps"] == 64
    # The centre spreads over the square that it lies in.
    figures = {name: found[f"{name}/max_iou"]["mean"] for name in about["controls"]}
    assert figures["center@walk"] > figures["center"] + 0.2
    # Chance decides for one, so that no more is asked of it.
    assert found["center@walk/corloc"]["mean"] == 1
    for metric in ("max_iou", "corloc", "mean_iou", "miou"):
        assert found[f"center/{metric}"]["n"] == 4
    assert about["undefined"]["corloc"]["pictures"] == 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert "White: boxes of the object" in page and "Centre, random walk" in page
    assert "mIoU" in (tmp_path / "out" / "summary.md").read_text()
    stored = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert stored["center/miou"] == found["center/miou"]


@pytest.mark.exhaustive
def test_segmentation_of_several_classes(tmp_path):
    folder = write(tmp_path / "data", classes=2)
    argument = "segmentation.py:model=cifar_resnet8,methods=edges,refine=none"
    more = "gallery=0", "labels=true"
    found = evaluate.run(settings(folder, argument, *more), tmp_path / "out").summary
    several, one = found["center/class_miou"], found["center/miou"]
    assert several["low"] <= several["mean"] <= several["high"]
    assert several["n"] == one["n"] == 4 and several["mean"] != one["mean"]
    assert "mIoU of classes" in (tmp_path / "out" / "summary.md").read_text()


@pytest.mark.exhaustive
def test_segmentation_by_the_crf(tmp_path):
    folder = write(tmp_path / "data")
    argument = "segmentation.py:model=cifar_resnet8,methods=edges,refine=crf"
    found = evaluate.run(settings(folder, argument, "gallery=0"), tmp_path / "out")
    summary = found.summary
    assert summary["center@crf/miou"]["mean"] > summary["center/miou"]["mean"] + 0.1


def test_a_config_lists_every_method_with_every_refinement():
    found = config.load("configs/segmentation.py:methods=cam+gradcam", [])
    refined = [
        f"{n}@{r}" for n in ("cam", "gradcam", "center") for r in ("walk", "crf")
    ]
    assert list(found.methods) == ["cam", "gradcam", *refined]
    assert found.method_options.crf.to_dict() == explainers.defaults("crf")
    plain = config.load("configs/localization.py:refine=none", [])
    assert list(plain.methods) == ["grad_cam", "layer_cam"]
    with pytest.raises(ValueError, match="is no refinement"):
        config.load("configs/localization.py:refine=walks", [])


def test_options_of_a_method_hold_for_it_refined_too():
    options = {"opti_cam": {"steps": 7}, "walk": {"steps": 9}}
    names = "opti_cam", "opti_cam@walk", "opti_cam@crf"
    found = setup._parameters(names, options)
    assert [found[name]["steps"] for name in names] == [7, 7, 7]
    assert found["opti_cam@walk"]["walk"]["steps"] == 9
    assert found["opti_cam@crf"]["crf"] == saliency.refinement_defaults("crf")


def test_names_of_refined_methods():
    assert explainers.check(["gradcam@walk"]) == ("grad_cam@walk",)
    assert words.method_title("layer_cam@crf") == "Layer-CAM, dense CRF"
    assert saliency.parted("layer_cam") == ("layer_cam", "")
    assert early.REFINEMENTS == tuple(saliency.REFINEMENTS)
    assert not saliency.is_signed("cam@walk")
    for check in (explainers.check, early.methods):
        with pytest.raises(ValueError, match="crf"):
            check(["grad_cam@walks"])
        with pytest.raises(ValueError, match="not an explainer"):
            check(["grad_cams@walk"])


def test_halves_of_images_have_their_own_places():
    curves = np.asarray([[1.0, 0, 0], [0, 0.5, 1], [0, 1, 0], [0, 1, 0.9]])
    found = metrics.at_chosen(curves)
    assert found.places(4).tolist() == [2, 0, 2, 0]
    assert metrics.at_chosen(curves, "evaluated").places(3).tolist() == [1, 1, 1]


@pytest.mark.exhaustive
def test_parts_of_a_part_network_are_refined(tmp_path):
    small_parts.write_pictures(tmp_path)
    network = small_parts.run(tmp_path).network
    settings = explainers.settings("parts@walk", None)
    explain = explainers.make("parts@walk", network, settings)
    plain = saliency.refine_by_walk(attribution.class_map(network))
    images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype(np.float32)
    found = explain(network.variables, images, np.asarray([0, 1]))
    expected = plain(network.variables, images, np.asarray([0, 1]))
    assert np.ptp(np.asarray(found)) > 0.1
    np.testing.assert_array_equal(found, expected)
