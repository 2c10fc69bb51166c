"""Exact search among descriptors, on however many devices there are."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from unlir_jax.runtime import mesh
from unlir_jax.types import Array

QUERIES = 256


class Matches(NamedTuple):
    """Hold the nearest rows of the index for each query.

    Attributes:
        places: `[queries, count]`, the most alike first.
        scores: Their cosines.
    """

    places: np.ndarray
    scores: np.ndarray


def search(
    queries: Float[Array, "queries channels"],
    index: Float[Array, "rows channels"],
    count: int,
    *,
    laid: mesh.Layout | None = None,
) -> Matches:
    """Find the rows with the largest cosine, comparing with every one.

    The index is cut over the devices, each of which finds its own nearest; queries go
    through by some hundreds, so that memory does not grow with queries times rows.

    Args:
        queries: Descriptors of any length; zeros match nothing.
        index: What is searched.
        count: How many to find for each query.
        laid: The devices, by default all of this process.

    Raises:
        ValueError: Descriptors of other lengths, or more wanted than there are.
    """
    queries = np.asarray(queries, np.float32)
    rows = np.asarray(index, np.float32)
    if queries.ndim != 2 or rows.ndim != 2 or queries.shape[1] != rows.shape[1]:
        raise ValueError(
            f"`queries` has shape {queries.shape} and `index` {rows.shape}; expected "
            "[queries, channels] and [rows, channels]."
        )
    if not 1 <= count <= len(rows):
        raise ValueError(
            f"`count`={count} of {len(rows)} rows; expected 1 to {len(rows)}."
        )
    laid = laid or mesh.layout(devices=jax.local_devices())
    devices = laid.mesh.size
    padded = np.pad(_unit(rows), ((0, -len(rows) % devices), (0, 0)))
    spread = mesh.put_batch(laid, {"rows": padded})["rows"]
    places, scores = [], []
    for first in range(0, len(queries), QUERIES):
        some = _unit(queries[first : first + QUERIES])
        missing = QUERIES - len(some) if len(queries) > QUERIES else 0
        asked = np.pad(some, ((0, missing), (0, 0)))
        found = _nearest(jnp.asarray(asked), spread, count, len(rows))
        scores.append(np.asarray(found[0])[: len(some)])
        places.append(np.asarray(found[1])[: len(some)])
    return Matches(np.concatenate(places), np.concatenate(scores))


@functools.partial(jax.jit, static_argnames=("count", "rows"))
def _nearest(
    queries: jax.Array, index: jax.Array, count: int, rows: int
) -> tuple[jax.Array, jax.Array]:
    scores = jnp.matmul(queries, index.T, precision="highest")
    # Rows that fill up the last device are not there.
    real = jnp.arange(index.shape[0])[None] < rows
    best, places = jax.lax.top_k(jnp.where(real, scores, -jnp.inf), count)
    return best, places


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
