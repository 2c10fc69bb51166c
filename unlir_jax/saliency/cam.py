"""Class activation maps: weighted sums of the feature maps at the cut.

With `A[x, y, k]` the maps and `g = d logit / d A`. Nothing but the head is
differentiated; the trunk runs once, forward.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from unlir_jax import factories, split
from unlir_jax.types import (
    Explainer,
    Features,
    Images,
    Labels,
    RandomKey,
    Saliency,
    SplitModel,
    Variables,
)

Combine = Callable[[jax.Array, jax.Array], jax.Array]


@factories.remember
def grad_cam(model: SplitModel) -> Explainer:
    """Weigh each filter by its mean gradient: `relu(sum_k mean(g_k) A_k)`.

    References:
        Selvaraju et al., *Grad-CAM: Visual Explanations from Deep Networks via
        Gradient-based Localization*, ICCV 2017, Eq. 1-2.
    """

    def combine(maps: jax.Array, gradient: jax.Array) -> jax.Array:
        weights = jnp.mean(gradient, axis=(1, 2))
        return jax.nn.relu(weigh(maps, weights))

    return _from_gradient(model, combine)


@factories.remember
def cam(model: SplitModel) -> Explainer:
    """Show the exact evidence of an affine head: `h w sum_k g_k A_k`.

    After average pooling and one linear layer this is the CAM of the paper,
    `sum_k W[c, k] A_k` (Eq. 2), read off the head's own gradient. For any affine head
    the mean of the map is the logit less its bias.

    Raises:
        ValueError: The head is not affine in the maps (VGG's is not, nor is an inner
            cut), where a CAM is not defined.

    References:
        Zhou et al., *Learning Deep Features for Discriminative Localization*,
        CVPR 2016, Eq. 1-2.
    """

    def combine(maps: jax.Array, gradient: jax.Array) -> jax.Array:
        cells = maps.shape[1] * maps.shape[2]
        return cells * jnp.sum(maps * gradient, axis=-1)

    return _from_gradient(model, combine, affine=True)


def _from_gradient(
    model: SplitModel, combine: Combine, affine: bool = False
) -> Explainer:
    """Explain by the maps and the gradient of the label's logit at the cut."""

    @jax.jit
    def run(
        variables: Variables, images: Images, labels: Labels
    ) -> tuple[Saliency, jax.Array]:
        features = model.features(variables, images)
        check_maps(features)

        def logit_of(maps: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = model.head(variables, Features(maps, features.context))
            # Summing over the batch gives each image its own gradient in one pass.
            chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)
            # An empty array brings the number of classes out, at no cost.
            return jnp.sum(chosen), jnp.zeros((0, logits.shape[-1]))

        if affine:
            _check_affine(lambda maps: logit_of(maps)[0], features.maps)
        gradient, classes = jax.grad(logit_of, has_aux=True)(features.maps)
        return combine(features.maps, gradient), classes

    def explain(
        variables: Variables,
        images: Images,
        labels: Labels,
        *,
        key: RandomKey | None = None,
    ) -> Saliency:
        del key  # Nothing here is random.
        split.check_shapes(images, labels)
        found, classes = run(variables, jnp.asarray(images), jnp.asarray(labels))
        split.check_labels(labels, classes.shape[1])
        return found

    return explain


def weigh(maps: jax.Array, weights: jax.Array) -> Saliency:
    """Sum maps over filters by one weight an image and filter, in full precision."""
    return jnp.einsum("bhwk,bk->bhw", maps, weights, precision="highest")


def check_maps(features: Features) -> None:
    """Refuse a cut whose output is not `[batch, height, width, filters]`."""
    if features.maps.ndim != 4:
        raise ValueError(
            f"The network is cut where arrays have shape {features.maps.shape}; "
            "expected maps [batch, height, width, filters], as a convolution gives: "
            "choose another layer."
        )


def _check_affine(function: Callable[[jax.Array], jax.Array], maps: jax.Array) -> None:
    """Refuse a function that JAX cannot transpose, that is, one that is not linear."""
    jax.eval_shape(function, maps)  # An error of the head's own is not ours to explain.
    try:
        jax.eval_shape(jax.linear_transpose(function, maps), jnp.zeros((), maps.dtype))
    except Exception as error:
        raise ValueError(
            "`cam` needs a head that is affine in the maps, such as average pooling "
            "and one linear layer; this cut's head is not: use grad_cam, or cut at the "
            "last maps before pooling."
        ) from error
