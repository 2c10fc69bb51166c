"""Which norm follows which layer: written down for our networks, checked on shapes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from unlir_jax.core import choices
from unlir_jax.filters import parameters

Pairing = Mapping[str, str | None]

TRUNK = "backbone/"

_BLOCKS = {"mobilenet_v2": 17, "mobilenetv2_100": 17} | {
    f"{prefix}efficientnet_lite{index}": blocks
    for index, blocks in enumerate((16, 21, 21, 24, 30))
    for prefix in ("", "tf_", "timm_")
}
# Blocks of each stage, and convolutions of each block.
_RESNETS: dict[str, tuple[tuple[int, ...], int]] = {
    "resnet18": ((2, 2, 2, 2), 2),
    "resnet34": ((3, 4, 6, 3), 2),
    "resnet50": ((3, 4, 6, 3), 3),
    "resnet101": ((3, 4, 23, 3), 3),
    "resnet152": ((3, 8, 36, 3), 3),
}
_RESNETS |= {f"cifar_resnet{n}": _RESNETS[f"resnet{n}"] for n in (18, 34, 50)}
_RESNETS |= {
    f"cifar_resnet{n}": (((n - 2) // 6,) * 3, 2) for n in (8, 20, 32, 44, 56, 110)
}
_VGGS = {
    f"vgg{depth}{norm}": layers
    for depth, layers in {
        11: (1, 1, 2, 2, 2),
        13: (2, 2, 2, 2, 2),
        16: (2, 2, 3, 3, 3),
        19: (2, 2, 4, 4, 4),
    }.items()
    for norm in ("", "_bn")
}


def pairs(network: Any) -> dict[str, str | None]:
    """Say which norm follows each convolution and dense layer of a network of ours.

    Args:
        network: The name of a network, or what `pretrained.load` gives. Of a name, the
            table is that of the whole network as published; of a loaded network, it is
            checked against its parameters: a part network has its trunk under
            `backbone/`, and where norms are folded away none follows.

    Returns:
        Paths of the modules; None where no norm follows.

    Raises:
        ValueError: There is no table for that network, or it does not fit the
            parameters.
    """
    name = network if isinstance(network, str) else network.name
    known = (*_BLOCKS, *_RESNETS, *_VGGS)
    wrong = f"`network`={name!r} has no table of norms"
    choices.pick(name, known, wrong, "expected one of {}, or your own `pairing`")
    table = _table(name)
    if isinstance(network, str):
        return table
    params = parameters.named(network.variables)
    trunk = TRUNK if any(path.startswith(TRUNK) for path in params) else ""
    found: dict[str, str | None] = {}
    for layer, norm in table.items():
        if trunk and "/" not in layer:
            continue  # A part network decides by its parts, not by dense layers.
        layer, norm = trunk + layer, norm and trunk + norm
        folded = (
            norm and not parameters.is_norm(norm, params) and f"{layer}/bias" in params
        )
        found[layer] = None if folded else norm
        if f"{layer}/kernel" not in params:
            raise ValueError(
                f"`network`={name!r} lacks {layer}, which its table of norms has; "
                "expected a network as `pretrained.load` gives it."
            )
        check_layer(layer, found[layer], params)
    return found


def _table(name: str) -> dict[str, str | None]:
    """Write down the layers of a network, and the norms that follow them."""
    plain, layers = ["classifier"], ["stem"]
    if name in _BLOCKS:
        for block in range(1, _BLOCKS[name] + 1):
            # The first block does not expand.
            names = ("expand", "depthwise", "project")[block == 1 :]
            layers += [f"block{block}/{layer}" for layer in names]
        layers.append("top")
    elif name in _RESNETS:
        stages, convolutions = _RESNETS[name]
        for stage, blocks in enumerate(stages, start=1):
            for block in range(blocks):
                path = f"layer{stage}/block{block}"
                layers += [f"{path}/conv{i + 1}" for i in range(convolutions)]
                # A bottleneck is wider than the stem, so it projects there as well.
                if block == 0 and (stage > 1 or convolutions == 3):
                    layers.append(f"{path}/downsample")
    else:
        numbers = enumerate(_VGGS[name], start=1)
        layers = [f"conv{group}_{i + 1}" for group, n in numbers for i in range(n)]
        plain = ["hidden1", "hidden2", *plain]
    normalised = name not in _VGGS or name.endswith("_bn")
    table = {f"{path}/conv": f"{path}/norm" if normalised else None for path in layers}
    return table | dict.fromkeys(plain)


def norm_after(
    layer: str, params: Mapping[str, Any], pairing: Pairing | None
) -> str | None:
    """Look up the norm that follows a layer.

    Without `pairing` a module with `conv` and `norm` in it is one of ours
    (`models.layers.ConvNorm`), and of a network without other norms all is known.

    Raises:
        ValueError: The pairing is silent about the layer, or nobody knows.
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


def _in_brick(norm: str, params: Mapping[str, Any]) -> bool:
    folder, _, name = norm.rpartition("/")
    return name == "norm" and parameters.join(folder, "conv/kernel") in params


def check_layer(layer: str, norm: str | None, params: Mapping[str, Any]) -> None:
    """Refuse a norm or a bias that does not fit the kernel of a layer.

    Raises:
        ValueError: It does not, or gives away that the kernel is transposed.
    """
    shape = np.shape(params[parameters.join(layer, "kernel")])
    incoming, outgoing = shape[-2:]
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
        if length == (incoming,) != (outgoing,):
            raise ValueError(
                f"The kernel of {layer} of shape {shape} looks transposed, […, out, "
                f"in], beside the {incoming} numbers of {path}; expected […, in, out], "
                "so no `transpose_kernel=True`, or a `pairing` that fits."
            )
        if length != (outgoing,):
            raise ValueError(
                f"{path} of shape {length} does not fit the kernel of {layer} of shape "
                f"{shape}; expected {outgoing} numbers."
            )


def check_bias(module: str, params: Mapping[str, Any]) -> None:
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
