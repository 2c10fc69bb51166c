"""Weights of filters: made, applied, folded in and taken out again."""

import operator
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import tree
from unlir_jax.filters import pairing as pairings
from unlir_jax.filters import parameters
from unlir_jax.filters.pairing import Pairing
from unlir_jax.types import Array, Variables

Mode = Literal["output", "input", "output+input", "filter", "kronecker"]
Weights = Mapping[str, Array]

KINDS = ("output", "gain", "input", "filter")
"""`output`: [out], of the kernel or the norm's scale, and of the bias; `gain`: the same
without the bias; `input`: [in], of the kernel; `filter`: [in, out], of the kernel."""


def init(
    variables: Variables,
    select: str = ".*",
    mode: Mode = "output",
    *,
    pairing: Pairing | None = None,
) -> dict[str, jax.Array]:
    """Make weights of filters, all 1: with them a network is bit for bit as it was.

    - `output`: one for each output; of the norm that follows (scale and bias), else of
      kernel and bias, so that the whole output is multiplied.
    - `input`: one for each channel that a kernel sees, its axis before the last. In
      groups, weight i goes to the i-th channel of every group. A kernel that sees one
      channel, such as a depthwise one, has none: they would be those of its outputs.
    - `output+input`: both.
    - `filter`: one for each pair of input and output, biases left alone. Those of a
      kernel that sees one channel multiply the scale of the norm that follows.
    - `kronecker`: as `filter`, but an outer product of a weight for each output (of the
      norm's scale where one follows) and a weight for each input.

    Args:
        variables: Of a Linen network, with or without `params` around, or an NNX state
            or dictionary: `kernel` `[…, in / groups, out]` with or without `bias`. For
            MobileNetV2 from block 7 on, mode `output` makes 15,296 weights.
        select: Regular expression of the whole path of layers, such as
            `block1[0-7]/.*`, or of their kernels, such as `.*/expand/conv/kernel`.
        mode: See above.
        pairing: The norm that follows each selected layer, or None, by path; see
            `pairs`, whose tables also serve a trunk under `backbone/`. Without it, a
            module of ours with `conv` and `norm` in it is known; what cannot be known
            is refused.

    Returns:
        `{path of the multiplied module/kind: float32 ones}`.

    Raises:
        ValueError: Nothing is selected, an unknown mode, a pairing that does not fit or
            is missing, or a transposed kernel.

    Note:
        The kernel of `ConvTranspose(transpose_kernel=True)` is `[…, out, in]`. It is
        refused where a bias or a norm gives it away, and cannot be told otherwise.
    """
    if mode not in get_args(Mode):
        raise ValueError(
            f"`mode`={mode!r}; expected one of {', '.join(get_args(Mode))}."
        )
    params = parameters.named(variables)
    layers = parameters.select_layers(params, select)
    weights: dict[str, jax.Array] = {}
    before: dict[str, str] = {}
    for layer in layers:
        incoming, outgoing = np.shape(params[parameters.join(layer, "kernel")])[-2:]
        norm = None
        if mode in ("output", "output+input", "kronecker") or (
            mode == "filter" and incoming == 1
        ):
            norm = pairings.norm_after(layer, params, pairing)
        pairings.check_layer(layer, norm, params)
        target = layer if norm is None else norm
        if before.setdefault(target, layer) != layer:
            raise ValueError(
                f"`pairing` has {norm!r} follow both {before[target]} and {layer}; "
                "expected one layer before each norm."
            )
        if mode in ("output", "output+input"):
            weights[parameters.join(target, "output")] = jnp.ones(outgoing)
        elif mode == "kronecker" or (mode == "filter" and incoming == 1):
            weights[parameters.join(target, "gain")] = jnp.ones(outgoing)
        elif mode == "filter":
            weights[parameters.join(layer, "filter")] = jnp.ones((incoming, outgoing))
        if mode in ("input", "output+input", "kronecker") and incoming > 1:
            weights[parameters.join(layer, "input")] = jnp.ones(incoming)
    if not weights:
        raise ValueError(
            f"`select`={select!r} with `mode`='input' selects only layers that see one "
            f"channel ({parameters.some(layers)}); expected others, or mode 'output'."
        )
    return {name: leaf.astype(jnp.float32) for name, leaf in weights.items()}


def apply(variables: Variables, weights: Weights) -> Variables:
    """Multiply the filters of a network by their weights; pure and differentiable.

    Args:
        variables: Of the frozen network, see `init`; they are not changed.
        weights: What `init` made, or learnt from it. Several adapters along a first
            axis go through `jax.vmap(apply, in_axes=(None, 0))`, or through a `vmap` of
            all that is computed with them, so that they share one frozen network.

    Returns:
        The same tree, with the types that it had.

    Raises:
        ValueError: The weights belong to another network.
    """
    return _multiply(variables, weights, operator.mul)


def fold(variables: Variables, weights: Weights) -> Variables:
    """Multiply the weights into a network for good: `apply`, in NumPy, to be stored.

    Every product is rounded once, and scales are kept: nothing is normalised.

    Raises:
        ValueError: The weights belong to another network.
    """
    return _multiply(_on_host(variables), _on_host(dict(weights)), operator.mul)


def unfold(variables: Variables, weights: Weights) -> Variables:
    """Undo `fold` up to one rounding, given the weights.

    Raises:
        ValueError: The weights belong to another network, or one is 0: what it
            multiplied is lost.
    """
    for name, leaf in weights.items():
        if not np.all(np.asarray(leaf)):
            raise ValueError(
                f"`weights`[{name!r}] has zeros, and what they multiplied is lost; "
                "expected none, or the variables from before `fold`."
            )
    return _multiply(_on_host(variables), _on_host(dict(weights)), operator.truediv)


def check(variables: Variables, weights: Weights) -> None:
    """Refuse weights that were not made for a network of these names and shapes.

    Raises:
        ValueError: They were not; the message says where they first differ.
    """
    _factors(parameters.named(variables), weights)


def _factors(
    params: Mapping[str, Any], weights: Weights
) -> dict[str, list[tuple[Array, tuple[int, ...]]]]:
    """Find what each parameter is multiplied by, and in which shape."""
    found: dict[str, list[tuple[Array, tuple[int, ...]]]] = {}
    for name, gate in weights.items():
        module, _, kind = name.rpartition("/")
        main = parameters.join(
            module, "scale" if parameters.is_norm(module, params) else "kernel"
        )
        if kind not in KINDS or main not in params:
            raise ValueError(
                f"`weights` has {name!r}, which the network lacks; expected weights "
                "that `filters.init` made for this network."
            )
        shape = np.shape(params[main])
        axes = {"filter": (-2, -1), "input": (-2,)}.get(kind, (-1,))
        expected = tuple(shape[axis] for axis in axes) if len(shape) >= -axes[0] else ()
        if np.shape(gate) != expected:
            raise ValueError(
                f"`weights`[{name!r}] has the shape {np.shape(gate)}; expected "
                f"{expected} for this network (several adapters go through `jax.vmap`)."
            )
        spread = [1] * len(shape)
        for axis in axes:
            spread[axis] = shape[axis]
        found.setdefault(main, []).append((gate, tuple(spread)))
        if kind == "output" and parameters.join(module, "bias") in params:
            found.setdefault(parameters.join(module, "bias"), []).append(
                (gate, expected)
            )
    return found


def _multiply(
    variables: Variables, weights: Weights, operation: Callable[[Any, Any], Any]
) -> Variables:
    factors = _factors(parameters.named(variables), weights)

    def change(path: str, leaf: Any) -> Any:
        name = parameters.plain(path)
        if name not in factors:
            return leaf
        changed = leaf
        for gate, shape in factors[name]:
            changed = operation(changed, gate.reshape(shape))
        return changed.astype(leaf.dtype)

    return tree.map_with_path(change, variables)


def _on_host(leaves: Any) -> Any:
    return jax.tree.map(np.asarray, leaves)
