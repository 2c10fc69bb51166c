"""FAB: projections onto the linearised boundary, drawn towards the image.

Croce & Hein, *Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary
Attack*, ICML 2020, arXiv 1907.02044.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax import split
from unlir_jax.attacks import (
    checks,
    halfspace,
    minimal,
    norms,
    quantisation,
    search,
    settings,
)
from unlir_jax.attacks.deepfool import linearised
from unlir_jax.attacks.losses import Aim
from unlir_jax.attacks.minimal import wide
from unlir_jax.attacks.search import Seen, Slope
from unlir_jax.attacks.spec import Craft, Crafted, attack
from unlir_jax.core import loops, memoize, random_keys
from unlir_jax.types import PyTree, SplitModel

RADIUS = {"linf": 0.3, "l2": 1.0}
"""What bounds the random starts, as in AutoAttack."""
LEAST = 1e-8
"""Least length of a step in the weights of two steps."""


class State(NamedTuple):
    """Hold what changes from step to step, one entry an image.

    Attributes:
        point: Where the network is linearised next.
        best: The least distorted success so far.
        smallest: Its distance, infinity without one.
        last: The point behind the last step, which is returned without a success.
        seen: What the network has shown.
        done: `[batch]`.
    """

    point: jax.Array
    best: jax.Array
    smallest: jax.Array
    last: jax.Array
    seen: Seen
    done: jax.Array


class Example(NamedTuple):
    """Hold what stays: images, aim, and classes to reach, `[batch, rivals]`."""

    images: jax.Array
    aim: Aim
    rivals: jax.Array


class Rules(NamedTuple):
    """Hold the settings of a step."""

    norm: str
    alpha: float
    overshoot: float
    backward: float
    levels: int
    enough: float


@attack(
    title="FAB",
    norms=("linf", "l2"),
    kind="minimal",
    passes="`restarts` × `steps` (100) × (forward + backward)",
    source="Croce & Hein, ICML 2020",
    quick={"steps": 4},
    synonyms=("fast_adaptive_boundary",),
)
def fab(
    model: SplitModel,
    *,
    norm: str = "linf",
    steps: int = 100,
    targeted: bool = False,
    rivals: int | None = None,
    restarts: int = 1,
    radius: float | None = None,
    alpha: float = 0.1,
    overshoot: float = 1.05,
    backward: float = 0.9,
    quantise: bool | int = False,
    loop: loops.Loop = "auto",
) -> Craft:
    """Project onto the nearest linearised boundary inside [0, 1], again and again.

    A step projects the point and the image onto that boundary, goes further by
    `overshoot`, and takes a mean of both whose weights follow the two distances
    (Eq. 10 to 12). Behind a success, the point moves back towards the image (Eq. 13).

    Args:
        model: The network.
        norm: `linf` or `l2`.
        steps: Number of steps of each start.
        targeted: Whether rivals take turns, each with starts of its own (FAB-T). It
            takes one gradient a step, and wins by any error all the same.
        rivals: Number of classes whose boundaries count, the highest of the image
            itself; by default all, or 9 in turn. A step takes a gradient for each.
        restarts: Number of starts; those behind the first are random.
        radius: Largest distance of random starts, twice over; by default 0.3 for `linf`
            and 1 for `l2`.
        alpha: Largest weight of the image's projection; the paper's 0.1.
        overshoot: Factor by which a projection goes further; the paper's 1.05.
        backward: Share of the change that is kept behind a success; the paper's 0.9.
        quantise: Number of levels of the images, True for 256, False for none.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        An attack that searches a small distortion. Each step takes one pass forward
        more, which tells whether it has succeeded.

    Raises:
        ValueError: A setting that makes no sense.

    References:
        Croce & Hein, *Minimally Distorted Adversarial Examples with a Fast Adaptive
        Boundary Attack*, ICML 2020, Algorithm 1; *Reliable Evaluation of Adversarial
        Robustness with an Ensemble of Diverse Parameter-free Attacks*, ICML 2020,
        Section 5, for FAB-T.

    Note:
        The paper's final search on the segment to the image is left out, as in the
        authors' later code. With `targets`, the boundary between the target and the
        highest other class counts alone, as in `deepfool`. The paper has no targets;
        one that is not among the next classes is often missed. With `quantise`, the
        search itself does not round. For `linf` what it finds is rounded away from the
        image, for `l2` to the nearest level, which often undoes small changes.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import attacks, split
        >>> model = split.from_functions(lambda _, x: x, lambda _, x: x.mean((1, 2)))
        >>> image = jnp.full((1, 4, 4, 3), 0.25).at[..., 0].set(0.75)
        >>> found = attacks.fab(model)({}, image, jnp.asarray([0]))
        >>> bool(jnp.abs(found - image).max() < 0.252)  # At 0.25 two logits are equal.
        True
    """
    return search_boundary(
        *(model, norm),
        **{"steps": steps, "targeted": targeted, "rivals": rivals},
        **{"restarts": restarts, "radius": radius, "alpha": alpha},
        **{"overshoot": overshoot, "backward": backward},
        **{"quantise": quantise, "loop": loop},
    )


def search_boundary(
    model: SplitModel,
    norm: str,
    *,
    steps: int,
    targeted: bool,
    rivals: int | None,
    restarts: int,
    radius: float | None,
    alpha: float,
    overshoot: float,
    backward: float,
    quantise: bool | int,
    loop: loops.Loop,
    enough: float = 0.0,
) -> Craft:
    """Make the function of FAB; an image with a distance of `enough` is finished.

    `fab` explains the other arguments, and has their defaults.
    """
    settings.check_share("alpha", alpha)
    settings.check_share("backward", backward)
    settings.check_least("overshoot", overshoot, 1)
    settings.check_least("rivals", 1 if rivals is None else rivals, 1)
    reach = RADIUS[norm] if radius is None else radius
    settings.check_positive("radius", reach)
    levels = checks.levels_of(quantise)
    rules = Rules(norm, alpha, overshoot, backward, levels, enough)
    step, choose = _step(model, rules), _chooser(model)

    def run(variables, images, aim, key):
        classes = jax.eval_shape(split.whole(model), variables, images).shape[1]
        most = 9 if targeted and rivals is None else rivals
        count = 1 if aim.targets is not None else min(most or classes, classes - 1)
        every = choose(variables, images, aim, count)
        turns = [every[:, [i]] for i in range(count)] if targeted else [every]
        keys = random_keys.per_image(jax.random.key(0) if key is None else key, images)
        state, total = _begin(images), jnp.zeros(len(images), jnp.int32)
        for number in range(len(turns) * restarts):
            turn, start = turns[number // restarts], number % restarts
            point = images
            if start:
                point = _drawn(keys, number, images, state.smallest, reach, norm)
            state = state._replace(point=point, last=point)
            example = Example(images, aim, turn)
            state, made = search.iterate(
                step, state, example, variables, steps, loop=loop
            )
            total = total + made
        gradients = total * turns[0].shape[1]
        # One pass more chose the rivals.
        forwards = total + (aim.targets is None)
        return Crafted(_result(state), gradients, forwards, state.seen)

    return run


@jax.jit
def _begin(images: jax.Array) -> State:
    infinite = jnp.full(len(images), jnp.inf, images.dtype)
    no = jnp.zeros(len(images), bool)
    seen = search.nothing_seen(images)
    return State(images, images, infinite, images, seen, no)


@jax.jit
def _result(state: State) -> jax.Array:
    return jnp.where(wide(state.smallest < jnp.inf), state.best, state.last)


@memoize.remember
def _chooser(model: SplitModel) -> PyTree:
    """Make `(variables, images, aim, count) -> [batch, count]`, one pass forward."""
    network = jax.jit(split.whole(model))

    def choose(variables, images, aim, count):
        if aim.targets is not None:
            return jnp.asarray(aim.targets, jnp.int32)[:, None]
        return highest_others(network(variables, images), aim.labels, count)

    return choose


def highest_others(logits: PyTree, labels: PyTree, count: int) -> jax.Array:
    """Give the classes with the highest logits but for the label, `[batch, count]`."""
    own = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    others = jnp.where(own, -jnp.inf, logits)
    return jax.lax.top_k(others, count)[1].astype(jnp.int32)


def _drawn(
    keys: jax.Array,
    number: int,
    images: jax.Array,
    smallest: jax.Array,
    radius: float,
    norm: str,
) -> jax.Array:
    """Draw a start on a sphere of half the radius, or of half the best distance."""

    def draw(key: jax.Array) -> jax.Array:
        key = jax.random.fold_in(key, number)
        shape, kind = images.shape[1:], images.dtype
        if norm == "linf":
            return jax.random.uniform(key, shape, kind, -1, 1)
        return jax.random.normal(key, shape, kind)

    direction = norms.unit(jax.vmap(draw)(keys), norm)
    length = jnp.minimum(smallest, radius) / 2
    return jnp.clip(images + wide(length) * direction, 0, 1)


@memoize.remember
def _step(model: SplitModel, rules: Rules) -> search.Step:
    network = split.whole(model)

    def step(variables, state, example, numbers):
        del numbers
        images, aim = example.images, example.aim
        logits, pull = jax.vjp(lambda point: network(variables, point), state.point)
        own = aim.labels
        if aim.targets is not None:
            own = highest_others(logits, aim.targets, 1)[:, 0]
        gaps, slopes = linearised(logits, pull, example.rivals, own)
        moved = _moved(state.point, images, gaps, slopes, rules)
        shown = _rounded(moved, images, rules)
        reached = minimal.succeeded(network(variables, shown), aim)
        distance = norms.length(shown - images, rules.norm)
        better = reached & (distance < state.smallest)
        best = jnp.where(wide(better), shown, state.best)
        smallest = jnp.where(better, distance, state.smallest)
        # An image that is wrong already is its own adversarial image.
        already = jnp.all(state.point == images, (1, 2, 3))
        already = already & minimal.succeeded(logits, aim)
        best = jnp.where(wide(already), images, best)
        smallest = jnp.where(already, 0, smallest)
        back = images + rules.backward * (moved - images)
        point = jnp.where(wide(reached), back, moved)
        seen = Slope(slopes[:, 0], gaps[:, 0], logits).seen(state.seen)
        done = smallest <= rules.enough
        return State(point, best, smallest, shown, seen, done)

    return step


def _rounded(moved: jax.Array, images: jax.Array, rules: Rules) -> jax.Array:
    """Round to levels; for `linf` away from the image, so that no step is undone."""
    if not rules.levels or rules.norm != "linf":
        return minimal.quantised(moved, rules.levels)
    most = rules.levels - 1
    # What is a level but for rounding stays one.
    exact, least = moved * most, quantisation.TOLERANCE
    up, down = jnp.ceil(exact - least) / most, jnp.floor(exact + least) / most
    same = minimal.quantised(moved, rules.levels)
    return jnp.where(moved > images, up, jnp.where(moved < images, down, same))


def _moved(
    point: jax.Array,
    images: jax.Array,
    gaps: jax.Array,
    slopes: jax.Array,
    rules: Rules,
) -> jax.Array:
    """Take one step of Algorithm 1.

    Args:
        point: Where the network was linearised.
        images: Where the search began.
        gaps: What each rival's logit lacks there, `[batch, rivals]`.
        slopes: Gradients of that with a minus sign, `[batch, rivals, height, width,
            channels]`.
        rules: See `Rules`.
    """
    axes = (2, 3, 4)
    if rules.norm == "l2":
        sizes = jnp.sqrt(jnp.sum(slopes**2, axis=axes))
    else:
        sizes = jnp.sum(jnp.abs(slopes), axis=axes)
    nearest = jnp.argmin(jnp.abs(gaps) / (sizes + 1e-12), axis=1)[:, None]
    gap = jnp.take_along_axis(gaps, nearest, axis=1)[:, 0]
    slope = jnp.take_along_axis(slopes, nearest[:, :, None, None, None], axis=1)[:, 0]
    own = halfspace.nearest(point, slope, gap, rules.norm)
    from_image = gap + jnp.sum(slope * (point - images), axis=(1, 2, 3))
    other = halfspace.nearest(images, slope, from_image, rules.norm)
    lengths = [
        jnp.maximum(norms.length(each, rules.norm), LEAST) for each in (own, other)
    ]
    weight = wide(jnp.minimum(lengths[0] / (lengths[0] + lengths[1]), rules.alpha))
    first, second = point + rules.overshoot * own, images + rules.overshoot * other
    return jnp.clip((1 - weight) * first + weight * second, 0, 1)
