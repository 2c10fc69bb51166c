"""What masking by the map does to the probability of the label.

`p` is the label's softmax probability on the image, `o` on the image times the map,
enlarged and range-normalised: masking happens on pixels in [0, 1].

Chattopadhay et al., *Grad-CAM++*, WACV 2018 (average drop, increase); Zhang et al.,
*Opti-CAM*, CVIU 2024, Section 4 (average gain).
"""

import jax
import jax.numpy as jnp

from unlir_jax import maps, split
from unlir_jax.core import memoize
from unlir_jax.types import (
    Images,
    Labels,
    Logits,
    Metric,
    RandomKey,
    Saliency,
    SplitModel,
    Variables,
)


@memoize.remember
def average_scores(model: SplitModel) -> Metric:
    """Compute drop, increase and gain together, from one clean and one masked pass.

    Returns:
        A metric with `average_drop`, `average_increase` and `average_gain`, each
        `[batch]` in [0, 1]. It takes `clean` besides, the logits of the images where
        they are known, and then needs the masked pass only.
    """
    network = split.whole(model)

    @jax.jit
    def hide(images: Images, saliency: Saliency) -> Images:
        mask = maps.normalize(maps.resize(saliency, images.shape[1:3]), "range")
        return maps.apply_mask(images, mask)

    @jax.jit
    def compare(clean: Logits, seen: Logits, labels: Labels) -> dict[str, jax.Array]:
        before, rest_before = _log_odds(clean, labels)
        after, rest_after = _log_odds(seen, labels)
        seen_odds, clean_odds = after - rest_after, before - rest_before
        unknown = jnp.isnan(seen_odds) | jnp.isnan(clean_odds)
        increased = jnp.where(unknown, jnp.nan, seen_odds > clean_odds)
        # p and 1 - p are kept as logarithms: near 1, float32 would lose their ratio.
        return {
            "average_drop": jnp.maximum(-jnp.expm1(after - before), 0),
            "average_increase": increased.astype(before.dtype),
            "average_gain": jnp.maximum(-jnp.expm1(rest_after - rest_before), 0),
        }

    @split.guarded(model, probability=True)
    def score(
        variables: Variables,
        images: Images,
        labels: Labels,
        saliency: Saliency,
        *,
        key: RandomKey | None = None,
        clean: Logits | None = None,
    ) -> dict[str, jax.Array]:
        del key  # Nothing here is random.
        maps.check_saliency(saliency, images)
        images = jnp.asarray(images)
        # One program for both: what masking leaves as it is scores the same.
        if clean is None:
            clean = network(variables, images)
        seen = network(variables, hide(images, jnp.asarray(saliency)))
        return compare(clean, seen, jnp.asarray(labels))

    return score


def average_drop(model: SplitModel) -> Metric:
    """Measure how much of the probability masking takes: `max(0, p - o) / p`.

    Lower is better, in [0, 1]. A map of ones drops nothing (see `saliency.fake_cam`).
    """
    return _only(model, "average_drop")


def average_increase(model: SplitModel) -> Metric:
    """Tell whether masking raises the probability: 1 where `o > p`, strictly."""
    return _only(model, "average_increase")


def average_gain(model: SplitModel) -> Metric:
    """Measure how much of what was missing masking adds: `max(0, o - p) / (1 - p)`.

    Higher is better, in [0, 1].
    """
    return _only(model, "average_gain")


@memoize.remember
def _only(model: SplitModel, name: str) -> Metric:
    scores = average_scores(model)

    def score(
        variables: Variables,
        images: Images,
        labels: Labels,
        saliency: Saliency,
        *,
        key: RandomKey | None = None,
    ) -> dict[str, jax.Array]:
        return {name: scores(variables, images, labels, saliency, key=key)[name]}

    return score


def _log_odds(logits: Logits, labels: Labels) -> tuple[jax.Array, jax.Array]:
    """Give `log p` and `log (1 - p)` of each label's softmax probability."""
    chosen = labels[:, None] == jnp.arange(logits.shape[-1])[None]
    everything = jax.nn.logsumexp(logits, axis=-1)
    label = jnp.sum(jnp.where(chosen, logits, 0), axis=-1)
    rest = jax.nn.logsumexp(jnp.where(chosen, -jnp.inf, logits), axis=-1)
    return label - everything, rest - everything
