"""Square attack: random windows that are kept where the score falls.

Andriushchenko, Croce, Flammarion & Hein, *Square Attack: A Query-Efficient Black-Box
Adversarial Attack via Random Search*, ECCV 2020, arXiv 1912.00049.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.attacks import losses, quantisation, search, settings, windows
from unlir_jax.attacks.minimal import wide
from unlir_jax.attacks.search import Seen
from unlir_jax.attacks.spec import Craft, Crafted, attack
from unlir_jax.core import loops, memoize, random_keys
from unlir_jax.types import SplitModel

TURNS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries of 10,000 behind which windows have half the area; the last has a 512th."""


class State(NamedTuple):
    """Hold what changes from query to query, one entry an image.

    Attributes:
        images: The best point so far.
        loss: Its loss, `[batch]`.
        seen: What the network has shown.
        done: `[batch]`.
    """

    images: jax.Array
    loss: jax.Array
    seen: Seen
    done: jax.Array


@attack(
    title="Square",
    norms=("linf", "l2"),
    kind="budget",
    passes="`steps` (5,000) forwards",
    source="Andriushchenko et al., ECCV 2020",
    quick={"steps": 5},
    synonyms=("square_attack",),
    random=True,
    sloped=False,
)
def square(
    model: SplitModel,
    *,
    norm: str = "linf",
    epsilon: float = 8 / 255,
    steps: int = 5000,
    share: float = 0.8,
    loss: losses.Name = "margin",
    quantise: bool | int = False,
    loop: loops.Loop = "auto",
) -> Craft:
    """Change a random window at each query, and keep what raises the loss.

    It asks for scores alone, never for a gradient. For `linf` a window takes one of
    `+epsilon` and `-epsilon` in each channel, and the first point has stripes (Sections
    3.3 and 3.4). For `l2` a window takes the change of another one, in the form of two
    bumps of opposite sign (Algorithm 3). An image that deceives is finished.

    Args:
        model: The network.
        norm: `linf` or `l2`.
        epsilon: Largest change: in [0, 1] for `linf`, a distance over all pixels and
            channels for `l2`.
        steps: Number of queries, each a pass forward; the first is of the first point.
        share: Share of the image that the first windows have; it falls to a 512th
            of this in `steps` queries. AutoAttack has 0.8.
        loss: `margin`, `cross_entropy` or `dlr`.
        quantise: Number of levels of the result; True stands for 256. The network is
            then looked at through the rounding.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Raises:
        ValueError: A setting that makes no sense.

    References:
        Andriushchenko et al., *Square Attack*, ECCV 2020, Algorithms 1 to 3.

    Note:
        Windows are drawn for each image, where the authors' code draws one for the
        batch. Windows are no larger than the shorter side.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from unlir_jax import attacks, split
        >>> model = split.from_functions(lambda _, x: x, lambda _, x: x.mean((1, 2)))
        >>> image = jnp.full((1, 4, 4, 3), 0.45).at[..., 0].set(0.55)
        >>> attack = attacks.square(model, epsilon=0.1, steps=200)
        >>> found = attack({}, image, jnp.asarray([0]), key=jax.random.key(0))
        >>> bool(attacks.outcome(model)({}, image, found, jnp.asarray([0]))["success"])
        True
    """
    settings.check_share("share", share)
    raised = losses.resolve(loss)
    step = _step(model, raised, norm, epsilon, steps, share, quantise)

    def run(variables, images, aim, key):
        keys = random_keys.per_image(key, images)
        lowest = jnp.full(len(images), -jnp.inf, images.dtype)
        seen = search.nothing_seen(images)
        # It needs no slope, so that none is missed.
        seen = seen._replace(sloped=jnp.ones(len(images), bool))
        state = State(images, lowest, seen, jnp.zeros(len(images), bool))
        examples = images, aim, jax.random.key_data(keys)
        end, made = search.iterate(step, state, examples, variables, steps, loop=loop)
        found = quantisation.within(end.images, images, quantise, norm, epsilon)
        return Crafted(found, jnp.zeros_like(made), made, end.seen)

    return run


def sides(steps: int, share: float, size: tuple[int, int], norm: str) -> np.ndarray:
    """Give the side of the window of each query; the first query has none of its own.

    Example:
        >>> from unlir_jax.attacks.square import sides
        >>> sorted({int(s) for s in sides(5000, 0.8, (32, 32), "linf")}, reverse=True)
        [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]
    """
    queries = np.maximum(np.arange(steps) - 1, 0)
    scaled = (queries / steps * 10_000).astype(int)
    halvings = np.searchsorted(TURNS, scaled, side="left")
    areas = share / 2.0**halvings * math.prod(size)
    found = np.maximum(np.rint(np.sqrt(areas)).astype(int), 1)
    if norm == "l2":
        # Two bumps need a side of 3, and an odd one has a middle.
        found = np.maximum(found, 3)
        found = found + (found % 2 == 0)
    return np.minimum(found, min(size)).astype(np.int32)


@memoize.remember
def _step(
    model: SplitModel,
    loss: losses.Loss,
    norm: str,
    epsilon: float,
    steps: int,
    share: float,
    quantise: bool | int,
) -> search.Step:
    network = split.whole(model)

    def step(variables, state, examples, numbers):
        originals, aim, data = examples
        size = originals.shape[1:3]
        draw = _draws(norm, epsilon, sides(steps, share, size, norm), size)
        keys = jax.vmap(jax.random.wrap_key_data)(data)
        keys = jax.vmap(jax.random.fold_in)(keys, numbers)
        tried = jax.vmap(draw)(keys, numbers, state.images, originals)
        shown = quantisation.within(tried, originals, quantise, norm, epsilon)
        logits = jnp.asarray(network(variables, shown), originals.dtype)
        found, success = loss(logits, aim), losses.succeeded(logits, aim)
        # The first point is taken whatever its loss.
        better = (found > state.loss) | success | (numbers == 0)
        return State(
            jnp.where(wide(better), tried, state.images),
            jnp.where(better, found, state.loss),
            _seen(state.seen, logits),
            success,
        )

    return step


def _seen(before: Seen, logits: jax.Array) -> Seen:
    probable = jnp.all(logits >= 0, axis=1)
    probable &= jnp.abs(jnp.sum(logits, axis=1) - 1) < search.CERTAIN
    return before._replace(
        probable=before.probable & probable,
        finite=before.finite & ~jnp.any(jnp.isnan(logits), axis=1),
    )


def _draws(
    norm: str, epsilon: float, sizes: np.ndarray, size: tuple[int, int]
) -> Callable[..., jax.Array]:
    """Make `(key, number, image, original) -> tried` of one image."""
    known = np.unique(sizes)
    forms = windows.table(known, size) if norm == "l2" else np.zeros((1, 1, 1))
    bumps = jnp.asarray(forms, jnp.float32)
    places = jnp.asarray(np.searchsorted(known, sizes))
    sides_of = jnp.asarray(sizes)

    def draw(key, number, image, original):
        first, later = jax.random.split(key)
        side = sides_of[number]
        if norm == "linf":
            begun = windows.stripes(first, original, epsilon)
            tried = windows.painted(later, image, original, side, epsilon)
        else:
            begun = windows.tiles(first, original, epsilon)
            form = bumps[places[number]]
            tried = windows.moved(later, image, original, side, form, epsilon)
        return jnp.where(number == 0, begun, tried)

    return draw
