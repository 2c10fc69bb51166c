"""Gradients along other paths to the image: out of a blur, from random backgrounds."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import loops, memoize, random_keys
from unlir_jax.saliency import accumulation, targets
from unlir_jax.saliency.gradients import (
    Channels,
    check_channels,
    image_gradient,
    merge,
)
from unlir_jax.types import (
    Explainer,
    Images,
    Labels,
    RandomKey,
    SplitModel,
    Variables,
)


@memoize.remember
def blur_integrated_gradients(
    model: SplitModel,
    *,
    target: targets.Target = "logit",
    steps: int = 50,
    deviation: float = 0.2,
    channels: Channels = "sum",
    loop: loops.Loop = "auto",
) -> Explainer:
    """Integrate the gradient while the image comes out of a blur.

    `sum_i (g_i + g_(i+1)) / 2 * (L_(i+1) - L_i)` with `L_i` the image under Gaussians
    whose deviations fall evenly to 0. The map adds up to the difference of the scores
    of the image and of its strongest blur, with an error of order `1 / steps^2`.

    Args:
        model: The cut network; where it is cut makes no difference.
        target: What is explained, see `targets.resolve`.
        steps: Intervals of the path; `steps + 1` gradients are taken.
        deviation: Of the strongest blur, as a share of the longer side (the authors
            use 50 of 224 pixels).
        channels: How colours are merged, see `gradients.merge`.
        loop: `auto`, `host` or `device`; see `loops.place`.

    References:
        Xu et al., *Attribution in Scale and Space*, CVPR 2020, Eq. 4.

    Note:
        Blurs are normalised at the border, so the darkest of them is the image's mean
        and not black; the authors' code pads with zeros.
    """
    if steps < 1:
        raise ValueError(f"`steps`={steps}; expected 1 or more.")
    if not deviation > 0:
        raise ValueError(f"`deviation`={deviation}; expected more than 0.")
    check_channels(channels)
    slope = image_gradient(model, targets.resolve(target))
    step = _sharpening_step(model, targets.resolve(target))

    @split.guarded(model)
    def explain(
        variables: Variables,
        images: Images,
        labels: Labels,
        *,
        key: RandomKey | None = None,
    ) -> jax.Array:
        del key  # Nothing here is random.
        images, labels = jnp.asarray(images), jnp.asarray(labels)
        widest = deviation * max(images.shape[1:3])
        sigmas = np.linspace(widest, 0, steps + 1).astype(images.dtype)
        first = blur(images, sigmas[0])
        begun = (
            *(jnp.zeros_like(images), first),
            slope(variables, first, labels)[0],
        )
        arguments = (variables, images, labels)
        state = accumulation.fold(step, begun, sigmas[1:], *arguments, loop=loop)
        return merge(state[0], channels)

    return explain


@memoize.remember
def _sharpening_step(model: SplitModel, score: targets.Score) -> Any:
    slope = image_gradient(model, score)

    @jax.jit
    def step(
        state: tuple[jax.Array, ...],
        sigma: Any,
        variables: Variables,
        images: Images,
        labels: Labels,
    ) -> tuple[jax.Array, ...]:
        total, before, slope_before = state
        now = blur(images, sigma)
        slope_now, _ = slope(variables, now, labels)
        total = total + (slope_before + slope_now) / 2 * (now - before)
        return total, now, slope_now

    return step


@jax.jit
def blur(images: Images, sigma: Any) -> jax.Array:
    """Blur with a Gaussian of `sigma` pixels, its weights adding to 1 at the border.

    A deviation of 0 leaves the image as it is.
    """
    images = jnp.asarray(images)
    wide = jnp.promote_types(images.dtype, jnp.float32)

    def weights(length: int) -> jax.Array:
        place = jnp.arange(length, dtype=wide)
        distance = (place[:, None] - place[None]) ** 2
        # Its neighbours' weights are exp(-5e5).
        narrow = jnp.maximum(jnp.asarray(sigma, wide), 1e-3)
        return jax.nn.softmax(-distance / (2 * narrow**2)).astype(images.dtype)

    rows, columns = weights(images.shape[1]), weights(images.shape[2])
    down = jnp.einsum("hr,brwc->bhwc", rows, images, precision="highest")
    return jnp.einsum("vw,bhwc->bhvc", columns, down, precision="highest")


@memoize.remember
def gradient_shap(
    model: SplitModel,
    *,
    target: targets.Target = "logit",
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
        target: What is explained, see `targets.resolve`.
        samples: Number of draws.
        baseline: Kind of background, see `maps.background`; `noise` is drawn anew for
            each sample.
        level: Deviation of noise added to the image, as a share of its range.
        channels: How colours are merged, see `gradients.merge`.
        loop: `auto`, `host` or `device`; see `loops.place`.

    References:
        Lundberg & Lee, *A Unified Approach to Interpreting Model Predictions*, NeurIPS
        2017; Erion et al., *Improving performance of deep learning models with
        axiomatic attribution priors and expected gradients*, 2021, Eq. 3.
    """
    accumulation.check_samples(samples, level)
    check_channels(channels)
    maps.background(jnp.zeros((1, 1, 1, 3)), baseline, key=jax.random.key(0))
    step = _random_step(model, targets.resolve(target), samples, baseline, level)

    @split.guarded(model)
    def explain(
        variables: Variables,
        images: Images,
        labels: Labels,
        *,
        key: RandomKey | None = None,
    ) -> jax.Array:
        images, labels = jnp.asarray(images), jnp.asarray(labels)
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
    score: targets.Score,
    samples: int,
    baseline: maps.Baseline,
    level: float,
) -> Any:
    slope = image_gradient(model, score)

    @jax.jit
    def step(
        total: jax.Array,
        sample: Any,
        variables: Variables,
        images: Images,
        labels: Labels,
        key: RandomKey,
    ) -> jax.Array:
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
