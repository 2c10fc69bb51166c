"""Metrics: factories of pure functions from maps to one value an image."""

from unlir_jax.metrics.adcc import adcc, coherency
from unlir_jax.metrics.aopc import aopc_lerf, aopc_morf, symmetric_relevance_gain
from unlir_jax.metrics.average_scores import (
    average_drop,
    average_gain,
    average_increase,
    average_scores,
)
from unlir_jax.metrics.chosen import max_box_accuracy_v2, max_f1, max_iou
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
from unlir_jax.metrics.randomization import (
    cascading_randomization,
    independent_randomization,
    random_labels,
)
from unlir_jax.metrics.registry import (
    BOX_METRICS,
    CHOSEN_BOX_METRICS,
    CHOSEN_REGION_METRICS,
    EXPLAINER_METRICS,
    FACTORIES,
    HIGHER_IS_BETTER,
    METRICS,
    PLAIN,
    REGION_METRICS,
    SANITY_METRICS,
    higher_is_better,
)
from unlir_jax.metrics.road import road
from unlir_jax.metrics.sensitivity import max_sensitivity
from unlir_jax.metrics.sparseness import complexity, sparseness
from unlir_jax.metrics.thresholds import at_chosen, max_box_accuracy
from unlir_jax.statistics.rankings import baseline_sensitivity

__all__ = [
    "BOX_METRICS",
    "CHOSEN_BOX_METRICS",
    "CHOSEN_REGION_METRICS",
    "EXPLAINER_METRICS",
    "FACTORIES",
    "HIGHER_IS_BETTER",
    "METRICS",
    "PLAIN",
    "REGION_METRICS",
    "SANITY_METRICS",
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
    "at_chosen",
    "cascading_randomization",
    "independent_randomization",
    "random_labels",
    "max_iou",
    "max_f1",
    "max_box_accuracy_v2",
    "higher_is_better",
]
