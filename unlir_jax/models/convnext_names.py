"""Names of the layers of ConvNeXt in other libraries' files."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from unlir_jax.weights.layouts import Prefixes


class Naming(NamedTuple):
    """Say what a library calls the layers.

    Attributes:
        outer: Layers around the stages.
        reduction: Layers that halve the sides, of a stage.
        block: Layers of a block.
        before: Prefix of the reduction of a stage.
        place: Prefix of a block of a stage.
    """

    outer: dict[str, str]
    reduction: dict[str, str]
    block: dict[str, str]
    before: Callable[[int], str]
    place: Callable[[int, int], str]


_TIMM = Naming(
    {
        "patches": "stem.0",
        "norm0": "stem.1",
        "norm": "head.norm",
        "classifier": "head.fc",
    },
    {"norm": "0", "reduce": "1"},
    {
        "depthwise": "conv_dw",
        "norm": "norm",
        "expand": "mlp.fc1",
        "grn/gain": "mlp.grn.weight",
        "grn/bias": "mlp.grn.bias",
        "contract": "mlp.fc2",
        "scale/factor": "gamma",
    },
    lambda stage: f"stages.{stage}.downsample",
    lambda stage, block: f"stages.{stage}.blocks.{block}",
)
_OFFICIAL = Naming(
    {
        "patches": "downsample_layers.0.0",
        "norm0": "downsample_layers.0.1",
        "norm": "norm",
        "classifier": "head",
    },
    {"norm": "0", "reduce": "1"},
    {
        "depthwise": "dwconv",
        "norm": "norm",
        "expand": "pwconv1",
        "grn/gain": "grn.gamma",
        "grn/bias": "grn.beta",
        "contract": "pwconv2",
        "scale/factor": "gamma",
    },
    lambda stage: f"downsample_layers.{stage}",
    lambda stage, block: f"stages.{stage}.{block}",
)
_TORCHVISION = Naming(
    {
        "patches": "features.0.0",
        "norm0": "features.0.1",
        "norm": "classifier.0",
        "classifier": "classifier.2",
    },
    {"norm": "0", "reduce": "1"},
    {
        "depthwise": "block.0",
        "norm": "block.2",
        "expand": "block.3",
        "contract": "block.5",
        "scale/factor": "layer_scale",
    },
    lambda stage: f"features.{2 * stage}",
    lambda stage, block: f"features.{2 * stage + 1}.{block}",
)
_BLOCK = {
    "depthwise": "dwconv",
    "norm": "layernorm",
    "expand": "pwconv1",
    "grn/gain": "grn.weight",
    "grn/bias": "grn.bias",
    "contract": "pwconv2",
    "scale/factor": "layer_scale_parameter",
}


def _transformers(prefix: str) -> Naming:
    return Naming(
        {
            "patches": f"{prefix}embeddings.patch_embeddings",
            "norm0": f"{prefix}embeddings.layernorm",
            "norm": f"{prefix}layernorm",
            "classifier": "classifier",
        },
        {"norm": "0", "reduce": "1"},
        _BLOCK,
        lambda stage: f"{prefix}encoder.stages.{stage}.downsampling_layer",
        lambda stage, block: f"{prefix}encoder.stages.{stage}.layers.{block}",
    )


def tables(depths: tuple[int, ...], second: bool) -> dict[str, Prefixes]:
    """Name the layers as timm, the official code, torchvision and transformers do.

    Args:
        depths: Number of blocks of each stage.
        second: Whether it is V2, which torchvision does not have.

    Returns:
        By the name of a layout, names of its layers.
    """
    namings = {"timm": _TIMM, "official": _OFFICIAL}
    if not second:
        namings["torchvision"] = _TORCHVISION
    prefix = "convnextv2." if second else "convnext."
    namings["transformers"] = _transformers(prefix)
    namings["transformers, trunk"] = _transformers("")
    return {name: _table(depths, naming) for name, naming in namings.items()}


def _blocks(depths: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    for stage, depth in enumerate(depths):
        yield from ((stage, block) for block in range(depth))


def _table(depths: tuple[int, ...], naming: Naming) -> Prefixes:
    table = dict(naming.outer)
    for stage in range(1, len(depths)):
        for ours, theirs in naming.reduction.items():
            table[f"stage{stage}/{ours}"] = f"{naming.before(stage)}.{theirs}"
    for stage, block in _blocks(depths):
        place = naming.place(stage, block)
        for ours, theirs in naming.block.items():
            table[f"stage{stage}/block{block}/{ours}"] = f"{place}.{theirs}"
    return table


def aliases(depths: tuple[int, ...]) -> dict[str, str]:
    """Give our names of the layers that people of other libraries ask for."""
    found = {}
    for stage, block in _blocks(depths):
        found[f"stages.{stage}"] = f"stage{stage}"
        ours = f"stage{stage}/block{block}"
        for naming in (_TIMM, _TORCHVISION, _transformers("")):
            found[naming.place(stage, block)] = ours
        found[f"features.{2 * stage + 1}"] = f"stage{stage}"
        found[f"encoder.stages.{stage}"] = f"stage{stage}"
    return found
