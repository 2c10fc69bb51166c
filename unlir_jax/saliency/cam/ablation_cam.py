"""Ablation-CAM: what the score loses without a filter."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp

from unlir_jax import split
from unlir_jax.core import choices, loops
from unlir_jax.saliency.cam.cam import check_maps, rectified, weigh
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import Explainer, Features, PyTree, Saliency, SplitModel

Division = Literal["score", "magnitude", "none"]


@explainer(
    title="Ablation-CAM",
    family="cam",
    formula="filters weighted by the loss of score without each",
    passes="1 forward, 1 head a filter",
    source="Desai and Ramaswamy, WACV 2020",
    degree=0,
    representative=True,
    signed={"rectify": (False,)},
)
def ablation_cam(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    division: Division = "score",
    rectify: bool = False,
    batch_size: int = 128,
    loop: loops.Loop = "auto",
) -> Explainer:
    """Weigh each filter by the share of the score that is lost without it.

    `w_k = (S - S_k) / S`, with `S_k` the score when map `k` is set to 0. The backbone
    runs once; only the head is run again for each filter.

    Args:
        model: The cut network.
        score: Score to explain, see `scores.resolve`.
        division: By what the loss is divided: `score` is the paper's `S`, which turns
            the map around where the score is negative; `magnitude` is `|S|`, which
            does not; `none` divides by nothing. A score of 0 divides by nothing.
        rectify: Whether negative values of the sum become 0.
        batch_size: Most pairs of an image and a filter that go through the head at
            once; on CPU fewer do, see `loops.few_enough`.
        loop: `auto`, `host` or `device`; see `loops.place`.

    References:
        Desai & Ramaswamy, *Ablation-CAM: Visual Explanations for Deep Convolutional
        Network via Gradient-free Localization*, WACV 2020, Eq. 3-4.
    """
    choices.check("division", division, Division)
    explained = scores.resolve(score)

    without = _ablated_scores(model, explained)

    @jax.jit
    def combine(maps: jax.Array, whole: jax.Array, lost: jax.Array) -> Saliency:
        loss = whole[:, None] - lost
        if division != "none":
            by = jnp.abs(whole) if division == "magnitude" else whole
            loss = loss / jnp.where(by == 0, 1, by)[:, None]
        return rectified(weigh(maps, loss), rectify)

    @split.guarded(model, explained)
    def explain(variables, images, labels, *, key=None):
        del key  # Nothing here is random.
        features = model.features(variables, images)
        check_maps(features)
        whole = explained(model.head(variables, features), labels)
        batch, *_, filters = features.maps.shape
        arguments = (variables, features, labels)
        few = loops.few_enough(
            *(batch_size, features.maps.shape[1:3], loop, *arguments),
            most=loops.CACHED_CELLS,
        )
        lost = loops.map_pairs(without, batch, filters, few, *arguments, loop=loop)
        return combine(features.maps, whole, lost)

    return explain


def _ablated_scores(model: SplitModel, score: scores.Score) -> PyTree:
    """Compile one chunk of pairs, see `loops.map_pairs`."""

    @functools.partial(jax.jit, static_argnums=0)
    def without(size, start, variables, features, labels):
        images, filters = features.maps.shape[0], features.maps.shape[-1]
        image, number = loops.pairs(size, start, images, filters)
        kept = jnp.arange(filters)[None] != number[:, None]
        chosen = jax.tree.map(lambda leaf: _take(leaf, image, images), features)
        maps = chosen.maps * kept[:, None, None].astype(chosen.maps.dtype)
        logits = model.head(variables, Features(maps, chosen.context))
        return score(logits, labels[image])

    return without


def _take(leaf: PyTree, image: jax.Array, images: int) -> PyTree:
    """Repeat what belongs to the images; leave what they share."""
    own = jnp.ndim(leaf) > 0 and jnp.shape(leaf)[0] == images
    return leaf[image] if own else leaf
