"""Sum of the map against the effect of the whole image.

Sundararajan, Taly & Yan, *Axiomatic attribution for deep networks*, ICML 2017, Section
3.
"""

import jax
import jax.numpy as jnp

from unlir_jax import maps, split
from unlir_jax.core import choices
from unlir_jax.metrics.faithfulness.label_score import label_score
from unlir_jax.metrics.spec import KEPT, NOTHING, PIXELS, RAW, SCORE, Contract, metric
from unlir_jax.split import scores
from unlir_jax.types import Images, Metric, Saliency, SplitModel


@metric(
    title="Completeness gap",
    better="lower",
    needs="map",
    family="removal",
    meaning="Do the values of the map add up to what the image adds to the score?",
    contract=Contract(
        PIXELS,
        SCORE,
        "{baseline}",
        NOTHING,
        RAW,
        "as it is: its sum counts",
        unbounded="raw differences, of which it is a share",
        signs=KEPT,
    ),
    fooled_by="any map that is scaled to the right sum",
    passes="2 forwards",
    source="Sundararajan et al., ICML 2017",
    variants="baseline",
)
def completeness(
    model: SplitModel,
    *,
    baseline: maps.Baseline = "black",
    score: scores.ScoreLike = "softmax",
) -> Metric:
    """Compare the sum of the map with the fall of the score at the baseline.

    `|S - F| / (|S| + |F|)`, where S is the sum of the map and `F = f(x) - f(b)`. Lower
    is better, in [0, 1]: 0 for a complete map, 1/3 for twice of it, 1 for a map of
    zeros or of the wrong sign. Where both are 0, it is 0.

    The map has to have the size of the image: enlarging multiplies its sum.

    Args:
        model: The cut network.
        baseline: What stands for no image; see `maps.background`.
        score: Score whose fall counts, see `scores.resolve`. It has to be the one that
            the map explains, which is the logit for most methods.

    Returns:
        A metric with `completeness`, `[batch]` in [0, 1]. It needs `key` for `noise`.

    Raises:
        ValueError: An unknown baseline.

    Note:
        Quantus asks for equality to the last bit, and of a map without channels it
        blackens the first channel alone.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import metrics, split
        >>> model = split.from_functions(  # The logits are the sum of each colour.
        ...     lambda variables, images: images,
        ...     lambda variables, maps: maps.sum((1, 2)),
        ... )
        >>> images, red = jnp.ones((1, 2, 2, 3)), jnp.asarray([0])
        >>> whole = jnp.ones((1, 2, 2))
        >>> measure = metrics.completeness(model, score="logit")
        >>> measure({}, images, red, whole)["completeness"].tolist()
        [0.0]
    """
    choices.check("baseline", baseline, maps.Baseline)
    compared = scores.resolve(score)
    label_of = label_score(model, compared)

    @jax.jit
    def gap(
        saliency: Saliency, images: Images, clean: jax.Array, base: jax.Array
    ) -> jax.Array:
        # A map that has no numbers adds up to nothing.
        finite = jnp.all(jnp.isfinite(saliency), axis=(1, 2), keepdims=True)
        known = jnp.where(finite, saliency, 0)
        enlarged = maps.resize(known, images.shape[1:3])
        total, effect = jnp.sum(enlarged, axis=(1, 2)), clean - base
        both = jnp.abs(total) + jnp.abs(effect)
        return jnp.abs(total - effect) / jnp.where(both == 0, 1, both)

    @split.guarded(model, compared)
    def measure(variables, images, labels, saliency, *, key=None):
        background = maps.background(images, baseline, mean=model.mean, key=key)
        shown = jnp.asarray(images), background
        clean, base = (label_of(variables, each, labels) for each in shown)
        return {"completeness": gap(saliency, images, clean, base)}

    return measure
