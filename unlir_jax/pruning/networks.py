"""Prune a loaded network, and keep it."""

import os
from collections.abc import Mapping
from pathlib import Path

from unlir_jax import tree
from unlir_jax.models import pretrained
from unlir_jax.pruning import surgery
from unlir_jax.pruning.choice import Choice
from unlir_jax.pruning.inputs import Moments
from unlir_jax.weights import exported


def prune(
    network: pretrained.Pretrained,
    choice: Choice,
    moments: Mapping[str, Moments] | None = None,
    kind: surgery.Kind = "linear",
) -> pretrained.Pretrained:
    """Take channels out of a loaded network, which explains and saves like any other.

    Args:
        network: What `unlir_jax.load` gives.
        choice: What `choose` gives for its module.
        moments: What `measure` gives, to make up for what goes; without them nothing
            is made up for.
        kind: See `compensate`.

    Raises:
        ValueError: See `compensate` and `remove`.
    """
    variables = network.variables
    if moments is not None:
        variables = surgery.compensate(variables, choice, moments, kind)
    module, variables = surgery.remove(network.module, variables, choice)
    return pretrained.changed(network, module, variables)


def save(network: pretrained.Pretrained, folder: str | os.PathLike[str]) -> Path:
    """Write a network's weights, and what they are for, into a folder.

    `unlir_jax.load(folder)` gives the network back: the shapes of its arrays say how
    wide it is.

    Args:
        network: Pruned or not, with its norms.
        folder: Exists already; a file of weights in it is not replaced.

    Returns:
        The file.

    Raises:
        FileExistsError: The folder has a file of weights.
        ValueError: The folder does not exist, or the norms have been folded.
    """
    if not network.module.style.norm:
        raise ValueError(
            f"The norms of this {network.name} are folded, which `load` does not "
            "expect; save one that was loaded with fold=False."
        )
    if not Path(folder).is_dir():
        raise ValueError(f"`folder`={str(folder)!r} does not exist; expected one.")
    path = Path(folder) / exported.FILE
    if path.exists():
        raise FileExistsError(f"`folder`={str(folder)!r} has {path.name} already.")
    purpose = pretrained.purpose(network)
    return exported.write(folder, tree.flatten(network.variables), purpose)
