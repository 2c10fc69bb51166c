"""Objectives of training: each is one file, and one line here."""

from unlir_jax.objectives.adl import adl as adl
from unlir_jax.objectives.adversarial import adversarial as adversarial
from unlir_jax.objectives.classify import classify as classify
from unlir_jax.objectives.gaussian_noise import gaussian_noise as gaussian_noise
from unlir_jax.objectives.gradient_penalties import gradient_penalty as gradient_penalty
from unlir_jax.objectives.gradient_penalties import jacobian_penalty as jacobian_penalty
from unlir_jax.objectives.gradient_penalties import right_reasons as right_reasons
from unlir_jax.objectives.hide_and_seek import hide_and_seek as hide_and_seek
from unlir_jax.objectives.interpretable_gradients import (
    interpretable_gradients as interpretable_gradients,
)
from unlir_jax.objectives.parts import parts as parts
from unlir_jax.objectives.registry import OBJECTIVES as OBJECTIVES
from unlir_jax.objectives.registry import USUAL as USUAL
from unlir_jax.objectives.registry import build as build
from unlir_jax.objectives.registry import options as options
from unlir_jax.objectives.saliency_guided import saliency_guided as saliency_guided
