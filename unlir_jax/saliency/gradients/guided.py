"""Gradients that only positive evidence passes: guided ReLUs, in any network.

ReLUs are found in the network's traced equations and not among its modules, so it
makes no difference in what library a network is written, nor whether its ReLUs are
modules, functions, or a `maximum` with 0. The network itself is not touched: the plain
gradient, taken before or after, stays plain.

A map can be differentiated again, by images or variables, in forward or reverse mode.
What comes out is the derivative of the modified gradient as a function of them, what
finite differences of the map converge to. The rule is not applied a second time.
"""

import functools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from unlir_jax import maps
from unlir_jax.saliency import rectifiers
from unlir_jax.saliency.cam.cam import check_maps, checked, head_score, weigh
from unlir_jax.saliency.gradients.gradient import Channels, check_channels, merge
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import (
    Explainer,
    Features,
    Images,
    Labels,
    PyTree,
    SplitModel,
    Variables,
)

Rule = Literal["guided", "deconvolution"]


@explainer(
    title="Guided backpropagation",
    family="gradients",
    formula="gradient that rectifiers pass where input and gradient are positive",
    passes="1 forward + backward",
    source="Springenberg et al., 2015",
    degree=1,
    representative=True,
    synonyms=("guided_backprop",),
    signed={"channels": ("sum",)},
)
def guided_backpropagation(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    channels: Channels = "absolute_max",
) -> Explainer:
    """Pass a gradient through a ReLU where both it and the input are positive.

    A ReLU6 passes it where `0 < input < 6` and the gradient is positive.

    Args:
        model: The cut network; where it is cut makes no difference.
        score: Score to explain, see `scores.resolve`.
        channels: Merging of colours, see `gradients.merge`.

    Raises:
        ValueError: When called: the network has no ReLU, or has one in a loop that
            cannot be rewritten.

    References:
        Springenberg et al., *Striving for Simplicity: The All Convolutional Net*, ICLR
        Workshops 2015, Section 3.4.

    Note:
        It shows edges nearly whatever the class and the weights are: see Adebayo et
        al., *Sanity Checks for Saliency Maps*, NeurIPS 2018.
    """
    return _explainer(model, "guided", score, channels)


@explainer(
    title="Deconvolution",
    family="gradients",
    formula="gradient that rectifiers pass where the gradient is positive",
    passes="1 forward + backward",
    source="Zeiler and Fergus, ECCV 2014",
    degree=1,
    signed={"channels": ("sum",)},
)
def deconvolution(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    channels: Channels = "absolute_max",
) -> Explainer:
    """Pass a gradient through a ReLU where it is positive, whatever the input.

    A ReLU6 does the same. Settings and errors as in `guided_backpropagation`.

    References:
        Zeiler & Fergus, *Visualizing and Understanding Convolutional Networks*, ECCV
        2014, Section 2.1.
    """
    return _explainer(model, "deconvolution", score, channels)


@explainer(
    title="Guided Grad-CAM",
    family="gradients",
    formula="guided backpropagation times Grad-CAM",
    passes="1 forward + backward",
    source="Selvaraju et al., ICCV 2017",
    degree=2,
    signed={"channels": ("sum",)},
)
def guided_grad_cam(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    channels: Channels = "absolute_max",
) -> Explainer:
    """Multiply guided backpropagation with Grad-CAM, enlarged to the image.

    Settings and errors as in `guided_backpropagation`.

    References:
        Selvaraju et al., *Grad-CAM*, ICCV 2017, Section 3.2.
    """
    check_channels(channels)
    explained = scores.resolve(score)

    @jax.jit
    def run(variables, images, labels):
        fine, features, classes = _ruled_gradient(
            model, "guided", explained, variables, images, labels
        )
        # The maps of the one forward pass; only the head is differentiated again.
        check_maps(features)
        total = head_score(model, explained, variables, features, labels)
        gradient, _ = jax.grad(total, has_aux=True)(features.maps)
        coarse = jax.nn.relu(weigh(features.maps, jnp.mean(gradient, axis=(1, 2))))
        enlarged = maps.resize(coarse, images.shape[1:3])
        return merge(fine * enlarged[..., None], channels), classes

    return checked(model, run, explained)


def _explainer(
    model: SplitModel, rule: Rule, score: scores.ScoreLike, channels: Channels
) -> Explainer:
    check_channels(channels)
    explained = scores.resolve(score)

    @jax.jit
    def run(variables, images, labels):
        gradient, _, classes = _ruled_gradient(
            model, rule, explained, variables, images, labels
        )
        return merge(gradient, channels), classes

    return checked(model, run, explained)


def _ruled_gradient(
    model: SplitModel,
    rule: Rule,
    score: scores.Score,
    variables: Variables,
    images: Images,
    labels: Labels,
) -> tuple[jax.Array, Features, jax.Array]:
    """Give the gradient under a rule, the features on the way, and `[0, classes]`."""

    def network(variables: Variables, images: Images) -> tuple[jax.Array, Features]:
        features = model.features(variables, images)
        return jnp.asarray(model.head(variables, features)), features

    run = ruled(rule, network, variables, images)

    def total(images: Images) -> tuple[jax.Array, tuple[Features, jax.Array]]:
        logits, features = run(variables, images)
        classes = jnp.zeros((0, logits.shape[-1]))
        return jnp.sum(score(logits, labels)), (features, classes)

    gradient, (features, classes) = jax.grad(total, has_aux=True)(images)
    return gradient, features, classes


def ruled(
    rule: Rule, function: Callable[..., PyTree], *example: PyTree
) -> Callable[..., PyTree]:
    """Give a function whose values are the same, and whose rectifiers follow a rule.

    A ReLU passes a positive gradient where its input is positive, with `deconvolution`
    wherever it is; so does a ReLU6, where the input is below 6 as well. A GELU or SiLU
    passes a positive gradient, times its slope, in the same places.

    Args:
        rule: Which rule.
        function: Gives an array, or a tree of them.
        *example: Arguments of the shapes and types that it will be called with.

    Raises:
        ValueError: There is no rectifier, or one in a loop or branch.
    """
    clip, bend = functools.partial(_clip, rule), functools.partial(_bend, rule)
    return rectifiers.replace(function, clip, *example, bend=bend)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 2, 3))
def _clip(rule: Rule, values: jax.Array, low: float, high: float) -> jax.Array:
    """Clip values to an interval; its derivative is the rule's.

    JAX takes the second derivative through the code of the two halves below and not
    through the rule (`jax.custom_vjp`, 0.12.0). So the forward half clips by ordinary
    operations, whose derivative is that of the values; it does not call `_clip`.
    """
    del rule
    return _clipped(values, low, high)


def _clip_forward(
    rule: Rule, values: jax.Array, low: float, high: float
) -> tuple[jax.Array, PyTree]:
    inside = (values > low) & (values < high) if rule == "guided" else None
    return _clipped(values, low, high), inside


def _clip_backward(
    rule: Rule, low: float, high: float, inside: PyTree, gradient: jax.Array
) -> tuple[jax.Array]:
    del low, high
    positive = jax.nn.relu(gradient)
    return (jnp.where(inside, positive, 0) if rule == "guided" else positive,)


def _clipped(values: jax.Array, low: float, high: float) -> jax.Array:
    if low > -math.inf:
        values = jnp.maximum(values, jnp.asarray(low, values.dtype))
    if high < math.inf:
        values = jnp.minimum(values, jnp.asarray(high, values.dtype))
    return values


_clip.defvjp(_clip_forward, _clip_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _bend(
    rule: Rule, function: Callable[[jax.Array], jax.Array], values: jax.Array
) -> jax.Array:
    """Apply a smooth rectifier; its derivative is the rule's, see `_clip`."""
    del rule
    return function(values)


def _bend_forward(
    rule: Rule, function: Callable[[jax.Array], jax.Array], values: jax.Array
) -> tuple[jax.Array, jax.Array]:
    del rule
    return function(values), values


def _bend_backward(
    rule: Rule,
    function: Callable[[jax.Array], jax.Array],
    values: jax.Array,
    gradient: jax.Array,
) -> tuple[jax.Array]:
    (passed,) = jax.vjp(function, values)[1](jax.nn.relu(gradient))
    return (jnp.where(values > 0, passed, 0) if rule == "guided" else passed,)


_bend.defvjp(_bend_forward, _bend_backward)
