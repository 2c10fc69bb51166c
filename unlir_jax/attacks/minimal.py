"""Search of the adversarial image that is least distorted, each image on its own.

Attacks without a budget differ in how they move and share the rest: one pass forward
and backward a step, the least distorted success so far, and the end.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax.attacks import losses, norms, search
from unlir_jax.attacks.checks import levels_of
from unlir_jax.attacks.losses import Aim
from unlir_jax.attacks.search import Seen
from unlir_jax.attacks.spec import Craft, Crafted
from unlir_jax.core import loops, memoize, random_keys
from unlir_jax.types import Array, Images, Logits, PyTree, SplitModel

Norm = Literal["l2", "linf", "l1", "l0"]
SURE = 1e-5
"""Share of the largest logit by which an image must be wrong.

Nearer to the boundary, a batch of another size or another processor decides otherwise.
"""
AXES = (1, 2, 3)


class View(NamedTuple):
    """Hold what a step knows of each image.

    Attributes:
        images: Images to change, `[batch, height, width, channels]`.
        point: What the network has seen, of the same shape.
        gradient: Gradient there of the loss, which success needs high.
        direction: The gradient with an l2 norm of 1. Where it is zero, a random one.
        loss: `[batch]`.
        adversarial: Whether `point` is a success, `[batch]`.
        distance: Norm of `point - images`, `[batch]`.
        smallest: Distance of the best success so far, infinity without one, `[batch]`.
        number: Number of the step from 0, `[batch]`.
        steps: How many there are, `[batch]`.
    """

    images: jax.Array
    point: jax.Array
    gradient: jax.Array
    direction: jax.Array
    loss: jax.Array
    adversarial: jax.Array
    distance: jax.Array
    smallest: jax.Array
    number: jax.Array
    steps: jax.Array


class Rule(NamedTuple):
    """Say how an attack moves.

    Attributes:
        begin: `(images) -> own`, arrays whose first axis is the batch.
        move: `(own, view) -> (own, point, done)`.
    """

    begin: Callable[[Images], PyTree]
    move: Callable[[PyTree, View], tuple[PyTree, jax.Array, jax.Array | bool]]


class State(NamedTuple):
    """Hold what changes from step to step, one entry an image."""

    point: jax.Array
    own: PyTree
    best: jax.Array
    smallest: jax.Array
    seen: Seen
    done: jax.Array


class Example(NamedTuple):
    """Hold what stays the same, one entry an image."""

    images: jax.Array
    aim: Aim
    key: jax.Array
    steps: jax.Array


def craft(
    model: SplitModel,
    rule: Rule,
    *,
    steps: int,
    norm: Norm,
    loss: losses.Loss = losses.margin,
    quantise: bool | int = False,
    confidence: float = 0.0,
    loop: loops.Loop = "auto",
) -> Craft:
    """Make an attack of a rule.

    The first of the `steps` points is the image itself: an image that the network gets
    wrong is its own adversarial image. The least distorted success is returned, and
    without one the point behind the last step.

    Args:
        model: The network.
        rule: How to move. The same object each time, or JAX compiles anew.
        steps: Number of gradients for each image.
        norm: What is to be small.
        loss: See `View`.
        quantise: Levels to which each point is rounded before the network sees it, see
            `checks.levels_of`.
        confidence: Margin that a success needs.
        loop: `auto`, `host` or `device`; see `loops.place`.
    """
    step = compile_step(model, rule, norm, loss, levels_of(quantise), confidence)

    def run(variables, images, aim, key):
        state, example = _start(rule, steps, images, aim, key)
        state, made = search.iterate(step, state, example, variables, steps, loop=loop)
        return Crafted(_result(state), made, seen=state.seen)

    return run


def _start(
    rule: Rule, steps: int, images: jax.Array, aim: Aim, key: jax.Array | None
) -> tuple[State, Example]:
    count = len(images)
    # Drawn from the image itself: only where there is no gradient it is looked at.
    keys = random_keys.per_image(jax.random.key(0) if key is None else key, images)
    example = Example(
        images, aim, jax.random.key_data(keys), jnp.full(count, steps, jnp.int32)
    )
    infinite = jnp.full(count, jnp.inf, images.dtype)
    no = jnp.zeros(count, bool)
    seen = search.nothing_seen(images)
    return State(images, rule.begin(images), images, infinite, seen, no), example


@jax.jit
def _result(state: State) -> jax.Array:
    return jnp.where(wide(state.smallest < jnp.inf), state.best, state.point)


@memoize.remember
def compile_step(
    model: SplitModel,
    rule: Rule,
    norm: Norm,
    loss: losses.Loss,
    levels: int,
    confidence: float,
) -> search.Step:
    """Make the step that `search.iterate` takes."""
    slope = search.slope(model, loss)

    def step(variables, state, example, numbers):
        images = example.images
        found = slope(variables, state.point, example.aim)
        distance = norms.length(state.point - images, norm)
        adversarial = succeeded(found.logits, example.aim, confidence)
        better = adversarial & (distance < state.smallest)
        best = jnp.where(wide(better), state.point, state.best)
        smallest = jnp.where(better, distance, state.smallest)
        view = View(
            *(images, state.point, found.gradient),
            _direction(found.gradient, example.key, numbers),
            *(found.loss, adversarial, distance, smallest, numbers, example.steps),
        )
        own, point, done = rule.move(state.own, view)
        point = quantised(jnp.clip(point, 0, 1), levels)
        # Nothing is nearer to the image than itself.
        done = done | (smallest == 0)
        return State(point, own, best, smallest, found.seen(state.seen), done)

    return step


def succeeded(logits: Logits, aim: Aim, confidence: float = 0.0) -> jax.Array:
    """Tell which images are adversarial by more than rounding, see `SURE`."""
    bar = jnp.maximum(SURE * jnp.max(jnp.abs(logits), axis=1), confidence)
    return losses.succeeded(logits, aim) & (losses.margin(logits, aim) > bar)


def _direction(
    gradient: jax.Array, key_data: jax.Array, numbers: jax.Array
) -> jax.Array:
    """Scale each gradient to a norm of 1, or draw a direction where it is zero."""
    zero = norms.length(gradient, "linf") == 0

    def draw(gradient: jax.Array) -> jax.Array:
        def one(data: jax.Array, number: jax.Array) -> jax.Array:
            key = jax.random.fold_in(jax.random.wrap_key_data(data), number)
            return jax.random.normal(key, gradient.shape[1:], gradient.dtype)

        drawn = jax.vmap(one)(key_data, numbers)
        return jnp.where(wide(zero), drawn, gradient)

    some = jax.lax.cond(jnp.any(zero), draw, lambda gradient: gradient, gradient)
    return norms.unit(some, "l2")


def dot(one: jax.Array, other: jax.Array) -> jax.Array:
    """Give the inner product of two changes of each image."""
    return jnp.sum(one * other, axis=AXES)


def wide(values: Array) -> jax.Array:
    """Give values of each image the axes of images."""
    return jnp.asarray(values)[:, None, None, None]


def quantised(images: jax.Array, levels: int) -> jax.Array:
    """Round to the nearest of `levels` levels from 0 to 1; 0 stands for no rounding.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax.attacks import minimal
        >>> minimal.quantised(jnp.asarray([0.3, 0.6]), 3).tolist()
        [0.5, 0.5]
    """
    return jnp.round(images * (levels - 1)) / (levels - 1) if levels else images


def annealed(view: View, first: float, last: float) -> jax.Array:
    """Lower a value from `first` towards `last` along half a cosine.

    `last + (first - last) (1 + cos(pi i / n)) / 2` at step `i` of `n`.
    """
    share = view.number.astype(view.point.dtype) / view.steps
    return last + (first - last) * (1 + jnp.cos(jnp.pi * share)) / 2
