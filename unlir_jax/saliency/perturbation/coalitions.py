"""Segments shown in the rows of a regression, and the weights of the rows."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.core import loops, memoize
from unlir_jax.saliency import accumulation
from unlir_jax.saliency.perturbation import mask_passes
from unlir_jax.types import PyTree


class Design(NamedTuple):
    """Name the rows of a regression.

    Attributes:
        rows: Number of rows.
        draw: `(number, key, present) -> (shown, weight)` for one row: `present`,
            `[segments]`, is 1 for segments that the image has and 0 for others, and
            `shown` is 1 for those that the row shows.
        random: Whether `draw` needs the image's key.
    """

    rows: int
    draw: Callable[[PyTree, PyTree, jax.Array], tuple[jax.Array, jax.Array]]
    random: bool = True


class Moments(NamedTuple):
    """Hold weighted sums over rows.

    Attributes:
        weight: `[batch]`.
        value: `[batch]`.
        shown: `[batch, segments]`.
        shown_value: `[batch, segments]`.
        shown_shown: `[batch, segments, segments]`.
    """

    weight: jax.Array
    value: jax.Array
    shown: jax.Array
    shown_value: jax.Array
    shown_shown: jax.Array


@memoize.remember
def coins(samples: int, width: float) -> Design:
    """Show each segment with probability 1/2; weigh likeness to the image.

    The weight is `sqrt(exp(-d^2 / width^2))`, `d` the cosine distance.
    """

    def draw(
        number: jax.Array, key: jax.Array, present: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        key = jax.random.fold_in(key, number)
        toss = jax.random.bernoulli(key, 0.5, present.shape)
        shown = jnp.where(toss, present, 0)
        # Of 0s and 1s; nothing shown is at a right angle to everything.
        distance = 1 - jnp.sqrt(jnp.sum(shown) / jnp.maximum(jnp.sum(present), 1))
        return shown, jnp.exp(-0.5 * (distance / width) ** 2)

    return Design(samples, draw)


@memoize.remember
def every(pieces: int) -> Design:
    """Show every coalition but none and all, with the weight of the Shapley kernel."""
    kernel = np.zeros((pieces + 1, pieces + 1))
    for among in range(2, pieces + 1):
        for shown in range(1, among):
            ways = math.comb(among, shown) * shown * (among - shown)
            kernel[among, shown] = (among - 1) / ways

    def draw(
        number: jax.Array, key: jax.Array, present: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        del key
        bits = ((number + 1) >> jnp.arange(pieces)) & 1
        shown = bits.astype(present.dtype)
        sizes = jnp.sum(present).astype(int), jnp.sum(bits)
        # A coalition with segments that the image lacks is another's repetition.
        lacking = jnp.any(shown > present)
        weight = jnp.asarray(kernel, present.dtype)[sizes]
        return shown * present, jnp.where(lacking, 0, weight)

    return Design(2**pieces - 2, draw, random=False)


@memoize.remember
def pairs(pieces: int, samples: int) -> Design:
    """Draw coalitions by the Shapley kernel, each followed by its complement.

    Sizes are drawn in proportion to the weight of all coalitions of that size, so all
    rows weigh the same.
    """
    chances = np.full((pieces + 1, pieces + 1), -np.inf)
    chances[:2, 0] = 0  # One segment has no coalition: its rows weigh nothing.
    for among in range(2, pieces + 1):
        for shown in range(1, among):
            chances[among, shown] = -math.log(shown * (among - shown))

    def draw(
        number: jax.Array, key: jax.Array, present: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        size, place = jax.random.split(jax.random.fold_in(key, number // 2))
        among = jnp.sum(present).astype(int)
        wanted = jax.random.categorical(size, jnp.asarray(chances)[among])
        order = jax.random.uniform(place, present.shape) + 2 * (1 - present)
        # Comparing all pairs compiles and runs sooner than sorting so few.
        first = jnp.sum(order[None] < order[:, None], axis=1) < wanted
        shown = jnp.where(first == (number % 2 == 0), present, 0)
        return shown, jnp.where(among > 1, 1, 0).astype(present.dtype)

    return Design(samples, draw)


@memoize.remember
def masks(design: Design) -> mask_passes.MakeMasks:
    """Make the masks of the rows, between that of the image and that of nothing.

    Mask 0 shows everything, mask `1 + i` shows row `i`, and the one after the last row
    nothing.
    """

    def make(
        size: tuple[int, int],
        numbers: jax.Array,
        cut: jax.Array,
        present: jax.Array,
        own: jax.Array,
    ) -> jax.Array:
        del size
        rows = jnp.clip(numbers - 1, 0, max(design.rows - 1, 0))
        shown, _ = jax.vmap(design.draw)(rows, own, present)
        shown = jnp.where((numbers > design.rows)[:, None], 0, shown)
        shown = jnp.where((numbers == 0)[:, None], 1, shown)
        return paint(shown, cut)

    return make


@jax.jit
def paint(values: jax.Array, cut: jax.Array) -> jax.Array:
    """Give every pixel its segment's value: `[batch, height, width]`."""
    return jax.vmap(lambda value, place: value[place])(values, cut)


def moments(
    design: Design,
    values: jax.Array,
    present: jax.Array,
    own: jax.Array,
    batch_size: int,
    loop: loops.Loop,
) -> Moments:
    """Sum over rows, a few at a time, which are drawn again.

    Args:
        design: The rows.
        values: What is regressed, `[batch, rows]`.
        present: `[batch, segments]`, see `Design`.
        own: One key an image.
        batch_size: Most rows at once, of all images.
        loop: `auto`, `host` or `device`; see `loops.place`.
    """
    batch, pieces = present.shape
    few = max(batch_size // batch, 1)
    starts = np.arange(0, design.rows, few)
    values = jnp.pad(values, ((0, 0), (0, len(starts) * few - design.rows)))
    one, each = jnp.zeros(batch, values.dtype), jnp.zeros_like(present)
    every_two = jnp.zeros((batch, pieces, pieces), present.dtype)
    begun = Moments(one, one, each, each, every_two)
    if not design.rows:
        return begun
    step = _adding(design, few)
    return accumulation.fold(step, begun, starts, values, present, own, loop=loop)


@memoize.remember
def _adding(design: Design, few: int) -> PyTree:
    draw_rows = jax.vmap(jax.vmap(design.draw, (0, None, None)), (None, 0, 0))

    @jax.jit
    def add(
        total: Moments,
        start: PyTree,
        values: jax.Array,
        present: jax.Array,
        own: jax.Array,
    ) -> Moments:
        numbers = start + jnp.arange(few)
        shown, weight = draw_rows(numbers, own, present)
        weight = jnp.where((numbers < design.rows)[None], weight, 0)
        weight = weight.astype(shown.dtype)
        value = jax.lax.dynamic_slice_in_dim(values, start, few, axis=1) * weight
        weighted = shown * weight[..., None]

        def sums(left: jax.Array, right: jax.Array, axes: str) -> jax.Array:
            return jnp.einsum(axes, left, right, precision="highest")

        found = Moments(
            jnp.sum(weight, axis=1),
            jnp.sum(value, axis=1),
            jnp.sum(weighted, axis=1),
            sums(shown, value, "bnk,bn->bk"),
            sums(weighted, shown, "bnk,bnl->bkl"),
        )
        return jax.tree.map(jnp.add, total, found)

    return add
