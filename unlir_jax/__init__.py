"""Explanations of image classifiers in JAX, and measures of how far to trust them."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from unlir_jax import (
        attacks,
        detection,
        maps,
        metrics,
        saliency,
        split,
        tree,
        types,
    )
    from unlir_jax.models.pretrained import Pretrained, load
    from unlir_jax.models.wrapping import wrap
    from unlir_jax.models.zero_shot import zero_shot
    from unlir_jax.report.figure import show
    from unlir_jax.types import Features, SplitModel

__all__ = [
    "Features",
    "Pretrained",
    "SplitModel",
    "attacks",
    "detection",
    "load",
    "maps",
    "metrics",
    "saliency",
    "show",
    "split",
    "tree",
    "types",
    "wrap",
    "zero_shot",
]

_HOMES = {
    "Features": "types",
    "Pretrained": "models.pretrained",
    "SplitModel": "types",
    "load": "models.pretrained",
    "show": "report.figure",
    "wrap": "models.wrapping",
    "zero_shot": "models.zero_shot",
}
# Modules that configs and scripts written for version 0.1 import from here.
_FORMER = {
    "allocator": "runtime.allocator",
    "config": "runtime.config",
    "defaults": "training.defaults",
    "evaluate": "evaluation.evaluate",
    "explain": "explanation.explain",
    "losses": "objectives.losses",
    "mesh": "runtime.mesh",
    "pooling": "models.pooling",
    "presets": "data.presets",
    "pretrained": "models.pretrained",
    "record": "storage.files",
    "train": "training.train",
    "zoo": "models.zoo",
}


def __getattr__(name: str) -> Any:
    # Importing the package must be quick: Flax and the models come when asked for.
    if name in _HOMES:
        return getattr(importlib.import_module(f"unlir_jax.{_HOMES[name]}"), name)
    if name in __all__ or name in _FORMER:
        return importlib.import_module(f"unlir_jax.{_FORMER.get(name, name)}")
    raise AttributeError(f"module 'unlir_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
