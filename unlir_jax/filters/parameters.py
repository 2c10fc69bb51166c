"""The parameters of any network by path, and what is a layer or a norm among them."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from unlir_jax import tree
from unlir_jax.types import PyTree, Variables


def named(variables: Variables) -> dict[str, PyTree]:
    """List parameters by path, without the names of collections and NNX's boxes."""
    leaves = tree.flatten(variables)
    linen = any(path.startswith("params/") for path in leaves)
    return {
        plain(path): leaf
        for path, leaf in leaves.items()
        if not linen or path.startswith("params/")
    }


def plain(path: str) -> str:
    """Name a parameter without its collection and without NNX's box."""
    return path.removeprefix("params/").removesuffix("/value")


def join(module: str, name: str) -> str:
    """Put the path of a module, "" for the root, before a name."""
    return f"{module}/{name}" if module else name


def some(names: Sequence[str], most: int = 6) -> str:
    """List the first of many names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def select_layers(params: Mapping[str, PyTree], select: str) -> list[str]:
    """List the layers with kernels that a regular expression selects.

    Raises:
        ValueError: There are none, or it is no regular expression.
    """
    layers = [
        path.rpartition("/")[0]
        for path, leaf in params.items()
        if path.rpartition("/")[2] == "kernel" and np.ndim(leaf) >= 2
    ]
    try:
        pattern = re.compile(select)
    except re.error as error:
        raise ValueError(
            f"`select`={select!r} is no regular expression ({error})."
        ) from error
    chosen = [
        layer
        for layer in layers
        if pattern.fullmatch(layer) or pattern.fullmatch(join(layer, "kernel"))
    ]
    if not chosen:
        raise ValueError(
            f"`select`={select!r} selects no convolution or dense layer; expected a "
            f"pattern of whole paths: {some(layers, 20) or 'there is none at all'}."
        )
    return chosen


def is_norm(path: str, params: Mapping[str, PyTree]) -> bool:
    """Tell whether a module is a norm with a scale."""
    return join(path, "scale") in params and join(path, "kernel") not in params
