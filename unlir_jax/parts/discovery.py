"""Discovery of parts: groups of images, seeds of their parts, and whitening."""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from unlir_jax.core import choices
from unlir_jax.parts import assignment, clustering
from unlir_jax.types import Array, Maps, RandomKey

Pooling = Literal["max", "mean", "max+mean"]

CANDIDATES = 8
"""Clusters of a group's cells for each part that is kept of them."""

DIRECTIONS = 512
"""Of most variance, in which neighbours are compared."""


class Discovery(NamedTuple):
    """Hold parts that were found without labels.

    `parts` is `[groups * parts, dimensions]`, in the whitened space of `whitening`;
    `labels` is `[images]`, the group that each image is most like.
    """

    parts: Array
    labels: Array
    whitening: clustering.Whitening


def bag_of_parts(
    scores: Float[Array, "images regions parts"], pooling: Pooling = "max+mean"
) -> Float[jax.Array, "images bag"]:
    """Pool each part's scores over an image's regions.

    The bag of parts of arXiv 1611.04413 is `max+mean`: first all parts' largest
    scores, then all parts' mean scores.

    Returns:
        `[images, parts]`, or `[images, 2 parts]` for `max+mean`.

    Raises:
        ValueError: `pooling` is unknown.
    """
    choices.check("pooling", pooling, Pooling)
    scores = jnp.asarray(scores)
    pooled = {"max": jnp.max, "mean": jnp.mean}
    return jnp.concatenate(
        [pooled[name](scores, axis=1) for name in pooling.split("+")], axis=1
    )


def discover(
    maps: Maps,
    *,
    groups: int,
    parts: int,
    key: RandomKey,
    solver: assignment.Solver | None = "hungarian",
    dimensions: int = 256,
    steps: int = 10,
) -> Discovery:
    """Find parts of groups of similar images.

    Unsupervised part learning (Sicre, Avrithis, Kijak and Jurie, CVPR 2017): global
    descriptors are clustered, and each group stands for a class. Its parts take one
    cell of each of its images (`assignment.solve`, from those k-means of the group's
    cells that score higher in it than in all images); all other images are the
    negatives, through the mean and covariance that whitening takes away. One group
    gives parts of all images together.

    Args:
        maps: Feature maps of training images, `[images, rows, columns, channels]`.
        groups: How many; each learns on the `images // groups` images nearest to its
            centre, so that groups are of equal size and may overlap.
        parts: For each group, at most `rows * columns`.
        key: Decides the seeds of both clusterings.
        solver: See `assignment.solve`; None keeps the k-means centres, which share out
            all cells instead of finding one in each image.
        dimensions: Number of dimensions after whitening.
        steps: Steps of `assignment.solve`.

    Raises:
        ValueError: More parts than cells, or more groups than images.

    Note:
        A reconstruction: the published text is not openly readable. Whitened cells
        have unit length, and parts are given unit length.
    """
    images, channels = len(maps), maps.shape[-1]
    cells = np.reshape(maps, (images, -1, channels))
    assignment.check_room(parts, cells.shape[1])
    if not 1 <= groups <= images:
        raise ValueError(
            f"`groups`={groups} for {images} images; expected 1 to as many as images."
        )
    whitening = clustering.whitening(cells.reshape((-1, channels)), dimensions)
    regions = clustering.whiten(cells, whitening)
    mean = jnp.mean(regions, axis=(0, 1))
    first, *rest = jax.random.split(key, groups + 1)
    descriptors = clustering.unit(jnp.mean(jnp.asarray(cells, jnp.float32), axis=1))
    found = clustering.kmeans(descriptors, groups, key=first, spherical=True)
    nearness = jnp.matmul(found.centres, descriptors.T, precision="highest")
    _, members = jax.lax.top_k(nearness, images // groups)
    learnt = []
    for own, one in zip(members, rest, strict=True):
        mine = regions[own]
        candidates = 1 if groups == 1 else CANDIDATES
        chosen = seeds(mine, regions, parts, one, candidates)
        if solver is not None:
            chosen = assignment.solve(
                mine, parts, solver=solver, initial=chosen, mean=mean, steps=steps
            ).parts
        learnt.append(clustering.unit(chosen))
    return Discovery(jnp.concatenate(learnt), found.labels, whitening)


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
        parts: Number of parts to keep.
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


def encode(
    maps: Maps, discovery: Discovery, pooling: Pooling = "max+mean"
) -> Float[jax.Array, "batch bag"]:
    """Describe images by a bag of the discovered parts, at unit length.

    Returns:
        `[images, parts]`, or `[images, 2 parts]` for `max+mean`.
    """
    return clustering.unit(bag_of_parts(_cosines(maps, discovery), pooling))


def _cosines(maps: Maps, discovery: Discovery) -> jax.Array:
    """Score whitened cells of unit length with each part: `[images, cells, parts]`."""
    cells = jnp.reshape(jnp.asarray(maps), (len(maps), -1, maps.shape[-1]))
    regions = clustering.whiten(cells, discovery.whitening)
    return jnp.einsum("irc,pc->irp", regions, discovery.parts, precision="highest")


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
        rounds: Number of searches for neighbours.
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
