"""What there is to choose from: networks, their layers, explainers and metrics."""

import inspect
from typing import Any

import jax

from unlir_jax import metrics, saliency, split, tree
from unlir_jax.explanation import explainers
from unlir_jax.models import filling, zoo
from unlir_jax.parts import attribution
from unlir_jax.weights import packages


def models() -> list[dict[str, Any]]:
    """List the networks: size, default layer, parameters, where weights are."""
    return [
        {
            "name": name,
            "image_size": network.image_size,
            "layer": network.layer,
            "classes": network.classes,
            "parameters": network.parameters,
            "weights_at_hand": packages.find(network.package) is not None,
            "package": network.package and network.package.requirement,
        }
        for name, network in zoo.networks().items()
    ]


def layers(name: str) -> list[dict[str, Any]]:
    """List where a network can be cut: path and shape of the maps of one picture.

    Raises:
        ValueError: There is no such network.
    """
    _, network = zoo.find(name)
    module = network.build()
    example = filling.example(network)
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
