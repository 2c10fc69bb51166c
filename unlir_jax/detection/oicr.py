"""Refinement of weak detectors by their own best boxes (OICR).

Tang, Wang, Bai and Liu, *Multiple instance detection network with online instance
classifier refinement*, CVPR 2017. All functions see the regions of one image;
`jax.vmap` takes several. The last output of a stage is the background.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax.detection import wsddn
from unlir_jax.detection.wsddn import Exist, Overlaps, Present, Regions, Scores
from unlir_jax.types import PyTree, RandomKey

STAGES = 3


class PseudoLabels(NamedTuple):
    """Say what each region is taken for.

    Attributes:
        labels: A class, or the number of classes for background, int `[regions]`.
        weights: How much each region counts, `[regions]`.
    """

    labels: jax.Array
    weights: jax.Array


def initial(
    key: RandomKey, filters: int, classes: int, *, stages: int = STAGES
) -> list[PyTree]:
    """Draw the weights of each stage, a linear layer to classes and background.

    Raises:
        ValueError: Less than one stage.
    """
    if stages < 1:
        raise ValueError(f"`stages`={stages}; expected 1 or more.")
    keys = jax.random.split(key, stages)
    return [wsddn.linear(own, filters, classes + 1) for own in keys]


def stage_logits(variables: Sequence[PyTree], regions: Regions) -> list[jax.Array]:
    """Compute the logits of each stage, `[regions, classes + 1]`."""
    return [wsddn.apply(layer, regions) for layer in variables]


def pseudo_labels(
    scores: Scores,
    present: Present,
    overlaps: Overlaps,
    exist: Exist | None = None,
    *,
    foreground: float = 0.5,
    background: float | int = 0,
    exclusive: bool = False,
) -> PseudoLabels:
    """Label regions by the best region of each class that they overlap (Algorithm 1).

    A region belongs to the best region that it overlaps most, the first class of equal
    ones. It takes the class from the least overlap `foreground` on, and is background
    below. Its weight is the score of that best region.

    Args:
        scores: What the stage before gives each region.
        present: Which classes the image has.
        overlaps: Intersection over union of all pairs of regions.
        exist: Which rows are regions; all if not given.
        foreground: Least overlap of a region with the class.
        background: Least overlap of a region that counts; 0.1 in the authors' later
            code.
        exclusive: Whether a region is the best one of one class only, in the order of
            classes, as in the authors' later code.

    Returns:
        Labels and weights without derivatives; weights are 0 for an image that has no
        class, and for rows that are no regions.

    Raises:
        ValueError: The overlaps are out of order.
    """
    if not 0 <= background <= foreground <= 1:
        raise ValueError(
            f"`background`={background} and `foreground`={foreground}; expected "
            "0 <= background <= foreground <= 1."
        )
    scores = jax.lax.stop_gradient(jnp.asarray(scores))
    rows, classes = scores.shape
    there = jnp.ones(rows, bool) if exist is None else jnp.asarray(exist)
    present, overlaps = jnp.asarray(present), jnp.asarray(overlaps)

    def choose(free: jax.Array, one: tuple) -> tuple[jax.Array, jax.Array]:
        values, is_present = one
        best = jnp.argmax(jnp.where(free, values, -jnp.inf))
        taken = (jnp.arange(rows) == best) & is_present & exclusive
        return free & ~taken, best

    _, best = jax.lax.scan(choose, there, (scores.T, present))
    near = jnp.where(present[None], overlaps[:, best], -1)
    closest = jnp.argmax(near, axis=1)
    overlap = jnp.max(near, axis=1)
    labels = jnp.where(overlap >= foreground, closest, classes)
    weights = scores[best, jnp.arange(classes)][closest]
    counts = there & present.any() & (overlap >= background)
    return PseudoLabels(labels, jnp.where(counts, weights, 0))


def refinement_loss(
    logits: jax.Array,
    pseudo: PseudoLabels,
    exist: Exist | None = None,
    *,
    balanced: bool = False,
) -> jax.Array:
    """Average weighted cross-entropies over the regions of an image.

    Args:
        logits: Logits of one stage.
        pseudo: See `pseudo_labels`.
        exist: Which rows are regions.
        balanced: Whether objects and background are averaged apart and added, so that
            many regions of background do not outweigh few of objects. The paper has
            one average.
    """
    chosen = jnp.take_along_axis(
        jax.nn.log_softmax(logits, axis=1), pseudo.labels[:, None], axis=1
    )[:, 0]
    each = -pseudo.weights * chosen
    if balanced:
        background = pseudo.labels == logits.shape[1] - 1
        return _mean(each, pseudo.weights, background) + _mean(
            each, pseudo.weights, ~background
        )
    count = len(chosen) if exist is None else jnp.maximum(jnp.sum(exist), 1)
    return jnp.sum(each) / count


def _mean(each: jax.Array, weights: jax.Array, chosen: jax.Array) -> jax.Array:
    """Average over the chosen regions that count, 0 where there is none."""
    count = jnp.sum(chosen & (weights > 0))
    return jnp.sum(jnp.where(chosen, each, 0)) / jnp.maximum(count, 1)


def losses(
    logits: Sequence[jax.Array],
    scores: Scores,
    present: Present,
    overlaps: Overlaps,
    exist: Exist | None = None,
    *,
    foreground: float = 0.5,
    background: float | int = 0,
    exclusive: bool = False,
    balanced: bool = False,
) -> jax.Array:
    """Compute the loss of each stage, which the stage before supervises.

    Args:
        logits: See `stage_logits`.
        scores: What supervises the first stage, see `wsddn.region_scores`.
        present: Which classes the image has.
        overlaps: See `pseudo_labels`, as for what follows.
        exist: Which rows are regions.
        foreground: Least overlap of a region with the class.
        background: Least overlap of a region that counts.
        exclusive: Whether a region is the best one of one class only.
        balanced: See `refinement_loss`.

    Returns:
        `[stages]`. The authors' later code multiplies the first one by 3.
    """
    found = []
    for stage in logits:
        pseudo = pseudo_labels(
            scores,
            present,
            overlaps,
            exist,
            foreground=foreground,
            background=background,
            exclusive=exclusive,
        )
        found.append(refinement_loss(stage, pseudo, exist, balanced=balanced))
        scores = jax.nn.softmax(stage, axis=1)[:, :-1]
    return jnp.stack(found)


def mean_scores(logits: Sequence[jax.Array], exist: Exist | None = None) -> jax.Array:
    """Average the probabilities of all stages without the background.

    Returns:
        `[regions, classes]`, `-inf` for rows that are no regions, as `nms` expects.
    """
    each = [jax.nn.softmax(stage, axis=1)[:, :-1] for stage in logits]
    found = jnp.mean(jnp.stack(each), axis=0)
    if exist is None:
        return found
    return jnp.where(jnp.asarray(exist)[:, None], found, -jnp.inf)
