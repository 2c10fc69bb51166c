"""Names of the layers of Swin in other libraries' files.

They are those that `weights.token_names` gives: queries, keys and values apart.
"""

from collections.abc import Callable
from typing import NamedTuple

from unlir_jax.weights.layouts import Prefixes


class Naming(NamedTuple):
    """Say what a library calls the layers.

    Attributes:
        outer: Layers around the stages.
        block: Layers of a block.
        before: Prefix of the merging before a stage.
        place: Prefix of a block of a stage.
    """

    outer: dict[str, str]
    block: dict[str, str]
    before: Callable[[int], str]
    place: Callable[[int, int], str]


_BLOCK = {
    "norm1": "norm1",
    "attention/table": "attn.relative_position_bias_table",
    "attention/query": "attn.q",
    "attention/key": "attn.k",
    "attention/value": "attn.v",
    "attention/output": "attn.proj",
    "norm2": "norm2",
    "mlp/expand": "mlp.fc1",
    "mlp/contract": "mlp.fc2",
}
_OUTER = {"patches": "patch_embed.proj", "norm0": "patch_embed.norm", "norm": "norm"}
_TIMM = Naming(
    _OUTER | {"classifier": "head.fc"},
    _BLOCK,
    lambda stage: f"layers.{stage}.downsample",
    lambda stage, block: f"layers.{stage}.blocks.{block}",
)
_OFFICIAL = Naming(
    _OUTER | {"classifier": "head"},
    _BLOCK,
    lambda stage: f"layers.{stage - 1}.downsample",
    _TIMM.place,
)
_TORCHVISION = Naming(
    {
        "patches": "features.0.0",
        "norm0": "features.0.2",
        "norm": "norm",
        "classifier": "head",
    },
    _BLOCK | {"mlp/expand": "mlp.0", "mlp/contract": "mlp.3"},
    lambda stage: f"features.{2 * stage}",
    lambda stage, block: f"features.{2 * stage + 1}.{block}",
)
_FILE = {
    "norm1": "layernorm_before",
    "attention/table": "attention.self.relative_position_bias_table",
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/output": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp/expand": "intermediate.dense",
    "mlp/contract": "output.dense",
}
_MEMORY = {
    "norm1": "layernorm_before",
    "attention/table": (
        "attention.relative_position_bias.relative_position_bias_table"
    ),
    "attention/query": "attention.q_proj",
    "attention/key": "attention.k_proj",
    "attention/value": "attention.v_proj",
    "attention/output": "attention.o_proj",
    "norm2": "layernorm_after",
    "mlp/expand": "mlp.fc1",
    "mlp/contract": "mlp.fc2",
}


def _transformers(prefix: str, block: dict[str, str]) -> Naming:
    return Naming(
        {
            "patches": f"{prefix}embeddings.patch_embeddings.projection",
            "norm0": f"{prefix}embeddings.norm",
            "norm": f"{prefix}layernorm",
            "classifier": "classifier",
        },
        block,
        lambda stage: f"{prefix}encoder.layers.{stage - 1}.downsample",
        lambda stage, place: f"{prefix}encoder.layers.{stage}.blocks.{place}",
    )


_NAMINGS = {
    "timm": _TIMM,
    "official": _OFFICIAL,
    "torchvision": _TORCHVISION,
    "transformers": _transformers("swin.", _FILE),
    "transformers, trunk": _transformers("", _FILE),
    "transformers 5": _transformers("swin.", _MEMORY),
    "transformers 5, trunk": _transformers("", _MEMORY),
}


def tables(depths: tuple[int, ...]) -> dict[str, Prefixes]:
    """Name the layers as timm, the official code, torchvision and transformers do.

    Files of timm before 0.9, and the official ones, have the merging of neighbours at
    the end of a stage.

    Args:
        depths: Number of blocks of each stage.

    Returns:
        By the name of a layout, names of its layers.
    """
    return {name: _table(depths, naming) for name, naming in _NAMINGS.items()}


def _table(depths: tuple[int, ...], naming: Naming) -> Prefixes:
    table = dict(naming.outer)
    for stage, depth in enumerate(depths):
        if stage:
            table[f"stage{stage}/norm"] = f"{naming.before(stage)}.norm"
            table[f"stage{stage}/reduce"] = f"{naming.before(stage)}.reduction"
        for block in range(depth):
            place = naming.place(stage, block)
            for ours, theirs in naming.block.items():
                table[f"stage{stage}/block{block}/{ours}"] = f"{place}.{theirs}"
    return table


def aliases(depths: tuple[int, ...]) -> dict[str, str]:
    """Give our names of the layers that people of other libraries ask for."""
    found = {}
    for stage, depth in enumerate(depths):
        found[f"layers.{stage}"] = f"stage{stage}"
        found[f"features.{2 * stage + 1}"] = f"stage{stage}"
        for block in range(depth):
            ours = f"stage{stage}/block{block}"
            for naming in (_TIMM, _TORCHVISION):
                found[naming.place(stage, block)] = ours
                found[f"{naming.place(stage, block)}.norm1"] = f"{ours}/norm1"
    return found
