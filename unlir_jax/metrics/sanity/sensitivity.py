"""Change of the map under a small change of the image.

Yeh, Hsieh, Suggala, Inouye & Ravikumar, *On the (in)fidelity and sensitivity of
explanations*, NeurIPS 2019, Definition 3.1.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import compilation, loops, random_keys
from unlir_jax.metrics.spec import KEPT, NOTHING, PIXELS, RAW, Contract, metric
from unlir_jax.types import Explainer, Images, Metric, Saliency, SplitModel

SETTINGS = ("radius", "samples", "loop")
STABLE = metric(
    title="Max-sensitivity",
    better="lower",
    needs="explainer",
    family="stability and size",
    meaning="How far does the map move when the image hardly does?",
    contract=Contract(
        PIXELS,
        "Euclidean norm of the change over that of the map, after enlarging",
        "uniform noise of at most {radius}, clipped to [0, 1]",
        NOTHING,
        RAW,
        "a map of zeros: relative to the other map, so 1 or 0; a constant one as it is",
        signs=KEPT,
    ),
    fooled_by="a map that ignores the image",
    passes="`samples` (10) explanations",
    source="Yeh et al., NeurIPS 2019",
    scale="number",
    quick={"samples": 2},
    representative=True,
    gives={"average_sensitivity": {name: name for name in SETTINGS}},
)


@STABLE
def max_sensitivity(
    model: SplitModel,
    explain: Explainer,
    *,
    radius: float = 0.2,
    samples: int = 10,
    loop: loops.Loop = "auto",
) -> Metric:
    """Find the largest relative change of the map among images close to the image.

    `max_y |s(y) - s(x)| / |s(x)|` (Euclidean) over `samples` images y that differ
    from x by uniform noise of at most `radius` in every value, clipped to [0, 1]. Lower
    is better, at least 0, without upper bound.

    Args:
        model: The cut network.
        explain: What makes the maps; the metric is given that of the image itself.
        radius: Largest change of a value.
        samples: Number of images, each explained once.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        A metric with `max_sensitivity` and `average_sensitivity`, each `[batch]`. It
        needs `key`.

    Raises:
        ValueError: An impossible setting; when called, no key.

    Note:
        As in the authors' code and captum the change is relative to the map's own norm;
        Quantus divides by the norm of the image. Where the map is zero it is relative
        to the other map instead: 1 if a map appears, 0 if none does. Maps that are not
        finite count as zeros. For a random explainer its own draws are counted too, as
        each image has its own key.
    """
    changes = _changes(explain, radius, samples, loop)

    @split.guarded(model)
    def measure(variables, images, labels, saliency, *, key=None):
        found = changes(variables, images, labels, saliency, key)
        return {
            "max_sensitivity": compilation.largest(found, (0,)),
            "average_sensitivity": jnp.mean(found, axis=0),
        }

    return measure


@STABLE._replace(
    title="Average sensitivity",
    meaning="How far does the map move on average when the image hardly does?",
    gives={},
    representative=False,
)
def average_sensitivity(
    model: SplitModel,
    explain: Explainer,
    *,
    radius: float = 0.2,
    samples: int = 10,
    loop: loops.Loop = "auto",
) -> Metric:
    """Average the relative change of the map over images close to the image.

    The mean where `max_sensitivity` takes the largest; all else is as there.

    Args:
        model: The cut network.
        explain: Explainer of the maps.
        radius: Largest change of a value.
        samples: Number of images, each explained once.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        A metric with `average_sensitivity`, `[batch]`. It needs `key`.
    """
    changes = _changes(explain, radius, samples, loop)

    @split.guarded(model)
    def measure(variables, images, labels, saliency, *, key=None):
        found = changes(variables, images, labels, saliency, key)
        return {"average_sensitivity": jnp.mean(found, axis=0)}

    return measure


def _changes(
    explain: Explainer,
    radius: float,
    samples: int,
    loop: loops.Loop,
) -> Callable[..., jax.Array]:
    """Give the relative change of the map for each sample, `[samples, batch]`."""
    if not radius > 0:
        raise ValueError(f"`radius`={radius}; expected more than 0.")
    if samples < 1:
        raise ValueError(f"`samples`={samples}; expected 1 or more.")

    def moved(index, variables, images, labels, saliency, image_keys, key):
        pictures = _near(index, images, image_keys, radius)
        found = explain(variables, pictures, labels, key=key)
        changed = _relative_change(saliency, maps.resize(found, images.shape[1:3]))
        return maps.of_finite(found, changed)

    def changes(variables, images, labels, saliency, key):
        image_keys = random_keys.per_image(key, images)
        enlarged = maps.resize(saliency, images.shape[1:3])
        indices = jnp.asarray(np.arange(samples, dtype=np.int32))
        arguments = (variables, images, labels, enlarged, image_keys, key)
        return loops.map_steps(moved, indices, *arguments, loop=loop)

    return changes


@jax.jit
def _near(
    index: jax.Array, images: Images, image_keys: jax.Array, radius: float | jax.Array
) -> jax.Array:
    """Draw the image number `index` in the neighbourhood of each image."""

    def move(key: jax.Array, image: jax.Array) -> jax.Array:
        drawn = jax.random.fold_in(key, index)
        noise = jax.random.uniform(drawn, image.shape, image.dtype, -1, 1)
        return jnp.clip(image + radius * noise, 0, 1)

    return jax.vmap(move)(image_keys, jnp.asarray(images))


@jax.jit
def _relative_change(saliency: Saliency, other: Saliency) -> jax.Array:
    one, two = (_finite(each) for each in (saliency, other))
    # Norms of very small maps would vanish in float32: both are scaled alike.
    largest = jnp.maximum(jnp.max(jnp.abs(one), (1, 2)), jnp.max(jnp.abs(two), (1, 2)))
    scale = jnp.where(largest > 0, largest, 1)[:, None, None]
    one, two = one / scale, two / scale
    change, norm, else_norm = (_norm(each) for each in (two - one, one, two))
    reference = jnp.where(norm > 0, norm, else_norm)
    return change / jnp.where(reference > 0, reference, 1)


def _finite(saliency: Saliency) -> jax.Array:
    good = jnp.all(jnp.isfinite(saliency), axis=(1, 2), keepdims=True)
    return jnp.where(good, saliency, 0)


def _norm(saliency: Saliency) -> jax.Array:
    return jnp.sqrt(jnp.sum(saliency**2, axis=(1, 2)))
