"""Moments of the gradient over noise added to the image."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.core import loops, memoize
from unlir_jax.saliency import accumulation
from unlir_jax.saliency.gradients.gradient import (
    Channels,
    check_channels,
    image_gradient,
    merge,
)
from unlir_jax.saliency.spec import explainer, takes_target
from unlir_jax.split import scores
from unlir_jax.types import Explainer, Images, Labels, PyTree, SplitModel, Variables

Statistic = Literal["mean", "square", "variance"]


class Moments(NamedTuple):
    """Hold the moments of a gradient over noise, each `[batch, height, width, 3]`.

    `square` is the mean of the squares, `variance` that of the population.
    """

    mean: jax.Array
    square: jax.Array
    variance: jax.Array


class _Running(NamedTuple):
    """Hold Welford's sums: they lose no digits where the mean is large."""

    count: jax.Array
    mean: jax.Array
    spread: jax.Array


SMOOTHED = explainer(
    title="SmoothGrad",
    family="gradients",
    formula="mean of the gradient over noisy images",
    passes="`samples` × (forward + backward)",
    source="Smilkov et al., 2017",
    quick={"samples": 2},
    degree=1,
    synonyms=("smoothgrad",),
    signed={"channels": ("sum",)},
)


@SMOOTHED
def smooth_grad(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    samples: int = 25,
    level: float = 0.15,
    channels: Channels = "absolute_max",
    loop: loops.Loop = "auto",
) -> Explainer:
    """Average the gradient over noisy copies of the image, and take its magnitude.

    The explainer needs `key`.

    Args:
        model: The cut network; where it is cut makes no difference.
        score: Score to explain, see `scores.resolve`.
        samples: Number of noisy copies.
        level: Standard deviation of the noise as a share of each image's range of
            values; the paper finds 0.1 to 0.2 best.
        channels: Merging of colours, see `gradients.merge`.
        loop: `auto`, `host` or `device`; see `loops.place`.

    References:
        Smilkov et al., *SmoothGrad: removing noise by adding noise*, 2017, Section 3.
    """
    return _over_noise(model, "mean", score, samples, level, channels, loop)


@SMOOTHED._replace(
    title="SquareGrad",
    formula="mean of the squared gradient over noisy images",
    source="Hooker et al., NeurIPS 2019",
    degree=2,
    synonyms=("smoothgrad_squared",),
    signed=False,
)
def square_grad(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    samples: int = 25,
    level: float = 0.15,
    channels: Channels = "absolute_max",
    loop: loops.Loop = "auto",
) -> Explainer:
    """Average the square of the gradient over noisy copies of the image.

    Settings as in `smooth_grad`.

    References:
        Hooker et al., *A Benchmark for Interpretability Methods in Deep Neural
        Networks*, NeurIPS 2019, Section 4.1 (SmoothGrad-Squared).
    """
    return _over_noise(model, "square", score, samples, level, channels, loop)


@SMOOTHED._replace(
    title="VarGrad",
    formula="variance of the gradient over noisy images",
    source="Adebayo et al., NeurIPS 2018",
    degree=2,
    synonyms=("vargrad",),
    signed=False,
)
def var_grad(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    samples: int = 25,
    level: float = 0.15,
    channels: Channels = "absolute_max",
    loop: loops.Loop = "auto",
) -> Explainer:
    """Take the variance of the gradient over noisy copies of the image.

    The population's variance, so one sample gives zeros. Settings as in `smooth_grad`.

    References:
        Adebayo et al., *Local Explanation Methods for Deep Neural Networks Lack
        Sensitivity to Parameter Values*, ICLR Workshops 2018, Section 2.
    """
    return _over_noise(model, "variance", score, samples, level, channels, loop)


@takes_target
@memoize.remember
def noise_moments(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    loop: loops.Loop = "auto",
) -> Callable[[Variables, Images, Labels, PyTree], Moments]:
    """Take the moments of the gradient over noise that is given.

    Returns:
        `(variables, images, labels, noise) -> Moments`, with `noise`
        `[samples, *images.shape]`.
    """
    explained = scores.resolve(score)
    add = _adding(model, explained)

    @jax.jit
    def step(state, noise, variables, images, labels):
        return add(state, noise, variables, images, labels)

    @split.guarded(model, explained)
    def moments(variables, images, labels, noise):
        if jnp.shape(noise)[1:] != images.shape or not len(noise):
            raise ValueError(
                f"`noise` has shape {jnp.shape(noise)}; expected [samples, "
                f"{', '.join(map(str, images.shape))}]."
            )
        arguments = (variables, images, labels)
        begun = _begin(images)
        return _finish(accumulation.fold(step, begun, noise, *arguments, loop=loop))

    return moments


def _over_noise(
    model: SplitModel,
    statistic: Statistic,
    score: scores.ScoreLike,
    samples: int,
    level: float,
    channels: Channels,
    loop: loops.Loop,
) -> Explainer:
    accumulation.check_samples(samples, level)
    check_channels(channels)
    explained = scores.resolve(score)
    step = _noisy_step(model, explained, level)

    @split.guarded(model, explained)
    def explain(variables, images, labels, *, key=None):
        arguments = (variables, images, labels, accumulation.image_keys(key, images))
        state = accumulation.fold(
            step, _begin(images), np.arange(samples), *arguments, loop=loop
        )
        return merge(getattr(_finish(state), statistic), channels)

    return explain


@memoize.remember
def _noisy_step(model: SplitModel, score: scores.Score, level: float) -> PyTree:
    """Compile what all three statistics have in common, one noisy copy."""
    add = _adding(model, score)

    @jax.jit
    def step(state, sample, variables, images, labels, image_keys):
        noise = accumulation.noise(image_keys, sample, images, level)
        return add(state, noise, variables, images, labels)

    return step


def _adding(model: SplitModel, score: scores.Score) -> Callable[..., _Running]:
    slope = image_gradient(model, score)

    def add(state, noise, variables, images, labels):
        found, _ = slope(variables, images + noise, labels)
        count = state.count + 1
        difference = found - state.mean
        mean = state.mean + difference / count
        return _Running(count, mean, state.spread + difference * (found - mean))

    return add


def _begin(images: jax.Array) -> _Running:
    return _Running(
        jnp.zeros((), images.dtype), jnp.zeros_like(images), jnp.zeros_like(images)
    )


@jax.jit
def _finish(state: _Running) -> Moments:
    variance = state.spread / state.count
    return Moments(state.mean, variance + state.mean**2, variance)
