"""Explainers whose maps are refined: seeds of objects become their segments.

A method's name followed by `@` and one of `REFINEMENTS`, such as `layer_cam@walk`,
names the method and its refinement in evaluations.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from unlir_jax import maps
from unlir_jax.core import memoize
from unlir_jax.saliency.refinement.dense_crf import dense_crf
from unlir_jax.saliency.refinement.random_walk import random_walk
from unlir_jax.types import Explainer, Images, Saliency

SIDE = 40


@memoize.remember
def refine_by_walk(
    explain: Explainer,
    *,
    side: int = SIDE,
    steps: int = 32,
    radius: float = 0.1,
    colour: float = 0.05,
) -> Explainer:
    """Spread an explainer's maps along colours, see `random_walk`.

    Maps are scaled by their range and resized to `side` pixels of the longer side.

    Args:
        explain: Any explainer.
        side: Longer side of the refined maps, 2 to 128 pixels.
        steps: Length of the walk.
        radius: Longest step, as a share of the longer side.
        colour: Distance of colours that are alike, in [0, 1].

    Returns:
        An explainer; a flat map stays flat, and a map with NaN has NaN.

    Raises:
        ValueError: Another side.
    """

    def walked(images: Images, seeds: jax.Array) -> jax.Array:
        return random_walk(images, seeds, steps=steps, radius=radius, colour=colour)

    return _refined(explain, side, walked)


@memoize.remember
def refine_by_crf(
    explain: Explainer,
    *,
    side: int = SIDE,
    background: float = 1.5,
    certainty: float = 0.95,
    iterations: int = 10,
    appearance: float = 10.0,
    smoothness: float = 3.0,
    near: float = 0.25,
    colour: float = 0.05,
    blur: float = 0.02,
) -> Explainer:
    """Refine an explainer's maps by a dense CRF of object and background.

    A map `m`, scaled by its range, stands for the object, and `(1 - m)^background` for
    the background (Ahn and Kwak, CVPR 2018, Eq. 2). Divided by their sum they are the
    probabilities `p` that `dense_crf` starts from, as `1 - certainty + (2 certainty -
    1) p`. The result is that of the object.

    Args:
        explain: Any explainer.
        side: Longer side of the refined maps, 2 to 128 pixels.
        background: Exponent above 0: the higher, the larger the object.
        certainty: Highest probability of a seed, in (0.5, 1]; 1 leaves what is 0 at 0.
        iterations: See `dense_crf`, as are the others.
        appearance: See there.
        smoothness: See there.
        near: See there.
        colour: See there.
        blur: See there.

    Returns:
        An explainer; a flat map stays flat, and a map with NaN has NaN.

    Raises:
        ValueError: Another side, exponent or certainty.
    """
    if not 0.5 < certainty <= 1:
        raise ValueError(f"`certainty`={certainty}; expected it in (0.5, 1].")
    if not background > 0:
        raise ValueError(f"`background`={background}; expected an exponent above 0.")
    options = {
        "iterations": iterations,
        "appearance": appearance,
        "smoothness": smoothness,
        "near": near,
        "colour": colour,
        "blur": blur,
    }

    def segmented(images: Images, seeds: jax.Array) -> jax.Array:
        rest = (1 - seeds) ** background
        pair = jnp.stack([rest, seeds], -1) / (rest + seeds)[..., None]
        pair = 1 - certainty + (2 * certainty - 1) * pair
        return dense_crf(images, pair, **options)[..., 1]

    return _refined(explain, side, segmented)


REFINEMENTS: dict[str, Callable[..., Explainer]] = {
    "walk": refine_by_walk,
    "crf": refine_by_crf,
}
"""Factories by name; each takes an explainer and its own settings."""

REFINEMENT_TITLES = {"walk": "random walk", "crf": "dense CRF"}


def parted(name: str) -> tuple[str, str]:
    """Divide the name of a method from that of its refinement, "" without one.

    Example:
        >>> from unlir_jax import saliency
        >>> saliency.parted("layer_cam@walk")
        ('layer_cam', 'walk')
    """
    plain, _, refinement = name.partition("@")
    return plain, refinement


def refinement_defaults(name: str) -> dict[str, Any]:
    """List the settings of a refinement with their defaults."""
    _, *own = inspect.signature(REFINEMENTS[name]).parameters.values()
    return {setting.name: setting.default for setting in own}


def _refined(
    explain: Explainer, side: int, refine: Callable[[Images, jax.Array], jax.Array]
) -> Explainer:
    if not 2 <= side <= 128:
        raise ValueError(f"`side`={side}; expected 2 to 128 pixels.")

    @jax.jit
    def seeds(saliency: Saliency, images: Images) -> jax.Array:
        height, width = images.shape[1:3]
        longer = max(height, width)
        shorter = min(1.0, side / longer)
        size = tuple(max(1, round(each * shorter)) for each in (height, width))
        return maps.normalize(maps.resize(saliency, size), "range")

    def explain_refined(variables, images, labels, *, key=None):
        images = jnp.asarray(images)
        saliency = explain(variables, images, labels, key=key)
        found = refine(images, seeds(saliency, images))
        flat, finite = maps.is_flat(saliency), jnp.isfinite(saliency).all((1, 2))
        found = jnp.where(flat[:, None, None], 0, found)
        return jnp.where(finite[:, None, None], found, jnp.nan)

    return explain_refined
