"""Gradients integrated while the image comes out of a blur."""

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.core import loops, memoize
from unlir_jax.saliency import accumulation
from unlir_jax.saliency.gaussian_blur import blur
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
    title="Blur integrated gradients",
    family="gradients",
    formula="gradient integrated from the strongest blur to the image",
    passes="(`steps` + 1) × (forward + backward)",
    source="Xu et al., CVPR 2020",
    quick={"steps": 2},
    degree=1,
    signed={"channels": ("sum",)},
)
def blur_integrated_gradients(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    steps: int = 50,
    deviation: float = 0.2,
    channels: Channels = "sum",
    loop: loops.Loop = "auto",
) -> Explainer:
    """Integrate the gradient while the image comes out of a blur.

    `sum_i (g_i + g_(i+1)) / 2 * (L_(i+1) - L_i)` with `L_i` the image under Gaussians
    whose standard deviations fall evenly to 0. The map adds up to the difference of the
    scores of the image and of its strongest blur, with an error of order `1 / steps^2`.

    Args:
        model: The cut network; where it is cut makes no difference.
        score: Score to explain, see `scores.resolve`.
        steps: Intervals of the path; `steps + 1` gradients are taken.
        deviation: Width of the strongest blur, as a share of the longer side (the
            authors use 50 of 224 pixels).
        channels: Merging of colours, see `gradients.merge`.
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
    explained = scores.resolve(score)
    slope = image_gradient(model, explained)
    step = _sharpening_step(model, explained)

    @split.guarded(model, explained)
    def explain(variables, images, labels, *, key=None):
        del key  # Nothing here is random.
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
def _sharpening_step(model: SplitModel, score: scores.Score) -> PyTree:
    slope = image_gradient(model, score)

    @jax.jit
    def step(state, sigma, variables, images, labels):
        total, before, slope_before = state
        now = blur(images, sigma)
        slope_now, _ = slope(variables, now, labels)
        total = total + (slope_before + slope_now) / 2 * (now - before)
        return total, now, slope_now

    return step
