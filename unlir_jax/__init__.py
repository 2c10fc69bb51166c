"""Networks that show why they decide, and how far to trust what they show, in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from unlir_jax import maps, metrics, saliency, split, tree, types
    from unlir_jax.pretrained import Pretrained, load
    from unlir_jax.types import Features, SplitModel

__all__ = [
    "Features",
    "Pretrained",
    "SplitModel",
    "load",
    "maps",
    "metrics",
    "saliency",
    "split",
    "tree",
    "types",
]

_HOMES = {
    "Features": "types",
    "Pretrained": "pretrained",
    "SplitModel": "types",
    "load": "pretrained",
}


def __getattr__(name: str) -> Any:
    # Importing the package must be quick: Flax and the models come when asked for.
    if name in _HOMES:
        return getattr(importlib.import_module(f"unlir_jax.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"unlir_jax.{name}")
    raise AttributeError(f"module 'unlir_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
