"""Class activation maps that differ in how gradients become weights.

With `A[x, y, k]` the maps and `g = d score / d A`. All maps are raw sums, signed where
the method's are: `rectify=True` sets negative values to 0 at the end, as
pytorch-grad-cam does with every method.
"""

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.core import loops
from unlir_jax.saliency import accumulation
from unlir_jax.saliency.cam.cam import (
    check_maps,
    checked,
    from_gradient,
    grad_cam,
    head_score,
    rectified,
    weigh,
)
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import Explainer, PyTree, Saliency, SplitModel

XGRAD_EPSILON = 1e-7


@explainer(
    title="Grad-CAM++",
    family="cam",
    formula="filters weighted by `Σ relu(g) g² / (2g² + ΣA g³)`",
    passes="1 forward",
    source="Chattopadhay et al., WACV 2018",
    synonyms=("gradcam_plus_plus",),
)
def grad_cam_plus_plus(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    epsilon: float = 0.0,
    rectify: bool = False,
) -> Explainer:
    """Weigh filters by `sum(alpha relu(g))`, `alpha = g^2 / (2 g^2 + sum(A) g^3)`.

    `alpha` is 0 where `g` is 0, and where the denominator is.

    Args:
        model: The cut network.
        score: Score to explain, see `scores.resolve`.
        epsilon: Added to the denominator. pytorch-grad-cam adds 1e-6, which is not
            small compared with `g^2`.
        rectify: Whether negative values of the sum become 0.

    References:
        Chattopadhyay et al., *Grad-CAM++: Generalized Gradient-Based Visual
        Explanations for Deep Convolutional Networks*, WACV 2018, Eq. 10 and 19.
    """

    def combine(maps: jax.Array, gradient: jax.Array) -> jax.Array:
        square = gradient**2
        weights = _plus_plus(maps, gradient, square, square * gradient, epsilon)
        return rectified(weigh(maps, weights), rectify)

    def exact(maps: jax.Array, gradient: jax.Array) -> jax.Array:
        # Divided by g^2, which may be too small a number to be squared.
        denominator = 2 + jnp.sum(maps, axis=(1, 2), keepdims=True) * gradient
        weights = jnp.sum(_ratio(jax.nn.relu(gradient), denominator), axis=(1, 2))
        return rectified(weigh(maps, weights), rectify)

    return from_gradient(model, combine if epsilon else exact, score)


@explainer(
    title="Smooth Grad-CAM++",
    family="cam",
    formula="Grad-CAM++ of derivatives averaged over noisy images",
    passes="1 + `samples` forwards",
    source="Omeiza et al., 2019",
    quick={"samples": 2},
)
def smooth_grad_cam_plus_plus(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    samples: int = 25,
    level: float = 0.15,
    rectify: bool = False,
    loop: loops.Loop = "auto",
) -> Explainer:
    """Average Grad-CAM++'s derivatives over noisy copies of the image.

    `alpha = mean(g^2) / (2 mean(g^2) + sum(A) mean(g^3))`, weights
    `sum(alpha relu(mean(g)))`, with `A` the maps of the image itself. The explainer
    needs `key`.

    Args:
        model: The cut network.
        score: Score to explain, see `scores.resolve`.
        samples: Number of noisy copies, a forward pass each.
        level: Std of the noise as a share of each image's range of values.
        rectify: Whether negative values of the sum become 0.
        loop: `auto`, `host` or `device`; see `loops.place`.

    References:
        Omeiza et al., *Smooth Grad-CAM++: An Enhanced Inference Level Visualization
        Technique for Deep Convolutional Neural Network Models*, 2019, Eq. 6-9.
    """
    accumulation.check_samples(samples, level)
    explained = scores.resolve(score)

    step = _noisy_powers(model, explained, level)

    @jax.jit
    def combine(powers: jax.Array, maps: jax.Array) -> Saliency:
        weights = _plus_plus(maps, *powers, epsilon=0.0)
        return rectified(weigh(maps, weights), rectify)

    @split.guarded(model, explained)
    def explain(variables, images, labels, *, key=None):
        features = model.features(variables, images)
        check_maps(features)
        start = jnp.zeros((3, *features.maps.shape), features.maps.dtype)
        arguments = (variables, images, labels, accumulation.image_keys(key, images))
        powers = accumulation.fold(
            step, start, np.arange(samples), *arguments, loop=loop
        )
        return combine(powers / samples, features.maps)

    return explain


def _noisy_powers(model: SplitModel, score: scores.Score, level: float) -> PyTree:
    """Compile one noisy copy: the gradient at the maps, its square and its cube."""

    @jax.jit
    def step(state, sample, variables, images, labels, image_keys):
        noisy = images + accumulation.noise(image_keys, sample, images, level)
        features = model.features(variables, noisy)
        total = head_score(model, score, variables, features, labels)
        gradient = jax.grad(total, has_aux=True)(features.maps)[0]
        powers = jnp.stack([gradient, gradient**2, gradient**3])
        return state + powers

    return step


def _plus_plus(
    maps: jax.Array,
    first: jax.Array,
    second: jax.Array,
    third: jax.Array,
    epsilon: float,
) -> jax.Array:
    """Give Grad-CAM++'s weights, `[batch, filters]`, of three powers of gradients."""
    activation = jnp.sum(maps, axis=(1, 2), keepdims=True)
    alpha = _ratio(second, 2 * second + activation * third + epsilon)
    return jnp.sum(jnp.where(first == 0, 0, alpha) * jax.nn.relu(first), axis=(1, 2))


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    zero = denominator == 0
    return jnp.where(zero, 0, numerator / jnp.where(zero, 1, denominator))


@explainer(
    title="XGrad-CAM",
    family="cam",
    formula="`Σ_k (Σ A g / Σ A) A_k`",
    passes="1 forward",
    source="Fu et al., BMVC 2020",
    degree=1,
    signed={"rectify": (False,)},
)
def xgrad_cam(
    model: SplitModel, *, score: scores.ScoreLike = "logit", rectify: bool = False
) -> Explainer:
    """Weigh filters by `sum(g A) / sum(A)`, the gradient averaged by activation.

    The denominator has 1e-7 added, and a filter whose denominator is 0 gets no weight.

    Args:
        model: The cut network.
        score: Score to explain, see `scores.resolve`.
        rectify: Whether negative values of the sum become 0.

    References:
        Fu et al., *Axiom-based Grad-CAM: Towards Accurate Visualization and
        Explanation of CNNs*, BMVC 2020, Eq. 8.
    """

    def combine(maps: jax.Array, gradient: jax.Array) -> jax.Array:
        total = jnp.sum(maps, axis=(1, 2)) + XGRAD_EPSILON
        weights = _ratio(jnp.sum(gradient * maps, axis=(1, 2)), total)
        return rectified(weigh(maps, weights), rectify)

    return from_gradient(model, combine, score)


@explainer(
    title="HiRes-CAM",
    family="cam",
    formula="`Σ_k g_k A_k`",
    passes="1 forward",
    source="Draelos and Carin, 2020",
    degree=1,
    signed={"rectify": (False,)},
)
def hires_cam(
    model: SplitModel, *, score: scores.ScoreLike = "logit", rectify: bool = False
) -> Explainer:
    """Weigh each place by its own gradient: `sum_k g_k A_k`.

    For a head without biases and with ReLUs only, the map adds up to the score.

    Args:
        model: The cut network.
        score: Score to explain, see `scores.resolve`.
        rectify: Whether negative values of the sum become 0.

    References:
        Draelos & Carin, *Use HiResCAM instead of Grad-CAM for faithful explanations
        of convolutional neural networks*, 2020, Eq. 4.
    """

    def combine(maps: jax.Array, gradient: jax.Array) -> jax.Array:
        return rectified(jnp.sum(gradient * maps, axis=-1), rectify)

    return from_gradient(model, combine, score)


@explainer(
    title="Element-wise Grad-CAM",
    family="cam",
    formula="`Σ_k relu(g_k A_k)`",
    passes="1 forward",
    source="pytorch-grad-cam",
    degree=1,
    synonyms=("elementwise",),
)
def elementwise_grad_cam(
    model: SplitModel, *, score: scores.ScoreLike = "logit"
) -> Explainer:
    """Add positive products only: `sum_k relu(g_k A_k)`.

    References:
        pytorch-grad-cam's `GradCAMElementWise`.
    """

    def combine(maps: jax.Array, gradient: jax.Array) -> jax.Array:
        return jnp.sum(jax.nn.relu(gradient * maps), axis=-1)

    return from_gradient(model, combine, score)


@explainer(
    title="Layer-CAM",
    family="cam",
    formula="`Σ_k relu(g_k) A_k`",
    passes="1 forward",
    source="Jiang et al., TIP 2021",
    degree=1,
    representative=True,
)
def layer_cam(
    model: SplitModel, *, score: scores.ScoreLike = "logit", rectify: bool = False
) -> Explainer:
    """Weigh each place by its own positive gradient: `sum_k relu(g_k) A_k`.

    Args:
        model: The cut network.
        score: Score to explain, see `scores.resolve`.
        rectify: Whether negative values of the sum become 0, which only maps without
            a ReLU have.

    References:
        Jiang et al., *LayerCAM: Exploring Hierarchical Class Activation Maps for
        Localization*, IEEE TIP 2021, Eq. 5-6.
    """

    def combine(maps: jax.Array, gradient: jax.Array) -> jax.Array:
        return rectified(jnp.sum(jax.nn.relu(gradient) * maps, axis=-1), rectify)

    return from_gradient(model, combine, score)


@explainer(
    title="Finer-CAM",
    family="cam",
    formula="Grad-CAM of the logit minus those of similar classes",
    passes="1 forward",
    source="Zhang et al., CVPR 2025",
    signed={"rectify": (False,)},
)
def finer_cam(
    model: SplitModel,
    *,
    others: int = 3,
    strength: float = 1.0,
    rectify: bool = True,
) -> Explainer:
    """Explain by Grad-CAM what sets the label apart from the nearest classes.

    Other methods do the same with `score=scores.contrast(others, strength)`.

    Args:
        model: The cut network.
        others: How many classes the label is compared with, see `scores.contrast`.
        strength: How much of their logits is subtracted.
        rectify: Whether negative values of the sum become 0.

    References:
        Zhang et al., *Finer-CAM: Spotting the Difference Reveals Finer Details for
        Visual Explanation*, CVPR 2025, Eq. 5.
    """
    contrast = scores.contrast(others=others, strength=strength)
    return grad_cam(model, score=contrast, rectify=rectify)


@explainer(
    title="Shapley-CAM",
    family="cam",
    formula="filters weighted by `mean(g - H A / 2)`, `H` the Hessian",
    passes="1 forward",
    source="Cai, 2025",
    degree=1,
    signed={"rectify": (False,)},
)
def shapley_cam(
    model: SplitModel, *, score: scores.ScoreLike = "logit", rectify: bool = True
) -> Explainer:
    """Weigh filters by `mean(g - H A / 2)`, with `H` the Hessian of the score.

    The product with the Hessian is one derivative of the gradient in the direction of
    the maps: one pass more, no graph that is kept.

    Args:
        model: The cut network.
        score: Score to explain; the paper proposes `"residual_softmax"`. On a
            linear head after average pooling the Hessian of a logit is 0, and this is
            Grad-CAM.
        rectify: Whether negative values of the sum become 0.

    References:
        Cai, *CAMs as Shapley Value-based Explainers*, arXiv 2501.06261.
    """
    explained = scores.resolve(score)

    @jax.jit
    def run(variables, images, labels):
        features = model.features(variables, images)
        check_maps(features)
        total = head_score(model, explained, variables, features, labels)
        slope = jax.grad(total, has_aux=True)
        gradient, curvature, classes = jax.jvp(
            slope, (features.maps,), (features.maps,), has_aux=True
        )
        weights = jnp.mean(gradient - curvature / 2, axis=(1, 2))
        return rectified(weigh(features.maps, weights), rectify), classes

    return checked(model, run, explained)
