"""Masks that are searched for each image: what must go, or what must stay.

Fong & Vedaldi, *Interpretable Explanations of Black Boxes by Meaningful Perturbation*,
ICCV 2017, and Fong, Patrick & Vedaldi, *Understanding Deep Networks via Extremal
Perturbations and Smooth Masks*, ICCV 2019.
"""

import math
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unlir_jax import factories, loops, maps, split
from unlir_jax.saliency import accumulation, targets
from unlir_jax.saliency.paths import blur
from unlir_jax.types import (
    Explainer,
    Images,
    Labels,
    RandomKey,
    Saliency,
    SplitModel,
    Variables,
)

Variant = Literal["preserve", "delete", "dual"]
SIDE = 224
"""Side in pixels of the images for which the papers give lengths."""

MOMENTUM = 0.9
COLDNESS = 20.0


@factories.remember
def meaningful_perturbation(
    model: SplitModel,
    *,
    steps: int = 300,
    learning_rate: float = 0.1,
    cells: int = 28,
    size_weight: float = 1e-4,
    variation_weight: float = 1e-2,
    power: float = 3.0,
    deviation: float = 10.0,
    jitter: int = 4,
    target: targets.Target = "probability",
    loop: loops.Loop = "auto",
) -> Explainer:
    """Search the smallest smooth mask that, blurred away, destroys the score.

    Adam lowers `size sum |1 - m| + variation sum |grad m|^power + score(x * m + blur(x)
    * (1 - m))` (Eq. 6), and the map is `1 - m`, enlarged. One pass forward and backward
    a step.

    Args:
        model: The cut network; where it is cut makes no difference.
        steps: Of Adam; the paper's 300.
        learning_rate: Of Adam; the paper's 0.1.
        cells: Cells of the mask along each side; the paper's 28.
        size_weight: Of what is deleted, summed over cells; the paper's 1e-4.
        variation_weight: Of differences between neighbouring cells; the paper's 1e-2.
        power: Of these differences; the paper's 3.
        deviation: Of the Gaussian blur that deletes, in pixels of an image of side
            224; the paper's 10.
        jitter: Most pixels by which the masked image is shifted at random in each step;
            the paper's 4. Unless it is 0, the explainer needs `key`.
        target: What is lowered, see `targets.resolve`; the paper's probability.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Raises:
        ValueError: Fewer than 0 steps or pixels of jitter, fewer than one cell, or a
            learning rate, power or deviation that is not positive.

    Note:
        The search starts from nothing deleted, rather than from a disc. The mask is
        enlarged bilinearly and not blurred once more, and the paper's noise on the mask
        is left out.
    """
    for name, value, least in (("steps", steps, 0), ("cells", cells, 1)):
        _check_least(name, value, least)
    _check_least("jitter", jitter, 0)
    _check_positive(learning_rate=learning_rate, power=power, deviation=deviation)
    adam = optax.adam(learning_rate)
    weights = size_weight, variation_weight, power
    settings = adam, targets.resolve(target), weights, jitter
    step = _deleting_step(model, *settings)

    def explain(
        variables: Variables,
        images: Images,
        labels: Labels,
        *,
        key: RandomKey | None = None,
    ) -> Saliency:
        split.check_batch(model, variables, images, labels)
        images, labels = jnp.asarray(images), jnp.asarray(labels)
        own = jnp.zeros(len(images))
        if jitter:
            own = accumulation.image_keys(key, images)
        blurred = blur(images, deviation * max(images.shape[1:3]) / SIDE)
        mask = jnp.ones((len(images), cells, cells), images.dtype)
        arguments = variables, images, labels, blurred, own
        begun, numbers = (mask, adam.init(mask)), np.arange(steps)
        found, _ = accumulation.fold(step, begun, numbers, *arguments, loop=loop)
        return maps.resize(1 - found, images.shape[1:3])

    return explain


@factories.remember
def _deleting_step(
    model: SplitModel,
    adam: optax.GradientTransformation,
    score: targets.Score,
    weights: tuple[float, float, float],
    jitter: int,
) -> Any:
    network = split.whole(model)
    size_weight, variation_weight, power = weights

    def loss(
        mask: jax.Array,
        number: Any,
        variables: Variables,
        images: Images,
        labels: Labels,
        blurred: Images,
        own: jax.Array,
    ) -> jax.Array:
        enlarged = maps.resize(mask, images.shape[1:3])
        shown = maps.apply_mask(images, enlarged, blurred)
        if jitter:
            shown = _shift(shown, own, number, jitter)
        reward = jnp.sum(score(network(variables, shown), labels))
        size = jnp.sum(jnp.abs(1 - mask))
        variation = sum(
            jnp.sum(jnp.abs(jnp.diff(mask, axis=axis)) ** power) for axis in (1, 2)
        )
        return reward + size_weight * size + variation_weight * variation

    @jax.jit
    def step(
        state: tuple[jax.Array, Any], number: Any, *arguments: Any
    ) -> tuple[jax.Array, Any]:
        mask, optimizer = state
        gradient = jax.grad(loss)(mask, number, *arguments)
        updates, optimizer = adam.update(gradient, optimizer)
        return jnp.clip(mask + jnp.asarray(updates), 0, 1), optimizer

    return step


def _shift(images: jax.Array, own: jax.Array, number: Any, most: int) -> jax.Array:
    """Shift each image by up to `most` pixels, repeating its border."""
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")

    def cut(image: jax.Array, key: jax.Array) -> jax.Array:
        key = jax.random.fold_in(key, number)
        down, across = jax.random.randint(key, (2,), 0, 2 * most + 1)
        return jax.lax.dynamic_slice(image, (down, across, 0), images.shape[1:])

    return jax.vmap(cut)(padded, own)


@factories.remember
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
    target: targets.Target = "logit",
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
        learning_rate: Of gradient descent with momentum 0.9, whose new gradients weigh
            0.1; the authors' 0.01.
        area_weight: `w` at first; the authors' 300.
        growth: Factor of `w` in each step; the authors' 1.0035.
        stride: Between blobs, in pixels of an image of side 224; the authors' 7.
        width: Of blobs, in such pixels; the authors' 21.
        levels: Blurs between the image and none of it, among which a mask interpolates;
            the authors' 8. Memory is as many images.
        deviation: Of the strongest blur, in such pixels; the authors' 20.
        target: What is raised, see `targets.resolve`.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Raises:
        ValueError: No area or one outside (0, 1), an unknown variant, fewer than 0
            steps or 2 levels, or another setting that is not positive.

    Note:
        The authors flip and shift images at random, and show a mask's margin; here
        nothing is random. A network whose score no mask moves gives zeros.
    """
    _check_extremal(areas, variant)
    for name, value, least in (("steps", steps, 0), ("levels", levels, 2)):
        _check_least(name, value, least)
    _check_positive(learning_rate=learning_rate, area_weight=area_weight, growth=growth)
    _check_positive(stride=stride, width=width, deviation=deviation)
    score = targets.resolve(target)
    step = _extremal_step(model, score, variant, learning_rate, stride, width)
    penalties = area_weight * growth ** np.arange(steps)

    def explain(
        variables: Variables,
        images: Images,
        labels: Labels,
        *,
        key: RandomKey | None = None,
    ) -> Saliency:
        del key  # Nothing here is random.
        split.check_batch(model, variables, images, labels)
        images, labels = jnp.asarray(images), jnp.asarray(labels)
        size = images.shape[1:3]
        blurs = np.linspace(deviation, 0, levels) * max(size) / SIDE
        pyramid = jnp.stack([blur(images, sigma) for sigma in blurs], axis=1)
        ones = jnp.ones((len(images), *_grid(size, stride)), images.dtype)
        moved = jnp.zeros(len(images), bool)
        total = jnp.zeros(images.shape[:3], images.dtype)
        items = penalties.astype(images.dtype)
        for area in areas:
            arguments = variables, pyramid, labels, _reference(size, area, images.dtype)
            begun = ones, jnp.zeros_like(ones), moved
            found = accumulation.fold(step, begun, items, *arguments, loop=loop)
            mask = _smooth(found[0], size, stride, width)
            total = total + jnp.where(found[2][:, None, None], mask, 0)
        return total / len(areas)

    return explain


@factories.remember
def _extremal_step(
    model: SplitModel,
    score: targets.Score,
    variant: Variant,
    learning_rate: float,
    stride: float,
    width: float,
) -> Any:
    network = split.whole(model)

    def reward(
        mask: jax.Array, variables: Variables, pyramid: jax.Array, labels: Labels
    ) -> jax.Array:
        def under(mask: jax.Array) -> jax.Array:
            return score(network(variables, _interpolate(pyramid, mask)), labels)

        total = jnp.zeros(len(mask), mask.dtype)
        if variant != "delete":
            total = total + under(mask)
        if variant != "preserve":
            total = total - under(1 - mask)
        return jnp.sum(total)

    def excess(mask: jax.Array, reference: jax.Array) -> jax.Array:
        ordered = jnp.sort(mask.reshape((len(mask), -1)), axis=1)
        return jnp.sum(jnp.mean((ordered - reference[None]) ** 2, axis=1))

    @jax.jit
    def step(
        state: tuple[jax.Array, ...],
        penalty: Any,
        variables: Variables,
        pyramid: jax.Array,
        labels: Labels,
        reference: jax.Array,
    ) -> tuple[jax.Array, ...]:
        blobs, momentum, moved = state
        size = pyramid.shape[2:4]
        mask, pull = jax.vjp(lambda b: _smooth(b, size, stride, width), blobs)
        up = jax.grad(reward)(mask, variables, pyramid, labels)
        (gradient,) = pull(penalty * jax.grad(excess)(mask, reference) - up)
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


def _reference(size: tuple[int, ...], area: float, dtype: Any) -> jax.Array:
    pixels = math.prod(size)
    return jnp.asarray(np.arange(pixels) >= pixels - round(area * pixels), dtype)


def _grid(size: tuple[int, ...], stride: float) -> tuple[int, int]:
    """Count the blobs down and across."""
    step = _step(size, stride)
    return -(-size[0] // step), -(-size[1] // step)


def _step(size: tuple[int, ...], stride: float) -> int:
    return max(round(stride * max(size) / SIDE), 1)


def _smooth(
    blobs: jax.Array, size: tuple[int, ...], stride: float, width: float
) -> jax.Array:
    """Give each pixel the smooth maximum of the blobs around it (Eq. 6 and 7).

    A blob of height `b` in distance `d` counts `b exp(-2 max(d / width - 1/2, 0)^2)`.
    """
    step = _step(size, stride)
    reach = width * max(size) / SIDE
    radius = 1 + math.ceil(reach / step)
    rows, columns = blobs.shape[1:]
    near = np.arange(-radius, radius + 1)
    # The distance to a neighbouring cell's middle is the same in every cell.
    gap = (np.arange(step) - (step - 1) / 2)[None] - step * near[:, None]
    distance = np.hypot(gap[:, None, :, None], gap[None, :, None, :]) / reach
    kernel = np.exp(-2 * np.maximum(distance - 0.5, 0) ** 2)
    margin = (radius, radius)
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
    return jnp.clip(mask[:, : size[0], : size[1]], 0, 1)


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"`{name}`={value}; expected {least} or more.")


def _check_positive(**settings: float) -> None:
    for name, value in settings.items():
        if not value > 0:
            raise ValueError(f"`{name}`={value}; expected more than 0.")


def _check_extremal(areas: tuple[float, ...], variant: str) -> None:
    if not areas or not all(0 < area < 1 for area in areas):
        raise ValueError(f"`areas`={areas}; expected shares between 0 and 1.")
    if variant not in get_args(Variant):
        raise ValueError(
            f"`variant`={variant!r} is unknown; expected one of {get_args(Variant)}."
        )
