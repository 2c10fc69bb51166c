"""ViT: Dosovitskiy et al., An Image Is Worth 16x16 Words, ICLR 2021, and its kin."""

import functools
import re
from collections.abc import Iterable
from typing import Any

from unlir_jax.models import backbone, vit_names
from unlir_jax.models.vision_transformer import NORM, VisionTransformer
from unlir_jax.weights import token_names

SIZES = {
    "tiny": {"width": 192, "depth": 12, "heads": 3, "inner": 768},
    "small": {"width": 384, "depth": 12, "heads": 6, "inner": 1536},
    "medium": {"width": 512, "depth": 12, "heads": 8, "inner": 2048},
    "base": {"width": 768, "depth": 12, "heads": 12, "inner": 3072},
    "large": {"width": 1024, "depth": 24, "heads": 16, "inner": 4096},
    "huge": {"width": 1280, "depth": 32, "heads": 16, "inner": 5120},
    "giant": {"width": 1536, "depth": 40, "heads": 24, "inner": 4096},
    "so400m": {"width": 1152, "depth": 27, "heads": 16, "inner": 4304},
}
"""Widths of the usual sizes."""

HALF = (0.5, 0.5, 0.5)
RULES = {"transformers": "bicubic", "openai": "bicubic", "torchvision": "corners"}
"""Rules by which libraries resize positions, see `positions.RULES`; others do as timm.
"""
_RELEASED = re.compile(r"dino_(deitsmall|vitsmall|vitbase)\d+_pretrain")
_OFFICIAL = re.compile(r"mask_token$|(^|[._])head\.last_layer\.")
"""Files that DINO released, and names in its and DINOv2's files that timm's lack."""


def network(
    size: str, patch: int, image_size: int = 224, crop: float = 0.9, **attributes: Any
) -> backbone.Network:
    """Describe a vision transformer.

    Args:
        size: One of `SIZES`.
        patch: Side of a patch in pixels.
        image_size: Side of the images in pixels.
        crop: Share of the shorter side that is kept.
        **attributes: In which it differs, see `VisionTransformer`.
    """
    classes = attributes.pop("num_classes", 1000)
    build = functools.partial(
        VisionTransformer, patch_size=patch, **{**SIZES[size], **attributes}
    )
    module = build(num_classes=classes)
    # Behind the last attention nothing that the logits read is left of the grid.
    reads = module.pooled == "token"
    layer = f"block{module.depth - 1}/norm1" if reads else NORM
    tables = vit_names.tables(module)
    return backbone.Network(
        build,
        layer,
        vit_names.parameters(module, image_size),
        tables,
        vit_names.aliases(module),
        image_size=image_size,
        crop=crop,
        classes=classes,
        interpolation="bicubic",
        trunk=NORM,
        spelt=token_names.spelt,
        positions=functools.partial(_rule, module.registers > 0),
        attributes=_attributes(module, tables),
    )


def _rule(registers: bool, layout: str, names: Iterable[str], file: str) -> str:
    """Say how whoever wrote a file resizes positions.

    Files of the official DINO and DINOv2 have timm's names. DINOv2's have a mask token
    besides, and checkpoints of DINO's training its head. What DINO released has nothing
    but the name of the file. All DINOv2 with registers are resized as timm does.
    """
    official = _RELEASED.match(file) is not None
    official |= any(_OFFICIAL.search(name) is not None for name in names)
    if registers:
        return "antialiased"
    if layout == "official" or (layout == "timm" and official):
        return "offset"
    return RULES.get(layout.partition(",")[0].partition(" ")[0], "antialiased")


def _attributes(
    module: VisionTransformer, layouts: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Say in what networks of one name differ between libraries."""
    theirs: dict[str, Any] = {}
    if module.pooled == "attention":
        theirs = {"activation": "tanh"}
    elif module.scale is None and not module.norm_before and module.pooled == "token":
        theirs = {"epsilon": 1e-12}
    names = [name for name in layouts if name.startswith("transformers")]
    found = dict.fromkeys(names, theirs) if theirs else {}
    if not module.head_bias:
        found["timm"] = {"head_bias": True}
    return found


for _size, _patches in (
    ("tiny", (16,)),
    ("small", (32, 16, 8)),
    ("base", (32, 16, 8)),
    ("large", (32, 16, 14)),
    ("huge", (14,)),
):
    for _patch in _patches:
        for _pixels in (224, 384):
            if _pixels == 384 and _patch in (8, 14):
                continue
            backbone.register(
                f"vit_{_size}_patch{_patch}_{_pixels}",
                network(
                    *(_size, _patch, _pixels, 0.9 if _pixels == 224 else 1.0),
                    **{"mean": HALF, "deviation": HALF},
                ),
            )
