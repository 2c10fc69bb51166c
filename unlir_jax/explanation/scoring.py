"""One batch of images: explained by every method, and scored by every metric."""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from unlir_jax import maps, split
from unlir_jax.core import finite, memoize
from unlir_jax.core.document_types import Document
from unlir_jax.metrics.faithfulness import average_scores
from unlir_jax.metrics.faithfulness.label_score import of_logits, share
from unlir_jax.metrics.localization import boxes
from unlir_jax.metrics.spec import EXPLAINING, Needs
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.split import scores
from unlir_jax.types import (
    Array,
    Explainer,
    Metric,
    RandomKey,
    Saliency,
    SplitModel,
    Variables,
)

OBJECTS = ("masks", "boxes")
PREDICTED, SECOND, LEAST = -1, -2, -3
"""Stand for classes that the network itself says."""

Steps = Callable[[str, str, float], None]
"""Told the method, the metric ("" while the map is made) and the share of a batch."""


class Scorer(NamedTuple):
    """Hold a metric, which may give several columns at once.

    Attributes:
        columns: Names of its columns, with their names in its result; "" for a column
            that follows from the curves of all images.
        score: The metric; of one that makes new maps, `explain -> metric`.
        curves: Names of its curves, with their names in its result.
        needs: Its further input, see `metrics.spec`.
        unsigned: The same for methods whose maps have no sign; None: `score`.
    """

    columns: dict[str, str]
    score: Callable[..., Any]
    curves: dict[str, str]
    needs: Needs = "map"
    unsigned: Callable[..., Any] | None = None


class Batch(NamedTuple):
    """Hold images, and what metrics compare their maps with.

    Attributes:
        images: `[batch, height, width, 3]` in [0, 1].
        labels: Classes to explain, `[batch]`; below 0 see `chosen`.
        names: Names of the images.
        filled: Rows that hold an image; nothing is expected of the others. None: all.
        inputs: What metrics need, by `Scorer.needs`.
    """

    images: jax.Array
    labels: np.ndarray
    names: Sequence[str]
    filled: np.ndarray | None = None
    inputs: Document = {}


class Scores(NamedTuple):
    """Hold what became of a batch.

    Attributes:
        labels: Classes that are explained, `[batch]`.
        clean: Scores of the images themselves, `[batch]`.
        probabilities: What the network gives every class, `[batch, classes]`; see
            `Score.each`.
        maps: Raw maps by method, `[batch, rows, columns]`.
        flat: Whether maps are flat, by method, `[batch]`.
        nearly_flat: Whether their masks are nearly flat, see `maps.is_nearly_flat`.
        values: Columns and curves by method and name, `[batch]` and `[batch, steps]`.
    """

    labels: np.ndarray
    clean: np.ndarray
    probabilities: np.ndarray
    maps: dict[str, np.ndarray]
    flat: dict[str, np.ndarray]
    nearly_flat: dict[str, np.ndarray]
    values: dict[str, dict[str, np.ndarray]]


def score_batch(
    network: Pretrained,
    explainers: Mapping[str, Explainer],
    scorers: Sequence[Scorer],
    batch: Batch,
    *,
    key: RandomKey,
    score: scores.Score = scores.NAMED["softmax"],
    progress: Steps = lambda method, metric, share: None,
    signed: Collection[str] = (),
    signs: maps.Signs = "relu",
) -> Scores:
    """Explain a batch by every method, and score every map by every metric.

    Args:
        network: The network, which may lie on several devices, as the images do.
        explainers: Methods by name.
        scorers: Metrics.
        batch: The images.
        key: For all that is random; images do not share it.
        score: Score that says which class is predicted, and of which region.
        progress: Called before each map and metric, see `Steps`.
        signed: Methods whose maps have a sign.
        signs: What masks make of their negative values.

    Raises:
        FloatingPointError: Logits, a map, or a score where its metric is defined, are
            not finite; the sentence names the images.
    """
    images, variables = batch.images, network.variables
    logits = split.whole(network.model)(variables, images)
    _check(batch, f"the logits of {network.name}", logits)
    found, given = _chosen(batch, logits, score)
    steps, done = len(explainers) * (1 + len(scorers)), 0
    for name, explain in explainers.items():
        progress(name, "", done / steps)
        done += 1
        raw = explain(variables, images, given, key=key)
        # Before metrics see it: most take a map that is not finite for a flat one.
        _check(batch, f"the maps of {name}", raw)
        # Metrics would enlarge it alike, but be compiled for each size of map.
        rule = signs if name in signed else "range"
        enlarged, flat, mask = _enlarged(raw, images.shape[1:3], rule)
        found.maps[name], found.flat[name] = np.asarray(raw), np.asarray(flat)
        found.nearly_flat[name] = maps.is_nearly_flat(mask)
        found.values[name] = values = {}
        for scorer in scorers:
            progress(name, next(iter((*scorer.columns, *scorer.curves))), done / steps)
            done += 1
            arguments = (variables, images, given, enlarged)
            unsigned = name not in signed and scorer.unsigned
            made = scorer._replace(score=unsigned or scorer.score)
            own = _measure(made, explain, arguments, logits, batch.inputs, key)
            undefined = _undefined(scorer, batch)
            for column, inner in (*scorer.columns.items(), *scorer.curves.items()):
                if inner:
                    values[column] = np.asarray(own[inner])
                    _check(batch, f"{column} of {name}", values[column], undefined)
    return found


def _chosen(
    batch: Batch, logits: Array, score: scores.Score
) -> tuple[Scores, jax.Array]:
    """Choose the classes that are explained.

    Returns:
        Scores of the images themselves, and what explainers and metrics take as labels.
    """
    if score.places or logits.ndim != 2:
        # What another number of axes means, only some scores know.
        jax.eval_shape(score, logits, np.maximum(batch.labels, 0))
    probabilities = np.asarray(_each(score)(logits))
    labels = _named(batch.labels, probabilities)
    given = jax.device_put(split.regions(score, logits, labels, batch.names))
    if isinstance(batch.images.sharding, NamedSharding):
        given = jax.device_put(given, batch.images.sharding)
    clean = probabilities[np.arange(len(labels)), labels]
    if score.places or not score.bounded:
        clean = np.asarray(of_logits(score)(logits, given))
    return Scores(labels, clean, probabilities, {}, {}, {}, {}), given


def chosen(
    network: Pretrained, images: jax.Array, labels: np.ndarray, score: scores.Score
) -> np.ndarray:
    """Find the classes that the network itself says.

    Args:
        network: The network.
        images: `[batch, height, width, 3]` in [0, 1].
        labels: `[batch]`: classes, or `PREDICTED`, `SECOND` (the second most likely) or
            `LEAST`. Of classes that are equally likely it is the first.
        score: Score that says how likely they are.

    Returns:
        int32 `[batch]`, none below 0.
    """
    logits = split.whole(network.model)(network.variables, images)
    return _named(labels, np.asarray(_each(score)(logits)))


def _named(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Put classes in the place of `PREDICTED`, `SECOND` and `LEAST`."""
    found = np.where(labels == PREDICTED, probabilities.argmax(1), labels)
    if (labels == SECOND).any():
        second = np.argsort(-probabilities, axis=1, kind="stable")[:, 1]
        found = np.where(labels == SECOND, second, found)
    found = np.where(labels == LEAST, probabilities.argmin(1), found)
    return found.astype(np.int32)


def doing(method: str, metric: str, *, first: bool) -> str:
    """Say what is being done: compiling in the first batch, explaining in the others.

    Example:
        >>> from unlir_jax.explanation import scoring
        >>> scoring.doing("rise", "", first=True)
        'compiling rise: map'
        >>> scoring.doing("rise", "insertion", first=False)
        'explaining: rise, insertion'
    """
    if first:
        return f"compiling {method}: {metric or 'map'}"
    return f"explaining: {method}, {metric or 'map'}"


def _measure(
    scorer: Scorer,
    explain: Explainer,
    arguments: tuple[Variables, Array, Array, Saliency],
    logits: Array,
    inputs: Document,
    key: RandomKey,
) -> Mapping[str, Array]:
    """Call a metric with what it needs."""
    needs = scorer.needs
    score = scorer.score(explain) if needs in EXPLAINING else scorer.score
    further = [inputs[needs]] if needs in inputs else []
    clean = {"clean": logits} if needs == "logits" else {}
    return score(*arguments, *further, key=key, **clean)


def _undefined(scorer: Scorer, batch: Batch) -> np.ndarray | None:
    """Tell in which images a metric has nothing to find, and so no value."""
    if scorer.needs == "boxes":
        return ~np.asarray(boxes.exists(batch.inputs["boxes"])).any(1)
    if scorer.needs == "masks":
        return ~(np.asarray(batch.inputs["masks"]) > 0).any((1, 2))
    return None


def _check(
    batch: Batch, what: str, values: Array, undefined: np.ndarray | None = None
) -> None:
    """Refuse values that are not finite, but where they are undefined."""
    filled = np.ones(len(batch.names), bool) if batch.filled is None else batch.filled
    counted = filled if undefined is None else filled & ~undefined
    finite.check_rows(values, what, batch.names, counted)


@memoize.remember
def _each(score: scores.Score) -> Callable[[Array], jax.Array]:
    return jax.jit(score.each)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _enlarged(
    raw: Saliency, size: tuple[int, int], signs: maps.Signs
) -> tuple[jax.Array, jax.Array, jax.Array]:
    return maps.resize(raw, size), maps.is_flat(raw), maps.mask(raw, size, signs)


def masked_probability(
    model: SplitModel,
    score: scores.Score = scores.NAMED["softmax"],
    *,
    signs: maps.Signs = "relu",
) -> Metric:
    """Compute the probability of the label in the image times the mask of the map.

    A score without bounds is the share of the image, see `label_score.share`.
    """
    whole, scored = split.whole(model), of_logits(score)

    def measure(variables, images, labels, saliency, *, key=None):
        del key  # Nothing here is random.
        shown = (average_scores.hide(images, saliency, signs),)
        if not score.bounded:
            shown += images, jnp.zeros_like(images)
        seen, *ends = (scored(whole(variables, each), labels) for each in shown)
        found = seen if score.bounded else share(seen, ends[0], ends[1])
        return {"masked_probability": found}

    return measure
