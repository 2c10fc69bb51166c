"""Metrics: factories of pure functions from maps to one value an image."""

from collections.abc import Callable

from unlir_jax.metrics.average_scores import (
    average_drop,
    average_gain,
    average_increase,
    average_scores,
)
from unlir_jax.metrics.insertion_deletion import deletion, insertion
from unlir_jax.types import Metric

METRICS: dict[str, Callable[..., Metric]] = {
    "average_drop": average_drop,
    "average_increase": average_increase,
    "average_gain": average_gain,
    "insertion": insertion,
    "deletion": deletion,
}
"""Factories by name; each takes the cut model and its own settings."""

HIGHER_IS_BETTER = {
    "average_drop": False,
    "average_increase": True,
    "average_gain": True,
    "insertion": True,
    "deletion": False,
}

__all__ = [
    "HIGHER_IS_BETTER",
    "METRICS",
    "average_drop",
    "average_gain",
    "average_increase",
    "average_scores",
    "deletion",
    "insertion",
]
