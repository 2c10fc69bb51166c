"""EfficientNet-Lite0 to 4: EfficientNet without squeeze-and-excitation, with ReLU6.

Tan & Le, EfficientNet: Rethinking Model Scaling for CNNs, ICML 2019; the Lite variants
are defined by their TensorFlow release of 2020.
"""

import math
from typing import Any, NamedTuple

from unlir_jax.models.inverted_residual import InvertedResidualNet, Stage
from unlir_jax.models.layers import Style

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
    """Multiply width and depth of the base network; stem and top stay as they are."""

    width: float
    depth: float
    dropout: float


SCALES = (
    Scale(1.0, 1.0, 0.2),
    Scale(1.0, 1.1, 0.2),
    Scale(1.1, 1.2, 0.3),
    Scale(1.2, 1.4, 0.3),
    Scale(1.4, 1.8, 0.3),
)

TENSORFLOW = Style(epsilon=1e-3, momentum=0.99, padding="same")


def efficientnet_lite(index: int, **attributes: Any) -> InvertedResidualNet:
    """Build EfficientNet-Lite `index`, 0 to 4, in its TensorFlow form by default.

    Other attributes are those of `InvertedResidualNet`.
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
