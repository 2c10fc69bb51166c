"""Weights of filters: made, applied, folded in and taken out again."""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import tree
from unlir_jax.core import choices
from unlir_jax.filters import pairing as pairings
from unlir_jax.filters import parameters
from unlir_jax.filters.pairing import Pairing
from unlir_jax.models.channels import TRUNK
from unlir_jax.types import Array, PyTree, Variables

Mode = Literal[
    "output",
    "input",
    "output+input",
    "filter",
    "kronecker",
    "shift",
    "heads",
    "gain",
]
Weights = Mapping[str, Array]

KINDS = ("output", "gain", "input", "filter", "shift", "heads")
"""`output`: [out], of the kernel or the norm's scale, and of the bias; `gain`: the same
without the bias, also of a layer scale; `input`: [in], of the kernel; `filter`: [in,
out], of the kernel; `shift`: [out], 1 more than what is added to the bias after all
products; `heads`: [heads], of the kernel and the bias of values, head by head."""


def init(
    variables: Variables,
    select: str = ".*",
    mode: Mode = "output",
    *,
    pairing: Pairing | None = None,
    heads: Mapping[str, int] | None = None,
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
    - `heads`: one for each head of attention, of the values that it mixes, where a
      selected layer makes values; see the argument.
    - `gain`: one for each number of the norms and the layer scales that are selected,
      biases left alone.
    - `kronecker`: as `filter`, but an outer product of a weight for each output (of the
      norm's scale where one follows) and a weight for each input.

    Args:
        variables: Variables of a Linen network, with or without `params`, or an NNX
            state or dictionary: `kernel` `[…, in / groups, out]`, maybe `bias`. For
            MobileNetV2 from block 7 on, mode `output` makes 15,296 weights.
        select: Regular expression of the whole path of layers, such as
            `block1[0-7]/.*`, or of their kernels, such as `.*/expand/conv/kernel`;
            with mode `gain` of norms and layer scales, such as `.*/norm1`.
        mode: See above.
        pairing: The norm that follows each selected layer, or None, by path; see
            `pairs`, whose tables also serve a backbone under `backbone/`. Without it, a
            module of ours with `conv` and `norm` in it is known; what cannot be known
            is refused. In a transformer norms precede layers, see `pre_norm`.
        heads: Number of heads of the layers that make values, see `filters.heads`; of
            flax's own attention, shapes tell.

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
    if mode == "gain":
        return _gains(params, select)
    layers = parameters.select_layers(params, select)
    if mode == "heads":
        return _heads(params, layers, heads or {})
    weights: dict[str, jax.Array] = {}
    before: dict[str, str] = {}
    for layer in layers:
        incoming, outgoing = map(math.prod, parameters.sides(layer, params))
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


def _gains(params: Mapping[str, PyTree], select: str) -> dict[str, jax.Array]:
    """Make weights of norms and layer scales."""
    found = {}
    for path in parameters.select_gains(params, select):
        count = len(params[parameters.gain(path, params)])
        found[parameters.join(path, "gain")] = jnp.ones(count, jnp.float32)
    return found


def _heads(
    params: Mapping[str, PyTree], layers: Sequence[str], known: Mapping[str, int]
) -> dict[str, jax.Array]:
    """Make weights of heads, where a layer makes values."""
    found = {}
    for layer in layers:
        inner = layer.removeprefix(TRUNK)
        count = parameters.heads(layer, params) or known.get(layer, known.get(inner, 0))
        if count:
            found[parameters.join(layer, "heads")] = jnp.ones(count, jnp.float32)
    if not found:
        raise ValueError(
            f"`mode`='heads', but none of {parameters.some(layers)} is known to make "
            "values of heads; expected a `select` of some that do, and `heads` as "
            "`filters.heads` gives it, or as a number for each of them."
        )
    return found


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
    # In one order, for products of three factors depend on it.
    for name, gate in sorted(weights.items()):
        module, _, kind = name.rpartition("/")
        main = parameters.join(module, "bias")
        if kind != "shift":
            kernel = parameters.join(module, "kernel")
            main = parameters.gain(module, params) or kernel
        if kind not in KINDS or main not in params:
            raise ValueError(
                f"`weights` has {name!r}, which the network lacks; expected weights "
                "that `filters.init` made for this network."
            )
        shape, bias = np.shape(params[main]), parameters.join(module, "bias")
        made = shape[-1:]
        read: tuple[int, ...] = ()
        if main.endswith("kernel"):
            read, made = parameters.sides(module, params)
        elif kind == "shift":
            made = shape
        if kind == "heads":
            gate, made = _each_head(name, gate, made)
        expected = {
            "filter": (math.prod(read), math.prod(made)),
            "input": (math.prod(read),),
        }.get(kind, (math.prod(made),))
        if np.shape(gate) != expected or (kind in ("input", "filter") and not read):
            raise ValueError(
                f"`weights`[{name!r}] has the shape {np.shape(gate)}; expected "
                f"{expected} for this network (several adapters go through `jax.vmap`)."
            )
        ones = {"input": read + (1,) * len(made), "filter": read + made}.get(kind, made)
        spread = (1,) * (len(shape) - len(ones)) + ones
        change = _Change(gate, spread, kind == "shift")
        found.setdefault(main, []).append(change)
        if kind in ("output", "heads") and bias in params:
            found.setdefault(bias, []).append(_Change(gate, made))
    return {
        path: sorted(each, key=lambda change: change.shifts)
        for path, each in found.items()
    }


def _each_head(
    name: str, gate: Array, made: tuple[int, ...]
) -> tuple[Array, tuple[int, ...]]:
    """Spread the weight of each head over the numbers that it makes."""
    count, numbers = np.size(gate), math.prod(made)
    if (
        np.ndim(gate) != 1
        or not count
        or numbers % count
        or made[0]
        not in (
            numbers,
            count,
        )
    ):
        heads = f"[{made[0]}]" if len(made) > 1 else f"a number that divides {numbers}"
        raise ValueError(
            f"`weights`[{name!r}] has the shape {np.shape(gate)}; expected {heads} of "
            "heads for this network (several adapters go through `jax.vmap`)."
        )
    repeat = np.repeat if isinstance(gate, np.ndarray) else jnp.repeat
    return repeat(gate, numbers // count), made


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
