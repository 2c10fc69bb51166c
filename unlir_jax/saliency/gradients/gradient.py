"""Maps of the gradient of the score with respect to the image's pixels."""

from typing import Literal

import jax
import jax.numpy as jnp

from unlir_jax import split
from unlir_jax.core import choices, compilation, memoize
from unlir_jax.saliency.cam.cam import checked
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import Explainer, Images, PyTree, SplitModel

Channels = Literal["sum", "absolute_sum", "absolute_max", "norm", "keep"]
"""How the colours of an attribution become one number a pixel, see `merge`."""


@explainer(
    title="Gradient",
    family="gradients",
    formula="gradient of the logit with respect to the pixels",
    passes="1 forward + backward",
    source="Simonyan et al., 2014",
    degree=1,
    representative=True,
    synonyms=("saliency",),
    signed={"channels": ("sum",)},
)
def gradient(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    channels: Channels = "absolute_max",
) -> Explainer:
    """Show how much each pixel would change the score: `max_c |d score / d x_c|`.

    Args:
        model: The cut network; where it is cut makes no difference.
        score: Score to explain, see `scores.resolve`.
        channels: Merging of colours, see `merge`.

    References:
        Simonyan et al., *Deep Inside Convolutional Networks*, ICLR Workshops 2014,
        Section 3.1.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import saliency, split
        >>> model = split.from_functions(  # The logits are the mean colour.
        ...     lambda variables, images: images,
        ...     lambda variables, maps: maps.mean((1, 2)),
        ... )
        >>> images = jnp.zeros((1, 2, 2, 3)).at[0, 0, 1, 2].set(1)  # A blue pixel.
        >>> blue = jnp.asarray([2])
        >>> saliency.gradient(model)({}, images, blue)[0].tolist()
        [[0.25, 0.25], [0.25, 0.25]]
    """
    check_channels(channels)
    explained = scores.resolve(score)
    slope = image_gradient(model, explained)

    @jax.jit
    def run(variables, images, labels):
        found, classes = slope(variables, images, labels)
        return merge(found, channels), classes

    return checked(model, run, explained)


@explainer(
    title="Input × gradient",
    family="gradients",
    formula="gradient times image",
    passes="1 forward + backward",
    source="Shrikumar et al., 2016",
    degree=1,
    signed={"channels": ("sum",)},
)
def input_x_gradient(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    channels: Channels = "sum",
) -> Explainer:
    """Multiply pixels and gradient: `sum_c x_c d score / d x_c`.

    Args:
        model: The cut network; where it is cut makes no difference.
        score: Score to explain, see `scores.resolve`.
        channels: Merging of colours, see `merge`.

    References:
        Shrikumar et al., *Not Just a Black Box: Learning Important Features Through
        Propagating Activation Differences*, 2016.

    Note:
        Pixels are those in [0, 1]: black ones count for nothing.
    """
    check_channels(channels)
    explained = scores.resolve(score)
    slope = image_gradient(model, explained)

    @jax.jit
    def run(variables, images, labels):
        found, classes = slope(variables, images, labels)
        return merge(images * found, channels), classes

    return checked(model, run, explained)


@memoize.remember
def image_gradient(model: SplitModel, score: scores.Score) -> PyTree:
    """Make `(variables, images, labels) -> (gradient, [0, classes])`, compiled."""
    network = split.whole(model)

    @jax.jit
    def slope(variables, images, labels):
        def total(images: Images) -> tuple[jax.Array, jax.Array]:
            logits = network(variables, images)
            return jnp.sum(score(logits, labels)), jnp.zeros((0, logits.shape[-1]))

        return jax.grad(total, has_aux=True)(images)

    return slope


def merge(attribution: PyTree, channels: Channels) -> jax.Array:
    """Bring an attribution `[batch, height, width, colours]` to one number a pixel.

    `sum` keeps what adds up to the score; `absolute_sum`, `absolute_max` and `norm`
    (Euclidean) forget signs; `keep` changes nothing.
    """
    attribution = jnp.asarray(attribution)
    if channels == "sum":
        return jnp.sum(attribution, axis=-1)
    if channels == "absolute_sum":
        return jnp.sum(jnp.abs(attribution), axis=-1)
    if channels == "absolute_max":
        return compilation.largest(jnp.abs(attribution), (-1,))
    if channels == "norm":
        return jnp.linalg.norm(attribution, axis=-1)
    return attribution


def check_channels(channels: str) -> None:
    """Refuse an unknown way to merge colours."""
    choices.check("channels", channels, Channels)
