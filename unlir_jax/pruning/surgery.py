"""Silence channels, take them out, and make up for them."""

from collections.abc import Mapping
from typing import Literal, get_args

import jax
import numpy as np

from unlir_jax import tree
from unlir_jax.models import channels
from unlir_jax.pruning import choice as choices
from unlir_jax.pruning.choice import Choice
from unlir_jax.pruning.inputs import Moments
from unlir_jax.pruning.scores import steadied
from unlir_jax.types import Module, PyTree, Variables

Kind = Literal["mean", "linear"]


def mask(variables: Variables, choice: Choice) -> dict[str, PyTree]:
    """Make the channels that go give exactly 0, at the network's shape.

    Scale and bias of their norms become 0, or their filters where there is no norm; of
    a head of attention its values, so that it adds nothing.

    Returns:
        Variables of the same module; `compensate` them first to make up for what goes.

    Raises:
        ValueError: The choice does not fit, or the variables belong to another network.
    """
    leaves = _leaves(variables, choice)
    for group in choice.graph.groups:
        keep = choice.keep.get(group.layer)
        if keep is None:
            continue
        for maker in group.makers:
            main = f"params/{maker}/norm/scale"
            if main not in leaves:
                main = channels.kernel_among(maker, leaves)
            for path in (main, f"{main.rpartition('/')[0]}/bias"):
                if path in leaves:
                    zeros = np.zeros_like(leaves[path])
                    leaves[path] = np.where(numbers(group, keep), leaves[path], zeros)
    return tree.unflatten(leaves)


def remove(
    module: Module, variables: Variables, choice: Choice
) -> tuple[Module, dict[str, PyTree]]:
    """Take the channels that go out of a network.

    Args:
        module: A network of ours.
        variables: Its variables; `compensate` them first to make up for what goes.
        choice: What `choose` gives.

    Returns:
        The narrower module and its variables. It computes what the module does with
        `mask(variables, choice)`.

    Raises:
        ValueError: The choice or the variables belong to another network, or a layer
            would vanish.
    """
    if channels.graph(module) != choice.graph:
        raise ValueError(
            f"`choice` is for a {choice.graph.network} of other channels than "
            "`module`; expected one made from the graph of this module."
        )
    leaves = _leaves(variables, choice)
    for group in choice.graph.groups:
        keep = choice.keep.get(group.layer)
        if keep is None:
            continue
        stay = numbers(group, keep)
        for maker in (*group.makers, *group.beside):
            own = [path for path in leaves if f"/{maker}/" in path]
            for path in own:
                leaves[path] = leaves[path][..., stay]
        for table in group.tables:
            leaves[f"params/{table}"] = leaves[f"params/{table}"][..., keep]
        path = channels.kernel_among(group.reader, leaves)
        leaves[path] = leaves[path][..., np.tile(stay, group.cells), :]
    return channels.widen(module, choice.widths), tree.unflatten(leaves)


def compensate(
    variables: Variables,
    choice: Choice,
    moments: Mapping[str, Moments],
    kind: Kind = "linear",
) -> dict[str, PyTree]:
    """Let the readers of the channels that go make up for them.

    A channel that goes is replaced by what is best known of it without it: its mean
    (`mean`), or its linear regression on the channels that stay at the same place
    (`linear`; He et al., Channel Pruning, ICCV 2017, equation 4, on inputs instead of
    outputs). The mean goes into the reader's bias, or into the running mean of its
    norm; the regression into its weights for the channels that stay. No labels and no
    training are needed.

    Args:
        variables: Variables at full width, before `mask` or `remove`.
        choice: What `choose` gives.
        moments: What `measure` gives for these variables.
        kind: `mean` or `linear`.

    Returns:
        Variables of the same shapes, to be masked or removed.

    Raises:
        ValueError: The kind is unknown, or anything belongs to another network.

    Note:
        Where a convolution pads with zeros, its border is treated as its interior.
    """
    if kind not in get_args(Kind):
        raise ValueError(
            f"`kind`={kind!r}; expected one of {', '.join(get_args(Kind))}."
        )
    leaves = _leaves(variables, choice)
    choices.check_layers(choice.graph, moments)
    for group in choice.graph.groups:
        keep = choice.keep.get(group.layer)
        if keep is None or keep.all():
            continue
        if group.layer not in moments:
            raise ValueError(f"`moments` lacks {group.layer}, which loses channels.")
        mean, covariance = moments[group.layer]
        keep, known = numbers(group, keep), group.channels * group.size
        if len(mean) != known:
            raise ValueError(
                f"`moments`[{group.layer!r}] is of {len(mean)} channels; expected "
                f"{known}."
            )
        path = channels.kernel_among(group.reader, leaves)
        kernel = leaves[path].astype(np.float64)
        split = kernel.reshape((-1, known, kernel.shape[-1]))
        rest = mean[~keep]
        if kind == "linear":
            inner = steadied(covariance)[np.ix_(keep, keep)]
            factors = np.linalg.solve(inner, covariance[np.ix_(keep, ~keep)])
            split[:, keep] += np.einsum("kg,sgo->sko", factors, split[:, ~keep])
            rest = rest - mean[keep] @ factors
        _shift(group, leaves, np.einsum("g,sgo->o", rest, split[:, ~keep]))
        leaves[path] = kernel.astype(leaves[path].dtype)
    return tree.unflatten(leaves)


def _shift(
    group: channels.Group, leaves: dict[str, np.ndarray], amount: np.ndarray
) -> None:
    """Add a constant to what the reader of a group computes."""
    running = f"batch_stats/{group.reader}/norm/mean"
    bias = channels.kernel_among(group.reader, leaves).replace("/kernel", "/bias")
    path, sign = (running, -1) if running in leaves else (bias, 1)
    leaves[path] = (leaves[path] + sign * amount).astype(leaves[path].dtype)


def numbers(group: channels.Group, keep: np.ndarray) -> np.ndarray:
    """Say of each number whether it stays, of which a channel may have several."""
    return np.repeat(keep, group.size)


def _leaves(variables: Variables, choice: Choice) -> dict[str, np.ndarray]:
    choices.check(choice)
    channels.check(choice.graph, variables)
    leaves = tree.flatten(jax.tree.map(np.asarray, dict(variables)))
    return dict(leaves)
