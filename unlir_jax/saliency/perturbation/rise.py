"""RISE: the average of random masks, weighted by the scores of what they show."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import loops, memoize
from unlir_jax.saliency import accumulation
from unlir_jax.saliency.perturbation import mask_passes
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import Explainer, PyTree, Saliency, SplitModel


@explainer(
    title="RISE",
    family="perturbation",
    formula="mean of random masks, weighted by the score of the masked image",
    passes="`masks` (4000) forwards",
    source="Petsiuk et al., BMVC 2018",
    quick={"masks": 8},
    representative=True,
    signed={"centered": (True,)},
)
def rise(
    model: SplitModel,
    *,
    masks: int = 4000,
    cells: int = 7,
    share: float = 0.5,
    centered: bool = True,
    baseline: maps.Baseline = "black",
    score: scores.ScoreLike = "softmax",
    batch_size: int = 32,
    loop: loops.Loop = "auto",
) -> Explainer:
    """Average random masks, each weighted by the score of the image that it shows.

    `S = 1 / (N p) sum_i f(image * M_i) M_i` (Eq. 6). One pass a mask; the explainer
    needs `key`, and each image has masks of its own.

    Args:
        model: The cut network; where it is cut makes no difference.
        masks: Number of masks `N`; the paper's 4000 for VGG-16, 8000 for ResNet-50.
        cells: Cells of a mask along each side; the paper's 7.
        share: Probability `p` that a cell shows the image; the paper's 0.5.
        centered: Subtracts the image's mean score from its scores, which in
            expectation takes the same constant from every pixel and leaves much less
            noise; a network that does not look gives zeros. False is the paper's sum.
        baseline: What hidden cells show, see `maps.background`; the paper's black.
            The authors' code masks normalised images, which is `mean`.
        score: Score to explain, see `scores.resolve`; the paper's probability.
        batch_size: Masked images that go through the network at once.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Raises:
        ValueError: Fewer than one mask or cell, or a share outside (0, 1).

    References:
        Petsiuk, Das & Saenko, *RISE: Randomized Input Sampling for Explanation of
        Black-box Models*, BMVC 2018, Section 3.2.

    Note:
        Cells are `ceil(side / cells)` pixels, as in the authors' code, so that every
        shifted mask covers the image.
    """
    _check(masks, cells, share)
    mask_passes.check_baseline(baseline)
    make = shifted_cells(cells, share)
    explained = scores.resolve(score)
    program = mask_passes.compiled(model, explained, make)

    @split.guarded(model, explained)
    def explain(variables, images, labels, *, key=None):
        own = accumulation.image_keys(key, images)
        shown = mask_passes.background(images, baseline, model.mean, key)
        scores = mask_passes.score(
            *(program, masks, batch_size),
            *(variables, images, labels, shown, own),
            loop=loop,
        )
        if centered:
            # The first score goes before the mean: equal scores give exact zeros.
            scores = scores - scores[:, :1]
            scores = scores - jnp.mean(scores, axis=1, keepdims=True)
        return _average(make, scores / share, own, images.shape[1:3], batch_size, loop)

    return explain


@memoize.remember
def shifted_cells(cells: int, share: float) -> mask_passes.MakeMasks:
    """Make masks of `cells x cells` coin tosses, enlarged and shifted at random.

    The function that it returns takes the image's size, the masks' numbers `[n]` and
    the images' keys `[n]`, and gives `[n, height, width]` in [0, 1].
    """

    def make(size: tuple[int, int], numbers: jax.Array, own: jax.Array) -> jax.Array:
        sides = [-(-length // cells) for length in size]
        # Each row of an enlarged unit matrix holds the weights of the cells there.
        down, across = (
            maps.resize(jnp.eye(cells)[None], ((cells + 1) * side, cells))[0]
            for side in sides
        )

        def draw(number: jax.Array, key: jax.Array) -> jax.Array:
            toss, shift = jax.random.split(jax.random.fold_in(key, number))
            shown = jax.random.bernoulli(toss, share, (cells, cells))
            row, column = jax.random.randint(shift, (2,), 0, jnp.asarray(sides))
            rows = jax.lax.dynamic_slice_in_dim(down, row, size[0])
            columns = jax.lax.dynamic_slice_in_dim(across, column, size[1])
            grid = shown.astype(down.dtype)
            rows = jnp.matmul(rows, grid, precision="highest")
            return jnp.matmul(rows, columns.T, precision="highest")

        return jax.vmap(draw)(numbers, own)

    return make


def _average(
    make: mask_passes.MakeMasks,
    weights: jax.Array,
    own: jax.Array,
    size: tuple[int, ...],
    batch_size: int,
    loop: loops.Loop,
) -> Saliency:
    """Add masks up again, a few at a time: drawing them costs little."""
    batch, count = weights.shape
    few = min(max(batch_size // batch, 1), count)
    starts = np.arange(0, count, few)
    padded = jnp.pad(weights, ((0, 0), (0, len(starts) * few - count)))
    zeros = jnp.zeros((batch, *size), weights.dtype)
    step = _adding(make, few)
    return accumulation.fold(step, zeros, starts, padded, own, loop=loop) / count


@memoize.remember
def _adding(make: mask_passes.MakeMasks, few: int) -> PyTree:
    @jax.jit
    def add(
        total: jax.Array, start: PyTree, weights: jax.Array, own: jax.Array
    ) -> jax.Array:
        numbers = start + jnp.arange(few)
        draw = functools.partial(make, total.shape[1:])
        drawn = jax.vmap(
            lambda key: draw(numbers, jnp.broadcast_to(key, numbers.shape))
        )(own)
        weight = jax.lax.dynamic_slice_in_dim(weights, start, few, axis=1)
        drawn = drawn.astype(total.dtype)
        return total + jnp.einsum("bn,bnhw->bhw", weight, drawn, precision="highest")

    return add


def _check(masks: int, cells: int, share: float) -> None:
    for name, value in (("masks", masks), ("cells", cells)):
        if value < 1:
            raise ValueError(f"`{name}`={value}; expected 1 or more.")
    if not 0 < share < 1:
        raise ValueError(f"`share`={share}; expected more than 0 and less than 1.")
