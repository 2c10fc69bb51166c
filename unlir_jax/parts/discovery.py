"""What tells a group of pictures from all: seeds of its parts, and whitening."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from unlir_jax.parts import clustering
from unlir_jax.types import Array, RandomKey

CANDIDATES = 8
"""Clusters of a group's cells for each part that is kept of them."""

DIRECTIONS = 512
"""Of most variance, in which neighbours are compared."""


def seeds(
    mine: Array,
    others: Array,
    parts: int,
    key: RandomKey,
    candidates: int = CANDIDATES,
) -> Array:
    """Cluster a group's cells, and keep the centres that tell it from all images.

    Most clusters of cells are background that every image has.

    Args:
        mine: Cells of the group's images, `[images, cells, width]`.
        others: Regions of all images, or of some.
        parts: How many to keep.
        key: Key of the clustering.
        candidates: Clusters for each that is kept.
    """
    flat = mine.reshape((-1, mine.shape[-1]))
    count = min(candidates * parts, len(flat))
    centres = clustering.kmeans(flat, count, key=key, spherical=True).centres
    own, all_ = (jnp.mean(_highest(x, centres), axis=0) for x in (mine, others))
    return centres[jax.lax.top_k(own - all_, parts)[1]]


def _highest(regions: Array, parts: Array) -> jax.Array:
    """Score the best cell of each image with each part, `[images, parts]`."""

    def one(cells):
        return jnp.max(jnp.matmul(cells, parts.T, precision="highest"), axis=0)

    return jax.lax.map(one, regions, batch_size=64)


def neighbour_whitening(
    encodings: Float[Array, "images channels"],
    dimensions: int = 64,
    *,
    neighbours: int = 5,
    shrinkage: float = 0.1,
    rounds: int = 2,
    directions: int = DIRECTIONS,
) -> clustering.Whitening:
    """Fit whitening of what differs between neighbours, then PCA.

    Nearest neighbours by cosine stand for pairs of one class, so no label is used.
    After `inv(C)^(1/2)`, with `C = mean (x - y)(x - y)' / 2` over pairs, the directions
    of largest variance are those in which images differ though neighbours agree:
    the discriminative whitening of Mikolajczyk and Matas (ICCV 2007), which Radenovic,
    Tolias and Chum (TPAMI 2019) learn from pairs that are mined, not labelled. Later
    rounds look for neighbours in the space that the one before found.

    Args:
        encodings: One row an image, of training images only.
        dimensions: To keep.
        neighbours: Pairs for each image.
        shrinkage: In (0, 1], the share of C that is replaced by its mean variance; 1
            leaves PCA.
        rounds: How often to look for neighbours.
        directions: PCA to at most this many comes first.

    Returns:
        For `clustering.whiten`; `variance` is that after `inv(C)^(1/2)`.

    Raises:
        ValueError: As `clustering.whitening`; not 1 to `images - 1` neighbours, no
            rounds, or `shrinkage` outside (0, 1].
    """
    check_neighbours(len(encodings), neighbours, shrinkage, rounds)
    first = clustering.whitening(encodings, directions)
    vectors = np.asarray(first.matrix, np.float64)
    vectors = vectors / np.linalg.norm(vectors, axis=0)
    rows = (np.asarray(encodings, np.float32) - first.mean) @ vectors
    matrix, variance = discriminate(
        rows, dimensions, neighbours=neighbours, shrinkage=shrinkage, rounds=rounds
    )
    return clustering.Whitening(
        first.mean,
        clustering.with_signs(vectors @ matrix).astype(np.float32),
        variance[:dimensions].astype(np.float32),
        float(variance[:dimensions].sum() / variance.sum()),
    )


def check_neighbours(
    count: int, neighbours: int, shrinkage: float, rounds: int
) -> None:
    """Refuse settings of `neighbour_whitening` that make no sense for `count` images.

    Raises:
        ValueError: They do not.
    """
    if not (1 <= neighbours < count and 0 < shrinkage <= 1 and rounds >= 1):
        raise ValueError(
            f"`neighbours`={neighbours}, `shrinkage`={shrinkage}, `rounds`={rounds} "
            f"for {count} images; expected 1 to {count - 1}, a share in (0, 1], 1 or "
            "more."
        )


def discriminate(
    rows: np.ndarray,
    dimensions: int,
    *,
    neighbours: int,
    shrinkage: float,
    rounds: int = 2,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the directions of `neighbour_whitening` in a space of few dimensions.

    Args:
        rows: `[images, width]`, of mean zero.
        dimensions: To keep.
        neighbours: See `neighbour_whitening`, as for what follows.
        shrinkage: In (0, 1].
        rounds: 1 or more.

    Returns:
        `[width, dimensions]`, and the variance of all directions.
    """

    def once(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        near = np.asarray(_neighbours(jnp.asarray(found, jnp.float32), neighbours))
        matrix, variance = _discriminate(rows, near, shrinkage)
        return matrix[:, :dimensions], variance

    matrix, variance = once(rows)
    for _ in range(rounds - 1):
        matrix, variance = once(rows @ matrix)
    return matrix, variance


@functools.partial(jax.jit, static_argnames=("count",))
def _neighbours(rows: jax.Array, count: int) -> jax.Array:
    """Give the places of each row's nearest other rows by cosine, `[rows, count]`."""
    rows = clustering.unit(rows)

    def one(pair):
        place, row = pair
        cosine = jnp.matmul(rows, row, precision="highest").at[place].set(-jnp.inf)
        return jax.lax.top_k(cosine, count)[1]

    return jax.lax.map(one, (jnp.arange(len(rows)), rows), batch_size=256)


def _discriminate(
    rows: np.ndarray, near: np.ndarray, shrinkage: float
) -> tuple[np.ndarray, np.ndarray]:
    """Whiten the pairs' covariance, then turn to the axes of all rows' covariance."""
    apart = (rows[:, None] - rows[near]).reshape((-1, rows.shape[1]))
    within = apart.T @ apart / (2 * len(apart))
    even = np.trace(within) / len(within) * np.eye(len(within))
    values, axes = np.linalg.eigh((1 - shrinkage) * within + shrinkage * even)
    white = axes / np.sqrt(np.maximum(values, np.finfo(np.float32).tiny))
    variance, turn = np.linalg.eigh(white.T @ (rows.T @ rows / len(rows)) @ white)
    return white @ turn[:, ::-1], np.maximum(variance[::-1], 0)
