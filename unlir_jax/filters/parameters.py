"""The parameters of any network by path, and what is a layer or a norm among them."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from unlir_jax import tree
from unlir_jax.types import PyTree, Variables

GAINS = "/scale", "/factor", "/gamma"
"""Ends of the paths of what norms and layer scales multiply channels by."""

ATTENTION = "query", "key", "value", "out"
"""Layers of flax's own attention."""


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
    return _selected(layers, select, ("kernel",), "convolution or dense layer")


def select_gains(params: Mapping[str, PyTree], select: str) -> list[str]:
    """List the norms and layer scales that a regular expression selects.

    Raises:
        ValueError: There are none, or it is no regular expression.
    """
    found = [path.rpartition("/")[0] for path in params if path.endswith(GAINS)]
    found = [path for path in found if gain(path, params)]
    names = tuple(each.removeprefix("/") for each in GAINS)
    return _selected(found, select, names, "norm or layer scale")


def _selected(
    modules: Sequence[str], select: str, leaves: Sequence[str], kind: str
) -> list[str]:
    try:
        pattern = re.compile(select)
    except re.error as error:
        raise ValueError(
            f"`select`={select!r} is no regular expression ({error})."
        ) from error
    chosen = [
        path
        for path in modules
        if any(map(pattern.fullmatch, (path, *(join(path, leaf) for leaf in leaves))))
    ]
    if not chosen:
        raise ValueError(
            f"`select`={select!r} selects no {kind}; expected a "
            f"pattern of whole paths: {some(modules, 20) or 'there is none at all'}."
        )
    return chosen


def gain(path: str, params: Mapping[str, PyTree]) -> str:
    """Name what a norm or a layer scale multiplies channels by; "" of other modules."""
    if join(path, "kernel") in params:
        return ""
    found = [path + each for each in GAINS if path + each in params]
    return found[0] if found and np.ndim(params[found[0]]) == 1 else ""


def sides(
    layer: str, params: Mapping[str, PyTree]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give the sizes of the axes that a kernel reads, and of those that it makes.

    One each, but in flax's own attention, whose queries, keys and values make heads
    times channels, and whose output reads them.
    """
    shape = tuple(np.shape(params[join(layer, "kernel")]))
    if attends(layer, params):
        return (shape[:1], shape[1:]) if not _mixes(layer) else (shape[:-1], shape[-1:])
    return shape[-2:-1], shape[-1:]


def attends(layer: str, params: Mapping[str, PyTree]) -> bool:
    """Tell whether a layer is one of flax's own attention, by the four that it has."""
    folder, _, name = layer.rpartition("/")
    shapes = [np.shape(params.get(join(folder, f"{n}/kernel"), ())) for n in ATTENTION]
    made, mixed = shapes[:3], shapes[3]
    return (
        name in ATTENTION
        and all(len(shape) == 3 for shape in shapes)
        and all(shape[1:] == mixed[:2] for shape in made)
    )


def heads(layer: str, params: Mapping[str, PyTree]) -> int:
    """Count the heads whose values a layer of flax's own attention makes; 0 if none."""
    is_value = layer.rpartition("/")[2] == "value" and attends(layer, params)
    return np.shape(params[join(layer, "kernel")])[1] if is_value else 0


def _mixes(layer: str) -> bool:
    return layer.rpartition("/")[2] == ATTENTION[-1]


def is_norm(path: str, params: Mapping[str, PyTree]) -> bool:
    """Tell whether a module is a norm with a scale."""
    return join(path, "scale") in params and join(path, "kernel") not in params
