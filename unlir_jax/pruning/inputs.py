"""Inputs of the readers of inner channels: their moments, and the loss's gradients."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.core import memoize
from unlir_jax.models import calls, channels
from unlir_jax.types import (
    Array,
    Images,
    Labels,
    Logits,
    Maps,
    Module,
    PyTree,
    Variables,
)


class Moments(NamedTuple):
    """Hold what is known of the channels of one layer, over images and places.

    Attributes:
        mean: `[channels]`; each number of a head of attention is one here.
        covariance: `[channels, channels]`.
    """

    mean: np.ndarray
    covariance: np.ndarray


def measure(
    module: Module, variables: Variables, batches: Iterable[Array]
) -> dict[str, Moments]:
    """Measure what the reader of each group of channels is given.

    That is after norm, activation and any pooling; the borders that a convolution pads
    with are left out.

    Args:
        module: A network of ours.
        variables: Its variables.
        batches: Images, `[batch, height, width, 3]` in [0, 1]; no labels are needed.

    Returns:
        Moments for each layer of `channels.graph`.

    Raises:
        ValueError: There is no image, or the variables belong to another network.
    """
    graph = channels.graph(module)
    channels.check(graph, variables)

    @jax.jit
    def sums(variables: Variables, images: Images) -> dict[str, PyTree]:
        found = {}

        def look(group: channels.Group, values: jax.Array) -> jax.Array:
            flat = values.reshape((-1, group.channels * group.size))
            product = jnp.matmul(flat.T, flat, precision="highest")
            found[group.layer] = flat.shape[0], jnp.sum(flat, 0), product
            return values

        _apply(module, graph, variables, images, look)
        return found

    totals: dict[str, Any] = {}
    for images in batches:
        batch = jax.tree.map(np.float64, sums(variables, images))
        totals = jax.tree.map(np.add, totals, batch) if totals else batch
    if not totals:
        raise ValueError("`batches` is empty; expected at least one batch of images.")
    result = {}
    for layer, (count, total, products) in totals.items():
        mean = total / count
        result[layer] = Moments(mean, products / count - np.outer(mean, mean))
    return result


def gate_gradients(
    module: Module,
    variables: Variables,
    images: Images,
    labels: Labels,
    decide: Callable[[Maps], Logits] | None = None,
) -> dict[str, jax.Array]:
    """Differentiate the cross-entropy by gates of 1 on what each reader is given.

    By the chain rule this is the derivative of a learnt filter weight times that
    weight, where there is one.

    Args:
        module: A network of ours.
        variables: Its variables.
        images: `[batch, height, width, 3]` in [0, 1].
        labels: A class for each image, `[batch]`.
        decide: Gives logits of the maps of the module's method `features`, such as a
            head that was learnt next to it; None for the module's own.

    Returns:
        `[batch, channels]` for each layer of `channels.graph`: of each image's own
        loss, so that it depends on no other image.
    """
    split.check_shapes(images, labels)
    graph = channels.graph(module)
    channels.check(graph, variables)
    size = len(images)
    gates = {layer: jnp.ones((size, n)) for layer, n in graph.channels.items()}
    return _differentiate(module, graph, decide)(gates, variables, images, labels)


@memoize.remember
def _differentiate(
    module: Module, graph: channels.Graph, decide: Callable[[Maps], Logits] | None
) -> Callable[..., Any]:
    def loss(
        gates: Mapping[str, jax.Array],
        variables: Variables,
        images: Images,
        labels: Labels,
    ) -> jax.Array:
        def gate(group: channels.Group, values: jax.Array) -> jax.Array:
            factor = jnp.repeat(gates[group.layer], group.size, axis=1)
            factor = jnp.tile(factor, (1, group.cells))
            # Windows of an image come one after the other.
            factor = jnp.repeat(factor, len(values) // len(factor), axis=0)
            middle = (1,) * (values.ndim - 2)
            return values * factor.reshape((len(factor), *middle, -1))

        method = None if decide is None else "features"
        logits = _apply(module, graph, variables, images, gate, method)
        if decide is not None:
            logits = decide(logits)
        chances = jax.nn.log_softmax(logits)
        return -jnp.sum(jnp.take_along_axis(chances, labels[:, None], axis=1))

    return jax.jit(jax.grad(loss))


def _apply(
    module: Module,
    graph: channels.Graph,
    variables: Variables,
    images: Images,
    function: Callable[[channels.Group, jax.Array], jax.Array],
    method: str | None = None,
) -> Any:
    """Compute logits with a function on what the reader of each group is given."""
    functions = {
        group.reader: functools.partial(function, group) for group in graph.groups
    }
    return calls.with_inputs(module, variables, images, functions, method)
