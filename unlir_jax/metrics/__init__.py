"""Metrics: factories of pure functions from maps to one value an image.

Importing a metric registers it. The order of the imports is that of lists and tables.
"""

# isort: off
from unlir_jax.metrics.faithfulness.average_scores import (
    average_drop as average_drop,
    average_increase as average_increase,
    average_gain as average_gain,
    average_scores as average_scores,
)
from unlir_jax.metrics.faithfulness.insertion_deletion import (
    insertion as insertion,
    deletion as deletion,
    insertion_minus_deletion as insertion_minus_deletion,
)
from unlir_jax.metrics.faithfulness.road import road as road
from unlir_jax.metrics.faithfulness.aopc import (
    aopc_morf as aopc_morf,
    aopc_lerf as aopc_lerf,
    symmetric_relevance_gain as symmetric_relevance_gain,
)
from unlir_jax.metrics.faithfulness.saco import saco as saco
from unlir_jax.metrics.faithfulness.monotonicity import (
    monotonicity_correlation as monotonicity_correlation,
)
from unlir_jax.metrics.faithfulness.completeness import completeness as completeness
from unlir_jax.metrics.faithfulness.infidelity import infidelity as infidelity
from unlir_jax.metrics.faithfulness.sparseness import (
    complexity as complexity,
    effective_complexity as effective_complexity,
    entropy as entropy,
    sparseness as sparseness,
)
from unlir_jax.metrics.faithfulness.adcc import (
    coherency as coherency,
    adcc as adcc,
)
from unlir_jax.metrics.sanity.sensitivity import (
    max_sensitivity as max_sensitivity,
    average_sensitivity as average_sensitivity,
)
from unlir_jax.metrics.sanity.equivariance import equivariance as equivariance
from unlir_jax.metrics.localization.pixels import (
    pointing_game as pointing_game,
    energy_pointing_game as energy_pointing_game,
    f1 as f1,
    iou as iou,
    pixel_average_precision as pixel_average_precision,
    pooled_average_precision as pooled_average_precision,
)
from unlir_jax.metrics.localization.box_metrics import (
    saliency_metric as saliency_metric,
    official_metric as official_metric,
    localization_error as localization_error,
)
from unlir_jax.metrics.localization.box_overlap import (
    box_accuracy as box_accuracy,
    box_overlaps as box_overlaps,
)
from unlir_jax.metrics.localization.optimal_threshold import (
    max_iou as max_iou,
    max_f1 as max_f1,
    max_box_accuracy_v2 as max_box_accuracy_v2,
)
from unlir_jax.metrics.localization.correct_boxes import (
    corloc as corloc,
    top1_localization as top1_localization,
    top5_localization as top5_localization,
)
from unlir_jax.metrics.localization.mean_iou import (
    class_overlaps as class_overlaps,
    mean_iou as mean_iou,
    overlaps_of_counts as overlaps_of_counts,
    pooled_class_overlaps as pooled_class_overlaps,
    pooled_mean_iou as pooled_mean_iou,
    segments as segments,
)
from unlir_jax.metrics.localization.class_segments import (
    Highest as Highest,
    best_background as best_background,
    class_counts as class_counts,
    highest_classes as highest_classes,
    segmenter as segmenter,
)
from unlir_jax.metrics.localization.objects import (
    Located as Located,
    locator as locator,
    object_boxes as object_boxes,
    object_masks as object_masks,
)
from unlir_jax.metrics.localization.thresholds import (
    AtChosen as AtChosen,
    at_chosen as at_chosen,
    max_box_accuracy as max_box_accuracy,
)
from unlir_jax.metrics.sanity.randomization import (
    cascading_randomization as cascading_randomization,
    independent_randomization as independent_randomization,
    random_labels as random_labels,
)
from unlir_jax.statistics.rankings import baseline_sensitivity as baseline_sensitivity
from unlir_jax.metrics.spec import (
    BOX_METRICS as BOX_METRICS,
    EXPLAINER_METRICS as EXPLAINER_METRICS,
    FACTORIES as FACTORIES,
    HIGHER_IS_BETTER as HIGHER_IS_BETTER,
    METRICS as METRICS,
    NOT_FRACTIONS as NOT_FRACTIONS,
    OPTIMAL_THRESHOLD_BOX_METRICS as OPTIMAL_THRESHOLD_BOX_METRICS,
    OPTIMAL_THRESHOLD_REGION_METRICS as OPTIMAL_THRESHOLD_REGION_METRICS,
    REGION_METRICS as REGION_METRICS,
    SANITY_METRICS as SANITY_METRICS,
    SPECS as SPECS,
    Contract as Contract,
    MetricSpec as MetricSpec,
    Output as Output,
    contract as contract,
    higher_is_better as higher_is_better,
    metric as metric,
    output as output,
)

# Names of version 0.1.
CHOSEN_BOX_METRICS = OPTIMAL_THRESHOLD_BOX_METRICS
CHOSEN_REGION_METRICS = OPTIMAL_THRESHOLD_REGION_METRICS
PLAIN = NOT_FRACTIONS
