"""Checkpoints with Orbax: atomic, in the background, and checked when read back."""

import contextlib
import gc
import math
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from unlir_jax import tree
from unlir_jax.core import extras
from unlir_jax.core.document_types import Document
from unlir_jax.runtime import checkpoint_record
from unlir_jax.types import PyTree

with extras.needed("train"):
    import orbax.checkpoint as ocp
    from orbax.checkpoint import checkpoint_managers

FOLDER = "checkpoints"
STATE, RECORD = "state", "record"
HALF_WRITTEN = "*.orbax-checkpoint-tmp*"
# Bytes that metadata may take, besides the arrays themselves.
ROOM = 100_000


class Restored(NamedTuple):
    """Hold what was read back: the step, the state, and what was noted next to it."""

    step: int
    state: PyTree
    notes: dict[str, object]


def open_manager(
    folder: Path,
    *,
    keep_last: int = 1,
    best: str = "",
    largest: bool = True,
    read_only: bool = False,
) -> ocp.CheckpointManager:
    """Open the checkpoints of a run.

    Args:
        folder: Where they lie; it is made if need be.
        keep_last: How many of the newest are kept.
        best: Name of a metric whose best checkpoint is kept too; "" for none.
        largest: Whether the largest value of it is the best.
        read_only: Whether somebody else is writing there.

    Raises:
        ValueError: `keep_last` is less than 1.
    """
    if keep_last < 1:
        raise ValueError(f"`keep_last`={keep_last}; expected at least 1.")
    if not read_only and jax.process_index() == 0:
        # A manager of orbax 0.12 would do it in the background, and is closed while it
        # does: the next one of the folder then removes the same files, and fails.
        for left in folder.glob(HALF_WRITTEN):
            shutil.rmtree(left)
    keep: list[Any] = [checkpoint_managers.LatestN(keep_last)]
    worst = -math.inf if largest else math.inf

    def measured(metrics: Mapping[str, float]) -> float:
        return metrics.get(best, worst)

    if best:
        keep.append(
            checkpoint_managers.BestN(
                get_metric_fn=measured,
                reverse=not largest,
                n=1,
                keep_checkpoints_without_metrics=False,
            )
        )
    return ocp.CheckpointManager(
        folder.resolve(),
        options=ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(keep),
            # Without it metrics are not written, and a later start knows no best.
            best_fn=measured if best else None,
            save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1),
            create=not read_only,
            read_only=read_only,
            enable_async_checkpointing=not read_only,
        ),
    )


def save(
    manager: ocp.CheckpointManager,
    step: int,
    state: PyTree,
    notes: Document,
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Save a state; the writing continues in the background.

    Args:
        manager: See `open_manager`.
        step: Its number.
        state: A tree of arrays.
        notes: What JSON can hold, kept with it.
        metrics: What `best` is chosen by.

    Raises:
        OSError: It, or the one before, could not be written, for example because the
            disk is full; those before that are as they were.
    """
    _check_room(manager, state)
    record = checkpoint_record.make(notes, state)
    _guard(
        lambda: manager.save(
            step,
            args=ocp.args.Composite(
                **{
                    STATE: ocp.args.StandardSave(state),
                    RECORD: ocp.args.JsonSave(record),
                }
            ),
            metrics=dict(metrics or {}),
            force=True,
        ),
        manager,
    )


def finish(manager: ocp.CheckpointManager) -> None:
    """Wait until all that was saved is on the disk.

    Raises:
        OSError: It could not be written.
    """
    _guard(manager.wait_until_finished, manager)


def _check_room(manager: ocp.CheckpointManager, state: PyTree) -> None:
    """Refuse before anything is written where the disk has too little space."""
    needed = sum(np.size(leaf) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    free = shutil.disk_usage(manager.directory).free
    if free < needed + ROOM:
        raise OSError(
            f"A checkpoint of {needed / 1e6:.1f} MB does not fit on the disk of "
            f"{str(manager.directory)!r}, where {free / 1e6:.1f} MB are free; complete "
            f"ones there: {_complete(manager)}. Make room, and give the same command."
        )


def _complete(manager: ocp.CheckpointManager) -> str:
    # The manager has struck off those that it was about to replace.
    return ", ".join(map(str, steps(Path(manager.directory)))) or "none"


def _guard(action: Callable[[], object], manager: ocp.CheckpointManager) -> None:
    try:
        action()
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        # Long ones begin with what was done and end with why that failed.
        reason = reason if len(reason) < 300 else f"{reason[:140]} … {reason[-150:]}"
        raise OSError(
            f"A checkpoint could not be written to {str(manager.directory)!r} "
            f"({reason}); complete ones there: {_complete(manager)}."
        ) from error


def restore(
    manager: ocp.CheckpointManager,
    like: PyTree,
    check_notes: Callable[[Document], object] = lambda notes: None,
) -> Restored | None:
    """Read the newest checkpoint that is whole, onto the devices of `like`.

    A damaged one is skipped with a warning, and the one before it is used.

    Args:
        manager: See `open_manager`.
        like: A state of the same names and shapes, laid out as the result shall be.
        check_notes: Raises ValueError where notes are not what was noted: such a
            checkpoint is damaged as well.

    Returns:
        None if there is no checkpoint.

    Raises:
        ValueError: The newest belongs to another model, or all are damaged.
    """
    steps = sorted(manager.all_steps(), reverse=True)
    for step in steps:
        try:
            record = checkpoint_record.read(_place(manager, step))
            leaves, notes = record["leaves"], record["notes"]
            check_notes(notes)
        except (OSError, ValueError) as error:
            _skip(manager, step, error)
            continue
        _check_same_model(leaves, like, manager, step)
        try:
            state = _read(manager, step, like)
            checkpoint_record.check_sums(leaves, state)
            return Restored(step, state, notes)
        # Whatever a damaged file makes the reader raise, the one before is tried.
        except Exception as error:
            _skip(manager, step, error)
        _drop_other_reads()
    if steps:
        raise ValueError(
            f"No checkpoint in {str(manager.directory)!r} can be read, though there "
            f"are some of steps {', '.join(map(str, steps))}; expected one that is "
            "whole: start anew in another workdir, or without that folder."
        )
    return None


def set_aside(manager: ocp.CheckpointManager, step: int) -> None:
    """Move checkpoints of later steps out of the way of those that are to come.

    They are the damaged ones that `restore` has skipped; they go to the folder
    `damaged_checkpoints`, and nothing is deleted.
    """
    later = [number for number in manager.all_steps() if number > step]
    if not later:
        return
    folder = Path(manager.directory)
    _meet("before checkpoints are moved")
    if jax.process_index() == 0:
        aside = folder.with_name(f"damaged_{folder.name}")
        aside.mkdir(exist_ok=True)
        for number in later:
            place, copy = aside / str(number), 1
            while place.exists():
                copy += 1
                place = aside / f"{number}_{copy}"
            (folder / str(number)).rename(place)
    _meet("after checkpoints were moved")
    manager.reload()


def _meet(where: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def _place(manager: ocp.CheckpointManager, step: int) -> Path:
    return Path(manager.directory) / str(step) / RECORD / "metadata"


def steps(folder: Path) -> list[int]:
    """List the steps of which there are checkpoints, whole or not, in order."""
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal())


def _read(manager: ocp.CheckpointManager, step: int, like: PyTree) -> PyTree:
    # Orbax takes arrays of NumPy, but not its scalars.
    arrays = jax.tree.map(
        lambda leaf: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf), like
    )
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, arrays)
    restored = manager.restore(
        step, args=ocp.args.Composite(**{STATE: ocp.args.StandardRestore(target)})
    )
    return restored[STATE]


def _skip(manager: ocp.CheckpointManager, step: int, error: Exception) -> None:
    reason = " ".join(str(error).split())[:200]
    warnings.warn(
        f"The checkpoint of step {step} in {str(manager.directory)!r} is damaged and "
        f"is skipped ({type(error).__name__}: {reason}).",
        stacklevel=3,
    )


def _drop_other_reads() -> None:
    """Let go of reads that Orbax gave up after one failed, without pages of noise."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: None
    gc.collect()
    sys.unraisablehook = hook


def _check_same_model(
    leaves: Document, like: PyTree, manager: ocp.CheckpointManager, step: int
) -> None:
    mine = {path: list(np.shape(leaf)) for path, leaf in tree.listed(like).items()}
    theirs = {path: entry["shape"] for path, entry in leaves.items()}
    if mine == theirs:
        return
    differing = [
        f"{path} ({theirs.get(path, 'missing')} there, {mine.get(path, 'none')} here)"
        for path in sorted(set(mine) | set(theirs))
        if mine.get(path) != theirs.get(path)
    ]
    more = f" and {len(differing) - 6} more" if len(differing) > 6 else ""
    raise ValueError(
        f"The checkpoint of step {step} in {str(manager.directory)!r} belongs to "
        f"another model: {', '.join(differing[:6])}{more}; expected the one that this "
        "config describes, or another workdir."
    )


def read_arrays(folder: Path) -> dict[str, PyTree]:
    """Read a checkpoint of whatever model, as NumPy arrays.

    Args:
        folder: One checkpoint, or a folder with checkpoints or a whole workdir, of
            which the newest is read.

    Raises:
        ValueError: There is none, or it cannot be read.
    """
    place: Any = _newest(folder)
    try:
        with contextlib.closing(ocp.PyTreeCheckpointHandler()) as reader:
            shapes = reader.metadata(place).tree
            plain = jax.tree.map(
                lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray), shapes
            )
            arrays = reader.restore(
                place, args=ocp.args.PyTreeRestore(restore_args=plain)
            )
        known = checkpoint_record.read(place.parent / RECORD / "metadata")
        checkpoint_record.check_sums(known["leaves"], arrays)
        return arrays
    # Whatever a damaged file makes the reader raise.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"The checkpoint {str(place.parent)!r} cannot be read "
            f"({type(error).__name__}: {reason}); expected one that is whole."
        ) from error


def _newest(folder: Path) -> Path:
    for above in (folder, folder / FOLDER):
        steps = [
            p for p in above.glob("*") if p.name.isdigit() and (p / STATE).is_dir()
        ]
        if steps:
            return max(steps, key=lambda path: int(path.name)) / STATE
    if (folder / STATE).is_dir():
        return folder / STATE
    raise ValueError(
        f"Folder {str(folder)!r} holds no checkpoint; expected a workdir of `unlir "
        f"train`, or a checkpoint of it, WORKDIR/{FOLDER}/STEP."
    )
