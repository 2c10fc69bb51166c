"""Metrics: factories of pure functions from maps to one value an image."""

from unlir_jax.metrics.adcc import adcc, coherency
from unlir_jax.metrics.aopc import aopc_lerf, aopc_morf, symmetric_relevance_gain
from unlir_jax.metrics.average_scores import (
    average_drop,
    average_gain,
    average_increase,
    average_scores,
)
from unlir_jax.metrics.contract import contract
from unlir_jax.metrics.infidelity import infidelity
from unlir_jax.metrics.insertion_deletion import (
    deletion,
    insertion,
    insertion_minus_deletion,
)
from unlir_jax.metrics.localization import (
    box_accuracy,
    box_overlaps,
    localization_error,
    official_metric,
    saliency_metric,
)
from unlir_jax.metrics.pixels import (
    energy_pointing_game,
    f1,
    iou,
    pixel_average_precision,
    pointing_game,
    pooled_average_precision,
)
from unlir_jax.metrics.rankings import baseline_sensitivity
from unlir_jax.metrics.registry import (
    BOX_METRICS,
    EXPLAINER_METRICS,
    HIGHER_IS_BETTER,
    METRICS,
    REGION_METRICS,
)
from unlir_jax.metrics.road import road
from unlir_jax.metrics.sensitivity import max_sensitivity
from unlir_jax.metrics.sparseness import complexity, sparseness
from unlir_jax.metrics.thresholds import max_box_accuracy

__all__ = [
    "BOX_METRICS",
    "EXPLAINER_METRICS",
    "HIGHER_IS_BETTER",
    "METRICS",
    "REGION_METRICS",
    "adcc",
    "aopc_lerf",
    "aopc_morf",
    "average_drop",
    "average_gain",
    "average_increase",
    "average_scores",
    "baseline_sensitivity",
    "box_accuracy",
    "box_overlaps",
    "coherency",
    "complexity",
    "contract",
    "deletion",
    "energy_pointing_game",
    "f1",
    "infidelity",
    "insertion",
    "insertion_minus_deletion",
    "iou",
    "localization_error",
    "max_box_accuracy",
    "max_sensitivity",
    "official_metric",
    "pixel_average_precision",
    "pointing_game",
    "pooled_average_precision",
    "road",
    "saliency_metric",
    "sparseness",
    "symmetric_relevance_gain",
]
