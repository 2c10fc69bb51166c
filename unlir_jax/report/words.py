"""The words of a report: names of methods and metrics, and what follows from scores."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from unlir_jax import metrics, saliency

METHODS = {
    "parts": "Parts",
    "cam": "CAM",
    "grad_cam": "Grad-CAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    "smooth_grad_cam_plus_plus": "Smooth Grad-CAM++",
    "xgrad_cam": "XGrad-CAM",
    "hires_cam": "HiRes-CAM",
    "elementwise_grad_cam": "Element-wise Grad-CAM",
    "layer_cam": "Layer-CAM",
    "score_cam": "Score-CAM",
    "ss_cam": "SS-CAM",
    "is_cam": "IS-CAM",
    "ablation_cam": "Ablation-CAM",
    "eigen_cam": "Eigen-CAM",
    "eigen_grad_cam": "EigenGrad-CAM",
    "full_grad": "FullGrad",
    "shapley_cam": "Shapley-CAM",
    "finer_cam": "Finer-CAM",
    "opti_cam": "Opti-CAM",
    "gradient": "Gradient",
    "occlusion": "Occlusion",
    "rise": "RISE",
    "lime": "LIME",
    "kernel_shap": "KernelSHAP",
    "meaningful_perturbation": "Meaningful perturbation",
    "extremal_perturbation": "Extremal perturbation",
    "input_x_gradient": "Input × gradient",
    "integrated_gradients": "Integrated gradients",
    "blur_integrated_gradients": "Blur integrated gradients",
    "gradient_shap": "GradientSHAP",
    "smooth_grad": "SmoothGrad",
    "var_grad": "VarGrad",
    "square_grad": "SquareGrad",
    "guided_backpropagation": "Guided backpropagation",
    "deconvolution": "Deconvolution",
    "guided_grad_cam": "Guided Grad-CAM",
    "fake_cam": "Fake-CAM",
    "random": "Random cells",
    "center": "Centre",
    "edges": "Edges",
}


class Column(NamedTuple):
    """Describe one score for people."""

    title: str
    short: str
    meaning: str
    caution: str


COLUMNS = {
    "average_drop": Column(
        "Average drop",
        "Drop",
        "The network sees the picture times the map. How much of the class's "
        "probability is lost? Lower is better.",
        "A map that keeps everything loses nothing: Fake-CAM, which marks every pixel "
        "but one, is close to perfect here. A low drop alone proves nothing.",
    ),
    "average_increase": Column(
        "Average increase",
        "Increase",
        "Does the picture times the map get more probability than the whole picture? "
        "For one picture 100 or 0; over many, the share of them. Higher is better.",
        "It counts the smallest rise like the largest, and where the network is nearly "
        "certain already there is hardly room to rise.",
    ),
    "average_gain": Column(
        "Average gain",
        "Gain",
        "How much of the probability that was missing does the picture times the map "
        "win? Higher is better.",
        "Opti-CAM searches for the map whose masked picture scores highest, which is "
        "what drop, increase and gain measure: on these three it marks its own work.",
    ),
    "insertion": Column(
        "Insertion",
        "Insertion",
        "A blurred picture becomes sharp, the most important pixels first. The area "
        "under the class's probability: the earlier it rises, the higher. Higher is "
        "better.",
        "Half-sharp pictures are unlike those that the network was trained on, and a "
        "compact blob does well where photographers put things: compare with Centre.",
    ),
    "deletion": Column(
        "Deletion",
        "Deletion",
        "The picture turns black, the most important pixels first. The area under the "
        "class's probability: the sooner it falls, the lower. Lower is better.",
        "Black patches confuse a network by themselves, so scattered marks, such as "
        "Edges, delete well without explaining anything.",
    ),
}
"""The metrics in the order of the tables."""

TITLES = {
    "insertion_minus_deletion": "Insertion − deletion",
    "road": "ROAD",
    "aopc_morf": "AOPC, most relevant first",
    "aopc_lerf": "AOPC, least relevant first",
    "symmetric_relevance_gain": "Symmetric relevance gain",
    "infidelity": "Infidelity",
    "complexity": "Complexity",
    "sparseness": "Sparseness",
    "saliency_metric": "Saliency metric",
    "max_sensitivity": "Max-sensitivity",
    "coherency": "Coherency",
    "adcc": "ADCC",
    "pointing_game": "Pointing game",
    "energy_pointing_game": "Energy pointing game",
    "f1": "F1",
    "iou": "IoU",
    "pixel_average_precision": "Average precision of pixels",
    "official_metric": "Official metric",
    "localization_error": "Localisation error",
    "box_accuracy": "Box accuracy",
    "max_iou": "IoU at the best threshold",
    "max_f1": "F1 at the best threshold",
    "max_box_accuracy_v2": "MaxBoxAccV2",
    "pxap": "PxAP",
    "cascading_randomization": "Cascading randomisation",
    "independent_randomization": "Independent randomisation",
    "random_labels": "Random labels",
}
"""Of metrics that are in no table of `unlir explain`."""

MEASURES = {"ssim": "SSIM", "spearman": "rank correlation", "hog": "HOG"}

SHOWN = "masked_probability"
CURVES = ("insertion", "deletion")


def method_title(name: str) -> str:
    """Name a method for people."""
    return METHODS.get(name, name.replace("_", " "))


def metric_title(name: str) -> str:
    """Name a metric, with its variant, for people."""
    plain, _, variant = name.partition("@")
    known = COLUMNS.get(plain)
    title = known.title if known else TITLES.get(plain, plain.replace("_", " "))
    return f"{title} ({MEASURES.get(variant, variant)})" if variant else title


def number(metric: str, value: float | None) -> str:
    """Print a value: fractions per cent, others as they are with three digits."""
    if metric.partition("@")[0] not in metrics.PLAIN:
        return percent(value)
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3g}"


def percent(value: float | None) -> str:
    """Print a fraction per cent with one decimal."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f}"


def arrow(metric: str) -> str:
    """Point to where a metric is better."""
    return "↑" if metrics.higher_is_better(metric) else "↓"


def better(metric: str, first: float, second: float) -> bool:
    """Tell whether one value is better than another as printed: a tie is not.

    A value that is not finite is worse than any other.
    """
    if not (math.isfinite(first) and math.isfinite(second)):
        return math.isfinite(first)
    first, second = round(1000 * first) / 1000, round(1000 * second) / 1000
    return first > second if metrics.HIGHER_IS_BETTER[metric] else first < second


def best(metric: str, rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Name the rows with the best printed value; none where all are equal."""
    winners = [
        name
        for name, row in rows.items()
        if not any(
            better(metric, other[metric], row[metric]) for other in rows.values()
        )
    ]
    return [] if len(winners) == len(rows) else winners


def warnings(
    methods: Mapping[str, Mapping[str, Any]],
    controls: Mapping[str, Mapping[str, Any]],
    probability: float = 1.0,
) -> list[str]:
    """Say in sentences what should make a reader doubt the maps of one picture.

    Args:
        methods: Scores by metric, and `flat`, of each method asked for.
        controls: The same of the controls beside them.
        probability: What the network gives to the class on the whole picture.
    """
    known = set(saliency.CONTROLS)
    rivals = dict(controls) | {name: methods[name] for name in methods if name in known}
    found = [
        f"{method_title(name)} gave a flat map, in which no pixel stands out: its "
        "scores say nothing."
        for name, row in methods.items()
        if row["flat"]
    ]
    if percent(probability) == "0.0":
        found.append(
            "The network gives this class next to no probability: there is little to "
            "explain, and differences between scores mean nothing."
        )
        return found
    for metric in CURVES:
        rival = _strongest(metric, rivals)
        beaten = [
            f"{method_title(name)} ({percent(row[metric])})"
            for name, row in methods.items()
            if rival is not None
            and not (name in known or row["flat"])
            and not better(metric, row[metric], rivals[rival][metric])
        ]
        if rival is not None and beaten:
            verb = "does" if len(beaten) == 1 else "do"
            control = f"{method_title(rival)} ({percent(rivals[rival][metric])})"
            found.append(
                f"On {metric}, {enumerate_names(beaten)} {verb} not beat {control}, "
                "which knows nothing of the network."
            )
    return found


def enumerate_names(names: Sequence[str]) -> str:
    """Join names as a sentence does."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _strongest(metric: str, rows: Mapping[str, Mapping[str, Any]]) -> str | None:
    if not rows:
        return None
    sign = 1 if metrics.HIGHER_IS_BETTER[metric] else -1
    return max(rows, key=lambda name: sign * rows[name][metric])
