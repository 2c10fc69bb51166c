"""The attack of Carlini and Wagner: distortion and loss, weighed by a constant.

How an offset changes an image is a setting, which smooth changes replace.

Carlini & Wagner, *Towards Evaluating the Robustness of Neural Networks*, S&P 2017.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax.attacks import losses, minimal, settings
from unlir_jax.attacks.minimal import Rule, View, wide
from unlir_jax.attacks.spec import Craft, attack
from unlir_jax.core import loops, memoize
from unlir_jax.types import Images, PyTree, SplitModel

DECAYS = 0.9, 0.999
"""Decays of Adam."""
INSIDE = 1 - 1e-6
"""What keeps black and white from being infinitely far away."""
HIGHEST = 1e10
"""Upper bound of the constant before any success."""
CHECKS = 10
"""How often one search looks whether it still gets anywhere."""
PROGRESS = 0.9999
"""Share of the loss at the last look below which it does."""


class Change(NamedTuple):
    """Say how an offset changes images.

    Attributes:
        begin: `(images) -> fixed`, arrays whose first axis is the batch.
        apply: `(fixed, images, offset) -> images`.
        pull: `(fixed, images, offset, gradient) -> gradient` by the offset, of that by
            the changed images.
    """

    begin: Callable[[Images], PyTree]
    apply: Callable[[PyTree, Images, jax.Array], jax.Array]
    pull: Callable[[PyTree, Images, jax.Array, jax.Array], jax.Array]


class Own(NamedTuple):
    """Hold the state of the searches, one entry an image.

    `fixed` is what `Change.begin` gave, `offset` is what changes the images, `mean` and
    `square` are Adam's moments, `before` is the loss at the last look, and `reached`
    tells of a success with this constant.
    """

    fixed: PyTree
    offset: jax.Array
    mean: jax.Array
    square: jax.Array
    constant: jax.Array
    lower: jax.Array
    upper: jax.Array
    before: jax.Array
    reached: jax.Array
    step: jax.Array
    search: jax.Array


@attack(
    title="Carlini and Wagner",
    norms=("l2",),
    kind="minimal",
    passes="at most `searches` × `steps` (1,000) × (forward + backward)",
    source="Carlini and Wagner, S&P 2017, Section VI",
    quick={"steps": 5, "searches": 2},
    synonyms=("cw", "cw_l2", "carlini_wagner_l2"),
)
def carlini_wagner(
    model: SplitModel,
    *,
    steps: int = 1000,
    searches: int = 9,
    learning_rate: float = 0.01,
    constant: float = 1e-3,
    confidence: float = 0.0,
    abort_early: bool = True,
    quantise: bool | int = False,
    loop: loops.Loop = "auto",
) -> Craft:
    """Minimise distortion and loss by Adam, for constants found by bisection.

    `|x' - x|^2 + c max(confidence - margin, 0)` falls, with `x' = (tanh(w) + 1) / 2`
    (Section VI.A). Each image has its own `c`: after a success it is lowered, and after
    a failure raised. The least distorted success of all is kept.

    Args:
        model: The network.
        steps: Steps of Adam for one constant.
        searches: Number of constants; the authors' code has 9.
        learning_rate: Step size of Adam; the authors' code has 0.01.
        constant: First constant; the authors' code has 0.001.
        confidence: Margin that a success needs, in logits.
        abort_early: Whether the search with one constant ends where its loss has not
            fallen by 0.01 % in a tenth of the steps; each image on its own.
        quantise: Number of levels of the images, True for 256, False for none.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        An attack that searches a small l2 distortion.

    Raises:
        ValueError: Fewer than one search, a learning rate or constant that is not
            positive, or a negative confidence.

    Note:
        With 10 searches or more, the authors' code takes the smallest constant of a
        success again in the last one; here the bisection continues.

    References:
        Carlini & Wagner, *Towards Evaluating the Robustness of Neural Networks*,
        S&P 2017, Section VI.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import attacks, split
        >>> model = split.from_functions(lambda _, x: x, lambda _, x: x.mean((1, 2)))
        >>> image = jnp.full((1, 4, 4, 3), 0.25).at[..., 0].set(0.75)
        >>> attack = attacks.carlini_wagner(model, steps=100, searches=5)
        >>> found = attack({}, image, jnp.asarray([0]))
        >>> bool(jnp.linalg.norm(found - image) < 1.1 * 2**0.5)
        True
    """
    rule = search_rule(
        steps, searches, learning_rate, constant, confidence, abort_early
    )
    return minimal.craft(
        *(model, rule),
        **{"steps": steps * searches, "norm": "l2", "loss": losses.margin},
        **{"quantise": quantise, "loop": loop, "confidence": confidence},
    )


def search_rule(
    steps: int,
    searches: int,
    learning_rate: float,
    constant: float,
    confidence: float,
    abort_early: bool,
    change: Change | None = None,
) -> Rule:
    """Make the rule of the searches; see `carlini_wagner` for the arguments.

    Args:
        steps: See there, as the next five.
        searches: See there.
        learning_rate: See there.
        constant: See there.
        confidence: See there.
        abort_early: See there.
        change: How an offset changes images; None for the tangent of the paper.
    """
    settings.check_least("searches", searches, 1)
    settings.check_positive("learning_rate", learning_rate)
    settings.check_positive("constant", constant)
    settings.check_least("confidence", confidence, 0)
    every = max(steps // CHECKS, 1) if abort_early else 0
    lengths = steps, searches, every
    return _rule(lengths, learning_rate, constant, confidence, change or TANGENT)


@memoize.remember
def _rule(
    lengths: tuple[int, int, int],
    learning_rate: float,
    constant: float,
    confidence: float,
    change: Change,
) -> Rule:
    steps, searches, every = lengths

    def begin(images: Images) -> Own:
        count, zeros = len(images), jnp.zeros_like(images)
        start, lower, upper = (
            jnp.full(count, value, images.dtype) for value in (constant, 0.0, HIGHEST)
        )
        infinite = jnp.full(count, jnp.inf, images.dtype)
        none = jnp.zeros(count, jnp.int32)
        reached = jnp.zeros(count, bool)
        return Own(
            *(change.begin(images), zeros, zeros, zeros, start, lower, upper),
            *(infinite, reached, none, none),
        )

    def move(own: Own, view: View) -> tuple[Own, jax.Array, jax.Array]:
        missing = jnp.maximum(confidence - view.loss, 0)
        loss = view.distance**2 + own.constant * missing
        own = own._replace(reached=own.reached | view.adversarial)
        ended = own.step == steps - 1
        if every:
            look = own.step % every == 0
            ended = ended | (look & (loss > PROGRESS * own.before))
            own = own._replace(before=jnp.where(look, loss, own.before))
        pull = wide(jnp.where(missing > 0, own.constant, 0)) * view.gradient
        slope = 2 * (view.point - view.images) - pull
        slope = change.pull(own.fixed, view.images, own.offset, slope)
        moved = _adam(own, slope, learning_rate)
        own = jax.tree.map(
            lambda new, old: jnp.where(_like(ended, new), new, old), _again(own), moved
        )
        point = change.apply(own.fixed, view.images, own.offset)
        return own, point, own.search == searches

    return Rule(begin, move)


def _like(which: jax.Array, leaf: jax.Array) -> jax.Array:
    return which.reshape((-1, *(1,) * (leaf.ndim - 1)))


def _nothing(images: Images) -> tuple[()]:
    del images
    return ()


def _inside(fixed: tuple[()], images: Images, offset: jax.Array) -> jax.Array:
    """Change images in a space whose whole is [0, 1]."""
    del fixed
    return (jnp.tanh(jnp.arctanh((2 * images - 1) * INSIDE) + offset) + 1) / 2


def _pulled(
    fixed: tuple[()], images: Images, offset: jax.Array, gradient: jax.Array
) -> jax.Array:
    image = _inside(fixed, images, offset)
    return gradient * 2 * image * (1 - image)


TANGENT = Change(_nothing, _inside, _pulled)


def _adam(own: Own, gradient: jax.Array, learning_rate: float) -> Own:
    """Take one step of Adam on the offset."""
    first, second = DECAYS
    mean = first * own.mean + (1 - first) * gradient
    square = second * own.square + (1 - second) * gradient**2
    count = (own.step + 1).astype(gradient.dtype)
    scale = jnp.sqrt(square / wide(1 - second**count)) + 1e-8
    offset = own.offset - learning_rate * mean / wide(1 - first**count) / scale
    return own._replace(offset=offset, mean=mean, square=square, step=own.step + 1)


def _again(own: Own) -> Own:
    """Begin the next search, with a constant between those that were tried."""
    upper = jnp.where(own.reached, jnp.minimum(own.upper, own.constant), own.upper)
    lower = jnp.where(own.reached, own.lower, jnp.maximum(own.lower, own.constant))
    known = upper < HIGHEST
    raised = jnp.where(own.reached, own.constant, 10 * own.constant)
    zeros = jnp.zeros_like(own.offset)
    return Own(
        *(own.fixed, zeros, zeros, zeros),
        *(jnp.where(known, (lower + upper) / 2, raised), lower, upper),
        *(jnp.full_like(own.before, jnp.inf), jnp.zeros_like(own.reached)),
        *(jnp.zeros_like(own.step), own.search + 1),
    )
