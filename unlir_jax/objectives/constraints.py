"""Regularisers of parts that an objective may add, such as `separation`."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax.core import choices
from unlir_jax.models.part_network import gates
from unlir_jax.models.part_network.cells import Traits
from unlir_jax.objectives import losses
from unlir_jax.objectives.objective import Apply
from unlir_jax.types import Array, Labels, PerImage


class Seen(NamedTuple):
    """Hold a batch as terms see it.

    Attributes:
        traits: Traits of the batch.
        labels: `[batch]`.
        weight: Weights of the rows.
        axis_name: The axis of `pmap`.
        flipped: `traits.cells` of the images with left and right exchanged, or None.
    """

    traits: Traits
    labels: Labels
    weight: PerImage
    axis_name: str | None = None
    flipped: jax.Array | None = None


def cluster(seen: Seen) -> PerImage:
    """Compute how far each image is from the nearest part of its class, squared.

    ProtoPNet (Chen et al., NeurIPS 2019), Clst, `[batch]`.
    """
    return jnp.min(_nearest(seen, own=True), axis=1)


def separation(seen: Seen) -> PerImage:
    """Compute minus how far each image is from the nearest part of other classes.

    ProtoPNet, Sep, `[batch]`; the minus is in it, so weights are positive.
    """
    return -jnp.min(_nearest(seen, own=False), axis=1)


def _nearest(seen: Seen, own: bool) -> jax.Array:
    """Give each part's least distance; infinity for parts of the other kind."""
    traits = seen.traits
    if traits.distances is None or traits.blocks is None:
        raise ValueError("Parts have no distances; expected a decision that has them.")
    distances = jnp.min(traits.distances, axis=(1, 2))
    alike = jnp.moveaxis(traits.blocks, -1, 0)[seen.labels] > 0
    return jnp.where(alike == own, distances, jnp.inf)


def consistency(seen: Seen) -> PerImage:
    """Weigh `losses.consistency` by the largest share of each part in an image."""
    shares = seen.traits.shares
    present = jnp.max(shares, axis=tuple(range(1, shares.ndim - 1)))
    present = jax.lax.stop_gradient(present)
    return losses.consistency(
        seen.traits.descriptors,
        seen.labels,
        jnp.clip(present, 0, 1),
        seen.weight,
        axis_name=seen.axis_name,
    )


def equivariance(seen: Seen) -> PerImage:
    """Compare shares with the flipped images' shares."""
    if seen.flipped is None:
        raise ValueError("`flipped` is None; expected shares of flipped images.")
    flip = losses.Transform(flip=True)
    return losses.equivariance(seen.traits.cells, seen.flipped, flip)


def specificity(seen: Seen) -> jax.Array:
    """Hold weights against the blocks of the classes, if there are any."""
    return losses.class_specificity(seen.traits.kernel, seen.traits.blocks)


def binary(seen: Seen) -> jax.Array:
    """Push gates to be open or shut."""
    if seen.traits.gates is None:
        raise ValueError("There are no gates; expected a decision that has them.")
    return gates.binary_penalty(seen.traits.gates)


TERMS: dict[str, Callable[[Seen], Array]] = {
    "diversity": lambda seen: losses.diversity(seen.traits.parts),
    "decisiveness": lambda seen: losses.decisiveness(seen.traits.shares),
    "balance": lambda seen: losses.balance(
        seen.traits.shares, seen.weight, axis_name=seen.axis_name
    ),
    "specificity": specificity,
    "binary": binary,
    "presence": lambda seen: losses.presence(
        seen.traits.shares, seen.weight, axis_name=seen.axis_name
    ),
    "concentration": lambda seen: losses.concentration(seen.traits.cells, "mass"),
    "consistency": consistency,
    "orthogonality": lambda seen: losses.orthogonality(seen.traits.descriptors),
    "equivariance": equivariance,
    "cluster": cluster,
    "separation": separation,
}
"""Each gives one number, or one for each row; a weight of 0 leaves it out."""

NEEDS = {
    "binary": ("gates", "decision.assignment='learned'"),
    "cluster": ("distances", "decision.name='prototypes'"),
    "separation": ("distances", "decision.name='prototypes'"),
}
"""Traits that not every decision has, and which has them."""


def active(weights: Mapping[str, float], apply: Apply) -> dict[str, float]:
    """Give the terms that count.

    Raises:
        ValueError: An unknown or a negative one, or one that the network has nothing
            for.
    """
    for name, weight in weights.items():
        wrong = f"`terms.{name}` is no term"
        choices.pick(name, TERMS, wrong, "expected some of {}")
        if not 0 <= weight < float("inf"):
            raise ValueError(f"`terms.{name}`={weight}; expected a weight from 0.")
    found = {name: float(weight) for name, weight in weights.items() if weight}
    for name in found:
        trait, where = NEEDS.get(name, ("", ""))
        if trait and trait not in apply.knows:
            raise ValueError(
                f"`terms.{name}`={found[name]} is about {trait}, which these parts do "
                f"not have; expected 0, or {where}."
            )
    if "equivariance" in found and apply.inputs != "image":
        raise ValueError(
            f"`terms.equivariance`={found['equivariance']} looks at flipped images, "
            "but this network is trained on cached features; expected 0, or no cache."
        )
    return found
