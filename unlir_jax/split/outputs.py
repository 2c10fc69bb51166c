"""Outputs of a Linen network's layers, changed while it runs."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flax import linen as nn

from unlir_jax.types import PyTree

LAST = "features"
"""Method of a network that gives its last maps; it stands for them among layers."""


@contextlib.contextmanager
def changed(
    layers: Sequence[str], change: Callable[[str, PyTree], PyTree]
) -> Iterator[None]:
    """Let what layers give go through a function, in networks that the block applies.

    Args:
        layers: Paths of submodules, as `split.module_paths` lists them, or `features`
            for the last maps of the network.
        change: `(layer, output) -> output`.

    Raises:
        ValueError: When the block ends: a layer did not run.
    """
    met: set[str] = set()

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> PyTree:
        found = call(*args, **kwargs)
        path, method = "/".join(context.module.path), context.method_name
        layer = path if method == "__call__" else "" if path else method
        if layer not in layers or (not path and method != LAST):
            return found
        met.add(layer)
        return change(layer, found)

    with nn.intercept_methods(intercept):
        yield
    missing = [layer for layer in layers if layer not in met]
    if missing:
        raise ValueError(
            f"`layers` has {missing[0]!r}, which is no layer that the network runs; "
            "expected paths as `unlir_jax.split.module_paths` lists them, or "
            f"{LAST!r} for the last maps."
        )
