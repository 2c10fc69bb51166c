"""Kept maps: images whose class moves, and whose explanation stays."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from unlir_jax.attacks import losses, map_ascent
from unlir_jax.attacks.map_ascent import Problem, Similarity
from unlir_jax.core import choices, memoize
from unlir_jax.types import (
    Explainer,
    Labels,
    Logits,
    SplitModel,
)

Explained = Literal["reached", "label"]
"""Whose map is to stay, see `keep_map`."""


KeepMap = Callable[..., jax.Array]


@memoize.remember
def keep_map(
    model: SplitModel,
    explain: Explainer,
    *,
    norm: str = "linf",
    epsilon: float = 8 / 255,
    steps: int = 40,
    step_size: float | None = None,
    similarity: Similarity = "correlation",
    share: float = 0.1,
    penalty: float = 2.0,
    least_margin: float = 0.0,
    random_start: bool = False,
    explained: Explained = "reached",
    surrogate: Explainer | None = None,
) -> KeepMap:
    """Make `(variables, images, labels, *, targets=None, key=None) -> images`.

    The function moves the class, and holds the map near the label's map of the image
    as it was. Of all iterates that deceive the network, each image gets the one with
    the most similar map. Where none does, it gets the one that is nearest to it. An
    image that deceives the network as it is stays so.

    Args:
        model: The network.
        explain: Explainer of the maps, which JAX differentiates by the images.
        norm: As in `move_map`.
        epsilon: As in `move_map`.
        steps: As in `move_map`.
        step_size: As in `move_map`.
        similarity: As in `move_map`.
        share: As in `move_map`.
        penalty: Weight of the hinge that moves the class. Above 1, the class comes
            first where class and map disagree.
        least_margin: Least difference of the logit that wins and the one that loses, as
            in `losses.margin`.
        random_start: As in `move_map`.
        explained: Class whose map stays. `reached` is the target, or the class with the
            highest logit besides the label's; `label` is the label.
        surrogate: As in `move_map`.

    Returns:
        A function whose images lie in the ball and in [0, 1]. `outcome` tells whether
        they deceive the network.

    Raises:
        TypeError: When called: as an attack.
        ValueError: A setting that makes no sense. When called: as an attack; or maps
            without a gradient.

    References:
        Zhang et al., *Interpretable Deep Learning under Fire*, USENIX Security 2020,
        Section 3.

    Note:
        The paper adds the squared difference of the maps to the loss. Here the class is
        a condition, and the map is the objective.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import attacks, split
        >>> model = split.from_functions(lambda _, x: x, lambda _, x: x.mean((1, 2)))
        >>> def red(variables, images, labels, *, key=None):
        ...     return images[..., 0]
        >>> image = jnp.full((1, 2, 2, 3), 0.4).at[0, 0, 0, 0].set(0.6)
        >>> attack = attacks.keep_map(model, red, epsilon=0.1)
        >>> found = attack({}, image, jnp.asarray([0]))
        >>> told = attacks.outcome(model)({}, image, found, jnp.asarray([0]))
        >>> bool(told["success"][0]), int(red({}, found, None).argmax())
        (True, 0)
    """
    choices.check("explained", explained, Explained)
    ascent = map_ascent.checked(
        *(norm, epsilon, steps, step_size, penalty, least_margin),
        *(random_start, similarity, share),
    )
    problem = Problem(1, losses.margin, _reached if explained == "reached" else _label)
    run = map_ascent.climb(model, explain, surrogate, problem, ascent)

    def move(variables, images, labels, *, targets=None, key=None):
        call = variables, images, labels, targets, key
        begun = map_ascent.prepare(model, explain, ascent, call)
        done = losses.succeeded(begun.logits, begun.aim)
        return map_ascent.finish(model, run, call, begun, begun.maps, done)

    return move


def _reached(logits: Logits, aim: losses.Aim) -> Labels:
    if aim.targets is not None:
        return aim.targets
    own = jax.nn.one_hot(aim.labels, logits.shape[-1], dtype=bool)
    return jnp.argmax(jnp.where(own, -jnp.inf, logits), axis=-1)


def _label(logits: Logits, aim: losses.Aim) -> Labels:
    del logits
    return aim.labels
