"""Devices: how arrays lie on them, and one step compiled for all of them.

The same program runs on one CPU, on eight GPUs and on a slice of TPUs: arrays carry
where they lie, and the compiler adds what must be exchanged. `mode="pmap"` writes the
exchange out instead; both give the same numbers to rounding.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from unlir_jax.core import choices
from unlir_jax.types import Array, PyTree

AXIS = "data"
Step = Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]
Measure = Callable[[PyTree, PyTree], PyTree]
Mode = Literal["jit", "pmap"]

COORDINATOR, PROCESSES, PROCESS, DISTRIBUTED = (
    "UNLIR_COORDINATOR",
    "UNLIR_PROCESSES",
    "UNLIR_PROCESS",
    "UNLIR_DISTRIBUTED",
)


class Layout(NamedTuple):
    """Say how a training step is spread over devices.

    Attributes:
        mesh: All devices of all processes, along one axis.
        mode: `jit`, where arrays are global and the compiler exchanges what it must, or
            `pmap`, where each device runs its share and the step exchanges.
        shard_above: Leaves of at least so many numbers are cut over the devices, in
            `jit` mode; 0 keeps a copy of everything on each.
    """

    mesh: Mesh
    mode: Mode = "jit"
    shard_above: int = 0

    @property
    def axis_name(self) -> str | None:
        """The axis that sums run over inside a step; None where sums are global."""
        return AXIS if self.mode == "pmap" else None

    @property
    def local_devices(self) -> int:
        """How many of the devices belong to this process."""
        here = jax.process_index()
        return sum(device.process_index == here for device in self.mesh.devices.flat)


def join_processes(environment: Mapping[str, str] = os.environ) -> bool:
    """Join the other processes of a run, if the environment names any.

    Either all of `UNLIR_COORDINATOR` (host:port), `UNLIR_PROCESSES` and `UNLIR_PROCESS`
    are set, or `UNLIR_DISTRIBUTED=auto` leaves it to JAX to find the cluster. To be
    called before any array is made.

    Returns:
        Whether there are others.

    Raises:
        ValueError: Some of the variables are missing or are no numbers.
    """
    names = (COORDINATOR, PROCESSES, PROCESS)
    given = {name: environment[name] for name in names if environment.get(name)}
    how = environment.get(DISTRIBUTED, "")
    if how not in ("", "auto"):
        raise ValueError(f"{DISTRIBUTED}={how!r}; expected 'auto', or nothing at all.")
    if not given and not how:
        return False
    if not given:
        jax.distributed.initialize()
        return True
    missing = [name for name in names if name not in given]
    if missing:
        raise ValueError(
            f"{', '.join(given)} without {', '.join(missing)}; expected all of "
            f"{', '.join(names)}, or none for a run of one process."
        )
    count, index = given[PROCESSES], given[PROCESS]
    if not (count.isdecimal() and index.isdecimal() and int(index) < int(count)):
        raise ValueError(
            f"{PROCESS}={index!r} of {PROCESSES}={count!r}; expected a number of "
            "processes, and an index below it."
        )
    jax.distributed.initialize(given[COORDINATOR], int(count), int(index))
    return True


def is_first() -> bool:
    """Tell the process that writes and prints for all."""
    return jax.process_index() == 0


def agree(*numbers: int) -> tuple[int, ...]:
    """Give all processes the whole numbers that the first one has."""
    if jax.process_count() == 1:
        return numbers
    from jax.experimental import multihost_utils

    told = multihost_utils.broadcast_one_to_all(np.asarray(numbers))
    return tuple(int(number) for number in told)


def first_does[T](action: Callable[[], T], what: str) -> T | None:
    """Let the first process do something for all, and all fail where it fails.

    Args:
        action: What it does; all others wait until it is done.
        what: A sentence's end about what it does, as in "claim the workdir".

    Returns:
        What the action gives; None in all other processes.

    Raises:
        ValueError: What the action raises; in the other processes, that it did.
    """
    found, refusal = None, None
    if is_first():
        try:
            found = action()
        except ValueError as error:
            refusal = error
    (refused,) = agree(int(refusal is not None))
    if refusal is not None:
        raise refusal
    if refused:
        raise ValueError(
            f"The first process could not {what}, and says why; expected it to."
        )
    return found


def wait_for_all(what: str) -> None:
    """Wait until all processes have come here; `what` names the place."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)


def layout(
    mode: Mode = "jit",
    shard_above: int = 0,
    devices: Sequence[Any] | None = None,
) -> Layout:
    """Lay a run out over devices, by default all there are.

    Raises:
        ValueError: An unknown mode, or cut parameters in `pmap` mode.
    """
    choices.check("mode", mode, Mode)
    if mode == "pmap" and shard_above:
        raise ValueError(
            f"`shard_above`={shard_above} with `mode`='pmap', which keeps a copy of "
            "everything on each device; expected 0, or `mode`='jit'."
        )
    # A process's rows of a batch go to its own devices, so those must be neighbours.
    ordered = sorted(
        jax.devices() if devices is None else devices,
        key=lambda device: (device.process_index, device.id),
    )
    # The default axis type, Explicit, refuses the scatter in a loss's derivative.
    mesh = Mesh(np.array(ordered), (AXIS,), axis_types=(AxisType.Auto,))
    return Layout(mesh, mode, shard_above)


def check_batch_size(laid: Layout, batch_size: int, parts: int = 1) -> None:
    """Refuse a batch that cannot be dealt out evenly.

    Args:
        laid: The devices.
        batch_size: Over all devices and processes.
        parts: Into how many a device's share is cut again, to be summed up.

    Raises:
        ValueError: It does not divide; the message names the nearest sizes that do.
    """
    devices = laid.mesh.size
    unit = devices * parts
    if batch_size < 1 or batch_size % unit:
        below = batch_size // unit * unit
        near = f"{below} or {below + unit}" if below > 0 else f"{unit}"
        each = f" x {parts} accumulated parts" if parts > 1 else ""
        raise ValueError(
            f"`batch_size`={batch_size} cannot be dealt out to {devices} devices"
            f"{each}; expected a multiple of {unit}, such as {near}."
        )


def sharding(laid: Layout, leaf: PyTree) -> NamedSharding:
    """Say where a leaf of the state lies: everywhere, or cut along its longest axis."""
    shape = np.shape(leaf)
    cut: list[str | None] = [None] * len(shape)
    if laid.shard_above and np.prod(shape) >= laid.shard_above:
        for axis in sorted(range(len(shape)), key=lambda axis: -shape[axis]):
            if shape[axis] % laid.mesh.size == 0:
                cut[axis] = AXIS
                break
    return NamedSharding(laid.mesh, PartitionSpec(*cut))


def put_state(laid: Layout, state: PyTree) -> PyTree:
    """Lay a tree of whole arrays, equal on all processes, out on the devices."""
    if laid.mode == "pmap":
        count = laid.local_devices

        def copies(leaf: PyTree) -> np.ndarray:
            whole = np.asarray(leaf)
            return np.broadcast_to(whole, (count, *whole.shape))

        return jax.tree.map(copies, state)

    def spread(leaf: PyTree) -> jax.Array:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return leaf  # Restored as it shall lie.
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(
            whole.shape, sharding(laid, whole), lambda place: whole[place]
        )

    return jax.tree.map(spread, state)


def get_state(laid: Layout, state: PyTree) -> PyTree:
    """Undo the copies of `pmap` mode: a tree of whole arrays, as it is saved."""
    if laid.mode == "jit":
        return state
    return jax.tree.map(
        lambda leaf: (
            np.asarray(leaf.addressable_shards[0].data)[0]
            if isinstance(leaf, jax.Array)
            else leaf[0]
        ),
        state,
    )


def gather(laid: Layout, tree: PyTree) -> PyTree:
    """Bring a laid out tree to the host as NumPy arrays, whole on each process."""
    state = get_state(laid, tree)
    if laid.shard_above and jax.process_count() > 1:
        everywhere = NamedSharding(laid.mesh, PartitionSpec())
        state = jax.jit(lambda leaves: leaves, out_shardings=everywhere)(state)
    return jax.tree.map(np.asarray, state)


def put_batch(laid: Layout, batch: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """Lay this process's rows of a batch out on its devices."""
    if laid.mode == "pmap":
        count = laid.local_devices
        return {
            name: rows.reshape(count, -1, *rows.shape[1:])
            for name, rows in batch.items()
        }
    rows_cut = NamedSharding(laid.mesh, PartitionSpec(AXIS))
    return {
        name: jax.make_array_from_process_local_data(rows_cut, rows)
        for name, rows in batch.items()
    }


def compile_update(laid: Layout, update: Step) -> Step:
    """Compile `update(state, batch) -> (state, metrics)`; the old state is used up.

    Metrics must be equal on all devices, as sums by `total` are.
    """
    if laid.mode == "jit":
        everywhere = NamedSharding(laid.mesh, PartitionSpec())
        compiled: dict[object, Step] = {}

        def run(state: PyTree, batch: PyTree) -> tuple[PyTree, PyTree]:
            shape = jax.tree.structure((state, batch))
            if shape not in compiled:
                lie = jax.tree.map(lambda leaf: leaf.sharding, state)
                compiled[shape] = jax.jit(
                    update, donate_argnums=0, out_shardings=(lie, everywhere)
                )
            return compiled[shape](state, batch)

        return run
    spread = jax.pmap(update, AXIS, devices=_pmap_devices(laid), donate_argnums=0)

    def run_spread(state: PyTree, batch: PyTree) -> tuple[PyTree, PyTree]:
        state, metrics = spread(state, batch)
        return state, jax.tree.map(
            lambda leaf: leaf.addressable_shards[0].data[0], metrics
        )

    return run_spread


def compile_measure(laid: Layout, measure: Measure) -> Measure:
    """Compile `measure(state, batch) -> sums`, which leaves the state as it is."""
    if laid.mode == "jit":
        return jax.jit(measure, out_shardings=NamedSharding(laid.mesh, PartitionSpec()))
    spread = jax.pmap(measure, AXIS, devices=_pmap_devices(laid))

    def run_spread(state: PyTree, batch: PyTree) -> PyTree:
        return jax.tree.map(
            lambda leaf: leaf.addressable_shards[0].data[0], spread(state, batch)
        )

    return run_spread


def compile_whole(
    laid: Layout, function: Callable[[PyTree], PyTree]
) -> Callable[[PyTree], PyTree]:
    """Compile a function of a state as `get_state` gives it; all devices get all."""
    if laid.mode == "pmap":
        return jax.jit(function)
    return jax.jit(function, out_shardings=NamedSharding(laid.mesh, PartitionSpec()))


def _pmap_devices(laid: Layout) -> list[object] | None:
    # Across processes pmap takes all devices by itself, and refuses a list of them.
    return None if jax.process_count() > 1 else list(laid.mesh.devices.flat)


def total(values: PyTree, axis_name: str | None) -> PyTree:
    """Sum over devices inside a step, where `axis_name` says that each has a share."""
    return values if axis_name is None else jax.lax.psum(values, axis_name)


def every_row(rows: jax.Array, axis_name: str | None) -> jax.Array:
    """Bring the rows of all devices together inside a step, as `total` sums them."""
    if axis_name is None:
        return rows
    gathered = jax.lax.all_gather(rows, axis_name)
    return gathered.reshape((-1, *rows.shape[1:]))


def per_row_keys(key: jax.Array, position: jax.Array) -> jax.Array:
    """Derive a key for each row from its place in the global batch.

    What is drawn from it does not depend on how the batch lies on devices.
    """
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(jnp.asarray(position))
