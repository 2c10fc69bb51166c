"""Average drop, coherency and complexity in one figure that is harder to win.

Poppi, Cornia, Baraldi & Cucchiara, *Revisiting the evaluation of class activation
mapping for explainability: a novel metric and experimental analysis*, CVPR Workshops
2021.
"""

import jax
import jax.numpy as jnp

from unlir_jax import maps, split
from unlir_jax.core import choices
from unlir_jax.metrics.faithfulness.average_scores import MASKED, average_scores
from unlir_jax.metrics.spec import NOTHING, metric
from unlir_jax.split import scores
from unlir_jax.types import Explainer, Images, Metric, Saliency, SplitModel


@metric(
    title="Coherency",
    better="higher",
    needs="explainer",
    family="stability and size",
    meaning="How alike are the map and that of the image which it masks?",
    contract=MASKED._replace(
        score="Pearson correlation of maps, (1 + r) / 2",
        flat_map="0 if either is flat",
        unbounded=NOTHING,
    ),
    fooled_by="a map that ignores the image",
    passes="1 explanation",
    source="Poppi et al., CVPR Workshops 2021",
)
def coherency(
    model: SplitModel, explain: Explainer, *, signs: maps.Signs = "relu"
) -> Metric:
    """Correlate the map with that of the image which it masks: `(1 + r) / 2` (Eq. 3).

    `r` is Pearson's over pixels of the masks of both maps, see `maps.mask`. Higher is
    better. If either is flat there is nothing to correlate: 0, as in the authors' code.

    Args:
        model: The cut network.
        explain: Explainer of the maps.
        signs: What masks make of negative values, see `maps.mask`.

    Returns:
        A metric with `coherency`, `[batch]` in [0, 1].
    """
    choices.check("signs", signs, maps.Signs)

    @jax.jit
    def masked(images: Images, saliency: Saliency) -> tuple[jax.Array, jax.Array]:
        mask = maps.mask(saliency, images.shape[1:3], signs)
        return mask, maps.apply_mask(images, mask)

    @jax.jit
    def correlate(mask: jax.Array, again: Saliency) -> jax.Array:
        other = maps.mask(again, mask.shape[1:3], signs)
        flat = maps.is_flat(mask) | maps.is_flat(other)
        one, two = (m - jnp.mean(m, axis=(1, 2), keepdims=True) for m in (mask, other))
        product = jnp.sum(one**2, axis=(1, 2)) * jnp.sum(two**2, axis=(1, 2))
        both = jnp.sum(one * two, axis=(1, 2)) / jnp.sqrt(jnp.where(flat, 1, product))
        return jnp.where(flat, 0, (1 + jnp.clip(both, -1, 1)) / 2)

    @split.guarded(model)
    def score(variables, images, labels, saliency, *, key=None):
        mask, kept = masked(images, saliency)
        again = explain(variables, kept, labels, key=key)
        return {"coherency": maps.of_finite(again, correlate(mask, again))}

    return score


@metric(
    title="ADCC",
    better="higher",
    needs="explainer",
    family="masking",
    meaning=(
        "Does the map lose little probability, keep little, and stay itself when it "
        "masks?"
    ),
    contract=MASKED._replace(flat_map="0"),
    fooled_by="a compact blob in the middle",
    passes="2 forwards and 1 explanation",
    source="Poppi et al., CVPR Workshops 2021",
    gives={"coherency": {"signs": "signs"}},
)
def adcc(
    model: SplitModel,
    explain: Explainer,
    *,
    score: scores.ScoreLike = "softmax",
    signs: maps.Signs = "relu",
) -> Metric:
    """Take the harmonic mean of coherency, 1 - complexity and 1 - average drop (Eq. 6).

    Higher is better; one part that fails makes the whole fail, which is 0 where a part
    is. A flat map scores 0.

    Args:
        model: The cut network.
        explain: Explainer of the maps.
        score: Score of the average drop, see `average_scores`.
        signs: What masks make of negative values, see `maps.mask`.

    Returns:
        A metric with `adcc`, `coherency`, `complexity` and `average_drop`, each
        `[batch]` in [0, 1].
    """
    coheres = coherency(model, explain, signs=signs)
    averages = average_scores(model, score=score, signs=signs)

    @jax.jit
    def size_of(saliency: Saliency, images: Images) -> jax.Array:
        return jnp.mean(maps.mask(saliency, images.shape[1:3], signs), axis=(1, 2))

    @split.guarded(model, scores.resolve(score))
    def measure(variables, images, labels, saliency, *, key=None):
        inputs = (variables, images, labels, saliency)
        found = coheres(*inputs, key=key)
        found["average_drop"] = averages(*inputs)["average_drop"]
        found["complexity"] = size_of(jnp.asarray(saliency), jnp.asarray(images))
        parts = found["coherency"], 1 - found["complexity"], 1 - found["average_drop"]
        return {"adcc": _harmonic_mean(jnp.stack(parts))} | found

    return measure


def _harmonic_mean(parts: jax.Array) -> jax.Array:
    positive = parts > 0
    inverse = jnp.sum(1 / jnp.where(positive, parts, 1), axis=0)
    mean = jnp.where(jnp.all(positive, axis=0), len(parts) / inverse, 0)
    return jnp.where(jnp.any(jnp.isnan(parts), axis=0), jnp.nan, mean)
