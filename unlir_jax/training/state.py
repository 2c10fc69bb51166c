"""State of a training, and one step that changes it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from unlir_jax import tree
from unlir_jax.core import loops
from unlir_jax.objectives import losses
from unlir_jax.objectives.objective import Batch, Objective
from unlir_jax.runtime import mesh
from unlir_jax.training import optim
from unlir_jax.types import PyTree, Variables


class State(NamedTuple):
    """Hold all that a run needs to continue; keys and batches follow from `step`.

    Attributes:
        step: Number of updates made.
        params: All parameters, frozen ones included.
        statistics: What the network keeps besides, such as its norms' averages.
        optimizer: State of the optimiser of the parameters that learn; `Replayed`, of
            objectives that replay batches.
        average: Moving average of the network's variables, or {}.
    """

    step: PyTree
    params: PyTree
    statistics: PyTree
    optimizer: PyTree
    average: PyTree = {}


class Replayed(NamedTuple):
    """Hold what steps hand on where batches are replayed, see `Objective.replay`.

    Attributes:
        optimizer: State of the optimiser.
        change: What is added to images, by the place in the global batch.
    """

    optimizer: PyTree
    change: PyTree


def create(
    known: Variables,
    found: Mapping[str, optim.Rule],
    optimizer: optax.GradientTransformation,
    *,
    average: bool = False,
    change: tuple[int, ...] = (),
) -> State:
    """Start from a network's variables; `change` is its shape where there is one."""
    params, statistics = known["params"], known.get("batch_stats", {})
    learning, _ = optim.split_by_rule(params, found)
    kept = optimizer.init(learning)
    if change:
        kept = Replayed(kept, jnp.zeros(change))
    started = State(jnp.zeros((), jnp.int32), params, statistics, kept)
    if not average:
        return started
    return started._replace(average=jax.tree.map(jnp.array, variables(started)))


def variables(state: State) -> Variables:
    """Give the network's variables: the averaged ones where there are any."""
    return state.average or _current(state)


def _current(state: State) -> Variables:
    known = {"params": state.params}
    return known | ({"batch_stats": state.statistics} if state.statistics else {})


class Report(NamedTuple):
    """Hold what a step says of its batch, the same on all devices.

    Attributes:
        values: Means by name, or sums; see the function that reports.
        index: Places of all rows of the global batch in the source, -1 for padding.
        weight: Weights of all rows; 0 where an image could not be read.
        stop: More than 0 if some process has been asked to stop.
        broken: Rows that count and have a value that is not finite, where rows are
            measured one by one, else None.
    """

    values: dict[str, jax.Array]
    index: jax.Array
    weight: jax.Array
    stop: jax.Array
    broken: jax.Array | None = None


def _report(
    values: dict[str, jax.Array], batch: Batch, axis_name: str | None
) -> Report:
    stop = batch.get("stop", jnp.zeros(1))
    return Report(
        values,
        mesh.every_row(batch["index"], axis_name),
        mesh.every_row(batch["weight"], axis_name),
        mesh.total(jnp.sum(stop), axis_name),
    )


Update = Callable[[State, Batch], tuple[State, Report]]


def make_update(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    found: Mapping[str, optim.Rule],
    *,
    seed: int,
    accumulate: int = 1,
    average: float = 0.0,
    axis_name: str | None = None,
) -> Update:
    """Make `update(state, batch) -> (state, report)`, one step of training.

    The loss is the mean over all rows of the global batch that count, however they are
    dealt out to devices and to accumulated parts. Its key is a function of
    `(seed, step)`.

    Args:
        objective: What to minimise.
        optimizer: See `optim.make`.
        found: The rule of each parameter.
        seed: Seed of all that is random.
        accumulate: Number of parts that a device's rows are worked through in. Norms
            see one part at a time.
        average: Share of the old moving average that each step keeps; 0 for none.
        axis_name: The axis of `pmap`, see `mesh.Layout`.

    Returns:
        The function; it reports means over the batch, and the `gradient_norm`.
    """
    differentiate = jax.value_and_grad(_make_total(objective), has_aux=True)

    def update(state: State, batch: Batch) -> tuple[State, Report]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        learning, frozen = optim.split_by_rule(state.params, found)
        kept, change = _parted(state.optimizer, batch)

        def work(
            statistics: PyTree, batch: Batch, part: PyTree
        ) -> tuple[PyTree, PyTree, PyTree]:
            (_, (sums, statistics)), gradients = differentiate(
                (learning, change),
                *(frozen, statistics, batch, jax.random.fold_in(key, part)),
            )
            return gradients, sums, statistics

        gradients, sums, statistics = _accumulate(
            work, state.statistics, batch, accumulate
        )
        gradients, slopes = gradients
        count = jnp.maximum(mesh.total(jnp.sum(batch["weight"]), axis_name), 1e-12)
        gradients, sums = jax.tree.map(
            lambda leaf: leaf / count, mesh.total((gradients, sums), axis_name)
        )
        changes, kept = optimizer.update(gradients, kept, learning)
        learnt: PyTree = optax.apply_updates(learning, changes)
        params = optim.join(learnt, frozen)
        if objective.replay:
            moved = objective.replay.move(change["change"], slopes["change"])
            rows = mesh.every_row(moved, axis_name)
            places = mesh.every_row(batch["position"], axis_name)
            kept = Replayed(kept, state.optimizer.change.at[places].set(rows))
        new = State(state.step + 1, params, statistics, kept, state.average)
        new = new._replace(average=_average(new, average))
        means = sums | {"gradient_norm": optim.norm(gradients)}
        return new, _report(means, batch, axis_name)

    return update


def _parted(kept: PyTree, batch: Batch) -> tuple[PyTree, dict[str, jax.Array]]:
    """Part the optimiser's state from the change of the rows, where there is one."""
    if not isinstance(kept, Replayed):
        return kept, {}
    return kept.optimizer, {"change": kept.change[batch["position"]]}


def _make_total(objective: Objective) -> Callable[..., PyTree]:
    """Make what is differentiated: the sum of the loss over the rows that count."""

    def total(
        learned: tuple[PyTree, PyTree],
        frozen: PyTree,
        statistics: PyTree,
        batch: Batch,
        key: jax.Array,
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], PyTree]]:
        learning, change = learned
        known = {"params": optim.join(learning, frozen)}
        known |= {"batch_stats": statistics} if statistics else {}
        outcome = objective.train(known, {**batch, **change}, key)
        rows = {"loss": outcome.loss} | outcome.metrics
        sums = {
            name: losses.weighted_total(row, batch["weight"])
            for name, row in rows.items()
        }
        return sums["loss"], (sums, outcome.statistics)

    return total


def _accumulate(
    work: Callable[..., tuple[PyTree, PyTree, PyTree]],
    statistics: PyTree,
    batch: Batch,
    parts: int,
) -> tuple[PyTree, PyTree, PyTree]:
    """Add up gradients and sums over parts of a batch, one after the other."""
    if parts == 1:
        return work(statistics, batch, 0)
    dealt = {name: _deal(rows, parts) for name, rows in batch.items()}
    first = {name: rows[0] for name, rows in dealt.items()}
    shapes = jax.eval_shape(work, statistics, first, 0)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(carry: PyTree, part: PyTree) -> tuple[PyTree, None]:
        index, rows = part
        *sums, statistics = carry
        *more, statistics = work(statistics, rows, index)
        return (*jax.tree.map(jnp.add, sums, more), statistics), None

    carry = (zeros[0], zeros[1], statistics)
    # XLA runs convolutions inside a loop slowly on CPU, so there is no loop there.
    unroll = parts if loops.place("auto") == "host" else 1
    carry, _ = jax.lax.scan(add, carry, (jnp.arange(parts), dealt), unroll=unroll)
    return carry


def _deal(rows: jax.Array, parts: int) -> jax.Array:
    """Part rows so that each part lies on all devices, and neighbours stay together."""
    pair = 2 if rows.shape[0] % (2 * parts) == 0 else 1
    shape = (rows.shape[0] // (parts * pair), parts, pair, *rows.shape[1:])
    dealt = jnp.moveaxis(rows.reshape(shape), 1, 0)
    return dealt.reshape((parts, rows.shape[0] // parts, *rows.shape[1:]))


def _average(state: State, keep: float) -> PyTree:
    """Move the average; it follows faster at first, lest it remember the start."""
    if not state.average:
        return {}
    step = state.step.astype(jnp.float32)
    share = jnp.minimum(keep, (1 + step) / (10 + step))
    # What is frozen stays bit for bit as it is, which a sum of shares would not.
    return jax.tree.map(
        lambda old, new: jnp.where(old == new, new, share * old + (1 - share) * new),
        state.average,
        _current(state),
    )


def make_check(laid: mesh.Layout) -> Callable[[State], dict[str, jax.Array]]:
    """Make `check(state)`: whether each array of the network is finite, by path.

    Args:
        laid: How the state lies on devices; in `pmap` mode without its copies.
    """

    def check(state: State) -> dict[str, jax.Array]:
        kept = tree.listed((state.params, state.statistics, state.average))
        return {
            path.partition("/")[2]: jnp.isfinite(leaf).all()
            for path, leaf in kept.items()
            if jnp.issubdtype(leaf.dtype, jnp.floating)
        }

    return mesh.compile_whole(laid, check)


def make_measure(
    objective: Objective, *, axis_name: str | None = None
) -> Callable[[PyTree, Batch], Report]:
    """Make `measure(variables, batch) -> report`, of sums over the rows that count.

    The sums include the `weight`, their number: divided by it after the last batch,
    they are means over exactly the examples there are.
    """

    def measure(known: PyTree, batch: Batch) -> Report:
        rows = objective.evaluate(known, batch)
        weight = batch["weight"]
        sums = {n: losses.weighted_total(row, weight) for n, row in rows.items()}
        sums = mesh.total(sums | {"weight": jnp.sum(weight)}, axis_name)
        sound = jnp.stack([jnp.isfinite(row) for row in rows.values()]).all(0)
        broken = mesh.every_row((weight > 0) & ~sound, axis_name)
        return _report(sums, batch, axis_name)._replace(broken=broken)

    return measure
