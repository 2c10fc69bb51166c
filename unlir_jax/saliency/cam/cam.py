"""Class activation maps: weighted sums of the feature maps at the cut.

With `A[x, y, k]` the maps and `g = d score / d A`. Nothing but the head is
differentiated; the backbone runs once, forward.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from unlir_jax import split
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import Explainer, Features, Labels, Saliency, SplitModel, Variables

Combine = Callable[[jax.Array, jax.Array], jax.Array]
Run = Callable[..., tuple[jax.Array, jax.Array]]


@explainer(
    title="Grad-CAM",
    family="cam",
    formula="`relu(Σ_k mean(g_k) A_k)`",
    passes="1 forward",
    source="Selvaraju et al., ICCV 2017, Eq. 1-2",
    degree=1,
    representative=True,
    synonyms=("gradcam",),
    signed={"rectify": (False,)},
)
def grad_cam(
    model: SplitModel, *, score: scores.ScoreLike = "logit", rectify: bool = True
) -> Explainer:
    """Weigh each filter by its mean gradient: `relu(sum_k mean(g_k) A_k)`.

    Args:
        model: The cut network.
        score: Score to explain, see `scores.resolve`.
        rectify: Whether negative values of the sum become 0.

    References:
        Selvaraju et al., *Grad-CAM: Visual Explanations from Deep Networks via
        Gradient-based Localization*, ICCV 2017, Eq. 1-2.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import saliency, split
        >>> model = split.from_functions(  # The logits are the mean colour.
        ...     lambda variables, images: images,
        ...     lambda variables, maps: maps.mean((1, 2)),
        ... )
        >>> images = jnp.zeros((1, 2, 2, 3)).at[0, 0, 1, 2].set(1)  # A blue pixel.
        >>> blue = jnp.asarray([2])
        >>> saliency.grad_cam(model)({}, images, blue)[0].tolist()
        [[0.0, 0.25], [0.0, 0.0]]
    """

    def combine(maps: jax.Array, gradient: jax.Array) -> jax.Array:
        weights = jnp.mean(gradient, axis=(1, 2))
        return rectified(weigh(maps, weights), rectify)

    return from_gradient(model, combine, score)


@explainer(
    title="CAM",
    family="cam",
    formula=(
        "`h w Σ_k g_k A_k`; after average pooling and a linear layer `Σ_k W[c, k] A_k`"
    ),
    passes="1 forward",
    source="Zhou et al., CVPR 2016, Eq. 2",
    degree=1,
    head="affine",
    signed=True,
)
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

    return from_gradient(model, combine, affine=True)


def from_gradient(
    model: SplitModel,
    combine: Combine,
    score: scores.ScoreLike = "logit",
    affine: bool = False,
) -> Explainer:
    """Explain by the maps and the gradient of the score at the cut."""
    explained = scores.resolve(score)

    @jax.jit
    def decide(variables, features, labels):
        total = head_score(model, explained, variables, features, labels)
        if affine:
            plain = head_score(model, explained.of, variables, features, labels)
            _check_affine(lambda maps: plain(maps)[0], features.maps)
        gradient, classes = jax.grad(total, has_aux=True)(features.maps)
        return of_finite(combine(features.maps, gradient), gradient), classes

    # The trunk takes long to compile, and is the same program as in `split.whole`.
    def run(variables, images, labels):
        features = model.features(variables, images)
        check_maps(features)
        return decide(variables, features, labels)

    return checked(model, run, explained)


def of_finite(saliency: Saliency, gradient: jax.Array) -> Saliency:
    """Give NaN for maps that are made of a gradient with NaN or infinity.

    By itself a ReLU between it and a sum would lose them, see `compilation`.
    """
    every = tuple(range(1, gradient.ndim))
    finite = jnp.all(jnp.isfinite(gradient), axis=every)
    return jnp.where(finite[:, None, None], saliency, jnp.nan)


def checked(model: SplitModel, run: Run, score: scores.Score) -> Explainer:
    """Make an explainer of a function that also gives `[0, classes]`.

    One program then checks the labels and explains; all else is as in `split.guarded`.
    """

    def explain(variables, images, labels, *, key=None):
        split.check_key(key)  # Though nothing here is random.
        split.check_shapes(images, labels, split.channels_of(model))
        split.check_pixels(images)
        images = jnp.asarray(images)
        labels = split.located(model, score, variables, images, labels)
        found, outputs = run(variables, images, labels)
        classes = score.labels or outputs.shape[1]
        split.check_labels(labels, classes)
        if split.traced(images, labels):
            return split.withheld(found, images, labels, classes)
        return found

    return explain


def head_score(
    model: SplitModel,
    score: scores.Function,
    variables: Variables,
    features: Features,
    labels: Labels,
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """Give the sum of the images' scores as a function of the maps at the cut.

    Summing over the batch gives each image its own gradient in one pass. The second
    result is empty, `[0, classes]`: it brings the number of classes out, at no cost.
    """

    def total(maps: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = model.head(variables, Features(maps, features.context))
        return jnp.sum(score(logits, labels)), jnp.zeros((0, logits.shape[-1]))

    return total


def weigh(maps: jax.Array, weights: jax.Array) -> jax.Array:
    """Sum maps over filters by one weight an image and filter, in full precision."""
    return jnp.einsum("bhwk,bk->bhw", maps, weights, precision="highest")


def rectified(saliency: jax.Array, rectify: bool) -> jax.Array:
    """Set negative values to 0, if asked to."""
    return jax.nn.relu(saliency) if rectify else saliency


def check_maps(features: Features) -> None:
    """Refuse a cut whose output is not `[batch, height, width, filters]`."""
    if features.maps.ndim != 4:
        raise ValueError(
            f"The network is cut where arrays have shape {features.maps.shape}; "
            "expected maps [batch, height, width, filters]: cut it with `tokens=` "
            "where these are tokens of a grid, or at another layer."
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
