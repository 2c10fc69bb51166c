"""Weights of filters: made, applied, folded in and taken out again."""

import operator
from collections.abc import Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import tree
from unlir_jax.core import choices
from unlir_jax.filters import pairing as pairings
from unlir_jax.filters import parameters
from unlir_jax.filters.pairing import Pairing
from unlir_jax.types import Array, PyTree, Variables

Mode = Literal["output", "input", "output+input", "filter", "kronecker", "shift"]
Weights = Mapping[str, Array]

KINDS = ("output", "gain", "input", "filter", "shift")
"""`output`: [out], of the kernel or the norm's scale, and of the bias; `gain`: the same
without the bias; `input`: [in], of the kernel; `filter`: [in, out], of the kernel;
`shift`: [out], 1 more than what is added to the bias after all products."""


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
      channel, such as a depthwise one, has none: they would equal its outputs'.
    - `output+input`: both.
    - `filter`: one for each pair of input and output, biases left alone. The weights of
      a kernel that sees one channel multiply the scale of the norm that follows.
    - `shift`: one for each output that moves instead of multiplying it: `weight - 1` is
      added to the bias, of the norm that follows or else of the layer. To be used alone
      or joined with another mode, `init(…, "output") | init(…, "shift")`, which is the
      scaling and shifting of Lian et al. (NeurIPS 2022).
    - `kronecker`: as `filter`, but an outer product of a weight for each output (of the
      norm's scale where one follows) and a weight for each input.

    Args:
        variables: Variables of a Linen network, with or without `params`, or an NNX
            state or dictionary: `kernel` `[…, in / groups, out]`, maybe `bias`. For
            MobileNetV2 from block 7 on, mode `output` makes 15,296 weights.
        select: Regular expression of the whole path of layers, such as
            `block1[0-7]/.*`, or of their kernels, such as `.*/expand/conv/kernel`.
        mode: See above.
        pairing: The norm that follows each selected layer, or None, by path; see
            `pairs`, whose tables also serve a backbone under `backbone/`. Without it, a
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
    choices.check("mode", mode, Mode)
    params = parameters.named(variables)
    layers = parameters.select_layers(params, select)
    weights: dict[str, jax.Array] = {}
    before: dict[str, str] = {}
    for layer in layers:
        incoming, outgoing = np.shape(params[parameters.join(layer, "kernel")])[-2:]
        norm = None
        if mode in ("output", "output+input", "kronecker", "shift") or (
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
        elif mode == "shift":
            pairings.check_bias(target, params)
            weights[parameters.join(target, "shift")] = jnp.ones(outgoing)
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
    """Multiply (or shift) filters by their weights; pure and differentiable.

    Args:
        variables: Variables of the frozen network, see `init`; they stay unchanged.
        weights: What `init` made, or learnt from it. Several adapters along a first
            axis go through `jax.vmap(apply, in_axes=(None, 0))`, or through a `vmap` of
            all that is computed with them, so that they share one frozen network.

    Returns:
        The same tree, with the types that it had.

    Raises:
        ValueError: The weights belong to another network.
    """
    return _change(variables, weights)


def fold(variables: Variables, weights: Weights) -> Variables:
    """Multiply the weights into a network for good: `apply`, in NumPy, to be stored.

    Every product and sum is rounded once, and scales are kept: nothing is normalised.

    Raises:
        ValueError: The weights belong to another network.
    """
    return _change(_on_host(variables), _on_host(dict(weights)))


def unfold(variables: Variables, weights: Weights) -> Variables:
    """Undo `fold` up to one rounding, given the weights.

    Raises:
        ValueError: The weights belong to another network, or one is 0: what it
            multiplied is lost.
    """
    for name, leaf in weights.items():
        if not name.endswith("/shift") and not np.all(np.asarray(leaf)):
            raise ValueError(
                f"`weights`[{name!r}] has zeros, and what they multiplied is lost; "
                "expected none, or the variables from before `fold`."
            )
    return _change(_on_host(variables), _on_host(dict(weights)), back=True)


def check(variables: Variables, weights: Weights) -> None:
    """Refuse weights that were not made for a network of these names and shapes.

    Raises:
        ValueError: They were not; the message says where they first differ.
    """
    _changes(parameters.named(variables), weights)


class _Change(NamedTuple):
    """Say how a weight changes one parameter."""

    weight: Array
    shape: tuple[int, ...]
    shifts: bool = False


def _changes(
    params: Mapping[str, PyTree], weights: Weights
) -> dict[str, list[_Change]]:
    """Find what each parameter is multiplied by, and then shifted by."""
    found: dict[str, list[_Change]] = {}
    for name, gate in weights.items():
        module, _, kind = name.rpartition("/")
        own = "scale" if parameters.is_norm(module, params) else "kernel"
        main = parameters.join(module, "bias" if kind == "shift" else own)
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
        change = _Change(gate, tuple(spread), kind == "shift")
        found.setdefault(main, []).append(change)
        if kind == "output" and parameters.join(module, "bias") in params:
            bias = parameters.join(module, "bias")
            found.setdefault(bias, []).append(_Change(gate, expected))
    return {
        path: sorted(each, key=lambda change: change.shifts)
        for path, each in found.items()
    }


def _change(variables: Variables, weights: Weights, back: bool = False) -> Variables:
    """Multiply, then shift; `back` undoes both, the last first."""
    changes = _changes(parameters.named(variables), weights)
    multiply, add = (
        (operator.truediv, operator.sub) if back else (operator.mul, operator.add)
    )

    def changed(path: str, leaf: PyTree) -> PyTree:
        name = parameters.plain(path)
        if name not in changes:
            return leaf
        found = leaf
        for own in reversed(changes[name]) if back else changes[name]:
            weight = own.weight.reshape(own.shape)
            found = add(found, weight - 1) if own.shifts else multiply(found, weight)
        return found.astype(leaf.dtype)

    return tree.map_with_path(changed, variables)


def _on_host(leaves: PyTree) -> PyTree:
    return jax.tree.map(np.asarray, leaves)
