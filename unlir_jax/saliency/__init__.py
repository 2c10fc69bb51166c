"""Explainers: factories of pure functions from images and labels to raw maps."""

from collections.abc import Callable

from unlir_jax.saliency.cam import cam, grad_cam
from unlir_jax.saliency.controls import center, edges, fake_cam, random
from unlir_jax.saliency.opti_cam import opti_cam
from unlir_jax.types import Explainer

METHODS: dict[str, Callable[..., Explainer]] = {
    "cam": cam,
    "grad_cam": grad_cam,
    "opti_cam": opti_cam,
    "fake_cam": fake_cam,
    "random": random,
    "center": center,
    "edges": edges,
}
"""Factories by name; each takes the cut model and its own hyper-parameters."""

CONTROLS = ("fake_cam", "random", "center", "edges")
"""The methods that know nothing of the network."""

__all__ = [
    "CONTROLS",
    "METHODS",
    "cam",
    "center",
    "edges",
    "fake_cam",
    "grad_cam",
    "opti_cam",
    "random",
]
