"""Projected gradient descent that chooses its own step sizes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.attacks import losses, norms, quantisation, search
from unlir_jax.attacks.restarts import repeated
from unlir_jax.attacks.spec import Craft, attack
from unlir_jax.core import memoize
from unlir_jax.types import PyTree, SplitModel

MOMENTUM = 0.75
RISING = 0.75
"""Share of steps that have to raise the loss, or steps are halved."""


@attack(
    title="APGD",
    norms=("linf", "l2"),
    kind="budget",
    passes="`restarts` × `steps` (100) × (forward + backward)",
    source="Croce & Hein, ICML 2020",
    quick={"steps": 3},
    synonyms=("auto_pgd", "apgd_ce"),
    random=True,
)
def apgd(
    model: SplitModel,
    *,
    norm: str = "linf",
    epsilon: float = 8 / 255,
    steps: int = 100,
    random_start: bool = True,
    restarts: int = 1,
    loss: losses.Name = "cross_entropy",
    stop_early: bool = True,
    quantise: bool | int = False,
) -> Craft:
    """Raise the loss with momentum, halve the steps where they no longer help.

    Steps begin with `2 epsilon`. At checkpoints, which lie 22 % of all steps apart at
    first and 6 % at last, steps are halved where fewer than 75 % of them raised the
    loss, or where neither steps nor the best loss have changed since the checkpoint
    before. The search continues from the best point then (Algorithm 1).

    Args:
        model: The network.
        norm: `linf` or `l2`.
        epsilon: Largest change: in [0, 1] for `linf`, a distance over all pixels and
            channels for `l2`.
        steps: Number of steps of each start; each is one pass, and the last is not
            followed.
        random_start: Whether it starts at a random point of the ball, uniformly drawn.
        restarts: Number of starts. An image keeps the first that deceives the network,
            else that with the highest loss; with several, each is judged by a pass
            forward.
        loss: `cross_entropy`, `margin`, or `dlr`, whose targeted form is used with
            targets.
        stop_early: Whether an image stays as it is once it deceives the network.
        quantise: Number of levels of the result; True stands for 256. The network is
            then looked at through the rounding.

    Raises:
        ValueError: A setting that makes no sense, or several starts that do not differ.

    References:
        Croce & Hein, *Reliable Evaluation of Adversarial Robustness with an Ensemble of
        Diverse Parameter-free Attacks*, ICML 2020, Section 3.

    Note:
        As in the authors' code, steps are also halved where exactly 75 % of them raised
        the loss, and whole numbers of steps are rounded down. Without `stop_early` an
        image that deceives goes before one with a higher loss that does not.
    """
    return climb(
        *(model, losses.resolve(loss), norm, epsilon),
        **{"steps": steps, "random_start": random_start, "restarts": restarts},
        **{"stop_early": stop_early, "quantise": quantise},
    )


def climb(
    model: SplitModel,
    raised: losses.Loss,
    norm: str,
    epsilon: float,
    *,
    steps: int,
    random_start: bool = True,
    restarts: int = 1,
    stop_early: bool = True,
    quantise: bool | int = False,
    success: losses.Success = losses.succeeded,
) -> Craft:
    """Make the function of APGD for any loss; `success` judges each point of a start.

    `apgd` explains the other arguments.
    """
    chosen = steps, stop_early, quantise, success
    step = _step(model, raised, norm, epsilon, *chosen)

    def run(variables, images, aim, start, done, seen):
        state = _begin(start, done, seen, epsilon)
        given = images, aim
        end, made = search.iterate(
            step, state, given, variables, steps, stops=stop_early
        )
        found = quantisation.within(end.kept, images, quantise, norm, epsilon)
        return found, made, end.seen

    return repeated(
        model,
        raised,
        run,
        restarts=restarts,
        random_start=random_start,
        norm=norm,
        epsilon=epsilon,
    )


class State(NamedTuple):
    """Hold what APGD knows of each image.

    Attributes:
        images: The point to look at next.
        previous: The point before it.
        best: The point with the highest loss.
        uphill: Gradient there.
        highest: Highest loss, `[batch]`.
        latest: Loss of the last point, `[batch]`.
        kept: The point to return: one that deceives, else the best.
        kept_success: Whether it deceives, `[batch]`.
        kept_loss: Its loss, `[batch]`.
        size: Length of a step, `[batch]`.
        rises: Steps that raised the loss since the last checkpoint, `[batch]`.
        checked: Highest loss at the last checkpoint, `[batch]`.
        halved: Whether steps were halved there, `[batch]`.
        done: `[batch]`.
        seen: What the network has shown.
    """

    images: jax.Array
    previous: jax.Array
    best: jax.Array
    uphill: jax.Array
    highest: jax.Array
    latest: jax.Array
    kept: jax.Array
    kept_success: jax.Array
    kept_loss: jax.Array
    size: jax.Array
    rises: jax.Array
    checked: jax.Array
    halved: jax.Array
    done: jax.Array
    seen: search.Seen


@jax.jit
def _begin(start: jax.Array, done: jax.Array, seen: search.Seen, epsilon: PyTree):
    count = len(start)
    lowest = jnp.full(count, -jnp.inf, start.dtype)
    no = jnp.zeros(count, bool)
    return State(
        *(start, start, start, jnp.zeros_like(start), lowest, lowest),
        *(start, no, lowest, jnp.full(count, 2 * epsilon, start.dtype)),
        *(jnp.zeros(count, jnp.int32), lowest, ~no, done, seen),
    )


def intervals(steps: int) -> np.ndarray:
    """Give for each step the number of steps since the last checkpoint, 0 between.

    Example:
        >>> from unlir_jax.attacks.apgd import intervals
        >>> found = intervals(100)
        >>> [int(each) for each in found[found > 0]]
        [22, 19, 16, 13, 10, 7, 6, 6]
    """
    found = np.zeros(steps, np.int32)
    interval, least, less = (max(int(s * steps), 1) for s in (0.22, 0.06, 0.03))
    place = interval
    while place < steps:
        found[place] = interval
        interval = max(interval - less, least)
        place += interval
    return found


@memoize.remember
def _step(
    model: SplitModel,
    loss: losses.Loss,
    norm: str,
    epsilon: float,
    steps: int,
    stop_early: bool,
    quantise: bool | int,
    success: losses.Success,
) -> search.Step:
    slope = search.slope(model, loss)
    checkpoints = intervals(steps)

    def project(images: jax.Array, originals: jax.Array) -> jax.Array:
        return norms.project(images, originals, epsilon, norm)

    def step(variables: PyTree, state: State, examples: PyTree, numbers: PyTree):
        originals, aim = examples
        shown = quantisation.within(state.images, originals, quantise, norm, epsilon)
        found = slope(variables, shown, aim)
        rises = state.rises + ((found.loss > state.latest) & (numbers > 0))
        state = _ranked(state._replace(rises=rises), found, success(found.logits, aim))
        interval = jnp.asarray(checkpoints)[numbers]
        state, gradient, origin = _checked(state, found.gradient, interval)
        # One step of plain ascent, and from the second on three quarters of it.
        uphill = norms.steepest(gradient, norm)
        target = project(origin + _wide(state.size) * uphill, originals)
        share = _wide(jnp.where(numbers > 0, MOMENTUM, 1).astype(origin.dtype))
        inertia = origin - state.previous
        moved = origin + share * (target - origin) + (1 - share) * inertia
        done = state.kept_success if stop_early else state.done
        return state._replace(
            images=project(moved, originals),
            previous=origin,
            latest=found.loss,
            done=done,
            seen=found.seen(state.seen),
        )

    return step


def _wide(values: jax.Array) -> jax.Array:
    return values[:, None, None, None]


def _ranked(state: State, found: search.Slope, success: jax.Array) -> State:
    """Remember the point of this pass where it is the best."""
    higher = found.loss > state.highest
    better = (success & ~state.kept_success) | (
        (success == state.kept_success) & (found.loss > state.kept_loss)
    )
    return state._replace(
        best=jnp.where(_wide(higher), state.images, state.best),
        uphill=jnp.where(_wide(higher), found.gradient, state.uphill),
        highest=jnp.where(higher, found.loss, state.highest),
        kept=jnp.where(_wide(better), state.images, state.kept),
        kept_success=state.kept_success | success,
        kept_loss=jnp.where(better, found.loss, state.kept_loss),
    )


def _checked(
    state: State, gradient: jax.Array, interval: jax.Array
) -> tuple[State, jax.Array, jax.Array]:
    """Halve steps at checkpoints; give the gradient to follow, and from where."""
    due = interval > 0
    few = state.rises <= RISING * interval.astype(state.size.dtype)
    stuck = ~state.halved & (state.checked >= state.highest)
    halve = due & (few | stuck)
    gradient = jnp.where(_wide(halve), state.uphill, gradient)
    origin = jnp.where(_wide(halve), state.best, state.images)
    state = state._replace(
        size=jnp.where(halve, state.size / 2, state.size),
        rises=jnp.where(due, 0, state.rises),
        checked=jnp.where(due, state.highest, state.checked),
        halved=jnp.where(due, halve, state.halved),
    )
    return state, gradient, origin
