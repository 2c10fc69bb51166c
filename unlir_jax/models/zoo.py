"""The networks that can be asked for by name."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from unlir_jax.core import choices
from unlir_jax.models import (
    efficientnet_lite,
    inverted_residual,
    layers,
    mobilenet_v2,
    resnet,
    vgg,
)
from unlir_jax.storage import paths
from unlir_jax.weights import layouts

CIFAR_MEAN, CIFAR_DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Network(NamedTuple):
    """Describe one network: how to build it, feed it, cut it and read its weights.

    Attributes:
        build: `(**attributes) -> module`, with `num_classes` and `style` among them.
        layer: Where it is cut by default, the last maps before pooling.
        image_size: Side in pixels of the square pictures it was trained for.
        crop: Share of the shortest side that the central crop keeps.
        classes: Number of classes of the usual weights.
        layouts: Names of its tensors in other libraries' files.
        aliases: Patterns of other libraries' layer names, and ours for them.
    """

    build: Callable[..., Any]
    layer: str
    image_size: int
    crop: float
    classes: int
    layouts: Mapping[str, layouts.Prefixes]
    aliases: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = ()


def _mobile(
    build: Callable[..., inverted_residual.InvertedResidualNet],
    size: int,
    crop: float,
    torchvision: bool = False,
) -> Network:
    repeats = [stage.repeats for stage in build().stages]

    def block(match: re.Match[str]) -> str:
        stage, place = (int(group) for group in match.groups())
        return f"block{sum(repeats[:stage]) + place + 1}"

    aliases: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
        (r"blocks\.(\d+)\.(\d+)", block),
        (r"conv_head|_conv_head", "top"),
        (r"conv_stem|_conv_stem", "stem"),
        (r"_blocks\.(\d+)", lambda match: f"block{int(match[1]) + 1}"),
    ]
    if torchvision:
        aliases += [
            (r"features\.0", "stem"),
            (rf"features\.{sum(repeats) + 1}", "top"),
            (r"features\.(\d+)", r"block\1"),
        ]
    tables = layouts.inverted_residual(repeats, torchvision)
    return Network(build, "top", size, crop, 1000, tables, tuple(aliases))


def _efficientnet_lite(index: int, tensorflow: bool) -> Network:
    # TensorFlow released Lite3 and 4 for 280 and 300 pixels; timm uses larger ones.
    sizes = (224, 240, 260, 280, 300) if tensorflow else (224, 240, 260, 300, 380)
    size, crop = sizes[index], (0.875, 0.882, 0.890, 0.904, 0.92)[index]

    def build(**attributes: Any) -> inverted_residual.InvertedResidualNet:
        if tensorflow:
            return efficientnet_lite.efficientnet_lite(index, **attributes)
        defaults = {
            "mean": IMAGENET_MEAN,
            "deviation": IMAGENET_DEVIATION,
            "style": layers.Style(),
        }
        return efficientnet_lite.efficientnet_lite(index, **(defaults | attributes))

    return _mobile(build, size, crop)


def _resnet(repeats: tuple[int, ...], block: resnet.Block) -> Network:
    def build(**attributes: Any) -> resnet.ResNet:
        return resnet.ResNet(block, repeats, **attributes)

    convolutions = 2 if block is resnet.Basic else 3
    tables = layouts.resnet(repeats, convolutions)
    return Network(build, "layer4", 224, 0.875, 1000, tables, _RESNET_ALIASES)


def _cifar_resnet(repeats: tuple[int, ...], block: resnet.Block, width: int) -> Network:
    def build(**attributes: Any) -> resnet.ResNet:
        defaults = {
            "mean": CIFAR_MEAN,
            "deviation": CIFAR_DEVIATION,
            "num_classes": 10,
        }
        return resnet.ResNet(block, repeats, width, "cifar", **(defaults | attributes))

    convolutions = 2 if block is resnet.Basic else 3
    tables = layouts.resnet(repeats, convolutions)
    last = f"layer{len(repeats)}"
    return Network(build, last, 32, 1.0, 10, tables, _RESNET_ALIASES)


_RESNET_ALIASES = (
    (r"(layer\d)\.(\d+)", r"\1/block\2"),
    (r"conv(\d)_x", lambda match: f"layer{int(match[1]) - 1}"),
)


def _vgg(depth: int, normalized: bool) -> Network:
    repeats = vgg.REPEATS[depth]

    def build(**attributes: Any) -> vgg.VGG:
        return vgg.VGG(repeats, normalized, **attributes)

    tables = layouts.vgg(repeats, normalized)
    indices = {
        int(theirs.removeprefix("features.")): ours
        for ours, theirs in tables["torchvision"].items()
        if ours.endswith("/conv")
    }

    def activation(match: re.Match[str]) -> str:
        # A ReLU's index in torchvision's list is one or two after its convolution's.
        ours = indices.get(int(match[1]) - (2 if normalized else 1), match[0])
        return ours.removesuffix("/conv")

    aliases = ((r"features\.(\d+)", activation),)
    layer = f"conv5_{repeats[-1]}"
    return Network(build, layer, 224, 0.875, 1000, tables, aliases)


def networks() -> dict[str, Network]:
    """List every network by name."""
    basic, bottleneck = resnet.Basic, resnet.Bottleneck
    found = {"mobilenet_v2": _mobile(mobilenet_v2.mobilenet_v2, 224, 0.875, True)}
    for index in range(5):
        found[f"efficientnet_lite{index}"] = _efficientnet_lite(index, True)
    for index in range(5):
        found[f"timm_efficientnet_lite{index}"] = _efficientnet_lite(index, False)
    residual = (
        (18, (2, 2, 2, 2), basic),
        (34, (3, 4, 6, 3), basic),
        (50, (3, 4, 6, 3), bottleneck),
        (101, (3, 4, 23, 3), bottleneck),
        (152, (3, 8, 36, 3), bottleneck),
    )
    for depth, repeats, block in residual:
        found[f"resnet{depth}"] = _resnet(repeats, block)
    for depth, repeats, block in residual[:3]:
        found[f"cifar_resnet{depth}"] = _cifar_resnet(repeats, block, 64)
    # ResNet-8 is the family's smallest, for tests and first steps.
    for depth in (8, 20, 32, 44, 56, 110):
        thirds = ((depth - 2) // 6,) * 3
        found[f"cifar_resnet{depth}"] = _cifar_resnet(thirds, basic, 16)
    for depth in vgg.REPEATS:
        found[f"vgg{depth}"] = _vgg(depth, False)
        found[f"vgg{depth}_bn"] = _vgg(depth, True)
    return found


SYNONYMS = {"mobilenetv2_100": "mobilenet_v2"} | {
    f"tf_efficientnet_lite{index}": f"efficientnet_lite{index}" for index in range(5)
}


def find(name: str) -> tuple[str, Network]:
    """Look a network up, by our name or by timm's.

    Returns:
        Our name, and the network.

    Raises:
        ValueError: There is none of that name; the message lists all, nearest first.
    """
    known = networks()
    chosen = SYNONYMS.get(name, name)
    choices.pick(chosen, known, f"`name`={paths.shown(name)} is not a network")
    return chosen, known[chosen]


def layer_path(network: Network, layer: str) -> str:
    """Translate another library's name of a layer, such as `features.13`, into ours."""
    for pattern, replacement in network.aliases:
        match = re.fullmatch(pattern, layer)
        if match:
            return (
                replacement(match)
                if callable(replacement)
                else match.expand(replacement)
            )
    return layer.replace(".", "/")
