"""Scores of the inner channels of a network."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from unlir_jax import tree
from unlir_jax.models import channels
from unlir_jax.pruning.inputs import Moments
from unlir_jax.types import Array, PyTree, Variables


class Scores(NamedTuple):
    """Hold a number from 0 for each inner channel; small ones go first.

    Attributes:
        graph: The network's channels.
        values: `[channels]` for each layer of the graph.
    """

    graph: channels.Graph
    values: dict[str, np.ndarray]


def scores(
    variables: Variables,
    graph: channels.Graph,
    kind: str = "activation",
    *,
    gates: Mapping[str, Array] | None = None,
    gradients: Mapping[str, Array] | None = None,
    moments: Mapping[str, Moments] | None = None,
) -> Scores:
    """Score the inner channels of a network.

    Args:
        variables: Variables of the network, before any pruning.
        graph: Graph of the network, `channels.graph(module)`.
        kind: One of `KINDS`:

            - `weight`: magnitude of the filter weight; if several convolutions make a
              channel (expansion and depthwise), the product of theirs. Needs `gates`.
            - `weight_x_scale`: that times the magnitude of the last norm's scale;
              without `gates` this is network slimming (Liu et al., ICCV 2017).
            - `magnitude_l1`, `magnitude_l2`: norm of the filters that make a channel
              (Li et al., ICLR 2017), of which it takes the product, over the layer's
              mean, as layers are of different size.
            - `taylor`: mean over images of the magnitude of gate times gradient of the
              loss (Molchanov et al., ICLR 2017, equation 7). Needs `gradients`.
            - `activation`: standard deviation of the channel times the norm of the
              weights that read it, each over its own norm's std: the error in what is
              read when the channel is replaced by its mean. Needs `moments`.
            - `unpredictable`: the same with the standard deviation that is left when
              all other channels predict this one (optimal brain surgeon, Hassibi &
              Stork 1992): the error after `compensate(..., "linear")`. Needs `moments`.
            - `sensitive`: root mean square over images of the loss's derivative by
              the gate, times the share of the channel (its root mean square) that all
              other channels do not predict: the loss's sensitivity to the rest after
              `compensate(..., "linear")`. Needs `gradients` and `moments`.
        gates: Filter weights, `[channels]` by path of the convolution; a convolution
            that is not there has the weight 1.
        gradients: What `gate_gradients` gives.
        moments: What `measure` gives.

    Raises:
        ValueError: The kind is unknown, lacks what it needs, or variables or anything
            else belongs to another network.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind`={kind!r}; expected one of {', '.join(KINDS)}.")
    need, function = KINDS[kind]
    given = {"gates": gates, "gradients": gradients, "moments": moments}
    for name in need:
        if given[name] is None:
            raise ValueError(f"`kind`={kind!r} needs `{name}`, which is None.")
    channels.check(graph, variables)
    _check(graph, given)
    leaves = {
        path: np.asarray(leaf, np.float64)
        for path, leaf in tree.flatten(variables).items()
    }
    known = {_plain(path): np.abs(gate) for path, gate in (gates or {}).items()}
    asked = [given[name] for name in need if name != "gates"] or [known]
    values = {group.layer: function(group, leaves, *asked) for group in graph.groups}
    for layer, value in values.items():
        if not np.isfinite(value).all():
            raise ValueError(
                f"The scores of {layer} by `kind`={kind!r} are not all finite; "
                "expected finite variables, gates, gradients and moments."
            )
    return Scores(graph, values)


def _plain(path: str) -> str:
    return path.removeprefix("params/").removesuffix("/conv")


def _check(graph: channels.Graph, given: Mapping[str, PyTree]) -> None:
    """Refuse gates, gradients or moments of another network."""
    makers = {m: group.channels for group in graph.inner for m in group.makers}
    sizes = {group.layer: group.channels * group.size for group in graph.groups}
    others = dict.fromkeys(channels.convolutions(graph))
    for name, values in given.items():
        expected: Mapping[str, PyTree] = graph.channels
        if name == "gates":
            expected = others | makers
        elif values is not None and (missing := set(expected) - set(values)):
            raise ValueError(
                f"`{name}` lacks {', '.join(sorted(missing))}; expected every layer of "
                f"this {graph.network}."
            )
        for path, value in (values or {}).items():
            layer = _plain(path)
            if layer not in expected:
                raise ValueError(
                    f"`{name}` has {path!r}, which is no layer of this "
                    f"{graph.network}; expected some of {', '.join(expected)}."
                )
            count = np.shape(value[0] if isinstance(value, Moments) else value)[-1]
            wanted = expected[layer]
            if name == "moments":
                wanted = sizes[layer]
            if wanted not in (None, count):
                raise ValueError(
                    f"`{name}`[{path!r}] is of {count} channels; expected {wanted}."
                )


def per_cost(found: Scores, costs: Mapping[str, float], power: float = 1.0) -> Scores:
    """Divide scores by what a channel of the layer costs, to a power.

    So channels that save much go before others that count as little.

    Args:
        found: What `scores` gives.
        costs: Costs of one channel of each layer, such as `each_channel` gives.
        power: 0 leaves scores as they are.

    Raises:
        ValueError: A layer has no cost, or one that is not above 0.
    """
    values = {}
    for layer, own in found.values.items():
        cost = costs.get(layer, 0)
        if not cost > 0:
            raise ValueError(
                f"`costs`[{layer!r}] is {cost}; expected a number above 0 for each of "
                f"{', '.join(found.values)}."
            )
        values[layer] = own / cost**power
    return Scores(found.graph, values)


Leaves = Mapping[str, np.ndarray]


def _weight(group: channels.Group, leaves: Leaves, gates: PyTree) -> np.ndarray:
    ones = np.ones(group.channels)
    return np.prod([gates.get(maker, ones) for maker in group.makers], axis=0)


def _weight_x_scale(group: channels.Group, leaves: Leaves, gates: PyTree) -> np.ndarray:
    path = f"params/{group.makers[-1]}/norm/scale"
    if path not in leaves:
        raise ValueError(
            f"`kind`='weight_x_scale', but {group.makers[-1]} has no norm (any more); "
            "expected a network with norms, or another kind, such as 'magnitude_l2'."
        )
    return _weight(group, leaves, gates) * np.abs(leaves[path])


def _magnitude(order: int) -> Callable[..., np.ndarray]:
    def magnitude(group: channels.Group, leaves: Leaves, gates: PyTree) -> np.ndarray:
        kernels = [leaves[channels.kernel_among(m, leaves)] for m in group.makers]
        each = [
            np.moveaxis(k.reshape(-1, group.channels, group.size), 1, 0)
            for k in kernels
        ]
        norms = np.prod(
            [np.linalg.norm(k.reshape(len(k), -1), order, 1) for k in each], axis=0
        )
        return _weight(group, leaves, gates) * norms / (np.mean(norms) or 1)

    return magnitude


def _taylor(group: channels.Group, leaves: Leaves, gradients: PyTree) -> np.ndarray:
    return np.mean(np.abs(np.asarray(gradients[group.layer], np.float64)), axis=0)


def _activation(group: channels.Group, leaves: Leaves, moments: PyTree) -> np.ndarray:
    variance = np.maximum(np.diag(moments[group.layer].covariance), 0)
    felt = (variance * reading(group, leaves) ** 2).reshape(-1, group.size)
    return np.sqrt(felt.sum(1))


def _unpredictable(
    group: channels.Group, leaves: Leaves, moments: PyTree
) -> np.ndarray:
    left = _left(group, moments[group.layer].covariance)
    kernel = _read_by(group, leaves)
    kernel = kernel.reshape(len(kernel), group.channels, group.size, -1)
    felt = np.einsum("kcso,cst,kcto->c", kernel, left, kernel, optimize=True)
    return np.sqrt(felt / kernel.shape[-1])


def _left(group: channels.Group, covariance: np.ndarray) -> np.ndarray:
    """Give what other channels do not predict of each: `[channels, size, size]`."""
    precision = np.linalg.inv(steadied(covariance))
    sides = group.channels, group.size
    each = np.arange(group.channels)
    return np.linalg.inv(precision.reshape(*sides, *sides)[each, :, each])


def _sensitive(
    group: channels.Group, leaves: Leaves, gradients: PyTree, moments: PyTree
) -> np.ndarray:
    felt = np.asarray(gradients[group.layer], np.float64)
    mean, covariance = moments[group.layer]
    left = np.trace(_left(group, covariance), axis1=1, axis2=2)
    whole = (np.diag(covariance) + mean**2).reshape(-1, group.size).sum(1)
    share = np.divide(left, whole, out=np.zeros_like(left), where=whole > 0)
    return np.sqrt(np.mean(felt**2, axis=0) * np.minimum(share, 1))


def steadied(covariance: np.ndarray) -> np.ndarray:
    """Add a thousandth of the mean variance, so that a covariance can be inverted."""
    mean = np.trace(covariance) / len(covariance)
    return covariance + (1e-3 * mean or 1.0) * np.eye(len(covariance))


def reading(group: channels.Group, leaves: Leaves) -> np.ndarray:
    """Give the norm of the weights that read each channel, in units of the outputs'."""
    kernel = _read_by(group, leaves)
    return np.sqrt(np.mean(np.sum(kernel**2, axis=0), axis=-1))


def _read_by(group: channels.Group, leaves: Leaves) -> np.ndarray:
    """Give the weights that read each number: `[cells, numbers, outputs]`."""
    kernel = leaves[channels.kernel_among(group.reader, leaves)]
    kernel = kernel.reshape((-1, group.channels * group.size, kernel.shape[-1]))
    variance = leaves.get(f"batch_stats/{group.reader}/norm/var")
    return kernel if variance is None else kernel / np.sqrt(variance + 1e-5)


KINDS: dict[str, tuple[tuple[str, ...], Callable[..., np.ndarray]]] = {
    "weight": (("gates",), _weight),
    "weight_x_scale": ((), _weight_x_scale),
    "magnitude_l1": ((), _magnitude(1)),
    "magnitude_l2": ((), _magnitude(2)),
    "taylor": (("gradients",), _taylor),
    "activation": (("moments",), _activation),
    "unpredictable": (("moments",), _unpredictable),
    "sensitive": (("gradients", "moments"), _sensitive),
}
"""What each kind needs, and its function, by name."""
