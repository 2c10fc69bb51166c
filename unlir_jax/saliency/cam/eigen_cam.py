"""Maps along the direction in which feature vectors vary most."""

from typing import Literal

import jax
import jax.numpy as jnp

from unlir_jax.core import choices
from unlir_jax.saliency.cam.cam import from_gradient
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import Explainer, PyTree, SplitModel

Sign = Literal["absolute", "aligned"]


@explainer(
    title="Eigen-CAM",
    family="cam",
    formula="first principal component of `A`, with a defined sign",
    passes="1 forward",
    source="Muhammad and Yeasin, IJCNN 2020",
    degree=0,
    representative=True,
)
def eigen_cam(model: SplitModel, *, sign: Sign = "absolute") -> Explainer:
    """Project the centred maps on their first principal direction.

    The places of one image are the samples, their filters the variables. Nothing here
    depends on the label. A singular vector has no sign of its own, so one is chosen.

    Args:
        model: The cut network.
        sign: `absolute` gives the magnitude of the projection; `aligned` turns it so
            that it grows with the mean of the maps, and keeps negative values.

    References:
        Muhammad & Yeasin, *Eigen-CAM: Class Activation Map using Principal
        Components*, IJCNN 2020, Eq. 3.

    Note:
        pytorch-grad-cam sets the negative half of an arbitrarily signed projection to
        0, so that its map may be inverted or blank.
    """
    _check(sign)

    def combine(maps: jax.Array, gradient: jax.Array) -> jax.Array:
        del gradient  # And so XLA removes the head.
        return _project(maps, jnp.mean(maps, axis=-1), sign)

    return from_gradient(model, combine, _everything)


@explainer(
    title="EigenGrad-CAM",
    family="cam",
    formula="first principal component of `A g`, with a defined sign",
    passes="1 forward",
    source="pytorch-grad-cam",
    degree=1,
)
def eigen_grad_cam(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    sign: Sign = "aligned",
) -> Explainer:
    """Project the centred products `g A` on their first principal direction.

    Args:
        model: The cut network.
        score: Score to explain, see `scores.resolve`.
        sign: `aligned` turns the projection so that it grows with `sum_k g_k A_k`,
            the evidence for the score; `absolute` gives its magnitude.

    References:
        pytorch-grad-cam's `EigenGradCAM`, whose sign is arbitrary.
    """
    _check(sign)

    def combine(maps: jax.Array, gradient: jax.Array) -> jax.Array:
        products = maps * gradient
        return _project(products, jnp.sum(products, axis=-1), sign)

    return from_gradient(model, combine, score)


def _project(maps: jax.Array, reference: jax.Array, sign: Sign) -> jax.Array:
    """Project `[b, h, w, k]` on the first right singular vector of `[h w, k]`."""
    batch, rows, columns, filters = maps.shape
    # No factorisation of LAPACK's takes bfloat16 or float16.
    wide = maps.astype(jnp.promote_types(maps.dtype, jnp.float32))
    samples = wide.reshape((batch, rows * columns, filters))
    samples = samples - jnp.mean(samples, axis=1, keepdims=True)
    # The scale goes: products with gradients are too small to be squared in float32.
    scale = jnp.max(jnp.abs(samples), axis=(1, 2), keepdims=True)
    samples = samples / jnp.where(scale == 0, 1, scale)
    # The smaller of the two Gram matrices has the same first eigenvalue.
    if rows * columns <= filters:
        gram = jnp.einsum("bik,bjk->bij", samples, samples, precision="highest")
        values, vectors = jnp.linalg.eigh(gram)
        length = jnp.sqrt(jnp.maximum(values[:, -1:], 0))
        projection = vectors[:, :, -1] * length
    else:
        gram = jnp.einsum("bik,bil->bkl", samples, samples, precision="highest")
        _, vectors = jnp.linalg.eigh(gram)
        first = vectors[:, :, -1]
        projection = jnp.einsum("bik,bk->bi", samples, first, precision="highest")
    projection = projection.reshape((batch, rows, columns)) * scale
    projection = projection.astype(maps.dtype)
    if sign == "absolute":
        return jnp.abs(projection)
    centred = reference - jnp.mean(reference, axis=(1, 2), keepdims=True)
    agreement = jnp.sum(projection * centred, axis=(1, 2), keepdims=True)
    return jnp.where(agreement < 0, -projection, projection)


def _everything(logits: PyTree, labels: PyTree) -> jax.Array:
    """Add all outputs: whatever the network gives, it is not looked at."""
    del labels
    return jnp.sum(logits, axis=tuple(range(1, logits.ndim)))


def _check(sign: str) -> None:
    choices.check("sign", sign, Sign)
