"""Pairs of layers and norms: stated by our networks, checked on shapes."""

from collections.abc import Mapping

import numpy as np

from unlir_jax.filters import parameters
from unlir_jax.models import channels, zoo
from unlir_jax.models.channels import TRUNK
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.types import PyTree, Variables

Pairing = Mapping[str, str | None]


def pairs(network: str | Pretrained) -> dict[str, str | None]:
    """Say which norm follows each convolution and dense layer of a network of ours.

    Args:
        network: The name of a network, or what `pretrained.load` gives. Of a name, the
            table is that of the whole network as published; that of a loaded network
            is checked against its parameters: a part network has its backbone under
            `backbone/`, and where norms are folded away none follows.

    Returns:
        Paths of the modules; None where no norm follows.

    Raises:
        ValueError: There is no such network, or its parameters are others'.
    """
    if isinstance(network, str):
        known = zoo.find(network, "network")[1]
        return channels.norms(known.build(num_classes=known.classes))
    table = channels.norms(network.module)
    params = parameters.named(network.variables)
    for layer, norm in table.items():
        if f"{layer}/kernel" not in params:
            raise ValueError(
                f"`network`={network.name!r} lacks {layer}, which its module has; "
                "expected a network as `pretrained.load` gives it."
            )
        check_layer(layer, norm, params)
    return table


def heads(network: str | Pretrained) -> dict[str, int]:
    """Count the heads of each layer of a network of ours that makes values of heads.

    Args:
        network: As `pairs` takes it.

    Returns:
        By path; {} of a network without attention. For mode `heads` of `init`.

    Raises:
        ValueError: There is no such network.
    """
    if isinstance(network, str):
        found = channels.graph(zoo.find(network, "network")[1].build())
    else:
        found = channels.graph(network.module)
    return {group.layer: group.channels for group in found.inner if group.beside}


def pre_norm(variables: Variables, select: str = ".*") -> dict[str, None]:
    """Say of all layers that no norm follows them, as in transformers.

    There a norm precedes the layers of a block, and weights of outputs multiply kernel
    and bias. For networks that are not ours, whose layers `init` cannot know.

    Args:
        variables: Variables of the network.
        select: As `init` takes it.

    Raises:
        ValueError: Nothing is selected.
    """
    params = parameters.named(variables)
    return dict.fromkeys(parameters.select_layers(params, select))


def norm_after(
    layer: str, params: Mapping[str, PyTree], pairing: Pairing | None
) -> str | None:
    """Look up the norm that follows a layer.

    Without `pairing` a module with `conv` and `norm` in it is one of ours
    (`models.layers.ConvNorm`), and of a network without other norms all is known.

    Raises:
        ValueError: The pairing lacks the layer, or there is none and norms are foreign.
    """
    if pairing is not None:
        inner = layer.removeprefix(TRUNK)
        if layer in pairing:
            return pairing[layer]
        if layer != inner and inner in pairing:
            norm = pairing[inner]
            return norm and TRUNK + norm
        known = parameters.some(list(pairing)) or "no layer"
        raise ValueError(
            f"`pairing` says nothing of {layer}; expected the norm that follows it, or "
            f"None; it speaks of {known}."
        )
    folder, _, name = layer.rpartition("/")
    brick = parameters.join(folder, "norm")
    if name == "conv" and parameters.is_norm(brick, params):
        return brick
    norms = [path.rpartition("/")[0] for path in params if path.endswith("scale")]
    others = [
        norm
        for norm in norms
        if parameters.is_norm(norm, params) and not _in_brick(norm, params)
    ]
    if others:
        raise ValueError(
            f"`pairing`=None, but {parameters.some(others)} may follow {layer}, and "
            "weights before a norm learn nothing; expected a mapping from each layer "
            "to the norm that follows it, or to None."
        )
    return None


def _in_brick(norm: str, params: Mapping[str, PyTree]) -> bool:
    folder, _, name = norm.rpartition("/")
    return name == "norm" and parameters.join(folder, "conv/kernel") in params


def check_layer(layer: str, norm: str | None, params: Mapping[str, PyTree]) -> None:
    """Refuse a norm or a bias that does not fit the kernel of a layer.

    Raises:
        ValueError: It does not, or gives away that the kernel is transposed.
    """
    shape = np.shape(params[parameters.join(layer, "kernel")])
    incoming, outgoing = parameters.sides(layer, params)
    if norm is not None and not parameters.is_norm(norm, params):
        raise ValueError(
            f"`pairing` has {norm!r} follow {layer}, but no norm with a scale has that "
            "name; expected one, or None where norms are folded away."
        )
    bias = parameters.join(layer, "bias")
    vectors = [bias] if bias in params else []
    vectors += [parameters.join(norm, "scale")] if norm is not None else []
    for path in vectors:
        length = np.shape(params[path])
        if length == incoming != outgoing:
            raise ValueError(
                f"The kernel of {layer} of shape {shape} looks transposed, […, out, "
                f"in], beside the {length[0]} numbers of {path}; expected […, in, out],"
                " so no `transpose_kernel=True`, or a `pairing` that fits."
            )
        if length != outgoing:
            raise ValueError(
                f"{path} of shape {length} does not fit the kernel of {layer} of shape "
                f"{shape}; expected {' x '.join(map(str, outgoing))} numbers."
            )


def check_bias(module: str, params: Mapping[str, PyTree]) -> None:
    """Refuse to shift what has no bias.

    Raises:
        ValueError: It has none.
    """
    if parameters.join(module, "bias") not in params:
        raise ValueError(
            f"{module} has no bias that `mode`='shift' could move; expected a `select` "
            "of layers that have one, themselves or in the norm that follows, or "
            "mode 'output'."
        )
