"""Gradients at random places between random backgrounds and the image."""

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import loops, memoize, random_keys
from unlir_jax.saliency import accumulation
from unlir_jax.saliency.gradients.gradient import (
    Channels,
    check_channels,
    image_gradient,
    merge,
)
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import Explainer, PyTree, SplitModel


@explainer(
    title="GradientSHAP",
    family="gradients",
    formula="gradient averaged between random baselines and the image",
    passes="`samples` × (forward + backward)",
    source="Lundberg and Lee, NeurIPS 2017",
    quick={"samples": 2},
    degree=1,
    signed={"channels": ("sum",)},
)
def gradient_shap(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    samples: int = 25,
    baseline: maps.Baseline = "noise",
    level: float = 0.0,
    channels: Channels = "sum",
    loop: loops.Loop = "auto",
) -> Explainer:
    """Average gradients at random places between random backgrounds and the image.

    The expectation of `(x - x0) * d score / d x (x0 + a (x - x0))` over backgrounds
    `x0` and places `a`; its sum is the expected difference of the scores. Places are
    drawn one from each of `samples` equal parts of [0, 1], which lowers the variance.
    The explainer needs `key`.

    Args:
        model: The cut network; where it is cut makes no difference.
        score: Score to explain, see `scores.resolve`.
        samples: Number of draws.
        baseline: Kind of background, see `maps.background`; `noise` is drawn anew for
            each sample.
        level: Standard deviation of noise added to the image, as a share of its range.
        channels: Merging of colours, see `gradients.merge`.
        loop: `auto`, `host` or `device`; see `loops.place`.

    References:
        Lundberg & Lee, *A Unified Approach to Interpreting Model Predictions*, NeurIPS
        2017; Erion et al., *Improving performance of deep learning models with
        axiomatic attribution priors and expected gradients*, 2021, Eq. 3.
    """
    accumulation.check_samples(samples, level)
    check_channels(channels)
    maps.background(jnp.zeros((1, 1, 1, 3)), baseline, key=jax.random.key(0))
    explained = scores.resolve(score)
    step = _random_step(model, explained, samples, baseline, level)

    @split.guarded(model, explained)
    def explain(variables, images, labels, *, key=None):
        accumulation.image_keys(key, images)  # Says so if the key is missing.
        arguments = (variables, images, labels, key)
        total = accumulation.fold(
            step, jnp.zeros_like(images), np.arange(samples), *arguments, loop=loop
        )
        return merge(total, channels)

    return explain


@memoize.remember
def _random_step(
    model: SplitModel,
    score: scores.Score,
    samples: int,
    baseline: maps.Baseline,
    level: float,
) -> PyTree:
    slope = image_gradient(model, score)

    @jax.jit
    def step(total, sample, variables, images, labels, key):
        own = random_keys.per_image(jax.random.fold_in(key, sample), images)
        # Noise of deviation 0 would be drawn all the same.
        noisy = images + accumulation.noise(own, 0, images, level) if level else images
        start = maps.background(
            images, baseline, mean=model.mean, key=jax.random.fold_in(key, sample)
        )
        uniform = jax.vmap(
            lambda k: jax.random.uniform(jax.random.fold_in(k, 1), (), images.dtype)
        )(own)
        place = ((sample + uniform) / samples)[:, None, None, None]
        found, _ = slope(variables, start + place * (noisy - start), labels)
        return total + (noisy - start) * found / samples

    return step
