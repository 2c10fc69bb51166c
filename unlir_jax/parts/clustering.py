"""Statistics of regions that need no labels: whitening, k-means and LDA parts."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import core
from jaxtyping import Float

from unlir_jax.types import Array, RandomKey

Regions = Float[Array, "regions channels"]
"""Descriptors of image regions, one a row, whatever image they come from."""

CHUNK = 8192
"""Rows that are compared with all centres at once: memory is CHUNK x count."""

SEEDING = 16384
"""k-means++ draws its seeds among at most this many rows (or 8 for each centre)."""


class Whitening(NamedTuple):
    """Hold an affine map after which regions have the identity as covariance.

    `mean` is `[channels]`; `matrix` is `[channels, dimensions]`, its columns by falling
    variance; `variance` holds the eigenvalues of the covariance that was diagonalised,
    `[dimensions]`; `explained` is their share of all variance.
    """

    mean: Array
    matrix: Array
    variance: Array
    explained: float


class Clusters(NamedTuple):
    """Hold what k-means found.

    `centres` is `[count, channels]`; `labels` is `[regions]`, each region's nearest
    centre; `inertia` is `[steps + 1]`, the sum of squared distances to the nearest
    centre before each step and after the last.
    """

    centres: Array
    labels: Array
    inertia: Array


def check_finite(name: str, values: Array) -> None:
    """Refuse values that are not numbers, where they are known.

    Raises:
        ValueError: `values` holds NaN or infinity, and is not traced.
    """
    if isinstance(values, core.Tracer):
        return
    broken = int(np.sum(~np.isfinite(values)))
    if broken:
        raise ValueError(
            f"`{name}` has {broken} values that are not finite; expected numbers only: "
            "drop those rows first."
        )


def whitening(
    regions: Regions, dimensions: int = 256, *, epsilon: float = 1e-4
) -> Whitening:
    """Fit PCA whitening, `z = V' (x - mean) / sqrt(lambda + epsilon)`.

    Sums over regions are kept in float64. With fewer regions than channels the
    eigenvectors come from the Gram matrix, which has the same eigenvalues.

    Args:
        regions: `[regions, channels]`, of training images only.
        dimensions: How many directions of largest variance to keep; fewer are given
            where fewer exist, at most `channels` and `regions - 1`.
        epsilon: Added to each eigenvalue, as a share of the mean variance of a
            channel, so that directions without variance do not explode.

    Raises:
        ValueError: Fewer than two regions, or `dimensions` below one; `regions` that
            are not finite, or all the same.
    """
    regions = np.asarray(regions)
    count, channels = regions.shape
    if count < 2 or dimensions < 1:
        raise ValueError(
            f"`regions` has {count} rows and `dimensions` is {dimensions}; expected at "
            "least 2 regions and 1 dimension to measure a covariance."
        )
    check_finite("regions", regions)
    mean = np.mean(regions, axis=0, dtype=np.float64)
    if count <= channels:
        values, vectors = _gram_directions(regions, mean)
    else:
        values, vectors = np.linalg.eigh(_covariance(regions, mean))
    total = float(values.sum())
    if not total > 1e-12 * np.sum(mean**2):
        raise ValueError(
            f"`regions` has {count} equal rows; expected rows that differ: there is no "
            "direction to whiten."
        )
    kept = min(dimensions, len(values), count - 1)
    values = np.maximum(values[::-1][:kept], 0)
    vectors = with_signs(vectors[:, ::-1][:, :kept])
    matrix = vectors / np.sqrt(values + epsilon * total / channels)
    return Whitening(
        mean.astype(np.float32),
        matrix.astype(np.float32),
        values.astype(np.float32),
        float(values.sum() / total),
    )


def _covariance(regions: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Sum centred products by chunks: float32 within a chunk, float64 across."""
    total = np.zeros((len(mean), len(mean)))
    near = mean.astype(np.float32)
    for start in range(0, len(regions), CHUNK):
        centred = regions[start : start + CHUNK].astype(np.float32) - near
        total += centred.T @ centred
    return total / len(regions)


def _gram_directions(
    regions: np.ndarray, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Diagonalise `X X' / n` in place of `X' X / n`; values rise, as in `eigh`."""
    centred = regions - mean
    values, left = np.linalg.eigh(centred @ centred.T / len(regions))
    # The mean and equal rows take directions away, of which only rounding is left.
    real = values > 1e-10 * values[-1]
    vectors = centred.T @ left[:, real]
    return values[real], vectors / np.linalg.norm(vectors, axis=0)


def with_signs(vectors: np.ndarray) -> np.ndarray:
    """Make each column's largest entry positive, so that a fit repeats anywhere."""
    largest = np.argmax(np.abs(vectors), axis=0)
    signs = np.sign(np.take_along_axis(vectors, largest[None], axis=0))
    return vectors * np.where(signs == 0, 1, signs)


def whiten(
    regions: Float[Array, "*batch channels"],
    whitening: Whitening,
    normalize: bool = True,
) -> Float[jax.Array, "*batch dimensions"]:
    """Map regions to whitened space, and to unit length if `normalize`.

    Args:
        regions: `[..., channels]`.
        whitening: Result of `whitening`.
        normalize: Divide by the Euclidean norm; a region at the mean stays zero.
    """
    regions = jnp.asarray(regions, jnp.float32)
    offset = jnp.asarray(whitening.mean) @ jnp.asarray(whitening.matrix)
    result = jnp.matmul(regions, whitening.matrix, precision="highest")
    result = result - offset.reshape((1,) * (result.ndim - 1) + (-1,))
    return unit(result) if normalize else result


def unit(vectors: Float[Array, "*batch channels"]) -> jax.Array:
    """Divide by the Euclidean norm along the last axis; zero stays zero."""
    vectors = jnp.asarray(vectors)
    square = jnp.sum(vectors**2, axis=-1, keepdims=True)
    return jnp.where(
        square > 0, vectors * jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 0
    )


def kmeans(
    regions: Regions,
    count: int,
    *,
    key: RandomKey,
    steps: int = 25,
    restarts: int = 1,
    spherical: bool = False,
) -> Clusters:
    """Cluster regions by Lloyd's steps from k-means++ seeds.

    Seeding is that of Arthur and Vassilvitskii (k-means++, SODA 2007), on a sample of
    rows where there are many. A cluster that lost all regions starts again at the
    region farthest from its centre, which never raises the inertia. Memory beyond the
    regions does not grow with `regions * count`.

    Args:
        regions: `[regions, channels]`.
        count: How many clusters.
        key: Decides the seeds.
        steps: Number of moves of the centres.
        restarts: Number of seedings to try; the one of least inertia is given.
        spherical: Compare directions: regions and centres have unit length, so that a
            squared distance is `2 - 2 cosine`.

    Raises:
        ValueError: Fewer regions than clusters, `count` or `restarts` below one, or
            regions that are not finite.
    """
    regions = jnp.asarray(regions, jnp.float32)
    if not 1 <= count <= len(regions):
        raise ValueError(
            f"`count`={count} clusters of {len(regions)} regions; expected 1 to as "
            "many as there are regions."
        )
    if restarts < 1:
        raise ValueError(f"`restarts`={restarts}; expected 1 or more.")
    check_finite("regions", regions)
    if spherical:
        regions = unit(regions)
    runs = [
        _lloyd(regions, _seeds(regions, count, one), steps, spherical)
        for one in jax.random.split(key, restarts)
    ]
    return min(runs, key=lambda run: float(run.inertia[-1]))


@functools.partial(jax.jit, static_argnames=("count",))
def _seeds(regions: jax.Array, count: int, key: RandomKey) -> jax.Array:
    """Draw regions one by one, each with odds its squared distance to the others."""
    sample, first, rest = jax.random.split(key, 3)
    size = min(len(regions), max(SEEDING, 8 * count))
    if size < len(regions):
        chosen = jax.random.choice(sample, len(regions), (size,), replace=False)
        regions = regions[chosen]

    def draw(distance, one):
        seed = regions[jax.random.categorical(one, jnp.log(distance))]
        nearer = jnp.sum((regions - seed[None]) ** 2, axis=1)
        return jnp.minimum(distance, nearer), seed

    start = regions[jax.random.randint(first, (), 0, size)]
    distance = jnp.sum((regions - start[None]) ** 2, axis=1)
    _, others = jax.lax.scan(draw, distance, jax.random.split(rest, count - 1))
    return jnp.concatenate([start[None], others])


@functools.partial(jax.jit, static_argnames=("steps", "spherical"))
def _lloyd(
    regions: jax.Array, centres: jax.Array, steps: int, spherical: bool
) -> Clusters:
    def step(centres, _):
        _, distance, sums, sizes = _assign(regions, centres)
        means = sums / jnp.maximum(sizes, 1)[:, None]
        if spherical:
            means = unit(means)
        # Opposite directions may cancel: such a centre stays where it is.
        lost = jnp.all(means == 0, axis=1) if spherical else jnp.zeros_like(sizes, bool)
        moved = jnp.where(lost[:, None], centres, means)
        empty = sizes == 0
        moved = jax.lax.cond(
            jnp.any(empty),
            lambda: _reseed(regions, moved, distance, empty),
            lambda: moved,
        )
        return moved, jnp.sum(distance)

    centres, inertia = jax.lax.scan(step, centres, None, length=steps)
    labels, distance, _, _ = _assign(regions, centres)
    return Clusters(centres, labels, jnp.append(inertia, jnp.sum(distance)))


def _reseed(
    regions: jax.Array, centres: jax.Array, distance: jax.Array, empty: jax.Array
) -> jax.Array:
    """Put the i-th empty cluster on the i-th farthest region."""
    _, farthest = jax.lax.top_k(distance, len(centres))
    turn = jnp.cumsum(empty) - 1
    return jnp.where(empty[:, None], regions[farthest[turn]], centres)


def _assign(
    regions: jax.Array, centres: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Give labels, squared distances, and each cluster's sum and size, by chunks."""
    count, chunk = len(regions), min(CHUNK, len(regions))
    length = jnp.sum(centres**2, axis=1)

    def one(index, carry):
        labels, distance, sums, sizes = carry
        # The last chunk overlaps the one before it, instead of copying all regions
        # to pad them; rows that were seen do not count again.
        start = jnp.minimum(index * chunk, count - chunk)
        rows = jax.lax.dynamic_slice_in_dim(regions, start, chunk)
        products = jnp.matmul(rows, centres.T, precision="highest")
        apart = length[None] - 2 * products
        nearest = jnp.argmin(apart, axis=1)
        squared = jnp.min(apart, axis=1) + jnp.sum(rows**2, axis=1)
        fresh = start + jnp.arange(chunk) >= index * chunk
        member = jax.nn.one_hot(nearest, len(centres)) * fresh[:, None]
        return (
            jax.lax.dynamic_update_slice(labels, nearest, (start,)),
            jax.lax.dynamic_update_slice(distance, jnp.maximum(squared, 0), (start,)),
            sums + jnp.matmul(member.T, rows, precision="highest"),
            sizes + jnp.sum(member, axis=0),
        )

    start = (
        jnp.zeros(count, jnp.int32),
        jnp.zeros(count, regions.dtype),
        jnp.zeros_like(centres),
        jnp.zeros(len(centres), regions.dtype),
    )
    return jax.lax.fori_loop(0, -(-count // chunk), one, start)
