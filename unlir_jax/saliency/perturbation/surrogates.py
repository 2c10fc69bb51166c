"""LIME and KernelSHAP: a linear model of what segments do to the score."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax import maps, split
from unlir_jax.core import choices, loops, memoize
from unlir_jax.saliency import accumulation
from unlir_jax.saliency.perturbation import coalitions, mask_passes, segments
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import Explainer, SplitModel


@explainer(
    title="LIME",
    family="perturbation",
    formula="linear surrogate of the score over hidden segments",
    passes="`samples` (1000) forwards",
    source="Ribeiro et al., KDD 2016",
    quick={"samples": 12, "count": 4, "kind": "grid"},
    representative=True,
    signed=True,
)
def lime(
    model: SplitModel,
    *,
    samples: int = 1000,
    kind: segments.Kind = "slic",
    count: int = 50,
    width: float = 0.25,
    ridge: float = 1.0,
    baseline: maps.Baseline = "mean",
    score: scores.ScoreLike = "logit",
    batch_size: int = 32,
    loop: loops.Loop = "auto",
) -> Explainer:
    """Fit a linear model to the scores of images with random segments hidden.

    Each segment is hidden with probability 1/2, and ridge regression with an intercept
    weighs a row by its likeness to the image. Every pixel of a segment gets the
    segment's coefficient. One pass a sample and one for the image, which is a row too;
    the explainer needs `key`.

    Args:
        model: The cut network; where it is cut makes no difference.
        samples: Number of random rows; the authors' 1000.
        kind: `grid` or `slic`, see `segments`.
        count: Segments asked for, see `segments.layout`.
        width: `s` of the weights `sqrt(exp(-d^2 / s^2))`, `d` the cosine distance from
            a row to that of the image; the authors' 0.25 for images.
        ridge: Penalty of the squared coefficients; the authors' 1. 0 fits exactly, and
            takes the shortest solution where rows do not determine one.
        baseline: What hidden segments show, see `maps.background`.
        score: Score to explain, see `scores.resolve`.
        batch_size: Masked images that go through the network at once.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Raises:
        ValueError: Fewer than one sample or segment, an unknown kind, a width that is
            not positive, or a negative ridge.

    References:
        Ribeiro, Singh & Guestrin, *"Why Should I Trust You?": Explaining the
        Predictions of Any Classifier*, KDD 2016, Eq. 2 and Algorithm 1.

    Note:
        The weights' square root is that of the authors' code. It cuts images by quick
        shift, and hides a segment behind its mean colour.
    """
    _check(samples, kind, count, baseline)
    if not width > 0:
        raise ValueError(f"`width`={width}; expected more than 0.")
    if ridge < 0:
        raise ValueError(f"`ridge`={ridge}; expected 0 or more.")

    def design(pieces: int) -> coalitions.Design:
        del pieces
        return coalitions.coins(samples, width)

    settings = _Settings(kind, count, baseline, batch_size, loop)
    return _surrogate(model, score, settings, design, _ridge(ridge), False)


@explainer(
    title="KernelSHAP",
    family="perturbation",
    formula="Shapley values of segments by weighted regression",
    passes="`samples` (1000) forwards",
    source="Lundberg and Lee, NeurIPS 2017",
    quick={"samples": 12, "count": 4, "kind": "grid"},
    signed=True,
)
def kernel_shap(
    model: SplitModel,
    *,
    samples: int = 1000,
    kind: segments.Kind = "slic",
    count: int = 50,
    baseline: maps.Baseline = "mean",
    score: scores.ScoreLike = "logit",
    batch_size: int = 32,
    loop: loops.Loop = "auto",
) -> Explainer:
    """Estimate the segments' Shapley values by weighted least squares.

    The values of an image add up to `score(image) - score(background)` exactly. A
    segment's value is shared evenly by its pixels, so that the map has the same sum.
    Where all `2^segments - 2` coalitions are no more than `samples`, all are scored and
    the values are the Shapley values; otherwise coalitions are drawn, each followed by
    its complement, and the explainer needs `key`. One pass a coalition and two more.

    Args:
        model: The cut network; where it is cut makes no difference.
        samples: Most coalitions; an odd number leaves the last without complement.
        kind: `grid` or `slic`, see `segments`.
        count: Segments asked for, see `segments.layout`.
        baseline: What segments out of the coalition show, see `maps.background`.
        score: Score to explain, see `scores.resolve`.
        batch_size: Masked images that go through the network at once.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Raises:
        ValueError: Fewer than one sample or segment, or an unknown kind.

    References:
        Lundberg & Lee, *A Unified Approach to Interpreting Model Predictions*, NeurIPS
        2017, Theorem 2; Covert & Lee, *Improving KernelSHAP: Practical Shapley Value
        Estimation Using Linear Regression*, AISTATS 2021, Eq. 6-9 and Section 3.2
        (complements).

    Note:
        Sizes of coalitions are drawn in proportion to their kernel weight, so the rows
        of the regression weigh the same. Too few samples to determine the values give
        the solution nearest to equal shares.
    """
    _check(samples, kind, count, baseline)

    def design(pieces: int) -> coalitions.Design:
        if pieces < 31 and 2**pieces - 2 <= samples:
            return coalitions.every(pieces)
        return coalitions.pairs(pieces, samples)

    settings = _Settings(kind, count, baseline, batch_size, loop)
    return _surrogate(model, score, settings, design, _constrained, True)


class _Settings(NamedTuple):
    kind: segments.Kind
    count: int
    baseline: maps.Baseline
    batch_size: int
    loop: loops.Loop


def _surrogate(
    model: SplitModel,
    score: scores.ScoreLike,
    settings: _Settings,
    design: Callable[[int], coalitions.Design],
    solve: Callable[[coalitions.Moments, jax.Array, jax.Array], jax.Array],
    shares: bool,
) -> Explainer:
    """Regress the scores of a design's rows on what they show.

    `shares` counts scores from the background's rather than the image's, and divides
    a segment's value among its pixels.
    """
    kind, count, baseline, batch_size, loop = settings
    explained = scores.resolve(score)

    @split.guarded(model, explained)
    def explain(variables, images, labels, *, key=None):
        cut = segments.grid(images, count)
        if kind == "slic":
            cut = segments.slic(images, count)
        pieces = math.prod(segments.layout(images.shape[1:3], count))
        rows = design(pieces)
        own = jnp.zeros(len(images))
        if rows.random:
            own = accumulation.image_keys(key, images)
        pixels = _pixels(cut, jnp.zeros((len(images), pieces), images.dtype))
        present = (pixels > 0).astype(images.dtype)
        shown = mask_passes.background(images, baseline, model.mean, key)
        scores = mask_passes.score(
            mask_passes.compiled(model, explained, coalitions.masks(rows)),
            *(rows.rows + (2 if shares else 1), batch_size),
            *(variables, images, labels, shown, cut, present, own),
            loop=loop,
        )
        gain = scores[:, 0] - scores[:, -1]
        start = scores[:, -1:] if shares else scores[:, :1]
        values = scores[:, 1 : rows.rows + 1] - start
        found = coalitions.moments(rows, values, present, own, batch_size, loop)
        weights = solve(found, gain, present)
        weights = weights / jnp.maximum(pixels, 1) if shares else weights
        return coalitions.paint(weights, cut)

    return explain


@jax.jit
def _pixels(cut: jax.Array, zeros: jax.Array) -> jax.Array:
    """Count the pixels of each segment."""
    flat = cut.reshape((len(cut), -1))
    return jax.vmap(lambda zero, place: zero.at[place].add(1))(zeros, flat)


@memoize.remember
def _ridge(
    penalty: float,
) -> Callable[[coalitions.Moments, jax.Array, jax.Array], jax.Array]:
    """Regress with an intercept; the image is one more row, of weight 1, value 0."""

    @jax.jit
    def solve(
        moments: coalitions.Moments, gain: jax.Array, present: jax.Array
    ) -> jax.Array:
        del gain
        weight = (moments.weight + 1)[:, None]
        shown = moments.shown + present
        gram = moments.shown_shown + _outer(present, present)
        gram = gram - _outer(shown, shown / weight)
        right = moments.shown_value - shown * moments.value[:, None] / weight
        gram = gram + penalty * jnp.eye(gram.shape[-1], dtype=gram.dtype)[None]
        return _solve(gram, right) * present

    return solve


@jax.jit
def _constrained(
    moments: coalitions.Moments, gain: jax.Array, present: jax.Array
) -> jax.Array:
    """Regress without an intercept on values that add up to the gain.

    The solution is an even share of the gain and a part that adds up to 0, on which a
    row acts as its distance from its own mean.
    """
    number = jnp.maximum(jnp.sum(present, axis=1, keepdims=True), 1)

    def center(values: jax.Array) -> jax.Array:
        among = number.reshape(number.shape + (1,) * (values.ndim - 2))
        here = present.reshape((len(present),) + (1,) * (values.ndim - 2) + (-1,))
        return values - here * jnp.sum(values, axis=-1, keepdims=True) / among

    even = gain[:, None] / number
    right = moments.shown_value - even * jnp.sum(moments.shown_shown, axis=2)
    gram = center(center(moments.shown_shown).swapaxes(1, 2))
    rest = _solve(gram, center(right)) * present
    return even * present + center(rest)


def _outer(left: jax.Array, right: jax.Array) -> jax.Array:
    return left[:, :, None] * right[:, None, :]


def _solve(gram: jax.Array, right: jax.Array) -> jax.Array:
    """Solve symmetric systems; what they do not determine is 0."""
    # No factorisation of LAPACK's takes bfloat16 or float16.
    wide = gram.astype(jnp.promote_types(gram.dtype, jnp.float32))
    inverse = jnp.linalg.pinv(wide, hermitian=True)
    found = jnp.einsum("bkl,bl->bk", inverse, right, precision="highest")
    return found.astype(right.dtype)


def _check(samples: int, kind: str, count: int, baseline: maps.Baseline) -> None:
    for name, value in (("samples", samples), ("count", count)):
        if value < 1:
            raise ValueError(f"`{name}`={value}; expected 1 or more.")
    choices.check("kind", kind, segments.Kind)
    mask_passes.check_baseline(baseline)
