"""Keep the import of few-shot configs written for version 0.1."""

from unlir_jax.few_shot import settings as settings
