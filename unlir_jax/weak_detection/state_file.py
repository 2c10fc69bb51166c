"""State of a stopped training in a file: its arrays, in order."""

import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.storage import files
from unlir_jax.types import PyTree
from unlir_jax.weights import readers

FILE = "state.npz"
STEP = "step"


def write(folder: Path, step: int, state: PyTree) -> None:
    """Write a state and its step, complete or not at all."""
    leaves = jax.tree.leaves(jax.device_get(state))
    stream = io.BytesIO()
    named = {f"leaf{i}": x for i, x in _all(leaves)}
    np.savez(stream, allow_pickle=False, step=np.asarray(step), **named)
    files.write_bytes(folder / FILE, stream.getvalue())


def _all(leaves: list) -> list[tuple[int, np.ndarray]]:
    return [(place, np.asarray(leaf)) for place, leaf in enumerate(leaves)]


def read(folder: Path, begun: PyTree) -> tuple[int, PyTree]:
    """Read what was written, or give what is begun with at step 0.

    A file that is damaged, or of another shape, is as none.
    """
    wanted = jax.tree.leaves(begun)
    try:
        arrays = readers.read(folder / FILE)
        step = int(arrays[STEP].item())
        leaves = [arrays[f"leaf{place}"] for place in range(len(wanted))]
    except (OSError, ValueError, KeyError, OverflowError):
        return 0, begun
    fits = all(
        found.shape == np.shape(leaf) and np.isfinite(found).all()
        for found, leaf in zip(leaves, wanted, strict=True)
    )
    if not fits or step < 0:
        return 0, begun
    arrays = [jnp.asarray(each) for each in leaves]
    return step, jax.tree.unflatten(jax.tree.structure(begun), arrays)


def remove(folder: Path) -> None:
    """Remove what a finished training needs no more."""
    (folder / FILE).unlink(missing_ok=True)
