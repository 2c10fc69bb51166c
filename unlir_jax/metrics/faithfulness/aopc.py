"""The area over the curve of the label's score while patches are replaced.

Samek, Binder, Montavon, Lapuschkin & Müller, *Evaluating the visualization of what a
deep neural network has learned*, TNNLS 2017, Eq. 12; Blücher, Vielhaben & Strodthoff,
*Decoupling pixel flipping and occlusion strategy for consistent XAI benchmarks*, 2024.
"""

import math
from collections.abc import Callable

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

PATCHES = Contract(
    PIXELS,
    SCORE,
    "{baseline}, in patches of {patch} x {patch} pixels",
    "of patches with equal means the first in row-major order",
    "none: patches are ordered by the mean of the enlarged map",
    "all ties: row-major order",
    unbounded=RAW,
    signs="kept: patches are ordered by signed means",
)

Curves = Callable[..., dict[str, jax.Array]]


AREA = metric(
    title="AOPC, most relevant first",
    better="higher",
    needs="map",
    family="removal",
    meaning="How far does the score fall while the most relevant patches are replaced?",
    contract=PATCHES,
    fooled_by="scattered patches",
    passes="`regions` (10) + 1 forwards",
    source="Samek et al., TNNLS 2017",
    quick={"patch": 2, "regions": 2},
    variants="baseline",
)


@AREA
def aopc_morf(
    model: SplitModel,
    *,
    patch: int = 14,
    regions: int = 10,
    baseline: maps.Baseline = "black",
    score: scores.ScoreLike = "softmax",
    loop: loops.Loop = "auto",
) -> Metric:
    """Replace the most relevant patches first: the mean fall of the label's score.

    `sum_k (f(x_0) - f(x_k)) / (L + 1)` over k = 0, ..., L (Eq. 12), where `x_k` lacks
    the k patches whose mean saliency is highest. Higher is better, in [-1, 1] for
    probabilities. Of equal patches the first in row-major order goes first.

    Args:
        model: The cut network.
        patch: Side of a square patch in pixels; those at the lower and right border
            are cut off where it does not divide the image.
        regions: L, how many patches are replaced.
        baseline: What replaces them; see `maps.background`.
        score: Score of the curve, see `scores.resolve`; the fall is in its unit.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        A metric with `aopc_morf`, `[batch]`, and `aopc_morf_curve`,
        `[batch, regions + 1]`: the scores, not their falls.

    Raises:
        ValueError: An impossible setting; when called, fewer patches than `regions`.

    Note:
        Samek et al. draw the new values uniformly; that is `baseline="noise"` but for
        the distribution. The default settings follow the Opti-CAM paper.
    """
    compared = scores.resolve(score)
    run = _curves(model, ("aopc_morf",), patch, regions, baseline, compared, loop)
    return _metric(model, run, "aopc_morf", compared)


@AREA._replace(
    title="AOPC, least relevant first",
    better="lower",
    meaning=(
        "How far does the score fall while the least relevant patches are replaced?"
    ),
    fooled_by="a blob in the middle",
)
def aopc_lerf(
    model: SplitModel,
    *,
    patch: int = 14,
    regions: int = 10,
    baseline: maps.Baseline = "black",
    score: scores.ScoreLike = "softmax",
    loop: loops.Loop = "auto",
) -> Metric:
    """Replace the least relevant patches first: lower is better, else as `aopc_morf`.

    Returns:
        A metric with `aopc_lerf`, `[batch]`, and `aopc_lerf_curve`,
        `[batch, regions + 1]`.
    """
    compared = scores.resolve(score)
    run = _curves(model, ("aopc_lerf",), patch, regions, baseline, compared, loop)
    return _metric(model, run, "aopc_lerf", compared)


@AREA._replace(
    title="Symmetric relevance gain",
    meaning="How much more do the most relevant patches cost than the least relevant?",
    fooled_by="hardly any control",
    passes="2 × `regions` (10) + 1 forwards",
    source="Blücher et al., 2024",
)
def symmetric_relevance_gain(
    model: SplitModel,
    *,
    patch: int = 14,
    regions: int = 10,
    baseline: maps.Baseline = "black",
    score: scores.ScoreLike = "softmax",
    loop: loops.Loop = "auto",
) -> Metric:
    """Subtract: the fall by the most relevant patches minus that by the least.

    `aopc_morf - aopc_lerf`, which depends less on what patches are replaced by than
    either (Blücher et al.). Higher is better; a map and its negative differ in sign
    where there are no ties. Settings are as in `aopc_morf`.

    Returns:
        A metric with `symmetric_relevance_gain`, `[batch]`, and all that `aopc_morf`
        and `aopc_lerf` give.
    """
    names, compared = ("aopc_morf", "aopc_lerf"), scores.resolve(score)
    run = _curves(model, names, patch, regions, baseline, compared, loop)
    return _metric(model, run, "symmetric_relevance_gain", compared)


def _metric(model: SplitModel, run: Curves, name: str, score: scores.Score) -> Metric:
    @split.guarded(model, score)
    def measure(variables, images, labels, saliency, *, key=None):
        arrays = images, labels, saliency
        found = run(variables, *arrays, key)
        if name not in found:
            found[name] = found["aopc_morf"] - found["aopc_lerf"]
        return found

    return measure


def _curves(
    model: SplitModel,
    names: tuple[str, ...],
    patch: int,
    regions: int,
    baseline: maps.Baseline,
    score: scores.Score,
    loop: loops.Loop,
) -> Curves:
    _check(patch, regions, baseline)
    replaced = _replaced(model, score)

    @jax.jit
    def prepare(
        images: Images, saliency: Saliency, key: RandomKey | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        means = patch_means(saliency, images.shape[1:3], patch)
        background = maps.background(images, baseline, mean=model.mean, key=key)
        size = images.shape[1:3]
        most, least = (_spread(rank(s * means), patch, size) for s in (1, -1))
        return background, most, least

    def run(variables, images, labels, saliency, key):
        _check_count(regions, patch, images.shape[1:3])
        background, most, least = prepare(images, saliency, key)
        found = {}
        counts = jnp.asarray(np.arange(regions + 1, dtype=np.int32))
        clean = None
        for name in names:
            ranks = most if name == "aopc_morf" else least
            arguments = (variables, images, background, labels, ranks)
            # Both curves begin with the image as it is: one pass for both.
            some = counts if clean is None else counts[1:]
            curve = loops.map_steps(replaced, some, *arguments, loop=loop).T
            if clean is None:
                clean = curve[:, :1]
            else:
                curve = jnp.concatenate([clean, curve], axis=1)
            found[name] = jnp.mean(curve[:, :1] - curve, axis=1)
            found[f"{name}_curve"] = curve
        return found

    return run


def _check(patch: int, regions: int, baseline: str) -> None:
    if patch < 1 or regions < 1:
        raise ValueError(
            f"`patch`={patch} and `regions`={regions}; expected 1 or more for both."
        )
    choices.check("baseline", baseline, maps.Baseline)


def _check_count(regions: int, patch: int, size: tuple[int, ...]) -> None:
    count = math.prod(-(-side // patch) for side in size)
    if count < regions:
        raise ValueError(
            f"`regions`={regions}, but the image has {count} patches of {patch} "
            "pixels; expected no more."
        )


@memoize.remember
def _replaced(model: SplitModel, score: scores.Score) -> Callable[..., jax.Array]:
    """Compile one step, the same for all settings of the curve."""
    label_of = label_score(model, score)

    @jax.jit
    def replaced(count, variables, images, background, labels, ranks):
        shown = jnp.where((ranks < count)[..., None], background, images)
        return label_of(variables, shown, labels)

    return replaced


def patch_means(saliency: Saliency, size: tuple[int, ...], patch: int) -> jax.Array:
    """Average the enlarged map over patches: `[batch, rows, columns]`.

    A patch cut off at the border is averaged over what is left of it. Flat maps, and
    those that are not finite, are zeros.
    """
    enlarged = maps.resize(saliency, size)
    enlarged = jnp.where(maps.is_flat(enlarged)[:, None, None], 0, enlarged)
    rows, columns = (-(-side // patch) for side in size)
    margin = ((0, rows * patch - size[0]), (0, columns * patch - size[1]))
    shape = (-1, rows, patch, columns, patch)
    total = jnp.pad(enlarged, ((0, 0), *margin)).reshape(shape).sum((2, 4))
    counted = np.pad(np.ones(size), margin).reshape(shape).sum((2, 4))
    return total / jnp.asarray(counted, total.dtype)


def _spread(ranks: jax.Array, patch: int, size: tuple[int, ...]) -> jax.Array:
    wide = jnp.repeat(jnp.repeat(ranks, patch, axis=1), patch, axis=2)
    return wide[:, : size[0], : size[1]]
