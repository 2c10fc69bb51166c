"""Effect of masking by the map on the score of the label.

`p` is the label's probability on the image, `o` on the image times the mask that
`maps.mask` makes of the map: masking happens on pixels in [0, 1]. Of a score without
bounds, `o` is the share of the image, see `label_score.share`, and `p` is 1.

Chattopadhay et al., *Grad-CAM++*, WACV 2018 (average drop, increase); Zhang et al.,
*Opti-CAM*, CVIU 2024, Section 4 (average gain).
"""

import functools

import jax
import jax.numpy as jnp

from unlir_jax import maps, split
from unlir_jax.core import choices, memoize
from unlir_jax.metrics.faithfulness.label_score import SHARE, share
from unlir_jax.metrics.spec import (
    NOTHING,
    PIXELS,
    RANGE,
    SCORE,
    SIGNS,
    Contract,
    metric,
)
from unlir_jax.split import scores
from unlir_jax.types import Images, Labels, Logits, Metric, Saliency, SplitModel

MASKED = Contract(
    PIXELS,
    SCORE,
    "black",
    NOTHING,
    RANGE,
    "masks everything: n(0) = 0",
    unbounded=SHARE + "the black one; drop 1 - o, gain o - 1; 0 where c = b",
    signs=SIGNS,
)


@functools.partial(jax.jit, static_argnames="signs")
def hide(images: Images, saliency: Saliency, signs: maps.Signs = "relu") -> Images:
    """Multiply images with the masks of their maps, see `maps.mask`."""
    return maps.apply_mask(images, maps.mask(saliency, images.shape[1:3], signs))


@memoize.remember
def average_scores(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "softmax",
    signs: maps.Signs = "relu",
) -> Metric:
    """Compute drop, increase and gain together, from one clean and one masked pass.

    Args:
        model: The cut network.
        score: Score that is compared, see `scores.resolve`. One without bounds takes
            a pass more, of a black image.
        signs: What the mask makes of negative values, see `maps.mask`.

    Returns:
        A metric with `average_drop`, `average_increase` and `average_gain`, each
        `[batch]` in [0, 1]. It takes `clean` besides, the logits of the images where
        they are known, and then needs the masked pass only.
    """
    choices.check("signs", signs, maps.Signs)
    network, compared = split.whole(model), scores.resolve(score)

    @jax.jit
    def compare(clean: Logits, seen: Logits, labels: Labels) -> dict[str, jax.Array]:
        before, rest_before = compared.log_odds(clean, labels)
        after, rest_after = compared.log_odds(seen, labels)
        seen_odds, clean_odds = after - rest_after, before - rest_before
        unknown = jnp.isnan(seen_odds) | jnp.isnan(clean_odds)
        increased = jnp.where(unknown, jnp.nan, seen_odds > clean_odds)
        # p and 1 - p are kept as logarithms: near 1, float32 would lose their ratio.
        return {
            "average_drop": _lost(before, after),
            "average_increase": increased.astype(before.dtype),
            "average_gain": _lost(rest_before, rest_after),
        }

    @jax.jit
    def compare_shares(
        clean: Logits, seen: Logits, black: Logits, labels: Labels
    ) -> dict[str, jax.Array]:
        values = [compared(each, labels) for each in (seen, clean, black)]
        found = share(*values, nothing=1.0)
        increased = jnp.where(jnp.isnan(found), jnp.nan, found > 1)
        return {
            "average_drop": jnp.clip(1 - found, 0, 1),
            "average_increase": increased.astype(found.dtype),
            "average_gain": jnp.clip(found - 1, 0, 1),
        }

    @split.guarded(model, compared)
    def measure(variables, images, labels, saliency, *, key=None, clean=None):
        del key  # Nothing here is random.
        # One program for both: what masking leaves as it is scores the same.
        if clean is None:
            clean = network(variables, images)
        seen = network(variables, hide(images, saliency, signs))
        if compared.bounded:
            return compare(clean, seen, labels)
        black = network(variables, jnp.zeros_like(images))
        return compare_shares(clean, seen, black, labels)

    return measure


@metric(
    title="Average drop",
    better="lower",
    needs="logits",
    family="masking",
    meaning=(
        "The network sees the image times the map. How much of the class's "
        "probability is lost?"
    ),
    contract=MASKED,
    fooled_by="a map that keeps everything",
    passes="2 forwards",
    source="Chattopadhay et al., WACV 2018",
    representative=True,
    together=average_scores,
    short="Drop",
    caution=(
        "A map that keeps everything loses nothing: Fake-CAM, which marks every "
        "pixel but one, is close to perfect here. A low drop alone proves nothing."
    ),
)
def average_drop(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "softmax",
    signs: maps.Signs = "relu",
) -> Metric:
    """Measure how much of the probability masking takes: `max(0, p - o) / p`.

    Lower is better, in [0, 1]. A map of ones drops nothing (see `saliency.fake_cam`).

    Args:
        model: The cut network.
        score: Score that is compared, see `average_scores`.
        signs: What the mask makes of negative values, see `maps.mask`.

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
        >>> score = metrics.average_drop(model)
        >>> score({}, images, blue, found)["average_drop"].tolist()
        [0.0]
    """
    return _only(model, "average_drop", score, signs)


@metric(
    title="Average increase",
    better="higher",
    needs="logits",
    family="masking",
    meaning=(
        "Does the image times the map get more probability than the whole image? "
        "For one image 100 or 0; over many, the share of them."
    ),
    contract=MASKED._replace(ties="equal probabilities are no increase"),
    fooled_by="tiny rises, counted like large ones",
    passes="2 forwards",
    source="Chattopadhay et al., WACV 2018",
    together=average_scores,
    short="Increase",
    caution=(
        "It counts the smallest rise like the largest, and where the network is "
        "nearly certain already there is hardly room to rise."
    ),
)
def average_increase(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "softmax",
    signs: maps.Signs = "relu",
) -> Metric:
    """Tell whether masking raises the probability: 1 where `o > p`, strictly.

    Args:
        model: The cut network.
        score: Score that is compared, see `average_scores`.
        signs: What the mask makes of negative values, see `maps.mask`.
    """
    return _only(model, "average_increase", score, signs)


@metric(
    title="Average gain",
    better="higher",
    needs="logits",
    family="masking",
    meaning=(
        "How much of the probability that was missing does the image times the map win?"
    ),
    contract=MASKED,
    fooled_by="maps optimised for it (Opti-CAM)",
    passes="2 forwards",
    source="Zhang et al., CVIU 248 (2024)",
    representative=True,
    together=average_scores,
    short="Gain",
    caution=(
        "Opti-CAM searches for the map whose masked image scores highest, which is "
        "what drop, increase and gain measure: on these three it marks its own work."
    ),
)
def average_gain(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "softmax",
    signs: maps.Signs = "relu",
) -> Metric:
    """Measure how much of what was missing masking adds: `max(0, o - p) / (1 - p)`.

    Higher is better, in [0, 1]. Of a score without bounds nothing is missing: it is
    how much of the image's share masking adds, at most 1.

    Args:
        model: The cut network.
        score: Score that is compared, see `average_scores`.
        signs: What the mask makes of negative values, see `maps.mask`.
    """
    return _only(model, "average_gain", score, signs)


@memoize.remember
def _only(
    model: SplitModel, name: str, score: scores.ScoreLike, signs: maps.Signs
) -> Metric:
    together = average_scores(model, score=score, signs=signs)

    def measure(variables, images, labels, saliency, *, key=None):
        return {name: together(variables, images, labels, saliency, key=key)[name]}

    return measure


def _lost(before: jax.Array, after: jax.Array) -> jax.Array:
    """Give the share of a probability that is lost, from logarithms; of 0, nothing."""
    impossible = before == -jnp.inf
    change = jnp.where(impossible & ~jnp.isnan(after), 0, after - before)
    return jnp.maximum(-jnp.expm1(change), 0)
