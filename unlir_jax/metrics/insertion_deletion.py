"""The label's probability while pixels appear or vanish in the order of the map.

Petsiuk et al., *RISE: Randomized Input Sampling for Explanation of Black-box Models*,
BMVC 2018, Section 4.1.
"""

from collections.abc import Callable
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import factories, loops, maps, split
from unlir_jax.types import (
    Images,
    Labels,
    Metric,
    RandomKey,
    Saliency,
    SplitModel,
    Variables,
)


@factories.remember
def insertion(
    model: SplitModel,
    *,
    baseline: maps.Baseline = "blur",
    steps: int = 28,
    loop: loops.Loop = "auto",
) -> Metric:
    """Start from the baseline and put the most salient pixels in first.

    Higher is better: the area under the curve of the label's softmax probability
    against the share of pixels, by the trapezoid rule, in [0, 1]. Ties are broken in
    row-major order. Pixels are ranked on the map enlarged to the image.

    Args:
        model: The cut network.
        baseline: What the image starts from; see `maps.background`.
        steps: Number of equal steps; the curve has `steps + 1` points, both ends
            included.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        A metric with `insertion`, `[batch]`, and `insertion_curve`,
        `[batch, steps + 1]`.
    """
    return _curve(model, "insertion", baseline, steps, loop)


@factories.remember
def deletion(
    model: SplitModel,
    *,
    baseline: maps.Baseline = "black",
    steps: int = 28,
    loop: loops.Loop = "auto",
) -> Metric:
    """Start from the image and replace the most salient pixels by the baseline first.

    Lower is better; all else is as in `insertion`.

    Returns:
        A metric with `deletion`, `[batch]`, and `deletion_curve`,
        `[batch, steps + 1]`.
    """
    return _curve(model, "deletion", baseline, steps, loop)


@factories.remember
def insertion_minus_deletion(
    model: SplitModel,
    *,
    insertion_baseline: maps.Baseline = "blur",
    deletion_baseline: maps.Baseline = "black",
    steps: int = 28,
    loop: loops.Loop = "auto",
) -> Metric:
    """Subtract the area of deletion from that of insertion.

    Higher is better, in [-1, 1]. With one baseline for both, a map and the reverse of
    its order differ in sign.

    Args:
        model: The cut network.
        insertion_baseline: What insertion starts from.
        deletion_baseline: What deletion ends at.
        steps: Of each curve.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        A metric with `insertion_minus_deletion`, `[batch]`, and all that `insertion`
        and `deletion` give.
    """
    inserted = insertion(model, baseline=insertion_baseline, steps=steps, loop=loop)
    deleted = deletion(model, baseline=deletion_baseline, steps=steps, loop=loop)

    def score(
        variables: Variables,
        images: Images,
        labels: Labels,
        saliency: Saliency,
        *,
        key: RandomKey | None = None,
    ) -> dict[str, jax.Array]:
        inputs = (variables, images, labels, saliency)
        both = inserted(*inputs, key=key) | deleted(*inputs, key=key)
        difference = both["insertion"] - both["deletion"]
        return {"insertion_minus_deletion": difference} | both

    return score


def _curve(
    model: SplitModel, name: str, baseline: maps.Baseline, steps: int, loop: loops.Loop
) -> Metric:
    if steps < 1:
        raise ValueError(f"`steps`={steps}; expected 1 or more.")
    if baseline not in get_args(maps.Baseline):
        raise ValueError(
            f"`baseline`={baseline!r} is unknown; expected one of "
            f"{get_args(maps.Baseline)}."
        )
    probability = _probability(model)

    @jax.jit
    def prepare(
        images: Images, saliency: Saliency, key: RandomKey | None
    ) -> tuple[jax.Array, jax.Array]:
        enlarged = maps.resize(saliency, images.shape[1:3])
        # Not normalised: rounding could make ties. A flat map is all ties.
        enlarged = jnp.where(maps.is_flat(enlarged)[:, None, None], 0, enlarged)
        background = maps.background(images, baseline, mean=model.mean, key=key)
        return background, rank(enlarged)

    def score(
        variables: Variables,
        images: Images,
        labels: Labels,
        saliency: Saliency,
        *,
        key: RandomKey | None = None,
    ) -> dict[str, jax.Array]:
        split.check_batch(model, variables, images, labels)
        maps.check_saliency(saliency, images)
        images, labels = jnp.asarray(images), jnp.asarray(labels)
        background, ranks = prepare(images, jnp.asarray(saliency), key)
        counts = np.round(np.linspace(0, ranks[0].size, steps + 1)).astype(np.int32)
        first, last = (
            (images, background) if name == "insertion" else (background, images)
        )
        arguments = (variables, first, last, labels, ranks)
        curve = loops.map_steps(
            probability, jnp.asarray(counts), *arguments, loop=loop
        ).T
        area = (jnp.sum(curve, axis=1) - (curve[:, 0] + curve[:, -1]) / 2) / steps
        return {name: area, f"{name}_curve": curve}

    return score


@factories.remember
def _probability(model: SplitModel) -> Callable[..., jax.Array]:
    """Compile what insertion and deletion have in common, one step of a curve."""
    network = split.whole(model)

    @jax.jit
    def probability(
        count: jax.Array,
        variables: Variables,
        first: Images,
        last: Images,
        labels: Labels,
        ranks: jax.Array,
    ) -> jax.Array:
        """Show the `count` highest ranks of `first`, and all else of `last`."""
        shown = jnp.where((ranks < count)[..., None], first, last)
        chances = jax.nn.softmax(network(variables, shown))
        return jnp.take_along_axis(chances, labels[:, None], axis=1)[:, 0]

    return probability


def rank(saliency: Saliency) -> jax.Array:
    """Number the pixels from the most salient on; equal ones in row-major order."""
    flat = saliency.reshape((saliency.shape[0], -1))
    order = jnp.argsort(-flat, axis=1, stable=True)
    places = jnp.broadcast_to(jnp.arange(flat.shape[1]), order.shape)
    ranks = jnp.zeros_like(order).at[jnp.arange(len(order))[:, None], order].set(places)
    return ranks.reshape(saliency.shape)
