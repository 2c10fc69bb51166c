"""Ascent of a map and a class at once, which `move_map` and `keep_map` are cases of.

One of the two is the objective, the similarity of maps. The other is a condition, a
margin of logits. A hinge pushes where the condition fails.
"""

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.attacks import checks, losses, norms, search, settings, spec
from unlir_jax.core import choices, memoize, random_keys
from unlir_jax.types import (
    Explainer,
    Images,
    Labels,
    Logits,
    PyTree,
    RandomKey,
    Saliency,
    SplitModel,
    Variables,
)

Similarity = Literal["correlation", "top"]
"""What two maps are compared by, see `alike`."""
Margin = Callable[[Logits, losses.Aim], jax.Array]
"""`(logits, aim) -> [batch]`, which is to be at least `least_margin`."""
Classes = Callable[[Logits, losses.Aim], Labels]
"""`(logits, aim) -> [batch]`, the classes whose maps are looked at."""

SETTLED = 1e-5
"""How near to its largest value, 1, an objective has no slope but that of rounding."""


class Ascent(NamedTuple):
    """Hold the settings of an ascent, see `move_map` and `keep_map`."""

    norm: str
    epsilon: float
    steps: int
    step_size: float
    penalty: float
    least_margin: float
    random_start: bool
    similarity: Similarity
    share: float


def checked(
    norm: str,
    epsilon: float,
    steps: int,
    step_size: float | None,
    penalty: float,
    least_margin: float,
    random_start: bool,
    similarity: Similarity,
    share: float,
) -> Ascent:
    """Put settings together, and refuse those that make no sense.

    The first step is `5 epsilon / steps` long by default.

    Raises:
        ValueError: A setting makes no sense.
    """
    given = {"norm": norm, "epsilon": epsilon, "steps": steps}
    checks.check_settings(given, ("linf", "l2"))
    choices.check("similarity", similarity, Similarity)
    settings.check_share("share", share)
    settings.check_least("penalty", penalty, 0)
    settings.check_least("least_margin", least_margin, 0)
    size = 5 * epsilon / max(steps, 1) if step_size is None else step_size
    settings.check_least("step_size", size, 0)
    rest = penalty, least_margin, random_start, similarity, share
    return Ascent(norm, epsilon, steps, size, *rest)


class Problem(NamedTuple):
    """Say what is raised and what is held.

    Attributes:
        sign: 1 raises the similarity of the maps, -1 lowers it.
        margin: Margin that is held: positive, and at least `least_margin`.
        classes: Classes whose maps are looked at.
    """

    sign: int
    margin: Margin
    classes: Classes


class _Best(NamedTuple):
    """Hold the best images so far, and how good they are, `[batch]`."""

    images: jax.Array
    held: jax.Array
    margin: jax.Array
    value: jax.Array


class _Climbing(NamedTuple):
    """Hold the images as they are now, and what their maps have shown, `[batch]`.

    Attributes:
        images: Within the ball.
        best: The best so far.
        sloped: Whether a map had a slope.
        stuck: Whether a map had none, though its objective was not at its largest.
        done: Whether the image is left alone.
    """

    images: jax.Array
    best: _Best
    sloped: jax.Array
    stuck: jax.Array
    done: jax.Array


Climb = Callable[..., jax.Array]


@memoize.remember
def climb(
    model: SplitModel,
    explain: Explainer,
    surrogate: Explainer | None,
    problem: Problem,
    ascent: Ascent,
) -> Climb:
    """Make `(variables, images, aim, reference, done, key) -> images`.

    Each step goes along `u(map) + penalty u(margin)`, where `u` divides a gradient by
    its Euclidean norm. The second term is there where the margin is too small. Steps
    shrink linearly.

    Of all iterates, the image itself included, an image keeps the best that holds the
    margin. Where none does, it keeps the one with the largest margin.

    Args:
        model: The network.
        explain: Explainer of the maps.
        surrogate: Explainer whose maps are differentiated; None for `explain`.
        problem: What is raised and what is held.
        ascent: The settings.
    """
    step = _step(model, explain, surrogate, problem, ascent)
    count = ascent.steps + 1 + ascent.random_start

    def run(variables, images, aim, reference, done, key):
        start = _start(images, ascent, key)
        low = jnp.full(len(images), -jnp.inf, images.dtype)
        none = jnp.zeros(len(images), bool)
        state = _Climbing(images, _Best(images, none, low, low), none, none, done)
        examples = images, start, aim, reference
        found, _ = search.iterate(
            step, state, examples, (variables, key), count, stops=False
        )
        _check_sloped(found.sloped, found.stuck)
        return found.best.images

    return run


def _start(images: jax.Array, ascent: Ascent, key: RandomKey | None) -> jax.Array:
    if not ascent.random_start:
        return images
    keys = random_keys.per_image(key, images)
    return _drawn(keys, images, ascent.epsilon, ascent.norm)


_drawn = jax.jit(norms.random_point, static_argnames="norm")


def _step(
    model: SplitModel,
    explain: Explainer,
    surrogate: Explainer | None,
    problem: Problem,
    ascent: Ascent,
) -> search.Step:
    """Make a step, which judges the images before it moves them."""
    network = split.whole(model)
    sign, norm, epsilon = problem.sign, ascent.norm, ascent.epsilon

    def judged(variables, images, classes, reference, key):
        return alike(explain(variables, images, classes, key=key), reference, ascent)

    def step(given: PyTree, state: _Climbing, examples: PyTree, numbers: PyTree):
        variables, key = given
        originals, start, aim, reference = examples

        def look(images: jax.Array) -> PyTree:
            logits = network(variables, images).astype(images.dtype)
            classes = problem.classes(logits, aim)
            shown = (surrogate or explain)(variables, images, classes, key=key)
            near = alike(shown, reference, ascent)
            return (sign * near, problem.margin(logits, aim)), classes

        (value, margin), pull, classes = jax.vjp(look, state.images, has_aux=True)
        settled = value > 1 - SETTLED
        if surrogate is not None:
            value = sign * judged(variables, state.images, classes, reference, key)
        held = (margin > 0) & (margin >= ascent.least_margin)
        ones, zeros = jnp.ones_like(value), jnp.zeros_like(value)
        toward, back = (_unit(pull(each)[0]) for each in ((ones, zeros), (zeros, ones)))
        toward = jnp.where(settled[:, None, None, None], 0, toward)
        pushed = jnp.where(held, 0, ascent.penalty)[:, None, None, None]
        direction = norms.steepest(toward + pushed * back, norm)
        share = 1 - (jnp.asarray(numbers) - ascent.random_start) / ascent.steps
        size = ascent.step_size * jnp.clip(share, 0, 1).astype(direction.dtype)
        moved = state.images + size[:, None, None, None] * direction
        moved = norms.project(moved, originals, epsilon, norm)
        if ascent.random_start:
            first = (jnp.asarray(numbers) == 0)[:, None, None, None]
            moved = jnp.where(first, start, moved)
        sloped = jnp.any(toward != 0, axis=(1, 2, 3))
        stuck = state.stuck | ~(sloped | settled | (value == 0))
        sloped = state.sloped | sloped
        best = _better(state.best, _Best(state.images, held, margin, value))
        return _Climbing(moved, best, sloped, stuck, state.done)

    return step


def _unit(gradient: jax.Array) -> jax.Array:
    return norms.unit(jnp.where(jnp.isfinite(gradient), gradient, 0), "l2")


def _better(best: _Best, found: _Best) -> _Best:
    """Keep the better of two: first the one that holds, then the larger number."""
    higher = jnp.where(found.held, found.value > best.value, found.margin > best.margin)
    better = jnp.where(found.held == best.held, higher, found.held)

    def kept(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(better.reshape((-1, *(1,) * (new.ndim - 1))), new, old)

    return jax.tree.map(kept, found, best)


def _check_sloped(sloped: jax.Array, stuck: jax.Array) -> None:
    if split.traced(sloped, stuck) or np.any(sloped) or not np.any(stuck):
        return
    raise ValueError(
        "`explain` gives maps without a gradient at any of the images; expected maps "
        "that change smoothly: a ReLU's own gradient is constant, so pass `surrogate`, "
        "the same explainer of saliency.softened(model)."
    )


def alike(saliency: Saliency, reference: Saliency, ascent: Ascent) -> jax.Array:
    """Correlate each map with its reference, `[batch]` in [-1, 1]; 0 if one is flat.

    With `top`, the reference is the indicator of its highest pixels, see `maps.top`.
    """
    if ascent.similarity == "top":
        reference = maps.top(reference, ascent.share).astype(saliency.dtype)
    return _correlation(saliency, reference)


@functools.partial(jax.jit, inline=True)
def _correlation(first: jax.Array, second: jax.Array) -> jax.Array:
    flat = maps.is_flat(first) | maps.is_flat(second)
    one, other = (_centred(each, flat) for each in (first, second))
    product = jnp.sum(one * other, axis=1)
    sizes = jnp.sum(one**2, axis=1) * jnp.sum(other**2, axis=1)
    return jnp.where(flat, 0, product / jnp.sqrt(jnp.where(flat, 1, sizes)))


def _centred(saliency: jax.Array, flat: jax.Array) -> jax.Array:
    """Subtract the means, and divide by the largest, `[batch, pixels]`."""
    rows = saliency.reshape((len(saliency), -1))
    ramp = jnp.linspace(0, 1, rows.shape[1], dtype=rows.dtype)
    rows = jnp.where(flat[:, None], ramp[None], rows)
    rows = rows - jnp.mean(rows, axis=1, keepdims=True)
    # Squares of small maps would vanish in float32.
    return rows / jax.lax.stop_gradient(jnp.max(jnp.abs(rows), 1, keepdims=True))


class Begun(NamedTuple):
    """Hold the images as they are, and what the network shows of them.

    Attributes:
        images: In [0, 1].
        aim: Labels, and target classes if any.
        maps: Maps of the labels.
        logits: `[batch, classes]`.
    """

    images: jax.Array
    aim: losses.Aim
    maps: Saliency
    logits: Logits


Call = tuple[Variables, Images, Labels, Labels | None, RandomKey | None]
"""Variables, images, labels, target classes or None, and key or None."""


def prepare(
    model: SplitModel,
    explain: Explainer,
    ascent: Ascent,
    call: Call,
) -> Begun:
    """Check a call, and look at the images as they are.

    Args:
        model: The network.
        explain: Explainer of the maps.
        ascent: The settings.
        call: What the function of the attack was given.

    Raises:
        TypeError: As an attack.
        ValueError: As an attack; or logits or maps that are not finite numbers.
    """
    variables, images, labels, targets, key = call
    checks.check_call(model, variables, images, labels, targets, key)
    checks.check_reach(ascent.epsilon, ascent.norm, images)
    given = jnp.clip(jnp.asarray(images), 0, 1)
    goal = None if targets is None else jnp.asarray(targets)
    aim = losses.Aim(jnp.asarray(labels), goal)
    logits = split.whole(model)(variables, given)
    shown = explain(variables, given, aim.labels, key=key)
    for name, values in (("The network", logits), ("`explain`", shown)):
        _check_finite(name, values)
    return Begun(given, aim, shown, logits)


def finish(
    model: SplitModel,
    run: Climb,
    call: Call,
    begun: Begun,
    reference: Saliency,
    done: jax.Array,
) -> jax.Array:
    """Climb, and give the images; what would have been refused is NaN.

    Args:
        model: The network.
        run: See `climb`.
        call: What the function of the attack was given.
        begun: See `prepare`.
        reference: Maps to move towards or away from.
        done: Images that are left alone, `[batch]`.
    """
    variables, images, _, _, key = call
    found = run(variables, begun.images, begun.aim, reference, done, key)
    result = spec.Crafted(found, done)
    return checks.withheld(result, model, variables, images, begun.aim).images


def _check_finite(name: str, values: PyTree) -> None:
    """Refuse values of known images that are no numbers."""
    if split.traced(values):
        return
    found = np.isfinite(np.asarray(values)).reshape(len(values), -1).all(1)
    if not found.all():
        raise ValueError(
            f"{name} gives `images`[{int(np.argmin(found))}] no numbers; expected "
            "finite ones."
        )
