"""Parts of groups of images: of classes, or of images that are alike."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from unlir_jax.parts import assignment, clustering, discovery
from unlir_jax.types import Array, RandomKey

# Images that a group learns from, and that stand for all others, at most.
MOST = 100
OTHERS = 500


def learn(
    regions: Float[Array, "pictures cells width"],
    groups: Integer[Array, " pictures"],
    count: int,
    *,
    key: RandomKey,
    solver: assignment.Solver | None = "hungarian",
    steps: int = 10,
) -> np.ndarray:
    """Find parts of each group that tell it from all images.

    Seeds are those k-means of a group's cells that score higher in it than in all
    images. Without a solver they are the parts: in a white space, where the
    covariance is the identity, `m_k - mean` is the direction of a linear discriminant
    analysis (Sicre and Jurie, CVIU 2015). With one, each part takes one cell of each
    image of its group (`assignment.solve`; Sicre et al., arXiv 1611.04413).

    Args:
        regions: White cells.
        groups: The group of each image; the labels, for parts of classes.
        count: Number of parts of all groups together; each group gets as many, some
            one more.
        key: Key of the clusterings and of the choice of images.
        solver: Solver of `assignment.solve`, or None.
        steps: Steps of `assignment.solve`.

    Returns:
        Unit vectors `[count, width]`, group by group.

    Raises:
        ValueError: Fewer parts than groups, or more parts of a group than cells.
    """
    regions, groups = np.asarray(regions, np.float32), np.asarray(groups)
    names = np.unique(groups)
    if count < len(names):
        raise ValueError(
            f"`count`={count} parts of {len(names)} groups; expected at least one part "
            "for each."
        )
    shares = np.diff(np.linspace(0, count, len(names) + 1).astype(int))
    assignment.check_room(int(shares.max()), regions.shape[1])
    first, *rest = jax.random.split(key, len(names) + 1)
    random = np.random.default_rng(np.asarray(jax.random.key_data(first)).tolist())
    order = random.permutation(len(regions))
    some = jnp.asarray(regions[order[:OTHERS]])
    mean = jnp.mean(some, axis=(0, 1))
    learnt = []
    for name, parts, one in zip(names, shares.tolist(), rest, strict=True):
        mine = jnp.asarray(regions[order[groups[order] == name][:MOST]])
        seeds = discovery.seeds(mine, some, parts, one) - mean[None]
        if solver is not None:
            seeds = assignment.solve(
                mine, parts, solver=solver, initial=seeds, mean=mean, steps=steps
            ).parts
        learnt.append(np.asarray(clustering.unit(seeds)))
    return np.concatenate(learnt)


def alike(
    descriptors: Float[Array, "pictures channels"], count: int, *, key: RandomKey
) -> np.ndarray:
    """Group images by the cosine of their descriptors, without labels."""
    found = clustering.kmeans(
        clustering.unit(descriptors), count, key=key, spherical=True
    )
    return np.asarray(found.labels)
