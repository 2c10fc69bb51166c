"""Prototypes as locations of training images: their start and their projection."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from unlir_jax import tree
from unlir_jax.parts import clustering
from unlir_jax.types import Array, Module, RandomKey, Variables

CHUNK = 64
KERNEL = "params/classifier/parts/kernel"


class Projection(NamedTuple):
    """Hold projected prototypes, and where they are from.

    Attributes:
        variables: Variables of the part network; its prototypes are locations.
        picture: Row of each prototype in `maps`, int `[parts]`.
        cell: The row and column of its cell, int `[parts, 2]`.
        distance: How far it moved, `[parts]`.
    """

    variables: Variables
    picture: np.ndarray
    cell: np.ndarray
    distance: np.ndarray


def project(
    module: Module, variables: Variables, maps: Array, labels: Array
) -> Projection:
    """Replace each prototype by the nearest cell of a training image of its class.

    The projection ("push") of ProtoPNet (Chen et al., NeurIPS 2019, section 2.2, stage
    2), after which a prototype can be shown. Of cells that are equally near, the first
    one counts.

    Args:
        module: A `models.parts.PartNet` that decides by `Prototypes`.
        variables: Variables of the part network.
        maps: What its `features` gave of the training images, `[images, rows,
            columns, channels]`; may lie on the disk, and is read by chunks.
        labels: int `[images]`.

    Raises:
        ValueError: Another decision, or a class without images.
    """
    head, labels = module.classifier, np.asarray(labels)
    _check(module, labels)
    leaves = {path: np.asarray(leaf) for path, leaf in tree.flatten(variables).items()}
    kernel = leaves[KERNEL]
    own = np.arange(head.parts) // head.per_class
    describe = _describer(module, variables)
    distance = np.full(head.parts, np.inf)
    picture, cell = np.zeros(head.parts, int), np.zeros((head.parts, 2), int)
    moved = kernel.copy()
    for first in range(0, len(labels), CHUNK):
        cells = describe(maps[first : first + CHUNK])
        for place in range(len(cells)):
            mine = np.flatnonzero(own == labels[first + place])
            flat = cells[place].reshape(-1, cells.shape[-1])
            apart = flat[:, None].astype(np.float64) - kernel.T[mine]
            square = np.square(apart).sum(-1)
            best = square.argmin(0)
            least = square[best, np.arange(len(mine))]
            nearer = least < distance[mine]
            chosen, best = mine[nearer], best[nearer]
            distance[chosen], picture[chosen] = least[nearer], first + place
            cell[chosen] = np.stack(np.unravel_index(best, cells.shape[1:3]), -1)
            moved[:, chosen] = flat[best].T
    leaves[KERNEL] = moved
    return Projection(tree.unflatten(leaves), picture, cell, np.sqrt(distance))


def seed(
    module: Module, variables: Variables, maps: Array, labels: Array, *, key: RandomKey
) -> Variables:
    """Start the prototypes of each class at the k-means centres of its cells.

    From points drawn at random in the cube, as ProtoPNet starts, no cell is near
    enough for a similarity to change much; that suits a backbone that learns as well.

    Args:
        module: As `project`, and so are the others.
        variables: Variables of the part network.
        maps: Feature maps of the training images.
        labels: int `[images]`.
        key: Key of the clusterings.

    Returns:
        Variables.

    Raises:
        ValueError: As `project`, or a class with fewer cells than prototypes.
    """
    head, labels = module.classifier, np.asarray(labels)
    _check(module, labels)
    describe, centres = _describer(module, variables), []
    for name, own in enumerate(jax.random.split(key, head.classes)):
        rows = np.flatnonzero(labels == name)
        found = [
            describe(np.stack([maps[row] for row in rows[first : first + CHUNK]]))
            for first in range(0, len(rows), CHUNK)
        ]
        cells = np.concatenate(found)
        cells = cells.reshape(-1, cells.shape[-1])
        found = clustering.kmeans(cells, head.per_class, key=own)
        centres.append(np.asarray(found.centres))
    leaves = {path: np.asarray(leaf) for path, leaf in tree.flatten(variables).items()}
    leaves[KERNEL] = np.concatenate(centres).T
    return tree.unflatten(leaves)


def _check(module: Module, labels: np.ndarray) -> None:
    if "distances" not in module.classifier.knows:
        raise ValueError(
            "Parts are moved to cells where they are prototypes in the space of cells; "
            "expected decision.name='prototypes'."
        )
    missing = np.setdiff1d(np.arange(module.classifier.classes), labels)
    if len(missing):
        raise ValueError(
            f"Class {missing[0]} has no training image ({len(missing)} such); "
            "expected one, for its prototypes to be moved to."
        )


def _describer(module: Module, variables: Variables) -> Callable[[Array], np.ndarray]:
    """Describe cells of up to `CHUNK` images, compiled for that many."""
    describe = jax.jit(functools.partial(module.apply, method="describe_cells"))

    def run(maps: Array) -> np.ndarray:
        rows = np.asarray(maps, np.float32)
        missing = CHUNK - len(rows)
        padded = np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1))
        return np.asarray(describe(variables, padded))[: len(rows)]

    return run
