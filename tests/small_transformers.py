"""Small transformers under a name, and files of weights for them, made from names."""

import sys
from pathlib import Path

import numpy as np

from unlir_jax.models import backbone, vit

FOLDER = Path(__file__).parent / "golden" / "transformers"
sys.path.insert(0, str(FOLDER))

import named_weights  # noqa: E402

SMALL = {"width": 64, "depth": 2, "heads": 2, "inner": 128}
_BARE = {"num_classes": 0}
_DINOV2 = {**_BARE, "scale": 1e-5}
_CLIP = {"norm_before": True, "epsilon": 1e-5, "patch_bias": False}
_CLIP |= {"head_bias": False, "num_classes": 16}
_QUICK = {**_CLIP, "activation": "quick"}
_SIGLIP = {**_BARE, "class_token": False, "pooled": "attention"}
# transformers rounds the width of a gated perceptron up to a multiple of eight.
_GATED = {**_DINOV2, "gated": True}
VISION = {
    "timm_plain": {},
    "timm_registers_swiglu": {**_GATED, "registers": 4},
    "timm_registers": {"registers": 4},
    "timm_clip": _CLIP,
    "timm_clip_quickgelu": _QUICK,
    "timm_siglip": _SIGLIP,
    "timm_mean_qk_norm": {
        "class_token": False,
        "pooled": "mean",
        "normalized": True,
        "norm_after": True,
    },
    "timm_deit_distilled": {"distilled": True},
    "timm_deit3": {"scale": 1e-6},
    "torchvision_vit": {},
    "official_dino": _BARE,
    "official_dinov2": _DINOV2,
    "official_dinov2_registers": {**_DINOV2, "registers": 4},
    "official_clip": {**_QUICK, "inner": 256},
    "transformers_vit": {},
    "transformers_vit_trunk": _BARE,
    "transformers_deit": {"distilled": True},
    "transformers_dinov2": _DINOV2,
    "transformers_dinov2_swiglu": {**_GATED, "inner": 88},
    "transformers_dinov2_registers": {**_DINOV2, "registers": 4},
    "transformers_clip": _QUICK,
    "transformers_siglip": _SIGLIP,
}
"""Attributes of the vision transformers behind the reference outputs."""

CASES = sorted(
    path.stem
    for path in FOLDER.glob("*.npz")
    if path.stem.removesuffix("_state") in VISION
)


def attributes(case):
    """Give the attributes of a case, in files' names or in those of a state dict."""
    return {**SMALL, "num_classes": 10, **VISION[case.removesuffix("_state")]}


def register(name, case="timm_plain", image_size=32):
    """Register the network of a case; `backbone.NETWORKS` has to lose it again."""
    network = vit.network("tiny", 8, image_size, 1.0, **attributes(case))
    backbone.register(name, network)
    return network


def state(case):
    """Draw the arrays of a case."""
    with np.load(FOLDER / f"{case}.npz") as file:
        return named_weights.state(file["names"], file["shapes"])


def expected(case):
    """Give the logits of a case, and its attention."""
    with np.load(FOLDER / f"{case}.npz") as file:
        weights = [file[n] for n in sorted(file.files) if n.startswith("attention")]
        return file["logits"], weights


def images(side=32):
    """Draw the image that the logits are of."""
    return named_weights.images(side, side)
