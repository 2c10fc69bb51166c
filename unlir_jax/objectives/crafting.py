"""Adversarial images of a batch, crafted inside a step of training."""

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax import attacks, split
from unlir_jax.attacks import norms
from unlir_jax.core import loops
from unlir_jax.objectives import robust_losses
from unlir_jax.objectives.objective import Apply
from unlir_jax.types import Images, Labels, Logits, PerImage, RandomKey, Variables

Norm = Literal["linf", "l2"]
Mode = Literal["evaluation", "training"]
Aim = Literal["label", "predicted"]
NEARLY = 1e-3
"""Standard deviation of the start of TRADES: at the image itself its slope is 0."""
Craft = Callable[[Variables, Images, Labels, jax.Array, RandomKey], jax.Array]
"""`(variables, images, labels, keys, key) -> images`: one key a row for what is drawn,
and the network's own."""


class Ascent(NamedTuple):
    """Hold the settings of a projected ascent.

    Attributes:
        norm: `linf` or `l2`.
        epsilon: Radius of the ball.
        steps: Number of steps.
        step_size: Length of each, in the norm.
        random_start: Whether it starts at a random point of the ball.
    """

    norm: Norm
    epsilon: float
    steps: int
    step_size: float
    random_start: bool = True


def ascend(
    loss: Callable[[Images], PerImage],
    start: jax.Array,
    images: jax.Array,
    ascent: Ascent,
) -> jax.Array:
    """Raise each row's loss by steps that are projected onto its ball and [0, 1].

    A gradient that is not finite is taken for zero, as attacks have it.

    Args:
        loss: `images -> [batch]`.
        start: Images of the first step.
        images: Centres of the balls.
        ascent: See `Ascent`.

    Returns:
        Images, constants for any derivative.
    """

    def step(point: jax.Array, _: object = None) -> tuple[jax.Array, None]:
        slope = jax.grad(lambda images: jnp.sum(loss(images)))(point)
        slope = jnp.where(jnp.isfinite(slope), slope, 0).astype(point.dtype)
        moved = point + ascent.step_size * norms.steepest(slope, ascent.norm)
        return norms.project(moved, images, ascent.epsilon, ascent.norm), None

    point = jax.lax.stop_gradient(start)
    # XLA runs convolutions inside a loop slowly on CPU, so there is no loop there.
    if loops.place("auto") == "host":
        for _ in range(ascent.steps):
            point, _ = step(point)
    else:
        point, _ = jax.lax.scan(step, point, None, length=ascent.steps)
    return jax.lax.stop_gradient(point)


def climbing(apply: Apply, ascent: Ascent, mode: Mode, aim: Aim) -> Craft:
    """Make a function that raises the cross-entropy of the label.

    Args:
        apply: The network.
        ascent: See `Ascent`.
        mode: Mode of the norms and of dropout.
        aim: Class whose cross-entropy is raised: the `label`, or the one `predicted`
            for the image itself, which leaks nothing of the label.
    """

    def craft(
        variables: Variables,
        images: Images,
        labels: Labels,
        keys: jax.Array,
        key: RandomKey,
    ) -> jax.Array:
        run, images = _frozen(apply, mode, variables, key), jnp.asarray(images)
        classes = jnp.asarray(labels)
        if aim == "predicted":
            classes = jnp.argmax(run(images), axis=-1)
        start = images
        if ascent.random_start:
            start = norms.random_point(keys, images, ascent.epsilon, ascent.norm)
        goal = attacks.losses.Aim(classes)
        # Of the cross-entropy's direction, but it does not vanish in rounding.
        raised = attacks.losses.log_odds
        return ascend(lambda x: raised(_wide(run(x)), goal), start, images, ascent)

    return craft


def diverging(apply: Apply, ascent: Ascent, mode: Mode) -> Craft:
    """Make a function that raises KL(p(x), p(x')), which knows no label."""

    def craft(
        variables: Variables,
        images: Images,
        labels: Labels,
        keys: jax.Array,
        key: RandomKey,
    ) -> jax.Array:
        del labels
        run, images = _frozen(apply, mode, variables, key), jnp.asarray(images)
        clean = _wide(run(images))
        draw = functools.partial(
            jax.random.normal, shape=images.shape[1:], dtype=images.dtype
        )
        start = images + NEARLY * jax.vmap(draw)(keys)
        start = norms.project(start, images, ascent.epsilon, ascent.norm)

        def apart(points: Images) -> PerImage:
            return robust_losses.divergence(clean, _wide(run(points)))

        return ascend(apart, start, images, ascent)

    return craft


def nearest(
    apply: Apply,
    name: str,
    steps: int,
    epsilon: float,
    mode: Mode,
    aim: Aim,
    **settings: float,
) -> Craft:
    """Make a function that seeks the least change, and shrinks it to `epsilon` in l2.

    Args:
        apply: The network.
        name: `ddn` or `boundary_projection`, of `unlir_jax.attacks`.
        steps: Number of gradients.
        epsilon: Largest l2 norm; a smaller change stays as it is.
        mode: See `climbing`.
        aim: See `climbing`.
        **settings: Further settings of the attack.
    """

    def logits(known: tuple[Variables, RandomKey], images: Images) -> Logits:
        variables, key = known
        return _wide(_frozen(apply, mode, variables, key)(images))

    model = split.from_functions(lambda known, images: images, logits)
    attack = attacks.ATTACKS[name](model, steps=steps, quantise=False, **settings)

    def craft(
        variables: Variables,
        images: Images,
        labels: Labels,
        keys: jax.Array,
        key: RandomKey,
    ) -> jax.Array:
        del keys
        known, given = (jax.lax.stop_gradient(variables), key), jnp.asarray(images)
        classes = jnp.asarray(labels)
        if aim == "predicted":
            classes = jnp.argmax(logits(known, given), axis=-1)
        found = attack.craft(known, given, attacks.losses.Aim(classes), None)
        shrunk = norms.project(found.images, given, epsilon, "l2")
        return jax.lax.stop_gradient(shrunk)

    return craft


def _frozen(
    apply: Apply, mode: Mode, variables: Variables, key: RandomKey
) -> Callable[[Images], Logits]:
    """Give the network in one mode, its variables constants and its norms unmoved."""
    known = jax.lax.stop_gradient(variables)
    if mode == "training":
        return lambda images: apply.train(known, images, key)[0]
    return lambda images: apply.evaluate(known, images)


def _wide(logits: Logits) -> jax.Array:
    return jnp.asarray(logits, jnp.promote_types(logits.dtype, jnp.float32))
