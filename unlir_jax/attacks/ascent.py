"""Projected gradient ascent, which BIM, MI-FGSM, PGD and smooth ones are cases of."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax.attacks import losses, norms, quantisation, restarts, search, smoothing
from unlir_jax.attacks.smoothing import Smoothing
from unlir_jax.attacks.spec import Craft
from unlir_jax.core import memoize
from unlir_jax.types import PyTree, SplitModel

L1_SHARE = 0.01
"""Share of the entries that a step in the l1 norm changes, as SLIDE has it."""


class Climb(NamedTuple):
    """Hold the settings of an ascent.

    Attributes:
        norm: `linf`, `l2` or `l1`.
        epsilon: Radius of the ball.
        steps: Number of them, for each start.
        step_size: Length of each step, in the norm.
        decay: Share of the momentum that is kept; None for no momentum.
        random_start: Whether it begins at a random point of the ball.
        restarts: Number of starts.
        stop_early: Whether an image is finished once it deceives the network.
        quantise: Number of levels; True stands for 256.
        smoothing: How the starts and the steps are smoothed; None for not at all.
    """

    norm: str
    epsilon: float
    steps: int
    step_size: float
    decay: float | None = None
    random_start: bool = False
    restarts: int = 1
    stop_early: bool = False
    quantise: bool | int = False
    smoothing: Smoothing | None = None


class Climbing(NamedTuple):
    """Hold the images as they are now, and what a step has to know.

    Attributes:
        images: Within the ball.
        momentum: As large as the images, or `[batch]` where there is none.
        done: `[batch]`.
        seen: What the network has shown.
    """

    images: jax.Array
    momentum: jax.Array
    done: jax.Array
    seen: search.Seen


def climb(model: SplitModel, loss: losses.Loss, settings: Climb) -> Craft:
    """Make the function of an attack that raises a loss within a ball."""
    norm, epsilon, way = settings.norm, settings.epsilon, settings.smoothing
    step = _step(model, loss, settings._replace(steps=0, restarts=0))

    def run(variables, images, aim, start, done, seen):
        plain = settings.decay is None
        momentum = jnp.zeros(len(images)) if plain else jnp.zeros_like(images)
        graph = () if way is None else _graph(images, way)
        if way is not None and settings.random_start:
            start = _smoothed_start(images, start, graph, way, epsilon, norm)
        state, made = search.iterate(
            step,
            Climbing(start, momentum, done, seen),
            (images, aim, graph),
            variables,
            settings.steps,
            stops=settings.stop_early,
        )
        found = quantisation.within(
            state.images, images, settings.quantise, norm, epsilon
        )
        return found, made, state.seen

    return restarts.repeated(
        model,
        loss,
        run,
        restarts=settings.restarts,
        random_start=settings.random_start,
        norm=norm,
        epsilon=epsilon,
    )


_graph = jax.jit(smoothing.graph, static_argnames="smoothing")


@functools.partial(jax.jit, static_argnames=("way", "norm"))
def _smoothed_start(
    images: jax.Array,
    start: jax.Array,
    graph: smoothing.Graph,
    way: Smoothing,
    epsilon: PyTree,
    norm: str,
) -> jax.Array:
    """Smooth the change of a random start, and keep it in the ball."""
    change = smoothing.smooth(start - images, graph, way)
    return norms.project(images + change, images, epsilon, norm)


@memoize.remember
def _step(model: SplitModel, loss: losses.Loss, settings: Climb) -> search.Step:
    """Make one step of the ascent."""
    slope = search.slope(model, loss)
    norm, epsilon, quantise = settings.norm, settings.epsilon, settings.quantise

    def step(variables: PyTree, state: Climbing, examples: PyTree, _: PyTree):
        originals, aim, graph = examples
        shown = quantisation.within(state.images, originals, quantise, norm, epsilon)
        found = slope(variables, shown, aim)
        direction, momentum = found.gradient, state.momentum
        if settings.decay is not None:
            momentum = settings.decay * momentum + norms.unit(direction, "l1")
            direction = momentum
        if settings.smoothing is not None:
            direction = smoothing.smooth(direction, graph, settings.smoothing)
        uphill = norms.steepest(direction, norm, state.images, L1_SHARE)
        moved = state.images + settings.step_size * uphill
        moved = norms.project(moved, originals, epsilon, norm)
        done = state.done
        if settings.stop_early:
            done = losses.succeeded(found.logits, aim)
            moved = jnp.where(done[:, None, None, None], state.images, moved)
        return Climbing(moved, momentum, done, found.seen(state.seen))

    return step
