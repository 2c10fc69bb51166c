"""DeepFool: steps to the nearest boundary of the linearised network.

Moosavi-Dezfooli, Fawzi & Frossard, *DeepFool: A Simple and Accurate Method to Fool Deep
Neural Networks*, CVPR 2016, arXiv 1511.04599.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax import split
from unlir_jax.attacks import checks, minimal, search, settings
from unlir_jax.attacks.losses import Aim
from unlir_jax.attacks.minimal import wide
from unlir_jax.attacks.search import Seen, Slope
from unlir_jax.attacks.spec import Craft, Crafted, attack
from unlir_jax.core import loops, memoize
from unlir_jax.types import Labels, Logits, PyTree, SplitModel

FURTHER = 1e-4
"""What the authors' code adds to each distance."""


class State(NamedTuple):
    """Hold what changes from step to step, one entry an image.

    `point` is unrounded, `shown` is what the network sees of it, and `rivals` are the
    classes whose boundaries count.
    """

    point: jax.Array
    shown: jax.Array
    rivals: jax.Array
    seen: Seen
    done: jax.Array


@attack(
    title="DeepFool",
    norms=("l2", "linf"),
    kind="minimal",
    passes="at most `steps` (50) × (forward + backward)",
    source="Moosavi-Dezfooli et al., CVPR 2016, Algorithm 2",
    quick={"steps": 3},
)
def deepfool(
    model: SplitModel,
    *,
    norm: Literal["l2", "linf"] = "l2",
    steps: int = 50,
    overshoot: float = 0.02,
    rivals: int = 10,
    quantise: bool | int = False,
    loop: loops.Loop = "auto",
) -> Craft:
    """Step to the nearest boundary of the linearised network, until one is crossed.

    Of the rivals `k` of the label `y`, that with the least `|f_k| / |w_k|` is chosen,
    `f_k` being the difference of the logits and `w_k` its gradient; for `linf` the norm
    of `w_k` is l1 (Eq. 8 to 11). The image moves by that length and `overshoot`.

    Args:
        model: The network.
        norm: `l2` or `linf`.
        steps: Most steps; the authors' code has 50.
        overshoot: Share by which a step goes further; the paper's 0.02.
        rivals: Number of classes whose boundaries count, the highest of the image
            itself; the authors' code has 10.
        quantise: Number of levels of the images, True for 256, False for none.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        An attack that searches a small distortion. Each step takes a gradient for each
        rival, and one pass forward more tells whether it was the last.

    Raises:
        ValueError: An unknown norm, a negative overshoot, or fewer than one rival.

    Note:
        Each step overshoots, as in other libraries; the paper lets the sum of the steps
        do so. With `targets`, the boundary between the target and the highest other
        class counts alone; the paper has no targets.

    References:
        Moosavi-Dezfooli et al., *DeepFool: A Simple and Accurate Method to Fool Deep
        Neural Networks*, CVPR 2016, Algorithm 2.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import attacks, split
        >>> model = split.from_functions(lambda _, x: x, lambda _, x: x.mean((1, 2)))
        >>> image = jnp.full((1, 4, 4, 3), 0.25).at[..., 0].set(0.75)
        >>> found = attacks.deepfool(model)({}, image, jnp.asarray([0]))
        >>> round(float(jnp.linalg.norm(found - image)), 2)  # sqrt(2) and 2 %.
        1.44
    """
    settings.check_least("overshoot", overshoot, 0)
    settings.check_least("rivals", rivals, 1)
    levels = checks.levels_of(quantise)
    step = _step(model, norm, overshoot, levels)

    def run(variables, images, aim, key):
        del key  # Nothing here is random.
        classes = jax.eval_shape(split.whole(model), variables, images).shape[1]
        few = 1 if aim.targets is not None else min(rivals, classes - 1)
        count = len(images)
        state = State(
            *(images, images, jnp.zeros((count, few), jnp.int32)),
            *(search.nothing_seen(images), jnp.zeros(count, bool)),
        )
        state, made = search.iterate(step, state, aim, variables, steps, loop=loop)
        return Crafted(state.shown, made * few, made, state.seen)

    return run


@memoize.remember
def _step(
    model: SplitModel, norm: minimal.Norm, overshoot: float, levels: int
) -> search.Step:
    network = split.whole(model)

    def step(variables, state, examples, numbers):
        aim = examples
        logits, pull = jax.vjp(lambda point: network(variables, point), state.shown)
        rivals, own = _pairs(logits, aim, state.rivals, numbers == 0)
        gaps, slopes = linearised(logits, pull, rivals, own)
        already = minimal.succeeded(logits, aim)
        change = (1 + overshoot) * _shortest(gaps, slopes, norm)
        moved = jnp.clip(state.point + change, 0, 1)
        point = jnp.where(wide(already), state.point, moved)
        shown = jnp.where(wide(already), state.shown, minimal.quantised(point, levels))
        done = already | minimal.succeeded(network(variables, shown), aim)
        seen = Slope(slopes[:, 0], gaps[:, 0], logits).seen(state.seen)
        return State(point, shown, rivals, seen, done)

    return step


def _pairs(
    logits: Logits, aim: Aim, rivals: jax.Array, first: jax.Array
) -> tuple[jax.Array, Labels]:
    """Choose classes to reach, `[batch, rivals]`, and to leave, `[batch]`.

    Without targets, the classes to reach are the highest of the first step.
    """
    excluded = aim.labels if aim.targets is None else aim.targets
    lowest = jax.nn.one_hot(excluded, logits.shape[1], dtype=bool)
    others = jnp.where(lowest, -jnp.inf, logits)
    if aim.targets is not None:
        return jnp.asarray(aim.targets, jnp.int32)[:, None], jnp.argmax(others, axis=1)
    highest = jax.lax.top_k(others, rivals.shape[1])[1].astype(jnp.int32)
    return jnp.where(first[:, None], highest, rivals), aim.labels


def linearised(
    logits: Logits, pull: Callable[..., PyTree], rivals: jax.Array, own: Labels
) -> tuple[jax.Array, jax.Array]:
    """Give what each rival's logit lacks, and the gradient of what it has more."""
    classes = logits.shape[1]
    pairs = jax.nn.one_hot(rivals, classes, dtype=logits.dtype)
    pairs = pairs - jax.nn.one_hot(own, classes, dtype=logits.dtype)[:, None]
    gaps = -jnp.einsum("bc,brc->br", logits, pairs, precision="highest")
    slopes = jax.vmap(lambda pair: pull(pair)[0], in_axes=1, out_axes=1)(pairs)
    return gaps, jnp.where(jnp.isfinite(slopes), slopes, 0)


def _shortest(gaps: jax.Array, slopes: jax.Array, norm: minimal.Norm) -> jax.Array:
    """Give the shortest step to the boundary with any rival (Eq. 8 to 10)."""
    axes = (2, 3, 4)
    if norm == "l2":
        sizes = jnp.sqrt(jnp.sum(slopes**2, axis=axes))
    else:
        sizes = jnp.sum(jnp.abs(slopes), axis=axes)
    sizes = jnp.maximum(sizes, 1e-6)
    lengths = jnp.abs(gaps) / sizes + FURTHER
    nearest = jnp.argmin(lengths, axis=1)[:, None]
    length, size = (
        jnp.take_along_axis(each, nearest, axis=1)[:, 0] for each in (lengths, sizes)
    )
    slope = jnp.take_along_axis(slopes, nearest[:, :, None, None, None], axis=1)[:, 0]
    if norm == "l2":
        return wide(length / size) * slope
    return wide(length) * jnp.sign(slope)
