"""Image towers of CLIP, Radford et al., ICML 2021, and SigLIP, Zhai et al., ICCV 2023.

Their logits are the embedding, which embeddings of texts turn into classes, see
`zero_shot`.
"""

from unlir_jax.models import backbone
from unlir_jax.models.vit import HALF, network

MEAN, DEVIATION = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
_COLOURS = {"mean": MEAN, "deviation": DEVIATION}

for _size, _patch, _pixels, _embedded in (
    ("base", 32, 224, 512),
    ("base", 16, 224, 512),
    ("large", 14, 224, 768),
    ("large", 14, 336, 768),
):
    for _name, _activation in (("clip", "erf"), ("clip_quickgelu", "quick")):
        backbone.register(
            f"vit_{_size}_patch{_patch}_{_name}_{_pixels}",
            network(
                *(_size, _patch, _pixels),
                **_COLOURS,
                **{"num_classes": _embedded, "activation": _activation},
                **{"norm_before": True, "epsilon": 1e-5},
                **{"patch_bias": False, "head_bias": False},
            ),
        )
for _size, _patch, _pixels in (
    ("base", 16, 224),
    ("base", 16, 256),
    ("base", 16, 384),
    ("large", 16, 256),
    ("large", 16, 384),
    ("so400m", 14, 224),
    ("so400m", 14, 384),
):
    backbone.register(
        f"vit_{_size}_patch{_patch}_siglip_{_pixels}",
        network(
            *(_size, _patch, _pixels),
            **{"mean": HALF, "deviation": HALF, "num_classes": 0},
            **{"class_token": False, "pooled": "attention"},
            crops=_pixels % _patch > 0,
        ),
    )
