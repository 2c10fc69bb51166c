"""What there is to choose from: networks, their layers, explainers and metrics."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp

from unlir_jax import metrics, saliency, split, tree
from unlir_jax.explanation import explainers
from unlir_jax.models import zoo
from unlir_jax.parts import attribution
from unlir_jax.weights import packages

# Counting takes a trace of each network, seconds in all, for a table that should come
# at once. A test counts again.
PARAMETERS = {
    "mobilenet_v2": 3_504_872,
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "efficientnet_lite3": 8_197_096,
    "efficientnet_lite4": 13_006_568,
    "timm_efficientnet_lite0": 4_652_008,
    "timm_efficientnet_lite1": 5_416_680,
    "timm_efficientnet_lite2": 6_092_072,
    "timm_efficientnet_lite3": 8_197_096,
    "timm_efficientnet_lite4": 13_006_568,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "cifar_resnet18": 11_173_962,
    "cifar_resnet34": 21_282_122,
    "cifar_resnet50": 23_520_842,
    "cifar_resnet8": 78_042,
    "cifar_resnet20": 272_474,
    "cifar_resnet32": 466_906,
    "cifar_resnet44": 661_338,
    "cifar_resnet56": 855_770,
    "cifar_resnet110": 1_730_714,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
}


def models() -> list[dict[str, Any]]:
    """List the networks: size, default layer, parameters, where weights are."""
    return [
        {
            "name": name,
            "image_size": network.image_size,
            "layer": network.layer,
            "classes": network.classes,
            "parameters": PARAMETERS.get(name) or count_parameters(network),
            "weights_at_hand": packages.find(name) is not None,
            "package": _package(name),
        }
        for name, network in zoo.networks().items()
    ]


def _package(name: str) -> str | None:
    packaged = packages.FILES.get(name)
    return packaged and f"{packaged.distribution}=={packaged.version}"


def count_parameters(network: zoo.Network) -> int:
    """Count what a network with its usual number of classes learns."""
    module = network.build(num_classes=network.classes)
    shapes = jax.eval_shape(module.init, jax.random.key(0), _example(network))
    return tree.count(shapes["params"])


def layers(name: str) -> list[dict[str, Any]]:
    """List where a network can be cut: path and shape of the maps of one picture.

    Raises:
        ValueError: There is no such network.
    """
    _, network = zoo.find(name)
    module = network.build()
    example = _example(network)
    variables = jax.eval_shape(module.init, jax.random.key(0), example)
    _, state = jax.eval_shape(
        lambda v, images: module.apply(
            v, images, capture_intermediates=True, mutable=["intermediates"]
        ),
        variables,
        example,
    )
    shapes = tree.flatten(state["intermediates"])
    found = []
    for path in split.module_paths(module, example):
        # The name of the method, and the number of its call, follow the path.
        shape = getattr(shapes.get(f"{path}/__call__/0"), "shape", ())
        if len(shape) == 4:
            found.append({"layer": path, "shape": list(shape[1:])})
    return found


def methods() -> dict[str, dict[str, str]]:
    """Describe explainers and metrics by the first line of their documentation."""
    explained = {explainers.PARTS: attribution.class_map} | saliency.METHODS
    return {
        "explainers": {name: _first_line(f) for name, f in explained.items()},
        "metrics": {name: _first_line(f) for name, f in metrics.FACTORIES.items()},
    }


def _first_line(function: Any) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0].replace("`", "")


def _example(network: zoo.Network) -> jax.ShapeDtypeStruct:
    size = network.image_size
    return jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
