"""Heads that learn: the layers of WSDDN and OICR, their loss, and their scores."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from unlir_jax.core.document_types import Document
from unlir_jax.detection import oicr, wsddn
from unlir_jax.types import Array, PyTree, RandomKey
from unlir_jax.weak_detection.regions import Regions

Maps = Float[Array, "batch rows columns dimensions"]
Present = Bool[Array, "batch classes"]
SHARPNESS = 10.0
"""Factor in the softmax over regions of how they stand out."""


class Heads(NamedTuple):
    """Hold a detector's functions.

    Attributes:
        initial: `key -> variables`.
        losses: `(variables, maps, present, done) -> {name: scalar}`; the sum is
            minimised. `done` is the share of the training that is behind it.
        scores: `(variables, maps) -> [regions, classes]`, of one image.
    """

    initial: Callable[[RandomKey], PyTree]
    losses: Callable[[PyTree, Maps, Present, Array], dict[str, jax.Array]]
    scores: Callable[[PyTree, Array], jax.Array]


def make(
    settings: Document,
    regions: Regions,
    filters: int,
    *,
    everywhere: Sequence[bool],
) -> Heads:
    """Build a detector on descriptions of regions.

    Args:
        settings: See `settings.weak_detection`.
        regions: Regions of all images.
        filters: Length of the description of a region.
        everywhere: Whether each class is in all training images, bool `[classes]`.
            Labels then do not tell it from the background, and attention says where it
            is: the last filter of the maps, see `descriptions.attention`.
    """
    given = _Given(settings, regions, filters, np.asarray(everywhere, bool))

    def initial(key: RandomKey) -> PyTree:
        keys = jax.random.split(key)
        background = settings["wsddn"]["background"]
        found = {"wsddn": wsddn.initial(keys[0], filters, given.classes + background)}
        if given.refined:
            stages = settings["oicr"]["stages"]
            found["oicr"] = oicr.initial(keys[1], filters, given.classes, stages=stages)
        return found

    def losses(
        variables: PyTree, maps: Maps, present: Present, done: Array
    ) -> dict[str, jax.Array]:
        def of_image(maps: Array, present: Array) -> dict[str, Array]:
            return _losses(given, variables, maps, present, done)

        each = jax.vmap(of_image)(maps, present)
        return {name: jnp.mean(values) for name, values in each.items()}

    def scores(variables: PyTree, maps: Array) -> jax.Array:
        logits = _logits(given, variables, maps)
        first = _first_scores(given, logits, maps)
        if not given.refined:
            return first
        # WSDDN is sharper in place, and OICR surer of what is no object.
        return jnp.sqrt(first * oicr.mean_scores(logits.stages))

    return Heads(initial, losses, scores)


class _Given(NamedTuple):
    """Hold what the functions of a detector share."""

    settings: Document
    regions: Regions
    filters: int
    everywhere: np.ndarray

    @property
    def classes(self) -> int:
        """Count the classes."""
        return len(self.everywhere)

    @property
    def refined(self) -> bool:
        """Tell whether OICR follows WSDDN."""
        return self.settings["method"] == "oicr"


class _Logits(NamedTuple):
    """Hold what the layers give all regions of an image, `[regions, outputs]` each."""

    classification: jax.Array
    detection: jax.Array
    stages: list[jax.Array]


def _logits(given: _Given, variables: PyTree, maps: Array) -> _Logits:
    """Apply all layers to the regions of an image.

    A description is linear in the maps, as the layers are. So the layers go first, on
    cells, of which there are fewer than regions.
    """
    first = variables["wsddn"]
    layers = [first["classification"], first["detection"]]
    layers += variables["oicr"] if given.refined else []
    kernels = jnp.concatenate([layer["kernel"] for layer in layers], axis=1)
    ends = np.cumsum([layer["bias"].size for layer in layers])[:-1]
    cells = maps[..., : given.filters] @ kernels
    found = jnp.split(given.regions.describe(cells), ends, axis=1)
    biased = [x + layer["bias"][None] for x, layer in zip(found, layers, strict=True)]
    return _Logits(biased[0], biased[1], biased[2:])


def _first_scores(given: _Given, logits: _Logits, maps: Array) -> jax.Array:
    """Score regions by WSDDN, without its output for the background.

    A class that is everywhere has a softmax over regions of how they stand out.
    """
    temperature = given.settings["wsddn"]["temperature"]
    found = wsddn.product(
        logits.classification, logits.detection, temperature=temperature
    )[:, : given.classes]
    if not given.everywhere.any():
        return found
    attended = given.regions.stand_out(maps[..., given.filters :])
    shares = jax.nn.softmax(SHARPNESS * attended, axis=0)
    return jnp.where(jnp.asarray(given.everywhere)[None], shares, found)


def _losses(
    given: _Given, variables: PyTree, maps: Array, present: Array, done: Array
) -> dict[str, Array]:
    """Compute the losses of one image."""
    regions, factor = given.regions, given.settings["wsddn"]["regulariser"]
    logits = _logits(given, variables, maps)
    scores = _first_scores(given, logits, maps)
    overlaps = jnp.asarray(regions.overlaps)
    found: dict[str, Array] = {"wsddn": wsddn.image_loss(scores, present)}
    if factor:
        described = regions.describe(maps[..., : given.filters])
        pulled = wsddn.spatial_regulariser(described, scores, present, overlaps)
        found["regulariser"] = factor * pulled
    if given.refined:
        own = given.settings["oicr"]
        stages = oicr.losses(
            logits.stages,
            scores,
            present,
            overlaps,
            foreground=own["foreground"],
            background=own["background"],
            exclusive=own["exclusive"],
            balanced=own["balanced"],
        )
        found["oicr"] = jnp.sum(_factors(own, done) * stages)
    return found


def _factors(settings: Document, done: Array) -> jax.Array:
    """Weigh the losses of the stages; a stage that waits has weight 0."""
    stages = settings["stages"]
    factors = jnp.ones(stages).at[0].set(settings["first"])
    if not settings["in_turn"]:
        return factors
    begins = jnp.arange(1, stages + 1) / (stages + 1.5)
    return jnp.where(done >= begins, factors, 0)
