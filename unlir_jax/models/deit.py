"""DeiT: Touvron et al., ICML 2021; DeiT-III: Touvron et al., ECCV 2022."""

from unlir_jax.models import backbone
from unlir_jax.models.vit import network

for _size in ("tiny", "small", "base"):
    for _name, _distilled in (("", False), ("distilled_", True)):
        backbone.register(
            f"deit_{_size}_{_name}patch16_224",
            network(_size, 16, distilled=_distilled),
        )
backbone.register("deit_base_patch16_384", network("base", 16, 384, 1.0))
backbone.register(
    "deit_base_distilled_patch16_384", network("base", 16, 384, 1.0, distilled=True)
)
for _size, _patch in (
    ("small", 16),
    ("medium", 16),
    ("base", 16),
    ("large", 16),
    ("huge", 14),
):
    for _pixels in (224, 384):
        if _pixels == 224 or _size in ("small", "base", "large"):
            backbone.register(
                f"deit3_{_size}_patch{_patch}_{_pixels}",
                network(_size, _patch, _pixels, 1.0, scale=1e-6),
            )
