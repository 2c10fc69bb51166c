"""One step along the sign of the gradient."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax.attacks import losses, norms, quantisation, search
from unlir_jax.attacks.spec import Craft, Crafted, attack
from unlir_jax.core import memoize, random_keys
from unlir_jax.types import PyTree, SplitModel


@attack(
    title="FGSM",
    norms=("linf", "l2"),
    kind="budget",
    passes="1 forward + backward",
    source="Goodfellow et al., ICLR 2015",
    synonyms=("fast_gradient_sign_method", "fgm"),
)
def fgsm(
    model: SplitModel,
    *,
    norm: str = "linf",
    epsilon: float = 8 / 255,
    random_start: bool = False,
    step_size: float | None = None,
    loss: losses.Name = "cross_entropy",
    quantise: bool | int = False,
) -> Craft:
    """Step once by `epsilon` in the direction that raises the loss most.

    `x + epsilon sign(gradient)`, clipped to [0, 1]; for `l2` the unit gradient.

    Args:
        model: The network.
        norm: `linf` or `l2`.
        epsilon: Largest change, in [0, 1].
        random_start: Whether the step begins at a random point of the ball.
        step_size: Length of the step; by default `epsilon`, and with a random start
            1.25 times as much, as Wong et al. have it.
        loss: `cross_entropy`, `margin` or `dlr`.
        quantise: Number of levels of the result; True stands for 256.

    Raises:
        ValueError: A setting that makes no sense.

    References:
        Goodfellow et al., *Explaining and Harnessing Adversarial Examples*, ICLR 2015,
        Section 4. Wong et al., *Fast is Better than Free*, ICLR 2020, Section 4, for
        the random start.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import attacks, split
        >>> model = split.from_functions(  # The logits are the mean colour.
        ...     lambda variables, images: images,
        ...     lambda variables, maps: maps.mean((1, 2)),
        ... )
        >>> grey, red = jnp.full((1, 1, 1, 3), 0.5), jnp.asarray([0])
        >>> attacks.fgsm(model, epsilon=0.25)({}, grey, red).tolist()
        [[[[0.25, 0.75, 0.75]]]]
    """
    if step_size is None:
        step_size = 1.25 * epsilon if random_start else epsilon
    step = _step(model, losses.resolve(loss), norm, epsilon, step_size)

    def craft(variables, images, aim, key):
        start = images
        if random_start:
            keys = random_keys.per_image(key, images)
            start = _random(keys, images, epsilon, norm)
        state = State(start, jnp.zeros(len(images), bool), search.nothing_seen(images))
        end, made = search.iterate(
            step, state, (images, aim), variables, 1, stops=False
        )
        found = quantisation.within(end.images, images, quantise, norm, epsilon)
        return Crafted(found, made, seen=end.seen)

    return craft


class State(NamedTuple):
    """Hold the images as they are now, and whether they are finished."""

    images: jax.Array
    done: jax.Array
    seen: search.Seen


_random = jax.jit(norms.random_point, static_argnames="norm")


@memoize.remember
def _step(
    model: SplitModel, loss: losses.Loss, norm: str, epsilon: float, size: float
) -> search.Step:
    slope = search.slope(model, loss)

    def step(variables: PyTree, state: State, examples: PyTree, _: PyTree) -> State:
        originals, aim = examples
        found = slope(variables, state.images, aim)
        moved = state.images + size * norms.steepest(found.gradient, norm)
        moved = norms.project(moved, originals, epsilon, norm)
        return State(moved, state.done, found.seen(state.seen))

    return step
