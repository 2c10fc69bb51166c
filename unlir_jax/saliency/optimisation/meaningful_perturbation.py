"""The smallest mask without which the score is gone, searched for each image.

Fong & Vedaldi, *Interpretable Explanations of Black Boxes by Meaningful Perturbation*,
ICCV 2017.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unlir_jax import maps, split
from unlir_jax.core import loops, memoize
from unlir_jax.saliency import accumulation
from unlir_jax.saliency.gaussian_blur import blur
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import Explainer, PyTree, SplitModel

SIDE = 224
"""Side in pixels of the images for which the papers give lengths."""


@explainer(
    title="Meaningful perturbation",
    family="perturbation",
    formula="smallest blurred region that destroys the score",
    passes="`steps` (300) × (forward + backward)",
    source="Fong and Vedaldi, ICCV 2017",
    quick={"steps": 2, "cells": 4},
    representative=True,
)
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
    score: scores.ScoreLike = "softmax",
    loop: loops.Loop = "auto",
) -> Explainer:
    """Search the smallest smooth mask that, blurred away, destroys the score.

    Adam lowers `size sum |1 - m| + variation sum |grad m|^power + score(x * m + blur(x)
    * (1 - m))` (Eq. 6), and the map is `1 - m`, enlarged. One pass forward and backward
    a step.

    Args:
        model: The cut network; where it is cut makes no difference.
        steps: Number of steps of Adam; the paper's 300.
        learning_rate: Step size of Adam; the paper's 0.1.
        cells: Cells of the mask along each side; the paper's 28.
        size_weight: Weight of the deleted area, summed over cells; the paper's 1e-4.
        variation_weight: Weight of differences between neighbours; the paper's 1e-2.
        power: Exponent of these differences; the paper's 3.
        deviation: Width of the Gaussian blur that deletes, in pixels of an image of
            side 224; the paper's 10.
        jitter: Most pixels by which the masked image is shifted at random in each step;
            the paper's 4. Unless it is 0, the explainer needs `key`.
        score: Score to lower, see `scores.resolve`; the paper's probability.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Raises:
        ValueError: Fewer than 0 steps or pixels of jitter, fewer than one cell, or a
            learning rate, power or `deviation` that is not positive.

    Note:
        The search starts from nothing deleted, rather than from a disc. The mask is
        enlarged bilinearly and not blurred once more, and the paper's noise on the mask
        is left out.
    """
    for name, value, least in (("steps", steps, 0), ("cells", cells, 1)):
        check_least(name, value, least)
    check_least("jitter", jitter, 0)
    check_positive(learning_rate=learning_rate, power=power, deviation=deviation)
    adam = optax.adam(learning_rate)
    weights = size_weight, variation_weight, power
    explained = scores.resolve(score)
    settings = adam, explained, weights, jitter
    step = _deleting_step(model, *settings)

    @split.guarded(model, explained)
    def explain(variables, images, labels, *, key=None):
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


@memoize.remember
def _deleting_step(
    model: SplitModel,
    adam: optax.GradientTransformation,
    score: scores.Score,
    weights: tuple[float, float, float],
    jitter: int,
) -> PyTree:
    network = split.whole(model)
    size_weight, variation_weight, power = weights

    def loss(mask, number, variables, images, labels, blurred, own):
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
        state: tuple[jax.Array, PyTree], number: PyTree, *arguments: PyTree
    ) -> tuple[jax.Array, PyTree]:
        mask, optimizer = state
        gradient = jax.grad(loss)(mask, number, *arguments)
        updates, optimizer = adam.update(gradient, optimizer)
        return jnp.clip(mask + jnp.asarray(updates), 0, 1), optimizer

    return step


def _shift(images: jax.Array, own: jax.Array, number: PyTree, most: int) -> jax.Array:
    """Shift each image by up to `most` pixels, repeating its border."""
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")

    def cut(image: jax.Array, key: jax.Array) -> jax.Array:
        key = jax.random.fold_in(key, number)
        down, across = jax.random.randint(key, (2,), 0, 2 * most + 1)
        return jax.lax.dynamic_slice(image, (down, across, 0), images.shape[1:])

    return jax.vmap(cut)(padded, own)


def check_least(name: str, value: int, least: int) -> None:
    """Refuse a number that is too small."""
    if value < least:
        raise ValueError(f"`{name}`={value}; expected {least} or more.")


def check_positive(**settings: float) -> None:
    """Refuse settings that are not above 0."""
    for name, value in settings.items():
        if not value > 0:
            raise ValueError(f"`{name}`={value}; expected more than 0.")
