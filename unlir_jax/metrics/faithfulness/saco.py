"""Agreement of saliency with what its pixels are worth, group against group.

Wu, Kang, Tang, Hong & Yan, *On the Faithfulness of Vision Transformer Explanations*,
CVPR 2024, Algorithm 1.
"""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import choices, loops, memoize
from unlir_jax.metrics.faithfulness.insertion_deletion import rank
from unlir_jax.metrics.faithfulness.label_score import RAW, label_score
from unlir_jax.metrics.spec import PIXELS, SCORE, Contract, metric
from unlir_jax.split import scores
from unlir_jax.types import Images, Metric, RandomKey, Saliency, SplitModel

Replacement = Literal["image_mean", "black", "mean", "blur", "noise"]
"""What replaces pixels: the mean colour of the image, or a `maps.background`."""


@metric(
    title="SaCo",
    better="higher",
    needs="map",
    family="removal",
    meaning="Do more salient groups of pixels cost more, by as much as the map says?",
    contract=Contract(
        PIXELS,
        SCORE,
        "{baseline}, in {regions} groups of pixels of alike saliency",
        "of equal values the first in row-major order",
        "none: a group weighs by the sum of raw values after enlarging",
        "0",
        unbounded=RAW,
        signs="kept: they rank below zero, and weigh as they are",
    ),
    fooled_by="a blob in the middle",
    passes="`regions` (10) + 1 forwards",
    source="Wu et al., CVPR 2024",
    scale="number",
    quick={"regions": 2},
    variants="baseline",
)
def saco(
    model: SplitModel,
    *,
    regions: int = 10,
    baseline: Replacement = "image_mean",
    score: scores.ScoreLike = "softmax",
    loop: loops.Loop = "auto",
) -> Metric:
    """Compare groups of pixels, two by two: the salience-guided faithfulness.

    Pixels are dealt out to groups of equal size, from the most salient on; `s_i` is the
    sum of saliency of group i, and `d_i` the fall of the score without it. Of every
    pair i < j the weight `s_i - s_j` counts for the map if `d_i >= d_j`, else against
    it; the sum is divided by that of all weights. In [-1, 1], higher is better. A map
    without any contrast has 0.

    Args:
        model: The cut network.
        regions: K, the number of groups.
        baseline: What replaces pixels: `image_mean`, as published, is the mean colour
            of the image; for others see `maps.background`.
        score: Score whose fall counts, see `scores.resolve`.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        A metric with `saco`, `[batch]`, and `saco_falls`, `[batch, regions]`.

    Raises:
        ValueError: An impossible setting; when called, fewer pixels than `regions`.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import metrics, split
        >>> model = split.from_functions(  # The logits are two pixels, in red.
        ...     lambda variables, images: images,
        ...     lambda variables, maps: maps[:, 0, :, 0],
        ... )
        >>> images, labels = jnp.ones((1, 1, 2, 3)), jnp.asarray([0])
        >>> saliency = jnp.asarray([[[2.0, 1.0]]])  # The first pixel is worth more.
        >>> measure = metrics.saco(model, regions=2, baseline="black")
        >>> measure({}, images, labels, saliency)["saco"].tolist()
        [1.0]
    """
    if regions < 2:
        raise ValueError(f"`regions`={regions}; expected 2 or more groups to compare.")
    choices.check("baseline", baseline, Replacement)
    compared = scores.resolve(score)
    replaced = _replaced(model, compared)

    @jax.jit
    def prepare(
        images: Images, saliency: Saliency, key: RandomKey | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        enlarged = maps.resize(saliency, images.shape[1:3])
        flat = maps.is_flat(enlarged)[:, None, None]
        groups, sums = grouped(jnp.where(flat, 0, enlarged), regions)
        return _background(images, baseline, model.mean, key), groups, sums

    @split.guarded(model, compared)
    def measure(variables, images, labels, saliency, *, key=None):
        check_count(regions, images)
        background, groups, sums = prepare(images, saliency, key)
        steps = jnp.asarray(np.arange(-1, regions, dtype=np.int32))
        arguments = variables, images, background, labels, groups
        found = loops.map_steps(replaced, steps, *arguments, loop=loop).T
        falls = found[:, :1] - found[:, 1:]
        return {"saco": coefficient(sums, falls), "saco_falls": falls}

    return measure


def check_count(regions: int, images: Images) -> None:
    """Refuse more groups than there are pixels.

    Raises:
        ValueError: There are more.
    """
    pixels = math.prod(images.shape[1:3])
    if pixels < regions:
        raise ValueError(
            f"`regions`={regions}, but the image has {pixels} pixels; expected no more."
        )


def grouped(saliency: jax.Array, regions: int) -> tuple[jax.Array, jax.Array]:
    """Deal pixels out to groups of equal size, from the most salient on.

    Args:
        saliency: `[batch, height, width]`.
        regions: Number of groups.

    Returns:
        The group of each pixel, and the sum of saliency of each group,
        `[batch, regions]`.
    """
    groups = rank(saliency) * regions // math.prod(saliency.shape[1:])
    inside = jax.nn.one_hot(groups.reshape(len(saliency), -1), regions)
    values = saliency.reshape(len(saliency), -1)
    return groups, jnp.einsum("bp,bpk->bk", values, inside, precision="highest")


@jax.jit
def coefficient(sums: jax.Array, falls: jax.Array) -> jax.Array:
    """Compute the coefficient: `[batch]`.

    Args:
        sums: Saliency of each group, `[batch, groups]`, the largest first.
        falls: Fall of the score without each group, `[batch, groups]`.
    """
    first, second = np.triu_indices(sums.shape[1], 1)
    weights = sums[:, first] - sums[:, second]
    differences = falls[:, first] - falls[:, second]
    signs = jnp.where(differences >= 0, 1, -1) + 0 * differences  # A NaN stays one.
    total = jnp.sum(jnp.abs(weights), axis=1)
    agreed = jnp.sum(signs * weights, axis=1)
    return agreed / jnp.where(total > 0, total, 1)


def _background(
    images: Images,
    baseline: Replacement,
    mean: tuple[float, ...],
    key: RandomKey | None,
) -> jax.Array:
    if baseline != "image_mean":
        return maps.background(images, baseline, mean=mean, key=key)
    colour = jnp.mean(images, axis=(1, 2), keepdims=True)
    return jnp.broadcast_to(colour, images.shape)


@memoize.remember
def _replaced(model: SplitModel, score: scores.Score) -> Callable[..., jax.Array]:
    """Compile one step: group -1 is none."""
    label_of = label_score(model, score)

    @jax.jit
    def replaced(group, variables, images, background, labels, groups):
        shown = jnp.where((groups == group)[..., None], background, images)
        return label_of(variables, shown, labels)

    return replaced
