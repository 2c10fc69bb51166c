"""Robust accuracy and least distances of one network, on the images of a study."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import attacks
from unlir_jax.data import source
from unlir_jax.evaluation.study import measures
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.runtime.config import Settings
from unlir_jax.types import Images, Labels, PerImage

NORMS = ("linf", "l2")
ACCURACY, DISTANCE = "robust_accuracy", "least_distance"


class Budget(NamedTuple):
    """Say how far images may be moved."""

    norm: str
    epsilon: float

    @property
    def cell(self) -> str:
        """Name the accuracy under APGD within it."""
        return f"apgd/{ACCURACY}@{self.norm}={self.epsilon:.4g}"


def budgets(given: Settings) -> list[Budget]:
    """List the budgets of a study's settings, the smallest of each norm first."""
    return [Budget(norm, each) for norm in NORMS for each in sorted(given[norm])]


def measure(
    network: Pretrained,
    data: source.Source,
    places: np.ndarray,
    frame: measures.Frame,
    given: Settings,
    seed: int,
) -> dict[str, np.ndarray]:
    """Attack images of the test split.

    Accuracy counts images that the network gets right as they are, and after APGD
    within this and each smaller budget of the norm. The least distance is that of
    boundary projection in l2, of images that the network gets right and that it
    deceives.

    Args:
        network: The network.
        data: The test split.
        places: Places of the images.
        frame: Frame in which they are read.
        given: Group `robustness` of a study's settings.
        seed: Seed of random starts.

    Returns:
        By cell, `[images]`; NaN where there is no number.
    """
    key = jax.random.key(seed)

    def attack(images: Images, labels: Labels) -> dict[str, PerImage]:
        return dict(_attacked(network, images, labels, given, key))

    if not (budgets(given) or given.distance_steps):
        return {}
    return measures.each_image(attack, network, data, places, frame)


def _attacked(
    network: Pretrained,
    images: Images,
    labels: Labels,
    given: Settings,
    key: jax.Array,
) -> Iterator[tuple[str, PerImage]]:
    tell, variables = attacks.outcome(network.model), network.variables
    clean = tell(variables, images, images, labels)["success"]
    standing: dict[str, jax.Array] = {norm: ~clean for norm in NORMS}
    for budget in budgets(given):
        norm, steps = budget.norm, given.steps
        run = attacks.apgd(network.model, **budget._asdict(), steps=steps)
        changed = run(variables, images, labels, key=key)
        deceived = tell(variables, images, changed, labels)["success"]
        standing[norm] &= ~deceived
        yield budget.cell, standing[norm].astype(jnp.float32)
    if given.distance_steps:
        steps = given.distance_steps
        walk = attacks.boundary_projection(network.model, steps=steps, quantise=False)
        changed = walk(variables, images, labels, key=key)
        told = tell(variables, images, changed, labels)
        found = told["success"] & ~clean
        yield f"boundary_projection/{DISTANCE}", jnp.where(found, told["l2"], jnp.nan)
