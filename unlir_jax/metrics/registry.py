"""Every metric by name, with the arguments that it takes and its direction."""

from collections.abc import Callable

from unlir_jax.metrics.adcc import adcc, coherency
from unlir_jax.metrics.aopc import aopc_lerf, aopc_morf, symmetric_relevance_gain
from unlir_jax.metrics.average_scores import (
    average_drop,
    average_gain,
    average_increase,
)
from unlir_jax.metrics.infidelity import infidelity
from unlir_jax.metrics.insertion_deletion import (
    deletion,
    insertion,
    insertion_minus_deletion,
)
from unlir_jax.metrics.localization import (
    box_accuracy,
    localization_error,
    official_metric,
    saliency_metric,
)
from unlir_jax.metrics.pixels import (
    LocalizationMetric,
    energy_pointing_game,
    f1,
    iou,
    pixel_average_precision,
    pointing_game,
)
from unlir_jax.metrics.road import road
from unlir_jax.metrics.sensitivity import max_sensitivity
from unlir_jax.metrics.sparseness import complexity, sparseness
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
}
