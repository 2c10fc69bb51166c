"""Weights of filters as parameters that train like any other, hidden from the network.

They are one more folder of the parameters, `filters/…`: the optimiser's table, moving
averages and checkpoints know them, and whatever applies the network gets variables with
the weights multiplied in.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unlir_jax import filters, tree
from unlir_jax.core.document_types import Settings
from unlir_jax.features import block_cut
from unlir_jax.filters import sparsity
from unlir_jax.models import pretrained
from unlir_jax.objectives.objective import Batch, Objective, Outcome
from unlir_jax.types import Array, PerImage, PyTree, RandomKey, Variables

FOLDER = "filters"
_CLASSIFIER = "classifier/"


def pattern(network: pretrained.Pretrained, chosen: Settings, image_size: int) -> str:
    """Give the pattern of layers whose filters have weights; "" for none.

    Args:
        network: Whose.
        chosen: `model.filters` of the settings, see `defaults.training`.
        image_size: Side of the images in pixels.

    Raises:
        ValueError: Two settings say it, or there is no such block.
    """
    if chosen.select and chosen.after:
        raise ValueError(
            f"`model.filters.select`={chosen.select!r} beside "
            f"`model.filters.after`={chosen.after!r}; expected one of them."
        )
    if not chosen.after:
        return chosen.select
    module = network.module
    block = block_cut.behind(module, image_size, chosen.after, "model.filters.after")
    return block_cut.pattern(module, image_size, block)


def start(
    network: pretrained.Pretrained,
    settings: Settings,
    penalty: sparsity.Penalty,
    image_size: int,
) -> dict[str, PyTree]:
    """Make weights that are all 1, with the gates that a penalty needs, as a folder.

    The classifier learns itself, and has none.

    Args:
        network: As it is before it learns.
        settings: Settings of the training.
        penalty: What will pull at the weights.
        image_size: Side of the images in pixels.

    Returns:
        Parameters by path, to be added to the network's; {} where nothing is selected.

    Raises:
        ValueError: A setting that makes no sense; the sentence says what would.
    """
    sparsity.check(penalty)
    chosen = settings.model.filters
    select = pattern(network, chosen, image_size)
    if not select:
        if penalty.name:
            raise ValueError(
                f"`penalty.name`={penalty.name!r} pulls at weights of filters, and "
                "there are none; expected model.filters.after='auto' or a "
                "model.filters.select, or no penalty."
            )
        return {}
    for name, value in (
        ("features.cache", settings.features.cache),
        ("model.adapter", settings.model.adapter),
    ):
        if value:
            raise ValueError(
                f"`{name}`={value!r} fixes the filters of the trunk, whose weights "
                f"shall learn; expected another {name}, or no model.filters."
            )
    tables = {"pairing": filters.pairs(network), "heads": filters.heads(network)}
    made = filters.init(network.variables, select, chosen.mode, **tables)
    made = {n: leaf for n, leaf in made.items() if not n.startswith(_CLASSIFIER)}
    if not made:
        raise ValueError(
            f"`model.filters.select`={select!r} selects the classifier only, which "
            "learns itself; expected layers of the trunk."
        )
    begun = sparsity.begin(made, penalty)
    return {FOLDER: tree.unflatten(jax.tree.map(np.asarray, begun))}


def learnt(variables: Variables) -> dict[str, Array]:
    """Give the weights by name, as `filters.init` does, gates multiplied in."""
    return sparsity.settle(_named(variables))


def summary(variables: Variables) -> dict[str, int | float]:
    """Say how many weights there are, where they lie, and how many ended at 0."""
    weights = learnt(variables)
    if not weights:
        return {}
    every = np.concatenate([np.ravel(leaf) for leaf in weights.values()])
    return {
        "filters/weights": every.size,
        "filters/zero": int(np.sum(every == 0)),
        "filters/least": float(every.min()),
        "filters/largest": float(every.max()),
    }


def frozen(variables: Variables) -> Variables:
    """Give the network's own variables, without weights."""
    own = {n: leaf for n, leaf in variables["params"].items() if n != FOLDER}
    return {**variables, "params": own}


def plain(variables: Variables, key: RandomKey | None = None) -> Variables:
    """Give the network's own variables, weights multiplied in.

    Args:
        variables: Perhaps with weights among them; returned as they are if not.
        key: Random key of the gates while learning; None for their usual state.
    """
    weights = _named(variables)
    if not weights:
        return variables
    return filters.apply(frozen(variables), sparsity.settle(weights, key))


def _named(variables: Variables) -> dict[str, Array]:
    return tree.flatten(variables["params"].get(FOLDER, {}))


def weighted(
    objective: Objective, penalty: sparsity.Penalty, begun: Mapping[str, PyTree]
) -> Objective:
    """Put weights into the network before an objective sees it, and a penalty on them.

    Metrics: the objective's and, in training, the `penalty`, if any. The loss
    that is reported when evaluated is the objective's alone.

    Args:
        objective: Objective of the network without weights.
        penalty: What is added to its loss.
        begun: What `start` gave.
    """
    if not begun:
        return objective
    cost = sparsity.cost(penalty, tree.flatten(begun[FOLDER]))
    drawn = penalty.name == "hard_concrete"

    def train(variables: Variables, batch: Batch, key: RandomKey) -> Outcome:
        gates = None
        if drawn:
            # The same on all devices, unlike what is drawn for rows.
            gates, key = jax.random.split(key)
        outcome = objective.train(plain(variables, gates), batch, key)
        if not penalty.name:
            return outcome
        price = jnp.broadcast_to(cost(_named(variables)), outcome.loss.shape)
        metrics = outcome.metrics | {"penalty": price}
        return outcome._replace(loss=outcome.loss + price, metrics=metrics)

    def evaluate(variables: Variables, batch: Batch) -> dict[str, PerImage]:
        return objective.evaluate(plain(variables), batch)

    return objective._replace(train=train, evaluate=evaluate)


def stopping(
    optimizer: optax.GradientTransformation, penalty: sparsity.Penalty
) -> optax.GradientTransformation:
    """Let weights under l1 stop at 0, see `sparsity.stop_at_zero`."""
    if penalty.name != "l1":
        return optimizer

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None
    ) -> tuple[PyTree, PyTree]:
        changes: PyTree
        changes, state = optimizer.update(updates, state, params)
        moved = optax.apply_updates(params, changes)
        weights = (_inside(leaves) for leaves in (params, moved, updates))
        kept = sparsity.stop_at_zero(penalty, *weights)
        stopped = dict(changes)
        for name, leaf in kept.items():
            path = f"{FOLDER}/{name}"
            # The difference to 0 is exact.
            stopped[path] = jnp.where(leaf == 0, -params[path], changes[path])
        return stopped, state

    return optax.GradientTransformation(optimizer.init, update)


def _inside(leaves: PyTree) -> dict[str, Array]:
    """Give the weights among parameters by path."""
    inside = {p: leaf for p, leaf in leaves.items() if p.startswith(f"{FOLDER}/")}
    return {p.removeprefix(f"{FOLDER}/"): leaf for p, leaf in inside.items()}
