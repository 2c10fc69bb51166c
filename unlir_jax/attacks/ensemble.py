"""AutoAttack: four attacks one after another, each on the images that still stand.

Croce & Hein, *Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
Parameter-free Attacks*, ICML 2020, arXiv 2003.01690.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.attacks import losses, norms, search, settings
from unlir_jax.attacks.apgd import climb
from unlir_jax.attacks.fab import highest_others, search_boundary
from unlir_jax.attacks.losses import Aim
from unlir_jax.attacks.search import Seen
from unlir_jax.attacks.spec import Craft, Crafted, attack, defaults
from unlir_jax.attacks.square import square
from unlir_jax.core import memoize, random_keys
from unlir_jax.types import PyTree, SplitModel

MEMBERS = ("clean", "apgd", "apgd_targeted", "fab_targeted", "square")
"""What `Attacked.winner` counts; `clean` is an image that the network gets wrong."""
SCORES = MEMBERS.index("square")
LEAST_CLASSES = 4
"""Fewest classes for which the targeted ratio of differences is defined."""


class Stage(NamedTuple):
    """Hold one run of a member.

    Attributes:
        member: Its place in `MEMBERS`.
        craft: See `Craft`.
        rank: Place of the class to go for among the highest others; None for none.
    """

    member: int
    craft: Craft
    rank: int | None = None


class Field(NamedTuple):
    """Hold what is known of each image, `[batch]` first."""

    images: jax.Array
    winner: jax.Array
    gradients: jax.Array
    forwards: jax.Array
    seen: Seen


@attack(
    title="AutoAttack",
    norms=("linf", "l2"),
    kind="budget",
    passes="at most (1 + 2 × `rivals` (9)) × `steps` (100) × (forward + backward), and "
    "`queries` (5,000) forwards",
    source="Croce & Hein, ICML 2020",
    quick={"steps": 3, "rivals": 1, "queries": 3},
    synonyms=("autoattack", "auto_attack"),
    random=True,
)
def ensemble(
    model: SplitModel,
    *,
    norm: str = "linf",
    epsilon: float = 8 / 255,
    steps: int = 100,
    rivals: int = 9,
    queries: int = 5000,
    quantise: bool | int = False,
) -> Craft:
    """Try APGD, targeted APGD, targeted FAB and Square until one succeeds.

    APGD raises the cross entropy; targeted APGD the targeted ratio of differences of
    logits, for one of the highest other classes after another; FAB goes for the same
    classes; Square asks for scores alone. An image that has succeeded is left alone.

    Args:
        model: The network.
        norm: `linf` or `l2`.
        epsilon: Largest change: in [0, 1] for `linf`, a distance over all pixels and
            channels for `l2`.
        steps: Number of steps of each run of APGD and FAB.
        rivals: Number of classes that targeted attacks go for, at most all others.
        queries: Number of queries of Square.
        quantise: Number of levels of the result; True stands for 256.

    Returns:
        An attack whose `counted` says in `winner` which member of `ensemble.MEMBERS`
        succeeded. An image on which all fail comes back as APGD has left it.

    Raises:
        ValueError: A setting that makes no sense.

    References:
        Croce & Hein, *Reliable Evaluation of Adversarial Robustness with an Ensemble of
        Diverse Parameter-free Attacks*, ICML 2020, Section 5, the standard version.

    Note:
        With fewer than 4 classes, targeted APGD raises the margin. With `targets`, all
        members go for these, and a success has to reach them.
    """
    settings.check_least("rivals", rivals, 1)
    settings.check_least("queries", queries, 1)
    look, judge = _look(model), _judge(model, norm, epsilon)

    def run(variables, images, aim, key):
        random_keys.per_image(key, images)  # So that a missing key is refused first.
        classes = jax.eval_shape(split.whole(model), variables, images).shape[1]
        count = 1 if aim.targets is not None else min(rivals, classes - 1)
        stages = _stages(
            *(model, norm, epsilon, classes, count, aim.targets is not None),
            **{"steps": steps, "queries": queries, "quantise": quantise},
        )
        field, targets = look(variables, images, aim, count)
        for number, stage in enumerate(stages):
            if aim.targets is None and stage.rank is not None:
                goal = Aim(aim.labels, targets[:, stage.rank])
            else:
                goal = aim
            own = jax.random.fold_in(key, number)
            field = _advance(stage, judge, field, variables, (images, goal, aim), own)
        return Crafted(*field[:1], *field[2:], winner=field.winner)

    return run


def _stages(
    model: SplitModel,
    norm: str,
    epsilon: float,
    classes: int,
    count: int,
    targeted: bool,
    *,
    steps: int,
    queries: int,
    quantise: bool | int,
) -> Sequence[Stage]:
    """List the runs in their order."""
    ratio = losses.dlr if classes >= LEAST_CLASSES else losses.margin
    ball = model, norm, epsilon
    shared = {"steps": steps, "quantise": quantise}
    entropy = climb(model, losses.log_odds, norm, epsilon, **shared)
    aimed = climb(
        *(model, ratio, norm, epsilon),
        **shared,
        success=losses.succeeded if targeted else losses.erred,
    )
    turns = {"norm": norm, "targeted": True, "rivals": count, "enough": epsilon}
    boundary = search_boundary(model, **defaults("fab") | turns | shared)
    options = {"steps": queries, "quantise": quantise}
    scores = square(ball[0], norm=norm, epsilon=epsilon, **options)
    return (
        Stage(1, entropy),
        *(Stage(2, aimed, rank) for rank in range(count)),
        Stage(3, boundary),
        Stage(SCORES, scores.craft),
    )


@memoize.remember
def _look(model: SplitModel) -> Callable[..., tuple[Field, jax.Array]]:
    """Make what tells which images are wrong, and which classes come next."""
    network = split.whole(model)

    def look(variables, images, aim, count):
        logits = network(variables, images)
        wrong = losses.succeeded(logits, aim)
        zeros = jnp.zeros(len(images), jnp.int32)
        # Where nothing is attacked, no gradient is missed.
        none = jnp.broadcast_to(jnp.all(wrong), wrong.shape)
        finite = ~jnp.any(jnp.isnan(logits), axis=1)
        seen = Seen(none, search.probable(logits), finite)
        field = Field(images, jnp.where(wrong, 0, -1), zeros, zeros + 1, seen)
        return field, highest_others(logits, aim.labels, count)

    return jax.jit(look, static_argnums=3)


@memoize.remember
def _judge(model: SplitModel, norm: str, epsilon: float) -> Callable[..., jax.Array]:
    """Make `(variables, found, images, aim) -> success within the ball`."""
    network = split.whole(model)

    @jax.jit
    def judge(variables, found, images, aim):
        near = norms.length(found - images, norm) <= epsilon * (1 + 1e-5)
        return near & losses.succeeded(network(variables, found), aim)

    return judge


def _advance(
    stage: Stage,
    judge: Callable[..., jax.Array],
    field: Field,
    variables: PyTree,
    examples: tuple[jax.Array, Aim, Aim],
    key: jax.Array,
) -> Field:
    """Run a stage on the images that still stand."""
    if split.traced(variables, field, examples, key):
        # Nothing can be left out of a compiled program.
        made = _made(stage, judge, variables, examples, key)
        return _merged(stage.member, field, *made)
    rows = np.flatnonzero(np.asarray(field.winner) < 0)
    if not len(rows):
        return field
    padded = filled(rows)
    some, chosen = jax.tree.map(lambda leaf: leaf[padded], (field, examples))
    made = _made(stage, judge, variables, chosen, key)
    merged = _merged(stage.member, some, *made)
    return jax.tree.map(
        lambda whole, part: whole.at[rows].set(part[: len(rows)]), field, merged
    )


def filled(rows: np.ndarray) -> np.ndarray:
    """Repeat rows until there is a power of two of them: each size is compiled once.

    Example:
        >>> import numpy as np
        >>> from unlir_jax.attacks.ensemble import filled
        >>> filled(np.asarray([4, 7, 9])).tolist()
        [4, 7, 9, 4]
    """
    return np.resize(rows, 1 << (len(rows) - 1).bit_length())


def _made(
    stage: Stage,
    judge: Callable[..., jax.Array],
    variables: PyTree,
    examples: tuple[jax.Array, Aim, Aim],
    key: jax.Array,
) -> tuple[Crafted, jax.Array]:
    images, goal, aim = examples
    found = stage.craft(variables, images, goal, key)
    return found, judge(variables, found.images, images, aim)


def _merged(member: int, field: Field, found: Crafted, success: jax.Array) -> Field:
    """Add what a stage has found of the images that stood before it."""
    stood = field.winner < 0
    taken = stood & (success | (member == 1))
    zeros = jnp.zeros_like(field.forwards)
    forwards = zeros if found.forwards is None else found.forwards
    seen, shown = field.seen, found.seen or field.seen
    # Square needs no gradient, so it has nothing to say of one.
    sloped = seen.sloped if member == SCORES else seen.sloped | shown.sloped
    return Field(
        jnp.where(taken[:, None, None, None], found.images, field.images),
        jnp.where(stood & success, member, field.winner),
        field.gradients + jnp.where(stood, found.gradients, 0),
        # A pass more judges each.
        field.forwards + jnp.where(stood, forwards + 1, 0),
        Seen(
            sloped,
            seen.probable & shown.probable,
            seen.finite & shown.finite,
        ),
    )
