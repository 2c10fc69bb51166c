"""MobileNetV2: Sandler et al., Inverted Residuals and Linear Bottlenecks, CVPR 2018."""

from typing import Any

from unlir_jax.models.inverted_residual import InvertedResidualNet, Stage

STAGES = (
    Stage(expansion=1, filters=16, repeats=1, stride=1),
    Stage(expansion=6, filters=24, repeats=2, stride=2),
    Stage(expansion=6, filters=32, repeats=3, stride=2),
    Stage(expansion=6, filters=64, repeats=4, stride=2),
    Stage(expansion=6, filters=96, repeats=3, stride=1),
    Stage(expansion=6, filters=160, repeats=3, stride=2),
    Stage(expansion=6, filters=320, repeats=1, stride=1),
)


def mobilenet_v2(**attributes: Any) -> InvertedResidualNet:
    """Build MobileNetV2 at width 1; attributes are those of `InvertedResidualNet`."""
    return InvertedResidualNet(STAGES, **attributes)
