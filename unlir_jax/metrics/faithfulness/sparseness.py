"""Concentration and size of the map, without the network."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import choices
from unlir_jax.metrics.spec import MAP, RANGE, SIGNS, metric
from unlir_jax.types import Metric, Saliency, SplitModel


@metric(
    title="Sparseness",
    better="higher",
    needs="map",
    family="stability and size",
    meaning="How unequal are the map's values?",
    contract=MAP._replace(
        normalization="absolute values after enlarging", signs="magnitudes"
    ),
    fooled_by="a single pixel",
    passes="0",
    source="Chalasani et al., ICML 2020",
)
def sparseness(model: SplitModel) -> Metric:
    """Measure inequality of the map's absolute values by the Gini index.

    Of `|s|` over the pixels of the enlarged map: 0 where all are equal, towards 1 where
    one pixel holds everything. Scaling the map changes nothing, adding to it does.
    Flat maps are 0.

    Chalasani, Chen, Chowdhury, Wu & Jha, *Concise explanations of neural networks
    using adversarial training*, ICML 2020, Section 5.

    Returns:
        A metric with `sparseness`, `[batch]` in [0, 1).
    """
    return _of_map(model, "sparseness", _gini)


@metric(
    title="Complexity",
    better="lower",
    needs="map",
    family="stability and size",
    meaning="How much of the image does the map keep?",
    contract=MAP._replace(normalization=RANGE, signs=SIGNS),
    fooled_by="a single pixel",
    passes="0",
    source="Poppi et al., CVPR Workshops 2021",
    representative=True,
)
def complexity(model: SplitModel, *, signs: maps.Signs = "relu") -> Metric:
    """Measure the share of the image that the map keeps: its mean in [0, 1].

    The L1 norm of the map's mask over the number of pixels; lower is better, flat maps
    are 0 (read it with the count of flat maps).

    Poppi, Cornia, Baraldi & Cucchiara, *Revisiting the evaluation of class activation
    mapping for explainability*, CVPR Workshops 2021, Eq. 4.

    Args:
        model: The cut network.
        signs: What the mask makes of negative values, see `maps.mask`.

    Returns:
        A metric with `complexity`, `[batch]` in [0, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import metrics, saliency, split
        >>> model = split.from_functions(  # The logits are the mean colour.
        ...     lambda variables, images: images,
        ...     lambda variables, maps: maps.mean((1, 2)),
        ... )
        >>> images = jnp.zeros((1, 2, 2, 3)).at[0, 0, 1, 2].set(1)  # A blue pixel.
        >>> blue = jnp.asarray([2])
        >>> found = saliency.grad_cam(model)({}, images, blue)
        >>> metrics.complexity(model)({}, images, blue, found)["complexity"].tolist()
        [0.25]
    """
    choices.check("signs", signs, maps.Signs)
    return _of_map(model, "complexity", functools.partial(_mean, signs=signs))


def _of_map(
    model: SplitModel,
    name: str,
    measured: Callable[[Saliency, tuple[int, int]], jax.Array],
) -> Metric:
    measure = jax.jit(measured, static_argnums=1)

    @split.guarded(model)
    def score(variables, images, labels, saliency, *, key=None):
        del key  # Nothing here is random.
        size = tuple(int(side) for side in images.shape[1:3])
        return {name: measure(saliency, size)}

    return score


def _gini(saliency: Saliency, size: tuple[int, int]) -> jax.Array:
    enlarged = maps.resize(saliency, size)
    flat = maps.is_flat(enlarged)
    values = jnp.sort(jnp.abs(enlarged).reshape((len(enlarged), -1)), axis=1)
    # Large or tiny values would leave the range of float32 when summed.
    largest = jnp.where(flat, 1, values[:, -1])[:, None]
    values = values / largest
    count = values.shape[1]
    weights = (2 * np.arange(1, count + 1) - count - 1) / count
    # The sorted values sum with weights of both signs: the mean is taken out first.
    centred = values - jnp.mean(values, axis=1, keepdims=True)
    total = jnp.sum(values, axis=1)
    upper = jnp.sum(centred * jnp.asarray(weights, values.dtype)[None], axis=1)
    return jnp.where(flat, 0, upper / jnp.where(flat, 1, total))


def _mean(
    saliency: Saliency, size: tuple[int, int], signs: maps.Signs = "relu"
) -> jax.Array:
    return jnp.mean(maps.mask(saliency, size, signs), axis=(1, 2))
