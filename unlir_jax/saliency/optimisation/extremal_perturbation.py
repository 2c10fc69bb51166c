"""Masks of a given area that show what raises the score most.

Fong, Patrick & Vedaldi, *Understanding Deep Networks via Extremal Perturbations and
Smooth Masks*, ICCV 2019, and the authors' code, TorchRay.
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.core import choices, loops, memoize
from unlir_jax.saliency import accumulation
from unlir_jax.saliency.gaussian_blur import blur
from unlir_jax.saliency.optimisation.meaningful_perturbation import (
    SIDE,
    check_least,
    check_positive,
)
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import Explainer, PyTree, SplitModel

Variant = Literal["preserve", "delete", "dual"]
MOMENTUM = 0.9
COLDNESS = 20.0
TIE = 1e-3
"""Pixels that differ by less have the same rank."""


@explainer(
    title="Extremal perturbation",
    family="perturbation",
    formula="smooth mask of a given area through which the score is highest",
    passes="`areas` (1) × `steps` (800) × (forward + backward)",
    source="Fong et al., ICCV 2019",
    quick={"steps": 2, "levels": 2},
)
def extremal_perturbation(
    model: SplitModel,
    *,
    areas: tuple[float, ...] = (0.1,),
    steps: int = 800,
    variant: Variant = "preserve",
    learning_rate: float = 0.01,
    area_weight: float = 300.0,
    growth: float = 1.0035,
    stride: float = 7.0,
    width: float = 21.0,
    levels: int = 8,
    deviation: float = 20.0,
    score: scores.ScoreLike = "logit",
    loop: loops.Loop = "auto",
) -> Explainer:
    """Search smooth masks of given areas that show what raises the score most.

    Gradient steps raise `score(x under m) - w mean (sorted(m) - r_a)^2` (Eq. 3 and 4),
    `r_a` being 1 in a share `a` of the pixels and 0 elsewhere, over masks that are
    smooth maxima of blobs (Eq. 6 and 7). The map is the mean of the masks over
    `areas`. `steps` passes forward and backward an area, twice as many for `dual`.

    Args:
        model: The cut network; where it is cut makes no difference.
        areas: Shares of the image; the authors' example takes 0.12, the paper sums
            several.
        steps: For each area; the authors' 800.
        variant: `preserve` raises the score of what is shown; `delete` lowers that of
            what is left when it is hidden; `dual` raises their difference.
        learning_rate: Step size of gradient descent with momentum 0.9, whose new
            gradients weigh 0.1; the authors' 0.01.
        area_weight: `w` at first; the authors' 300.
        growth: Factor of `w` in each step; the authors' 1.0035.
        stride: Between blobs, in pixels of an image of side 224; the authors' 7.
        width: Width of blobs, in such pixels; the authors' 21.
        levels: Blurs between the image and none of it, among which a mask interpolates;
            the authors' 8. Memory is as many images.
        deviation: Width of the strongest blur, in such pixels; the authors' 20.
        score: Score to raise, see `scores.resolve`.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Raises:
        ValueError: No area or one outside (0, 1), an unknown variant, fewer than 0
            steps or 2 levels, or another setting that is not positive.

    Note:
        The authors flip images in turn; here nothing is flipped. Pixels of equal value
        share their ranks, see `_excess`. A network whose score no mask moves gives
        zeros.
    """
    _check_extremal(areas, variant)
    for name, value, least in (("steps", steps, 0), ("levels", levels, 2)):
        check_least(name, value, least)
    check_positive(learning_rate=learning_rate, area_weight=area_weight, growth=growth)
    check_positive(stride=stride, width=width, deviation=deviation)
    explained = scores.resolve(score)
    step = _extremal_step(model, explained, variant, learning_rate, stride, width)
    penalties = area_weight * growth ** np.arange(steps)

    @split.guarded(model, explained)
    def explain(variables, images, labels, *, key=None):
        del key  # Nothing here is random.
        size, sides = images.shape[1:3], (images.shape[1:3], stride, width)
        blurs = np.linspace(deviation, 0, levels) * max(size) / SIDE
        pyramid = jnp.stack([blur(images, sigma) for sigma in blurs], axis=1)
        ones = jnp.ones((len(images), *_grid(size, stride)), images.dtype)
        total = jnp.zeros(images.shape[:3], images.dtype)
        items = penalties.astype(images.dtype)
        for area in areas:
            kept = jnp.asarray(round(area * math.prod(size)))
            arguments = variables, pyramid, labels, kept
            begun = ones, jnp.zeros_like(ones), jnp.zeros(len(images), bool)
            found = accumulation.fold(step, begun, items, *arguments, loop=loop)
            mask = _inside(_canvas(found[0], *sides), *sides)
            total = total + jnp.where(found[2][:, None, None], mask, 0)
        return total / len(areas)

    return explain


@memoize.remember
def _extremal_step(
    model: SplitModel,
    score: scores.Score,
    variant: Variant,
    learning_rate: float,
    stride: float,
    width: float,
) -> PyTree:
    network = split.whole(model)

    def reward(mask, variables, pyramid, labels):
        def under(mask: jax.Array) -> jax.Array:
            return score(network(variables, _interpolate(pyramid, mask)), labels)

        total = jnp.zeros(len(mask), mask.dtype)
        if variant != "delete":
            total = total + under(mask)
        if variant != "preserve":
            total = total - under(1 - mask)
        return jnp.sum(total)

    @jax.jit
    def step(state, penalty, variables, pyramid, labels, kept):
        blobs, momentum, moved = state
        size = pyramid.shape[2:4]
        whole, pull = jax.vjp(lambda b: _canvas(b, size, stride, width), blobs)
        mask, outwards = jax.vjp(lambda c: _inside(c, size, stride, width), whole)
        up = jax.grad(reward)(mask, variables, pyramid, labels)
        (gradient,) = pull(penalty * _excess(whole, kept) - outwards(up)[0])
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        blobs = jnp.clip(blobs - learning_rate * momentum, 0, 1)
        return blobs, momentum, moved | jnp.any(up != 0, axis=(1, 2))

    return step


def _interpolate(pyramid: jax.Array, mask: jax.Array) -> jax.Array:
    """Show at each pixel the level that the mask names: the last one where it is 1."""
    levels = pyramid.shape[1]
    place = (levels - 1) * mask[:, None]
    numbers = jnp.arange(levels, dtype=mask.dtype)[None, :, None, None]
    weights = jnp.maximum(0, 1 - jnp.abs(place - numbers))
    return jnp.einsum("blhw,blhwc->bhwc", weights, pyramid, precision="highest")


def _excess(mask: jax.Array, kept: jax.Array) -> jax.Array:
    """Differentiate `mean (sorted(m) - r)^2`, where `r` is 1 for the `kept` highest.

    Pixels that are equal up to `TIE` share what `r` has at their ranks. Without that,
    the order in which a sort leaves equal pixels decides: a search that starts from
    ones everywhere would keep the last rows of the image, unless the score's gradient
    is large compared with the area's.
    """
    flat = mask.reshape((len(mask), -1))
    zeros = flat.shape[1] - kept
    ordered = jnp.sort(flat, axis=1)

    def rank(side: str, value: jax.Array) -> jax.Array:
        return jax.vmap(functools.partial(jnp.searchsorted, side=side))(ordered, value)

    first, after = rank("left", flat - TIE), rank("right", flat + TIE)
    ones = jnp.maximum(after - zeros, 0) - jnp.maximum(first - zeros, 0)
    wanted = ones / (after - first).astype(mask.dtype)
    return (2 * (flat - wanted) / flat.shape[1]).reshape(mask.shape)


def _grid(size: tuple[int, ...], stride: float) -> tuple[int, int]:
    """Count the blobs down and across."""
    step = _step(size, stride)
    return -(-size[0] // step), -(-size[1] // step)


def _step(size: tuple[int, ...], stride: float) -> int:
    return max(round(stride * max(size) / SIDE), 1)


def _reach(
    size: tuple[int, ...], stride: float, width: float
) -> tuple[int, float, int]:
    """Give pixels between blobs, their width in pixels, and their radius in cells."""
    step, reach = _step(size, stride), width * max(size) / SIDE
    return step, reach, 1 + math.ceil(reach / step)


def _inside(
    canvas: jax.Array, size: tuple[int, ...], stride: float, width: float
) -> jax.Array:
    """Cut the margin off."""
    step, _, radius = _reach(size, stride, width)
    first = step * radius
    return canvas[:, first : first + size[0], first : first + size[1]]


def _canvas(
    blobs: jax.Array, size: tuple[int, ...], stride: float, width: float
) -> jax.Array:
    """Give each pixel the smooth maximum of the blobs around it (Eq. 6 and 7).

    A blob of height `b` in distance `d` counts `b exp(-2 max(d / width - 1/2, 0)^2)`.
    Around the image is a margin as wide as a blob reaches: without it blobs at the
    border would weigh less in the area, and be kept for that.
    """
    step, reach, radius = _reach(size, stride, width)
    rows, columns = (cells + 2 * radius for cells in blobs.shape[1:])
    near = np.arange(-radius, radius + 1)
    # The distance to a neighbouring cell's middle is the same in every cell.
    gap = (np.arange(step) - (step - 1) / 2)[None] - step * near[:, None]
    distance = np.hypot(gap[:, None, :, None], gap[None, :, None, :]) / reach
    kernel = np.exp(-2 * np.maximum(distance - 0.5, 0) ** 2)
    margin = (2 * radius, 2 * radius)
    padded = jnp.pad(blobs, ((0, 0), margin, margin))
    kernel = jnp.asarray(kernel, blobs.dtype)

    def around(top: int) -> tuple[jax.Array, jax.Array]:
        taps = [padded[:, top : top + rows, i : i + columns] for i in range(len(near))]
        heights = jnp.stack(taps)[..., None, :, None]
        heights = heights * kernel[top][:, None, None, :, None, :]
        return heights, jnp.exp(COLDNESS * heights)

    raised = weight = jnp.zeros(())
    for top in range(len(near)):
        heights, warmth = around(top)
        raised = raised + jnp.sum(heights * warmth, axis=0)
        weight = weight + jnp.sum(warmth, axis=0)
    mask = (raised / weight).reshape((len(blobs), rows * step, columns * step))
    return jnp.clip(mask, 0, 1)


def _check_extremal(areas: tuple[float, ...], variant: str) -> None:
    if not areas or not all(0 < area < 1 for area in areas):
        raise ValueError(f"`areas`={areas}; expected shares between 0 and 1.")
    choices.check("variant", variant, Variant)
