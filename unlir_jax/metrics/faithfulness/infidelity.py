"""Error of the change of the score that the map predicts.

Yeh, Hsieh, Suggala, Inouye & Ravikumar, *On the (in)fidelity and sensitivity of
explanations*, NeurIPS 2019, Definition 2.1.
"""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import choices, loops, memoize, random_keys
from unlir_jax.metrics.faithfulness.label_score import label_score
from unlir_jax.metrics.spec import KEPT, NOTHING, PIXELS, RAW, SCORE, Contract, metric
from unlir_jax.split import scores
from unlir_jax.types import Images, Metric, RandomKey, Saliency, SplitModel

Perturbation = Literal["square", "noise"]


@metric(
    title="Infidelity",
    better="lower",
    needs="map",
    family="removal",
    meaning="How far is the change that the map predicts from that of the score?",
    contract=Contract(
        PIXELS,
        SCORE,
        "{baseline} for squares; noise has none ({perturbation} here)",
        NOTHING,
        RAW + ", times the factor that fits best if scaled ({scaled})",
        "foretells nothing: zeros",
        unbounded="raw differences, in the unit of the score, squared",
        signs=KEPT,
    ),
    fooled_by="a map of zeros, if `scaled` is off",
    passes="`samples` (32) + 1 forwards",
    source="Yeh et al., NeurIPS 2019",
    scale="number",
    quick={"samples": 2},
    representative=True,
    variants="baseline",
)
def infidelity(
    model: SplitModel,
    *,
    perturbation: Perturbation = "square",
    samples: int = 32,
    side: float = 0.25,
    deviation: float = 0.2,
    baseline: maps.Baseline = "black",
    score: scores.ScoreLike = "softmax",
    scaled: bool = True,
    loop: loops.Loop = "auto",
) -> Metric:
    """Compare the change that the map predicts with that of the score, squared.

    `mean_I (b <I, s> - (f(x) - f(x - I)))^2` over random perturbations I of the image.
    Lower is better; 0 for input times gradient (squares) or gradient (noise) of a
    linear network.

    Args:
        model: The cut network.
        perturbation: `square` replaces a square by the baseline, and the map predicts
            its sum there; `noise` subtracts Gaussian noise, the same for all channels,
            and the map predicts its product with it.
        samples: Number of perturbations an image; so many passes and one.
        side: Side of the square, as a share of the image's, in (0, 1].
        deviation: Standard deviation of the noise.
        baseline: What a square shows; see `maps.background`.
        score: Score that is compared, see `scores.resolve`.
        scaled: Whether `b` is what fits best, so that maps of any unit compare; else 1.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        A metric with `infidelity`, `[batch]`, at least 0. It needs `key`.

    Raises:
        ValueError: An impossible setting; when called, no key.

    Note:
        The fitted `b` is not below 0: a map that predicts the opposite is not a good
        one (captum allows it). Flat maps predict nothing and count as zeros.
    """
    _check(perturbation, samples, side, deviation, baseline)
    compared = scores.resolve(score)
    change = _change(model, perturbation, side, deviation, compared)
    clean_score = label_score(model, compared)

    @jax.jit
    def prepare(
        images: Images, saliency: Saliency, key: RandomKey | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        enlarged = maps.resize(saliency, images.shape[1:3])
        enlarged = jnp.where(maps.is_flat(enlarged)[:, None, None], 0, enlarged)
        background = maps.background(images, baseline, mean=model.mean, key=key)
        return enlarged, background, random_keys.per_image(key, images)

    @split.guarded(model, compared)
    def measure(variables, images, labels, saliency, *, key=None):
        prepared = prepare(images, saliency, key)
        indices = jnp.asarray(np.arange(samples, dtype=np.int32))
        arguments = (variables, images, labels, *prepared)
        found = loops.map_steps(change, indices, *arguments, loop=loop)
        clean = clean_score(variables, images, labels)
        return {"infidelity": _compare(found[:, 0], clean[None] - found[:, 1], scaled)}

    return measure


@memoize.remember
def _change(
    model: SplitModel,
    perturbation: Perturbation,
    side: float,
    deviation: float,
    score: scores.Score,
) -> Callable[..., jax.Array]:
    """Compile one sample: what the map predicts, and the score seen, `[2, batch]`."""
    label_of = label_score(model, score)

    @jax.jit
    def change(index, variables, images, labels, saliency, background, image_keys):
        size = images.shape[1:3]
        drawn = jax.vmap(jax.random.fold_in, in_axes=(0, None))(image_keys, index)
        if perturbation == "square":
            inside = jax.vmap(lambda key: _square(key, size, side))(drawn)
            shown = jnp.where(inside[..., None], background, images)
            weights = inside.astype(saliency.dtype)
        else:
            normal = jax.vmap(lambda key: jax.random.normal(key, size, images.dtype))
            weights = deviation * normal(drawn)
            shown = images - weights[..., None]
        foretold = jnp.sum(weights * saliency, axis=(1, 2))
        return jnp.stack([foretold, label_of(variables, shown, labels)])

    return change


@functools.partial(jax.jit, static_argnames="scaled")
def _compare(foretold: jax.Array, changes: jax.Array, scaled: bool) -> jax.Array:
    """Average the squared misses of `[samples, batch]` over samples."""
    factor = jnp.ones_like(changes[0])
    if scaled:
        largest = jnp.max(jnp.abs(foretold), axis=0)
        foretold = foretold / jnp.where(largest > 0, largest, 1)[None]
        power = jnp.mean(foretold**2, axis=0)
        fitted = jnp.mean(foretold * changes, axis=0) / jnp.where(power > 0, power, 1)
        factor = jnp.maximum(fitted, 0)
    return jnp.mean((factor[None] * foretold - changes) ** 2, axis=0)


def _square(key: jax.Array, size: tuple[int, ...], side: float) -> jax.Array:
    """Draw the place of a square inside the image: bool `[height, width]`."""
    marks = []
    for each, length in zip(jax.random.split(key), size, strict=True):
        extent = max(1, round(side * length))
        first = jax.random.randint(each, (), 0, length - extent + 1)
        place = jnp.arange(length)
        marks.append((place >= first) & (place < first + extent))
    return marks[0][:, None] & marks[1][None]


def _check(
    perturbation: str, samples: int, side: float, deviation: float, baseline: str
) -> None:
    choices.check("perturbation", perturbation, Perturbation)
    if samples < 1:
        raise ValueError(f"`samples`={samples}; expected 1 or more.")
    if not 0 < side <= 1:
        raise ValueError(f"`side`={side}; expected a share in (0, 1].")
    if not deviation > 0:
        raise ValueError(f"`deviation`={deviation}; expected more than 0.")
    choices.check("baseline", baseline, maps.Baseline)
