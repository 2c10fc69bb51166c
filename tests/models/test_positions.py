"""Positions on another grid are those that each library computes."""

import numpy as np
import pytest
import small_transformers as small
from helpers import refused

from unlir_jax.models import backbone, positions, pretrained
from unlir_jax.models.vit import network as vision_transformer

FILE = small.FOLDER / "positions.npz"
RULES = {
    "timm": "antialiased",
    "torchvision": "corners",
    "transformers_ViT": "bicubic",
    "transformers_Dinov2": "bicubic",
    "transformers_Dinov2WithRegisters": "antialiased",
    "official_0": "offset",
    "official_4": "antialiased",
}
DRAWN = small.named_weights.values("positions", (1, 1 + 37 * 37, 1))[:, 1:]


@pytest.mark.parametrize("side", [16, 40])
@pytest.mark.parametrize("source", RULES)
def test_resized_positions_agree(source, side):
    with np.load(FILE) as file:
        expected = file[f"{source}_{side}"]
    found = positions.resize(DRAWN, side * side, RULES[source])
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    # Each rule is another: none of them would do for all.
    others = {
        rule: positions.resize(DRAWN, side * side, rule) for rule in RULES.values()
    }
    near = {rule for rule, o in others.items() if np.abs(o - expected).max() < 1e-3}
    assert near == {RULES[source]}


def test_positions_of_the_same_grid_are_untouched():
    assert positions.resize(DRAWN, 37 * 37, "offset") is DRAWN


@pytest.fixture
def register():
    def registered(case, image_size):
        backbone.NETWORKS.pop("small", None)
        return small.register("small", case, image_size)

    yield registered
    backbone.NETWORKS.pop("small", None)


def write(folder, arrays):
    np.savez(folder / "weights.npz", **arrays)
    return folder / "weights.npz"


@pytest.mark.parametrize(
    ("case", "rule", "mask"),
    [
        ("official_dinov2", "offset", True),
        # Without a mask token, the names are timm's.
        ("official_dinov2", "antialiased", False),
        ("official_dinov2_registers", "antialiased", True),
        ("transformers_dinov2", "bicubic", True),
        ("transformers_dinov2_state", "bicubic", True),
        ("transformers_dinov2_registers", "antialiased", True),
        ("timm_plain", "antialiased", False),
        ("torchvision_vit", "corners", False),
        ("transformers_clip", "bicubic", False),
        ("official_clip", "bicubic", False),
    ],
)
def test_a_file_says_whose_rule_it_is(case, rule, mask, register, tmp_path):
    register(case, 32)
    arrays = small.state(case)
    if not mask:
        arrays.pop("mask_token", None)
    path = write(tmp_path, arrays)
    small_grid = pretrained.load("small", path)
    assert small_grid.positions == ""
    assert "positions" not in pretrained.provenance(small_grid)
    network = pretrained.load("small", path, image_size=56)
    assert network.image_size == 56
    assert network.positions == pretrained.provenance(network)["positions"] == rule
    own, found = (
        np.asarray(each.variables["params"]["tokens"]["position"])
        for each in (small_grid, network)
    )
    expected = positions.resize(own, 49, rule)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    again = pretrained.load("small", path, image_size=56, positions="corners")
    assert again.positions == "corners"
    expected = positions.resize(own, 49, "corners")
    found = again.variables["params"]["tokens"]["position"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_files_of_the_official_dino_are_told_by_name_or_head(register, tmp_path):
    register("official_dino", 32)
    arrays = small.state("official_dino")
    released = tmp_path / "dino_deitsmall16_pretrain.npz"
    np.savez(released, **arrays)
    assert pretrained.load("small", released, image_size=56).positions == "offset"
    path = write(tmp_path, arrays)
    assert pretrained.load("small", path, image_size=56).positions == "antialiased"
    arrays = {f"teacher.backbone.{name}": each for name, each in arrays.items()}
    arrays["teacher.head.last_layer.weight_g"] = np.ones((9, 1), np.float32)
    path = write(tmp_path, arrays)
    assert pretrained.load("small", path, image_size=56).positions == "offset"


def test_bad_positions_are_one_sentence(register, tmp_path):
    register("timm_deit3", 32)
    arrays = small.state("timm_deit3")
    path = write(tmp_path, arrays)
    load = pretrained.load
    refused(
        "no rule; expected one of antialiased, bicubic",
        load,
        "small",
        path,
        positions="linear",
    )
    refused("no rule", load, "small", "random", positions="linear")
    refused("no learned positions", load, "resnet18", "random", positions="offset")
    refused("30 x 30 pixels.*8 x 8", load, "small", path, image_size=30)
    refused("30 x 30 pixels.*8 x 8", load, "small", "random", image_size=30)
    refused("`image_size`=0", load, "small", path, image_size=0)
    arrays["pos_embed"] = np.ones((1, 12, 64), np.float32)
    path = write(tmp_path, arrays)
    refused("'pos_embed' has 12 positions", load, "small", path)
    arrays.pop("cls_token")
    backbone.NETWORKS.pop("small")
    network = vision_transformer(
        *("tiny", 8, 32),
        **small.attributes("timm_plain"),
        class_token=False,
        pooled="mean",
    )
    backbone.register("small", network)
    arrays = small.state("timm_plain")
    del arrays["cls_token"]
    arrays["pos_embed"] = np.ones((1, 12, 64), np.float32)
    path = write(tmp_path, arrays)
    refused("12 places, and the network has 16.*square", load, "small", path)


def test_a_header_with_another_size_is_that_of_the_grid(register, tmp_path):
    register("timm_plain", 56)
    path = write(tmp_path, small.state("timm_plain"))
    (tmp_path / "config.json").write_text(
        '{"architecture": "small", "pretrained_cfg": {"input_size": [3, 32, 32]}}'
    )
    network = pretrained.load("small", path)
    assert network.image_size == 32 and network.positions == ""
    assert pretrained.load("small", path, image_size=40).image_size == 40
