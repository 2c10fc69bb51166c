"""Names of the same tensors in other people's files, and how to turn them into ours.

A layout says, for a network of ours, what each convolution, norm and dense layer is
called by another library. It is a table of prefixes; the rest is the same everywhere.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from unlir_jax.types import PyTree

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
STATISTICS = {"mean": "running_mean", "var": "running_var"}

OWN = "unlir_jax"
"""Our own names, as `tree.flatten` gives them."""

Prefixes = dict[str, str]
"""Path of a `conv`, `norm` or dense layer of ours -> the prefix of its tensors.

Or the path of an array that is no such layer's -> its whole name.
"""


class Fit(NamedTuple):
    """Say how well a file fits a network under one layout; empty lists are a fit."""

    layout: str
    matched: int
    missing: list[str]
    unexpected: list[str]
    misshaped: list[str]

    def sentence(self, source: str, network: str, after: str = "") -> str:
        """Describe what does not fit, every name of it.

        Args:
            source: Source of the file.
            network: That it was meant for.
            after: What stands before the names in the file.
        """
        parts = [
            f"{len(names)} {kind}: {', '.join(names)}"
            for kind, names in (
                ("unexpected", self.unexpected),
                ("missing", self.missing),
                ("mis-shaped", self.misshaped),
            )
            if names
        ]
        behind = f" after {after!r}" if after else ""
        total = self.matched + len(self.missing)
        likeness = (
            f"closest layout: {self.layout}, {self.matched} of {total} names match"
            f"{behind}"
            if self.matched
            else "no name matches: these are weights of another network"
        )
        return (
            f"`weights`={source!r} does not fit {network} ({likeness}); "
            f"{'; '.join(parts)}."
        )


def translate(
    arrays: Mapping[str, np.ndarray],
    expected: Mapping[str, PyTree],
    layouts: Mapping[str, Prefixes],
    source: str = "",
    flattened: Mapping[str, int] = {},
) -> tuple[dict[str, np.ndarray], Fit]:
    """Rename and transpose a file's arrays into ours, under the layout that fits best.

    Args:
        arrays: A file's arrays by their own names.
        expected: Leaves of our variables by path, with `.shape`.
        layouts: Tables by layout name; `OWN`, our own names, is always tried.
        source: Source of the file, for error messages.
        flattened: Dense layers that read flattened maps, and how many cells those have.

    Returns:
        Our leaves that could be filled, and how well the file fits.

    Raises:
        ValueError: An array holds integers, truth values or complex numbers, or a
            variance is negative.
    """
    best, names = closest(arrays, expected, layouts)
    leaves, missing, misshaped = {}, [], []
    for path, name in names.items():
        if name not in arrays:
            missing.append(name)
            continue
        shape = tuple(expected[path].shape)
        leaf = arrays[name]
        if best != OWN:
            module, _, kind = path.partition("/")[2].rpartition("/")
            if kind != "table":
                leaf = _transpose(leaf, shape, flattened.get(module, 1))
        if leaf.shape != shape:
            found = tuple(arrays[name].shape)
            misshaped.append(f"{name} {found} for {path} {shape}")
            continue
        if leaf.dtype.kind in "iubc":
            raise ValueError(
                f"`weights`={source!r} holds {name!r} of {leaf.dtype}; expected "
                "floating point numbers."
            )
        leaves[path] = np.ascontiguousarray(leaf, dtype=np.float32)
        is_variance = path.startswith("batch_stats/") and path.endswith("/var")
        if is_variance and (lowest := leaves[path].min(initial=0)) < 0:
            raise ValueError(
                f"`weights`={source!r} holds the variance {name!r} with the value "
                f"{lowest:.3g}; expected none below 0."
            )
    used = set(names.values())
    unexpected = [
        name
        for name in arrays
        # The number of batches seen is a by-product of PyTorch's norms.
        if name not in used and not name.endswith("num_batches_tracked")
    ]
    matched = len(names) - len(missing)
    return leaves, Fit(best, matched, missing, unexpected, misshaped)


def closest(
    arrays: Collection[str], expected: Iterable[str], layouts: Mapping[str, Prefixes]
) -> tuple[str, dict[str, str]]:
    """Choose the layout of which a file has most names.

    Args:
        arrays: Names in the file.
        expected: Paths of our leaves.
        layouts: Tables by layout name; `OWN` is always tried.

    Returns:
        The layout, and its names by path.
    """
    tables = {OWN: {path: path for path in expected}}
    for name, prefixes in layouts.items():
        tables[name] = {path: their_name(path, prefixes) for path in tables[OWN]}
    best = max(tables, key=lambda name: sum(t in arrays for t in tables[name].values()))
    return best, tables[best]


def their_name(path: str, prefixes: Prefixes) -> str:
    """Name a leaf of ours as another library does, given its prefixes."""
    collection, _, rest = path.partition("/")
    if rest in prefixes:
        return prefixes[rest]
    module, _, leaf = rest.rpartition("/")
    table = STATISTICS if collection == "batch_stats" else LEAVES
    return f"{prefixes.get(module, module)}.{table.get(leaf, leaf)}"


def _transpose(array: np.ndarray, shape: tuple[int, ...], cells: int) -> np.ndarray:
    """Bring PyTorch's axes (out, in, height, width) into ours (height, width, in, out).

    A dense layer after flattened maps, or a convolution that stands for it, also has
    its inputs reordered from (in, height, width) to (height, width, in).
    """
    if len(shape) == 2 and cells > 1 and array.shape == shape[::-1]:
        side = math.isqrt(cells)
        array = array.reshape(shape[1], -1, side, side)
    if len(shape) == 1 and array.ndim > 1 and array.size == shape[0]:
        return array.reshape(shape)  # A vector with axes of one.
    if array.ndim == 4 and len(shape) == 4:
        return array.transpose(2, 3, 1, 0)
    if len(shape) == 2 and array.size == math.prod(shape):
        if array.ndim == 4:
            return array.transpose(2, 3, 1, 0).reshape(shape)
        if array.ndim == 2:
            return array.T
    return array


def pair(ours: str, convolution: str, norm: str) -> Prefixes:
    """Name the convolution and the norm of a `ConvNorm` of ours."""
    return {f"{ours}/conv": convolution, f"{ours}/norm": norm}
