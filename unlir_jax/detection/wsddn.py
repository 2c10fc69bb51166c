"""Detection from classes of images by two softmaxes over regions (WSDDN).

Bilen and Vedaldi, *Weakly supervised deep detection networks*, CVPR 2016. All functions
see the regions of one image; `jax.vmap` takes several.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from unlir_jax.types import Array, PyTree, RandomKey

Regions = Float[Array, "regions filters"]
Exist = Bool[Array, " regions"]
Scores = Float[Array, "regions classes"]
Overlaps = Float[Array, "regions regions"]
Present = Bool[Array, " classes"]
MARGIN = 1e-6
STD = 0.01


def initial(key: RandomKey, filters: int, classes: int) -> PyTree:
    """Draw the weights of both streams, normal with a standard deviation of 0.01.

    Args:
        key: A typed key.
        filters: Length of the features of a region.
        classes: Number of classes.

    Returns:
        `classification` and `detection`, each with `kernel` and `bias`.
    """
    keys = jax.random.split(key)
    streams = zip(("classification", "detection"), keys, strict=True)
    return {name: linear(own, filters, classes) for name, own in streams}


def linear(key: RandomKey, filters: int, outputs: int) -> PyTree:
    """Draw one linear layer with a bias of zero."""
    kernel = STD * jax.random.normal(key, (filters, outputs))
    return {"kernel": kernel, "bias": jnp.zeros(outputs)}


def apply(layer: PyTree, regions: Regions) -> jax.Array:
    """Multiply features with a layer, `[regions, outputs]`."""
    return regions @ layer["kernel"] + layer["bias"][None]


def region_scores(
    variables: PyTree,
    regions: Regions,
    exist: Exist | None = None,
    *,
    box_scores: Float[Array, " regions"] | None = None,
    temperature: float | int = 2,
) -> jax.Array:
    """Multiply a softmax over classes by a softmax over regions.

    Args:
        variables: See `initial`.
        regions: Features of the regions of an image.
        exist: Which rows are regions; all if not given. The others get zeros, and do
            not change the rest.
        box_scores: Factors of the features, from scores s of the proposals. Off by
            default; the published results have them, and the authors' code takes
            `1 + 10 s`, in front of the layer that gives these features.
        temperature: Divisor of the logits of the second softmax, above 0; 2 as in the
            authors' code, 1 in the paper.

    Returns:
        `[regions, classes]` in [0, 1]; a column adds up to the score of the image.

    Raises:
        ValueError: The temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"`temperature`={temperature}; expected a number above 0.")
    regions = jnp.asarray(regions)
    if box_scores is not None:
        regions = regions * jnp.asarray(box_scores)[:, None]
    classification, detection = (
        apply(variables[name], regions) for name in ("classification", "detection")
    )
    return product(classification, detection, exist, temperature=temperature)


def product(
    classification: Scores,
    detection: Scores,
    exist: Exist | None = None,
    *,
    temperature: float | int = 2,
) -> jax.Array:
    """Multiply the softmaxes of both streams, given their logits.

    Args:
        classification: Logits of the stream that compares classes.
        detection: Logits of the stream that compares regions.
        exist: See `region_scores`, as for what follows.
        temperature: Divisor of the logits over regions.

    Returns:
        `[regions, classes]` in [0, 1].

    Raises:
        ValueError: The temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"`temperature`={temperature}; expected a number above 0.")
    classes = jax.nn.softmax(classification, axis=1)
    there = None if exist is None else jnp.asarray(exist)[:, None]
    # An image without regions gets zeros, and no NaN.
    where = jax.nn.softmax(detection / temperature, axis=0, where=there)
    found = classes * where
    return found if there is None else jnp.where(there, found, 0)


def image_scores(scores: Scores) -> jax.Array:
    """Add up the scores of all regions, `[classes]` in (0, 1)."""
    return jnp.clip(scores.sum(0), MARGIN, 1 - MARGIN)


def image_loss(scores: Scores, present: Present) -> jax.Array:
    """Compute the mean binary cross-entropy of the classes of an image.

    Args:
        scores: See `region_scores`.
        present: Which classes the image has.

    Returns:
        A scalar.

    Note:
        The paper adds classes up; the mean differs by a factor that learning rates
        take.
    """
    whole = image_scores(scores)
    return -jnp.mean(jnp.where(present, jnp.log(whole), jnp.log1p(-whole)))


def spatial_regulariser(
    regions: Regions,
    scores: Scores,
    present: Present,
    overlaps: Overlaps,
    *,
    least: float = 0.6,
) -> jax.Array:
    """Pull features of regions towards the best region that they overlap.

    The square of the distance to the features of the best region counts half, times
    the square of its score, for each class that the image has. Scores are weights, and
    have no derivative.

    Args:
        regions: Features of the regions.
        scores: See `region_scores`.
        present: Which classes the image has.
        overlaps: Intersection over union of all pairs of regions; zeros for rows that
            are no regions.
        least: Least overlap with the best region.

    Returns:
        A scalar, the sum over regions and the mean over classes. The authors multiply
        it by 1e-4.

    Note:
        The authors' code looks at the ten best regions of a class alone, weighs each
        by its own score, and adds classes up.
    """
    regions = jnp.asarray(regions)
    scores = jax.lax.stop_gradient(jnp.asarray(scores))
    best = jnp.argmax(scores, axis=0)
    apart = jnp.square(regions[:, None] - regions[best][None]).sum(-1)
    near = overlaps[:, best] >= least
    top = jnp.square(jnp.max(scores, axis=0))
    each = 0.5 * top * jnp.where(near, apart, 0).sum(0)
    return jnp.mean(jnp.where(present, each, 0))
