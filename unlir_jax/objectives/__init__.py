"""Objectives of training: each is one file, and one line here."""

from unlir_jax.objectives.classify import classify as classify
from unlir_jax.objectives.interpretable_gradients import (
    interpretable_gradients as interpretable_gradients,
)
from unlir_jax.objectives.parts import parts as parts
from unlir_jax.objectives.registry import OBJECTIVES as OBJECTIVES
from unlir_jax.objectives.registry import USUAL as USUAL
from unlir_jax.objectives.registry import build as build
from unlir_jax.objectives.registry import options as options
