"""Gradients integrated along a path from a background to the image."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import choices, loops, memoize
from unlir_jax.saliency import accumulation
from unlir_jax.saliency.gradients.gradient import (
    Channels,
    check_channels,
    image_gradient,
    merge,
)
from unlir_jax.saliency.spec import explainer, takes_target
from unlir_jax.split import scores
from unlir_jax.types import Explainer, PyTree, SplitModel

Rule = Literal["gauss_legendre", "trapezoid"]


@explainer(
    title="Integrated gradients",
    family="gradients",
    formula=(
        "gradient integrated on the line from a baseline; `saliency.completeness` "
        "gives the error"
    ),
    passes="`steps` × (forward + backward)",
    source="Sundararajan et al., ICML 2017",
    quick={"steps": 2},
    degree=1,
    representative=True,
    signed={"channels": ("sum",)},
)
def integrated_gradients(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    steps: int = 50,
    rule: Rule = "gauss_legendre",
    baseline: maps.Baseline = "black",
    channels: Channels = "sum",
    loop: loops.Loop = "auto",
) -> Explainer:
    """Integrate the gradient from a background to the image.

    `(x - x0) * integral_0^1 d score / d x (x0 + a (x - x0)) da`. The map adds up to
    the difference of the scores, up to the rule's error: see `completeness`.

    Args:
        model: The cut network; where it is cut makes no difference.
        score: Score to explain, see `scores.resolve`.
        steps: Points at which the gradient is taken.
        rule: `gauss_legendre`, or `trapezoid` with both ends (at least 2 points).
        baseline: Where the path starts, see `maps.background`; `noise` needs `key`.
        channels: Merging of colours, see `gradients.merge`; `sum` and `keep` add
            up to the difference of the scores.
        loop: `auto`, `host` or `device`; see `loops.place`.

    References:
        Sundararajan et al., *Axiomatic Attribution for Deep Networks*, ICML 2017,
        Eq. 1 and Proposition 1.
    """
    nodes, weights = quadrature(steps, rule)
    check_channels(channels)
    maps.background(jnp.zeros((1, 1, 1, 3)), baseline, key=jax.random.key(0))
    explained = scores.resolve(score)
    step = _straight_step(model, explained)
    points = np.stack([nodes, weights], axis=1)

    @split.guarded(model, explained)
    def explain(variables, images, labels, *, key=None):
        start = maps.background(images, baseline, mean=model.mean, key=key)
        arguments = (variables, start, images, labels)
        items = points.astype(images.dtype)
        zeros = jnp.zeros_like(images)
        total = accumulation.fold(step, zeros, items, *arguments, loop=loop)
        return merge((images - start) * total, channels)

    return explain


@memoize.remember
def _straight_step(model: SplitModel, score: scores.Score) -> PyTree:
    slope = image_gradient(model, score)

    @jax.jit
    def step(total, point, variables, start, images, labels):
        place = start + point[0] * (images - start)
        return total + point[1] * slope(variables, place, labels)[0]

    return step


def quadrature(steps: int, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """Give the points of a rule of integration on [0, 1], and their weights."""
    choices.check("rule", rule, Rule)
    least = 1 if rule == "gauss_legendre" else 2
    if steps < least:
        raise ValueError(f"`steps`={steps} of {rule}; expected {least} or more.")
    if rule == "gauss_legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return (nodes + 1) / 2, weights / 2
    weights = np.full(steps, 1 / (steps - 1))
    weights[[0, -1]] /= 2
    return np.linspace(0, 1, steps), weights


class Completeness(NamedTuple):
    """Compare what an attribution adds up to with what it should, `[batch]` each.

    `error` is `|total - difference| / |difference|`; where there is no difference it
    is 0 if the total is 0 too, else infinite.
    """

    total: jax.Array
    difference: jax.Array
    error: jax.Array


@takes_target
@memoize.remember
def completeness(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    baseline: maps.Baseline = "black",
) -> PyTree:
    """Measure how far an attribution is from adding up to the score's difference.

    Args:
        model: The cut network.
        score: Explained score.
        baseline: Where the path started.

    Returns:
        `(variables, images, labels, attribution, *, key=None) -> Completeness`, with
        an attribution that was summed over colours or kept them.
    """
    explained, network = scores.resolve(score), split.whole(model)

    @split.guarded(model, explained)
    def measure(variables, images, labels, attribution, *, key=None):
        start = maps.background(images, baseline, mean=model.mean, key=key)
        total = jnp.sum(attribution, axis=tuple(range(1, jnp.ndim(attribution))))
        difference = explained(network(variables, images), labels) - explained(
            network(variables, start), labels
        )
        missing, size = jnp.abs(total - difference), jnp.abs(difference)
        share = missing / jnp.where(size == 0, 1, size)
        none = jnp.where(missing == 0, 0, jnp.inf)
        return Completeness(total, difference, jnp.where(size == 0, none, share))

    return measure
