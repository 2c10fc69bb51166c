"""Rank correlation of saliency with the effect of uncertain pixels.

Nguyen & Martinez, *On quantitative aspects of model interpretability*, 2020, Section 4.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import choices, loops, memoize, random_keys
from unlir_jax.metrics.faithfulness.label_score import label_score
from unlir_jax.metrics.faithfulness.saco import check_count, grouped
from unlir_jax.metrics.sanity.similarity import spearman
from unlir_jax.metrics.spec import NOTHING, PIXELS, SCORE, Contract, metric
from unlir_jax.split import scores
from unlir_jax.types import Images, Metric, RandomKey, Saliency, SplitModel

Values = Literal["uniform", "black", "mean", "blur", "noise"]
"""What pixels are replaced by: values drawn anew each time, or a `maps.background`."""


@metric(
    title="Monotonicity correlation",
    better="higher",
    needs="map",
    family="removal",
    meaning="Does the score depend more on groups of pixels with larger values?",
    contract=Contract(
        PIXELS,
        SCORE,
        "{baseline}, in {regions} groups of pixels of alike magnitude",
        "equal groups get the middle of their ranks",
        "none: a group weighs by the sum of magnitudes after enlarging",
        "0",
        unbounded=NOTHING + ": only the order of changes matters",
        signs="magnitudes",
    ),
    fooled_by="a blob in the middle",
    passes="`regions` (21) × `draws` (10) + 1 forwards",
    source="Nguyen & Martinez, 2020",
    scale="number",
    quick={"regions": 3, "draws": 1},
    variants="baseline",
)
def monotonicity_correlation(
    model: SplitModel,
    *,
    regions: int = 21,
    draws: int = 10,
    baseline: Values = "uniform",
    score: scores.ScoreLike = "softmax",
    loop: loops.Loop = "auto",
) -> Metric:
    """Correlate the saliency of groups of pixels with the effect of replacing them.

    Pixels are dealt out to groups of equal size by the magnitude of the map. `a_i` is
    the sum of magnitudes of group i, and `v_i` the mean square of the change of the
    score over several replacements. The value is Spearman's correlation of both, in
    [-1, 1]; higher is better. Flat maps, and scores that do not change, are 0.

    Args:
        model: The cut network.
        regions: Number of groups. Quantus names their size in values instead: 7,168 of
            an image with 224 pixels a side are 21 groups.
        draws: Number of replacements of a group.
        baseline: `uniform` draws each value from [0, 1]; for others, which need one
            draw, see `maps.background`.
        score: Score whose change counts, see `scores.resolve`.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        A metric with `monotonicity_correlation`, `[batch]`. It needs `key` for
        `uniform` and `noise`.

    Raises:
        ValueError: An impossible setting; when called, no key, or fewer pixels than
            `regions`.

    Note:
        A pixel is replaced in all channels. Quantus deals out single values. Its factor
        `1 / f(x)^2` changes no rank.
    """
    if regions < 2 or draws < 1:
        raise ValueError(
            f"`regions`={regions} and `draws`={draws}; expected 2 or more groups, "
            "and 1 or more draws of each."
        )
    choices.check("baseline", baseline, Values)
    compared = scores.resolve(score)
    label_of, replaced = label_score(model, compared), _replaced(model, compared)

    @jax.jit
    def prepare(
        images: Images, saliency: Saliency
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        enlarged = jnp.abs(maps.resize(saliency, images.shape[1:3]))
        flat = maps.is_flat(enlarged)
        enlarged = jnp.where(flat[:, None, None], 0, enlarged)
        return *grouped(enlarged, regions), flat

    @split.guarded(model, compared)
    def measure(variables, images, labels, saliency, *, key=None):
        check_count(regions, images)
        groups, sums, flat = prepare(images, saliency)
        clean = label_of(variables, images, labels)
        keys, background = _values(baseline, images, model.mean, key)
        steps = jnp.asarray(np.arange(regions * draws, dtype=np.int32))
        arguments = variables, images, background, labels, groups, keys
        found = loops.map_steps(
            lambda step, *given: replaced(step, draws, *given),
            steps,
            *arguments,
            loop=loop,
        )
        changes = (found.T - clean[:, None]) ** 2
        effects = jnp.mean(changes.reshape(-1, regions, draws), axis=2)
        value = spearman(sums[:, None], effects[:, None])
        # As a sum, so that NaN stays.
        value = jnp.where(flat, 0, value) + 0 * jnp.sum(effects, axis=1)
        return {"monotonicity_correlation": value}

    return measure


def _values(
    baseline: Values,
    images: Images,
    mean: tuple[float, ...],
    key: RandomKey | None,
) -> tuple[jax.Array | None, jax.Array]:
    """Give what pixels are replaced by, and keys where it is drawn each time."""
    if baseline == "uniform":
        return random_keys.per_image(key, images), jnp.zeros_like(images)
    return None, maps.background(images, baseline, mean=mean, key=key)


@memoize.remember
def _replaced(model: SplitModel, score: scores.Score) -> Callable[..., jax.Array]:
    """Compile one step: a group, and a draw of what replaces it."""
    label_of = label_score(model, score)

    @jax.jit
    def replaced(step, draws, variables, images, background, labels, groups, keys):
        if keys is not None:
            drawn = jax.vmap(lambda key: jax.random.fold_in(key, step))(keys)
            background = jax.vmap(
                lambda key: jax.random.uniform(key, images.shape[1:], images.dtype)
            )(drawn)
        chosen = (groups == step // draws)[..., None]
        return label_of(variables, jnp.where(chosen, background, images), labels)

    return replaced
