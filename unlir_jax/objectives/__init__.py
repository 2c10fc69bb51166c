"""What training minimises: an objective is made of a network's `apply` and settings."""

from unlir_jax.objectives.classify import classify
from unlir_jax.objectives.parts import parts

OBJECTIVES = {"classify": classify, "parts": parts}
