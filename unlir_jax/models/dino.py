"""DINO: Caron et al., ICCV 2021; DINOv2: Oquab et al., TMLR 2024.

Registers: Darcet et al., Vision Transformers Need Registers, ICLR 2024. The weights
have no classifier, so the logits are the class token behind the last norm.
"""

from unlir_jax.models import backbone
from unlir_jax.models.vit import network

for _size, _patch in (("small", 16), ("small", 8), ("base", 16), ("base", 8)):
    backbone.register(
        f"vit_{_size}_patch{_patch}_224_dino",
        network(_size, _patch, num_classes=0),
    )
for _size in ("small", "base", "large", "giant"):
    for _name, _registers in (("", 0), ("reg4_", 4)):
        backbone.register(
            f"vit_{_size}_patch14_{_name}dinov2",
            network(
                *(_size, 14, 518, 1.0),
                **{"num_classes": 0, "scale": 1e-5, "registers": _registers},
                gated=_size == "giant",
            ),
        )
