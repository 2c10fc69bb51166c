"""Average adapters, compare them, and run several of them at once."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unlir_jax.adapters.file import Adapter


class LayerDifference(NamedTuple):
    """Say how far two adapters differ in one layer.

    Attributes:
        layer: Path of the module that is multiplied, and how.
        filters: Number of its weights.
        distance: Root of the mean squared difference.
        correlation: Correlation of the two adapters' weights; 0 for constant ones.
        most: Places of the weights that differ most, with the first's and the second's.
    """

    layer: str
    filters: int
    distance: float
    correlation: float
    most: tuple[tuple[int, float, float], ...]


def stack(adapters: Sequence[Adapter]) -> dict[str, np.ndarray]:
    """Put the weights of adapters of one network along a first axis, for `jax.vmap`.

    Raises:
        ValueError: They are of different networks or layers.
    """
    _check_together(adapters)
    return {
        name: np.stack([adapter.weights[name] for adapter in adapters])
        for name in adapters[0].weights
    }


def merge(
    adapters: Sequence[Adapter], weights: Sequence[float] | None = None
) -> Adapter:
    """Average adapters of one network.

    Heads are averaged where all have the same arrays and say the same of them, class by
    class of the same name; otherwise the merged adapter has none.

    Args:
        adapters: At least one.
        weights: How much each counts, equally by default; brought to a sum of 1.

    Raises:
        ValueError: They are of different networks or layers, or the weights are not as
            many, not finite or add up to 0.
    """
    _check_together(adapters)
    shares = np.ones(len(adapters)) if weights is None else np.asarray(weights, float)
    if shares.shape != (len(adapters),) or not np.isfinite(shares).all():
        raise ValueError(
            f"`weights`={weights}; expected {len(adapters)} finite numbers, one for "
            "each adapter."
        )
    if abs(shares.sum()) < 1e-9:
        raise ValueError(f"`weights`={weights} add up to 0; expected another sum.")
    shares = shares / shares.sum()

    def average(leaves: Sequence[np.ndarray]) -> np.ndarray:
        return np.tensordot(shares, np.stack(leaves), 1).astype(np.float32)

    first = adapters[0]
    adapters = [first, *(_numbered_as(first, other) for other in adapters[1:])]
    same = all(
        other.metadata == first.metadata
        and {n: a.shape for n, a in other.head.items()}
        == {n: a.shape for n, a in first.head.items()}
        for other in adapters
    )
    heads = {n: average([a.head[n] for a in adapters]) for n in first.head if same}
    return first._replace(
        weights={n: average([a.weights[n] for a in adapters]) for n in first.weights},
        head=heads,
        metadata=dict(first.metadata) if same else {},
    )


def _numbered_as(first: Adapter, other: Adapter) -> Adapter:
    """Put the classes of a head into the order of another, where both have the same."""
    names, own = (each.metadata.get("class_names", []) for each in (first, other))
    distinct = len(set(names)) == len(names)
    if names == own or not distinct or sorted(names) != sorted(own):
        return other
    places = [own.index(name) for name in names]
    if any(leaf.shape[-1] != len(places) for leaf in other.head.values()):
        return other
    return other._replace(
        head={name: leaf[..., places] for name, leaf in other.head.items()},
        metadata={**other.metadata, "class_names": list(names)},
    )


def diff(first: Adapter, second: Adapter, most: int = 3) -> list[LayerDifference]:
    """Compare two adapters of one network, the layer that differs most in front.

    Raises:
        ValueError: They are of different networks or layers.
    """
    _check_together((first, second))
    found = []
    for name, leaf in first.weights.items():
        one, other = leaf.ravel(), second.weights[name].ravel()
        apart = one - other
        order = np.argsort(-np.abs(apart), kind="stable")[:most]
        places = tuple((int(i), float(one[i]), float(other[i])) for i in order)
        centred = one - one.mean(), other - other.mean()
        length = math.prod(float(np.linalg.norm(values)) for values in centred)
        correlation = float(centred[0] @ centred[1]) / length if length > 0 else 0.0
        distance = float(np.sqrt(np.mean(np.square(apart))))
        found.append(LayerDifference(name, leaf.size, distance, correlation, places))
    return sorted(found, key=lambda row: -row.distance)


def _check_together(adapters: Sequence[Adapter]) -> None:
    """Refuse adapters that are not of one frozen network and the same layers."""
    if not adapters:
        raise ValueError("`adapters` is empty; expected at least one.")
    first = adapters[0]
    shapes = {name: leaf.shape for name, leaf in first.weights.items()}
    for other in adapters[1:]:
        if (other.backbone, other.fingerprint) != (first.backbone, first.fingerprint):
            weights = " of other weights" if other.backbone == first.backbone else ""
            raise ValueError(
                f"`adapters` are for {first.backbone} and for {other.backbone}{weights}"
                "; expected adapters of one frozen network."
            )
        if {name: leaf.shape for name, leaf in other.weights.items()} != shapes:
            raise ValueError(
                f"`adapters` weight other filters of {first.backbone}: "
                f"{first.select!r} in mode {first.mode!r} and {other.select!r} in mode "
                f"{other.mode!r}; expected the same."
            )
