"""Weights of filters that go to 0, or stay at 1, unless the task says otherwise."""

import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import filters
from unlir_jax.types import Array, PyTree, RandomKey

Name = Literal["", "towards_one", "l1", "hard_concrete"]
LOGITS = "_logits"
# Of hard concrete gates: all but open, see `filters.hard_concrete`.
OPEN = 3.0


class Penalty(NamedTuple):
    """Say what is added to the loss of adapters.

    Attributes:
        name: "" for nothing; `towards_one` for squared distances from the start;
            `l1` for absolute values of weights of filters; `hard_concrete` for the
            number of gates expected to be open, one more gate on each weight.
        weight: Weight of the sum.
        select: Regular expression of the names of weights that `l1` and `hard_concrete`
            are about, searched for anywhere: weights of channels that pruning may
            remove, such as `depthwise`; "" for all.
    """

    name: Name = ""
    weight: float = 0.0
    select: str = ""


def sparse(penalty: Penalty) -> bool:
    """Tell whether a penalty makes weights exactly 0."""
    return penalty.name in ("l1", "hard_concrete")


def check(penalty: Penalty, trunk: str = "filters") -> None:
    """Refuse a penalty that makes no sense.

    Args:
        penalty: Name of the penalty.
        trunk: Learnt part of the backbone, see `methods.Method`.

    Raises:
        ValueError: The name is unknown, or a weight negative, or one without the other,
            or `select` no regular expression, or no weights of filters learn.
    """
    if penalty.name not in get_args(Name):
        raise ValueError(
            f"`penalty.name`={penalty.name!r}; expected '' or one of "
            f"{', '.join(get_args(Name)[1:])}."
        )
    try:
        re.compile(penalty.select)
    except re.error as error:
        raise ValueError(
            f"`penalty.select`={penalty.select!r} is no regular expression ({error}); "
            "expected one, such as depthwise."
        ) from error
    if not 0 <= penalty.weight < float("inf"):
        raise ValueError(f"`penalty.weight`={penalty.weight}; expected 0 or more.")
    if bool(penalty.name) != (penalty.weight > 0):
        raise ValueError(
            f"`penalty.name`={penalty.name!r} with `penalty.weight`={penalty.weight}; "
            "expected a name and a weight above 0, or neither."
        )
    if sparse(penalty) and trunk not in ("filters", "input_filters"):
        raise ValueError(
            f"`penalty.name`={penalty.name!r} with a `method` that learns more than "
            "weights that multiply filters; expected filters_single or ia3."
        )


def begin(weights: PyTree, penalty: Penalty) -> PyTree:
    """Add the gates that a penalty needs to what learns.

    Raises:
        ValueError: `select` selects no weight, or shifts.
    """
    if not sparse(penalty):
        return weights
    chosen = [name for name in weights if re.search(penalty.select, name)]
    shifts = [name for name in chosen if name.endswith("/shift")]
    if shifts:
        raise ValueError(
            f"`penalty.name`={penalty.name!r} of {shifts[0]!r}, which says nothing "
            "when it is 1, not 0; expected towards_one, or a `penalty.select` of "
            "weights that multiply."
        )
    if not chosen:
        raise ValueError(
            f"`penalty.select`={penalty.select!r} is in no name of a weight; expected "
            f"a part of names such as {', '.join(list(weights)[:3])}."
        )
    if penalty.name == "l1":
        return dict(weights)
    gates = {name + LOGITS: np.full(np.shape(weights[name]), OPEN) for name in chosen}
    return dict(weights) | {
        name: jnp.asarray(leaf, jnp.float32) for name, leaf in gates.items()
    }


def settle(trunk: PyTree, key: RandomKey | None = None) -> PyTree:
    """Multiply weights by their gates, which are drawn where a key is given.

    What has no gates is returned as it is.
    """
    gates = _gates(trunk)
    if not gates:
        return trunk
    plain = {name: leaf for name, leaf in trunk.items() if name not in gates}
    for name, gate in filters.hard_concrete(gates, key=key).items():
        own = name.removesuffix(LOGITS)
        plain[own] = plain[own] * gate
    return plain


def cost(penalty: Penalty, start: PyTree) -> Callable[[PyTree], Array]:
    """Give what is added to the loss, a function of what learns of the backbone."""
    if not penalty.name:
        return lambda trunk: jnp.zeros(())

    def total(trunk: PyTree) -> jax.Array:
        if penalty.name == "towards_one":
            away = jax.tree.map(
                lambda last, first: jnp.sum(jnp.square(last - jnp.asarray(first))),
                trunk,
                start,
            )
            return penalty.weight * jnp.asarray(sum(jax.tree.leaves(away)))
        if penalty.name == "l1":
            some = {n: w for n, w in trunk.items() if re.search(penalty.select, n)}
            return penalty.weight * filters.penalty(some, "l1")
        return penalty.weight * filters.penalty(_gates(trunk), "l0")

    return total


def stop_at_zero(
    penalty: Penalty, before: PyTree, after: PyTree, gradient: PyTree
) -> PyTree:
    """Let weights under l1 end a step at 0 where they would cross it, and stay there.

    The derivative of |weight| jumps there, and a step as long as elsewhere would leave
    it dancing around 0. It leaves 0 where the loss pulls harder than the penalty holds
    (as in OWL-QN, Andrew and Gao, ICML 2007).

    Args:
        penalty: Nothing is done for others than l1.
        before: Weights before the step.
        after: Weights after it.
        gradient: At `before`; that of |weight| counts as 0 at 0.
    """
    if penalty.name != "l1":
        return after
    kept = dict(after)
    for name, leaf in after.items():
        if re.search(penalty.select, name):
            held = (before[name] == 0) & (jnp.abs(gradient[name]) <= penalty.weight)
            kept[name] = jnp.where(held | (before[name] * leaf < 0), 0, leaf)
    return kept


def _gates(trunk: PyTree) -> dict[str, Array]:
    if not isinstance(trunk, Mapping):
        return {}
    return {name: leaf for name, leaf in trunk.items() if name.endswith(LOGITS)}
