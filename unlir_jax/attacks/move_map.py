"""Moved maps: images whose class stays, and whose explanation does not."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.attacks import losses, map_ascent
from unlir_jax.attacks.map_ascent import Problem, Similarity
from unlir_jax.core import memoize
from unlir_jax.split import rows
from unlir_jax.types import (
    Explainer,
    Labels,
    Logits,
    PyTree,
    SplitModel,
)

MoveMap = Callable[..., jax.Array]


@memoize.remember
def move_map(
    model: SplitModel,
    explain: Explainer,
    *,
    norm: str = "linf",
    epsilon: float = 8 / 255,
    steps: int = 40,
    step_size: float | None = None,
    similarity: Similarity = "top",
    share: float = 0.1,
    penalty: float = 2.0,
    least_margin: float = 0.0,
    random_start: bool = False,
    surrogate: Explainer | None = None,
) -> MoveMap:
    """Make `(variables, images, labels, target_maps=None, *, key=None) -> images`.

    The function moves the label's map away from what it was, or towards a target map,
    and keeps the label's margin at `least_margin` or more. Each image gets the best of
    all iterates that keep it. An image that the network gets wrong stays as it is.

    Args:
        model: The network.
        explain: Explainer of the maps, which JAX differentiates by the images.
        norm: `linf` or `l2`.
        epsilon: Largest change: in [0, 1] for `linf`, a distance over all pixels and
            channels for `l2`.
        steps: Number of steps.
        step_size: Length of the first in the norm, by default `5 epsilon / steps`. The
            others shrink linearly to zero.
        similarity: `correlation` of the two maps, or of the map with the `top` pixels
            of the other one.
        share: Share of the pixels that are the top ones.
        penalty: Weight of the hinge that restores a margin. Above 1, the margin comes
            first where the two disagree.
        least_margin: Least difference of the label's logit and the largest other one.
        random_start: Whether it starts at a random point of the ball; needs a key.
        surrogate: Explainer whose maps are differentiated in place of those of
            `explain`, which still judge. See `saliency.softened`.

    Returns:
        A function whose images lie in the ball and in [0, 1]. Under `jax.jit`, an image
        that would have been refused comes back as NaN.

    Raises:
        TypeError: When called: as an attack.
        ValueError: A setting that makes no sense. When called: as an attack; a target
            map that is flat or of another shape; or maps without a gradient.

    References:
        Ghorbani, Abid & Zou, *Interpretation of Neural Networks is Fragile*, AAAI 2019,
        Algorithm 1; Dombrowski et al., *Explanations can be manipulated and geometry is
        to blame*, NeurIPS 2019, Section 2, for target maps.

    Note:
        The papers sum the values of the top pixels, or square the difference of maps. A
        correlation ignores the scale of a map. At its own map it has no slope, so
        `correlation` without a target needs `random_start`.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import attacks, split
        >>> model = split.from_functions(lambda _, x: x, lambda _, x: x.mean((1, 2)))
        >>> def red(variables, images, labels, *, key=None):
        ...     return images[..., 0]
        >>> image = jnp.full((1, 2, 2, 3), 0.2).at[..., 0].set(0.5)
        >>> image = image.at[0, 0, 0, 0].set(0.6)  # The map is brightest here.
        >>> target = jnp.zeros((1, 2, 2)).at[0, 1, 1].set(1)
        >>> attack = attacks.move_map(model, red, epsilon=0.25)
        >>> moved = attack({}, image, jnp.asarray([0]), target)
        >>> int(red({}, image, None).argmax()), int(red({}, moved, None).argmax())
        (0, 3)
    """
    ascent = map_ascent.checked(
        *(norm, epsilon, steps, step_size, penalty, least_margin),
        *(random_start, similarity, share),
    )
    away, towards = (
        map_ascent.climb(model, explain, surrogate, Problem(sign, _kept, _own), ascent)
        for sign in (-1, 1)
    )
    slopeless = similarity == "correlation" and not random_start

    def move(variables, images, labels, target_maps=None, *, key=None):
        call = variables, images, labels, None, key
        begun = map_ascent.prepare(model, explain, ascent, call)
        shown, wrong = begun.maps, losses.erred(begun.logits, begun.aim)
        if target_maps is None and slopeless:
            raise ValueError(
                "`similarity`='correlation' has no slope at an image's own map; "
                "expected `target_maps`, `random_start`=True or `similarity`='top'."
            )
        if target_maps is not None:
            _check_targets(target_maps, shown)
            shown = jnp.asarray(target_maps)
        run = away if target_maps is None else towards
        return map_ascent.finish(model, run, call, begun, shown, wrong)

    return move


def _kept(logits: Logits, aim: losses.Aim) -> jax.Array:
    return rows.margin(logits, aim.labels)


def _own(logits: Logits, aim: losses.Aim) -> Labels:
    del logits
    return aim.labels


def _check_targets(target_maps: PyTree, shown: PyTree) -> None:
    split.check_array("target_maps", target_maps, "[batch, rows, columns]")
    if target_maps.shape != shown.shape:
        raise ValueError(
            f"`target_maps` has shape {target_maps.shape}; expected {shown.shape}, as "
            "large as the maps of `explain`: maps.resize changes sizes."
        )
    flat = maps.is_flat(target_maps)
    if not split.traced(flat) and np.any(flat):
        raise ValueError(
            f"`target_maps`[{int(np.argmax(flat))}] is flat; expected maps with a "
            "contrast."
        )
