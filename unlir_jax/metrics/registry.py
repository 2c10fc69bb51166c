"""Every metric by name, with the arguments that it takes and its direction.

A name may be followed by `@` and a variant: `insertion@mean` is insertion from the mean
colour, `cascading_randomization@hog` compares histograms; see `VARIANTS`.
"""

from collections.abc import Callable
from typing import Any

from unlir_jax.metrics.faithfulness.adcc import adcc, coherency
from unlir_jax.metrics.faithfulness.aopc import (
    aopc_lerf,
    aopc_morf,
    symmetric_relevance_gain,
)
from unlir_jax.metrics.faithfulness.average_scores import (
    average_drop,
    average_gain,
    average_increase,
)
from unlir_jax.metrics.faithfulness.infidelity import infidelity
from unlir_jax.metrics.faithfulness.insertion_deletion import (
    deletion,
    insertion,
    insertion_minus_deletion,
)
from unlir_jax.metrics.faithfulness.road import road
from unlir_jax.metrics.faithfulness.sparseness import complexity, sparseness
from unlir_jax.metrics.localization.box_metrics import (
    box_accuracy,
    localization_error,
    official_metric,
    saliency_metric,
)
from unlir_jax.metrics.localization.optimal_threshold import (
    max_box_accuracy_v2,
    max_f1,
    max_iou,
)
from unlir_jax.metrics.localization.pixels import (
    LocalizationMetric,
    energy_pointing_game,
    f1,
    iou,
    pixel_average_precision,
    pointing_game,
)
from unlir_jax.metrics.sanity.randomization import (
    SanityMetric,
    cascading_randomization,
    independent_randomization,
    random_labels,
)
from unlir_jax.metrics.sanity.sensitivity import max_sensitivity
from unlir_jax.types import Metric

METRICS: dict[str, Callable[..., Metric]] = {
    "average_drop": average_drop,
    "average_increase": average_increase,
    "average_gain": average_gain,
    "insertion": insertion,
    "deletion": deletion,
    "insertion_minus_deletion": insertion_minus_deletion,
    "road": road,
    "aopc_morf": aopc_morf,
    "aopc_lerf": aopc_lerf,
    "symmetric_relevance_gain": symmetric_relevance_gain,
    "infidelity": infidelity,
    "complexity": complexity,
    "sparseness": sparseness,
    "saliency_metric": saliency_metric,
}
"""Factories by name; each takes the cut model and its own settings."""

EXPLAINER_METRICS: dict[str, Callable[..., Metric]] = {
    "max_sensitivity": max_sensitivity,
    "coherency": coherency,
    "adcc": adcc,
}
"""Factories that take the explainer too, after the cut model: they make new maps."""

REGION_METRICS: dict[str, Callable[..., LocalizationMetric]] = {
    "pointing_game": pointing_game,
    "energy_pointing_game": energy_pointing_game,
    "f1": f1,
    "iou": iou,
    "pixel_average_precision": pixel_average_precision,
}
"""Factories of metrics whose fifth argument is the object's mask, see `boxes.fill`."""

BOX_METRICS: dict[str, Callable[..., LocalizationMetric]] = {
    "official_metric": official_metric,
    "localization_error": localization_error,
    "box_accuracy": box_accuracy,
}
"""Factories of metrics whose fifth argument is the object's boxes."""

SANITY_METRICS: dict[str, Callable[..., SanityMetric]] = {
    "cascading_randomization": cascading_randomization,
    "independent_randomization": independent_randomization,
    "random_labels": random_labels,
}
"""Factories that take the explainer too; the fifth argument is another network's."""

CHOSEN_REGION_METRICS: dict[str, Callable[..., LocalizationMetric]] = {
    "max_iou": max_iou,
    "max_f1": max_f1,
}
CHOSEN_BOX_METRICS: dict[str, Callable[..., LocalizationMetric]] = {
    "max_box_accuracy_v2": max_box_accuracy_v2,
}
"""Factories of metrics that give a curve, see `thresholds.at_chosen`."""

FACTORIES: dict[str, Callable[..., Any]] = {
    **METRICS,
    **EXPLAINER_METRICS,
    **REGION_METRICS,
    **BOX_METRICS,
    **SANITY_METRICS,
    **CHOSEN_REGION_METRICS,
    **CHOSEN_BOX_METRICS,
}
"""All of them."""

VARIANTS = {
    "insertion": "baseline",
    "deletion": "baseline",
    "aopc_morf": "baseline",
    "aopc_lerf": "baseline",
    "symmetric_relevance_gain": "baseline",
    "infidelity": "baseline",
    "cascading_randomization": "measure",
    "independent_randomization": "measure",
    "random_labels": "measure",
}
"""The setting that a variant sets."""

PLAIN = frozenset(
    {"infidelity", "max_sensitivity", "saliency_metric"},
)
"""Metrics whose values are no fractions."""

HIGHER_IS_BETTER = {
    "average_drop": False,
    "average_increase": True,
    "average_gain": True,
    "insertion": True,
    "deletion": False,
    "insertion_minus_deletion": True,
    "road": True,
    "aopc_morf": True,
    "aopc_lerf": False,
    "symmetric_relevance_gain": True,
    "infidelity": False,
    "complexity": False,
    "sparseness": True,
    "saliency_metric": False,
    "max_sensitivity": False,
    "coherency": True,
    "adcc": True,
    "pointing_game": True,
    "energy_pointing_game": True,
    "f1": True,
    "iou": True,
    "pixel_average_precision": True,
    "official_metric": False,
    "localization_error": False,
    "box_accuracy": True,
    "cascading_randomization": False,
    "independent_randomization": False,
    "random_labels": False,
    "max_iou": True,
    "max_f1": True,
    "max_box_accuracy_v2": True,
    "pxap": True,
}


def base(name: str) -> str:
    """Name a metric without its variant."""
    return name.partition("@")[0]


def variant(name: str) -> dict[str, str]:
    """Give the setting that a name's variant sets: `{"baseline": "mean"}`, or nothing.

    Raises:
        ValueError: The metric has no variants.
    """
    plain, _, value = name.partition("@")
    if not value:
        return {}
    if plain not in VARIANTS:
        raise ValueError(
            f"`metrics` has {name!r}, but {plain!r} has no variants; expected one of "
            f"{', '.join(VARIANTS)}."
        )
    return {VARIANTS[plain]: value}


def higher_is_better(name: str) -> bool:
    """Tell a metric's direction, whatever its variant; unknown ones count upwards."""
    return HIGHER_IS_BETTER.get(base(name), True)
