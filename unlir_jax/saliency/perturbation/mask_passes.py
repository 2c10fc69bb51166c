"""One pass through a network for each mask of each image."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from unlir_jax import maps, split
from unlir_jax.core import loops, memoize
from unlir_jax.split import scores
from unlir_jax.types import Images, Labels, PyTree, RandomKey, SplitModel, Variables

MakeMasks = Callable[..., jax.Array]
"""`((height, width), numbers, *own) -> [size, height, width]`, one mask a row."""


def check_baseline(baseline: maps.Baseline) -> None:
    """Refuse a kind of background that `maps.background` does not know."""
    maps.background(jnp.zeros((1, 1, 1, 3)), baseline, key=jax.random.key(0))


@functools.partial(jax.jit, static_argnums=(1, 2))
def background(
    images: Images,
    kind: maps.Baseline,
    mean: tuple[float, ...],
    key: RandomKey | None,
) -> jax.Array:
    """Make backgrounds as `maps.background` does, compiled."""
    return maps.background(images, kind, mean=mean, key=key)


def score(
    program: PyTree,
    count: int,
    batch_size: int,
    variables: Variables,
    images: Images,
    labels: Labels,
    *own: PyTree,
    loop: loops.Loop,
) -> jax.Array:
    """Score each image under `count` masks, `batch_size` masked images at a time.

    Args:
        program: From `compiled`.
        count: Masks an image.
        batch_size: Most masked images that go through the network at once; on CPU
            fewer do, see `loops.few_enough`.
        variables: Variables of the network.
        images: `[batch, height, width, channels]` in [0, 1].
        labels: One an image.
        *own: The backgrounds, then what `program` makes the masks of; each has one
            entry an image.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        Scores, `[batch, count]`.
    """
    counted = functools.partial(program, count)
    arguments = variables, images, labels, *own
    few = loops.few_enough(batch_size, images.shape[1:3], loop, *arguments)
    sizes = len(images), count, few
    return loops.map_pairs(counted, *sizes, *arguments, loop=loop)


@memoize.remember
def compiled(model: SplitModel, score: scores.Score, make: MakeMasks) -> PyTree:
    """Compile one chunk of pairs of an image and a mask, see `loops.map_pairs`."""
    network = split.whole(model)

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def masked_scores(count, size, start, variables, images, labels, backgrounds, *own):
        image, number = loops.pairs(size, start, len(images), count)
        mask = make(images.shape[1:3], number, *(array[image] for array in own))
        mask = mask.astype(images.dtype)
        shown = maps.apply_mask(images[image], mask, backgrounds[image])
        return score(network(variables, shown), labels[image])

    return masked_scores
