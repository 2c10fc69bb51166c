"""Concentration and size of the map, without the network."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from unlir_jax import maps, split
from unlir_jax.core import choices
from unlir_jax.metrics.spec import MAP, RANGE, SIGNS, metric
from unlir_jax.types import Array, Metric, PerImage, Saliency, SplitModel


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


@metric(
    title="Entropy",
    better="lower",
    needs="map",
    family="stability and size",
    meaning="Over how many pixels is the map spread?",
    contract=MAP._replace(
        normalization="absolute values after enlarging, divided by their sum",
        signs="magnitudes",
        flat_map="the most, the logarithm of the number of pixels",
    ),
    fooled_by="a single pixel",
    passes="0",
    source="Bhatt et al., IJCAI 2020",
    scale="number",
)
def entropy(model: SplitModel) -> Metric:
    """Measure the entropy of the map's share of each pixel, in nats.

    `-sum p log p` with `p = |s| / sum |s|`. Lower is better: 0 where one pixel holds
    everything, `log n` where all n pixels are equal. A map of zeros has the most.

    Bhatt, Weller & Moura, *Evaluating and aggregating feature-based model
    explanations*, IJCAI 2020, Section 4.3, who call it complexity.

    Returns:
        A metric with `entropy`, `[batch]`.
    """
    return _of_map(model, "entropy", _entropy)


@metric(
    title="Effective complexity",
    better="lower",
    needs="map",
    family="stability and size",
    meaning="How many pixels does the map use at all?",
    contract=MAP._replace(
        normalization="absolute values after enlarging, divided by the largest",
        signs="magnitudes",
        flat_map="1; of zeros 0",
    ),
    fooled_by="a single pixel",
    passes="0",
    source="Nguyen & Martinez, 2020",
)
def effective_complexity(model: SplitModel, *, threshold: float = 1e-5) -> Metric:
    """Measure the share of pixels whose magnitude is above a share of the largest.

    Lower is better.

    Nguyen & Martinez, *On quantitative aspects of model interpretability*, 2020,
    Section 4.

    Args:
        model: The cut network.
        threshold: Share of the largest magnitude, in [0, 1).

    Returns:
        A metric with `effective_complexity`, `[batch]` in [0, 1].

    Raises:
        ValueError: A threshold outside [0, 1).

    Note:
        Quantus counts pixels; this is their share.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"`threshold`={threshold}; expected 0 or more, below 1.")
    used = functools.partial(_used, threshold=threshold)
    return _of_map(model, "effective_complexity", used)


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


def gini_index(values: Float[Array, "batch count"]) -> PerImage:
    """Measure how unequal magnitudes are: the Gini index of `|values|` in each row.

    With the n magnitudes in rising order, sum_i (2 i - n - 1) v_i / (n sum_i v_i).

    Args:
        values: `[batch, count]`, finite.

    Returns:
        `[batch]` in [0, 1 - 1 / count]: 0 where all are equal, or zero; the most where
        one holds everything.

    References:
        Hurley & Rickard, *Comparing Measures of Sparsity*, IEEE Transactions on
        Information Theory 2009.

    Example:
        >>> import numpy as np
        >>> gini_index(np.asarray([[1.0, -1.0], [0.0, 3.0]])).tolist()
        [0.0, 0.5]
    """
    rows = jnp.sort(jnp.abs(jnp.asarray(values)), axis=1)
    # Large or tiny values would leave the range of float32 when summed.
    largest = rows[:, -1:]
    rows = rows / jnp.where(largest > 0, largest, 1)
    count = rows.shape[1]
    weights = (2 * np.arange(1, count + 1) - count - 1) / count
    # The sorted values sum with weights of both signs: the mean is taken out first.
    centred = rows - jnp.mean(rows, axis=1, keepdims=True)
    total = jnp.sum(rows, axis=1)
    upper = jnp.sum(centred * jnp.asarray(weights, rows.dtype)[None], axis=1)
    return upper / jnp.where(total > 0, total, 1)


def _gini(saliency: Saliency, size: tuple[int, int]) -> jax.Array:
    enlarged = maps.resize(saliency, size)
    found = gini_index(enlarged.reshape((len(enlarged), -1)))
    return jnp.where(maps.is_flat(enlarged), 0, found)


def _shares(saliency: Saliency, size: tuple[int, int]) -> jax.Array:
    """Give magnitudes as shares of the largest, `[batch, pixels]`; of zeros, zeros."""
    values = jnp.abs(maps.resize(saliency, size)).reshape((len(saliency), -1))
    largest = jnp.max(values, axis=1, keepdims=True)
    return values / jnp.where(largest > 0, largest, 1)


def _entropy(saliency: Saliency, size: tuple[int, int]) -> jax.Array:
    values = _shares(saliency, size)
    total = jnp.sum(values, axis=1, keepdims=True)
    count = values.shape[1]
    shares = jnp.where(total > 0, values / jnp.where(total > 0, total, 1), 1 / count)
    found = jnp.sum(jax.scipy.special.entr(shares), axis=1)
    # Of a map that is not finite nothing is known, as of one that is flat.
    spread = jnp.asarray(np.log(count), found.dtype)
    return jnp.where(maps.is_flat(saliency), spread, found)


def _used(
    saliency: Saliency, size: tuple[int, int], threshold: float = 1e-5
) -> jax.Array:
    used = _shares(saliency, size) > threshold
    finite = jnp.all(jnp.isfinite(saliency), axis=(1, 2))
    return jnp.where(finite, jnp.mean(used, axis=1), 1)


def _mean(
    saliency: Saliency, size: tuple[int, int], signs: maps.Signs = "relu"
) -> jax.Array:
    return jnp.mean(maps.mask(saliency, size, signs), axis=(1, 2))
