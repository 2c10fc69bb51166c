"""What a figure stands for: all that peers leave implicit and that changes it.

Two figures of one name compare only if their contracts are equal, so they are stored
beside the results.
"""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from unlir_jax.metrics import registry

PIXELS = "pixels in [0, 1], before the network's own mean and deviation"
NOTHING = "none"
ENLARGED = "bilinear to the image, half-pixel centres, no antialiasing"
ROW_MAJOR = "of equal values the first in row-major order"
RANGE = "range, (s - min) / (max - min), after enlarging"
ORDER_ONLY = "none: only the order of values matters"
RAW = "none: raw values after enlarging"
LABEL = "softmax probability of the label"
LEFT_OUT = "left out: of the counts, and of the map's maximum, mean and range"


class _Terms(NamedTuple):
    mask_space: str
    score: str
    baseline: str
    ties: str
    normalization: str
    flat_map: str
    void: str = NOTHING


_MASKED = _Terms(PIXELS, LABEL, "black", NOTHING, RANGE, "masks everything: n(0) = 0")
_ORDERED = _Terms(
    PIXELS, LABEL, "{baseline}", ROW_MAJOR, ORDER_ONLY, "all ties: row-major order"
)
_PATCHES = _Terms(
    PIXELS,
    "{score} of the label",
    "{baseline}, in patches of {patch} x {patch} pixels",
    "of patches with equal means the first in row-major order",
    "none: patches are ordered by the mean of the enlarged map",
    "all ties: row-major order",
)
_MAP = _Terms(NOTHING, NOTHING, NOTHING, NOTHING, "{scaling}, after enlarging", "0")
_REGION = _MAP._replace(void=LEFT_OUT)
_BOX = _Terms(
    NOTHING,
    NOTHING,
    NOTHING,
    "of parts with equally many pixels the first in row-major order",
    "above the mean of the enlarged map, largest part of {connectivity} neighbours",
    "no box: error 1",
)
_SANITY = _Terms(
    NOTHING,
    "{measure} of the map and those of redrawn networks, mean over {stages} stages",
    NOTHING,
    "equal values get the middle of their ranks",
    "ranks for spearman, range for ssim and hog, after enlarging",
    "0 if either is flat",
)
_CHOSEN = _REGION._replace(
    score="at the threshold that is best in the mean of {chosen_on} pictures",
    ties="values equal to a threshold are taken",
    flat_map="zeros: all at threshold 0, nothing above",
)
_TERMS: dict[str, _Terms] = {
    "average_drop": _MASKED,
    "average_increase": _MASKED._replace(ties="equal probabilities are no increase"),
    "average_gain": _MASKED,
    "insertion": _ORDERED,
    "deletion": _ORDERED,
    "insertion_minus_deletion": _ORDERED._replace(
        baseline="{insertion_baseline} for insertion, {deletion_baseline} for deletion"
    ),
    "road": _ORDERED._replace(
        score="{score} of the label",
        baseline="linear imputation from 8 neighbours, Gaussian noise of {noise}",
    ),
    "aopc_morf": _PATCHES,
    "aopc_lerf": _PATCHES,
    "symmetric_relevance_gain": _PATCHES,
    "infidelity": _Terms(
        PIXELS,
        "{score} of the label",
        "{baseline} for squares; noise has none ({perturbation} here)",
        NOTHING,
        RAW + ", times the factor that fits best if scaled ({scaled})",
        "foretells nothing: zeros",
    ),
    "complexity": _MAP._replace(normalization=RANGE),
    "sparseness": _MAP._replace(normalization="absolute values after enlarging"),
    "saliency_metric": _BOX._replace(
        mask_space="pixels in [0, 1], cut out and enlarged bilinearly",
        score="natural logarithm of the label's softmax probability",
        flat_map="the whole image is the box",
    ),
    "max_sensitivity": _Terms(
        PIXELS,
        "Euclidean norm of the change over that of the map, after enlarging",
        "uniform noise of at most {radius}, clipped to [0, 1]",
        NOTHING,
        RAW,
        "a map of zeros: relative to the other map, so 1 or 0; a constant one as it is",
    ),
    "coherency": _MASKED._replace(
        score="Pearson correlation of maps, (1 + r) / 2", flat_map="0 if either is flat"
    ),
    "adcc": _MASKED._replace(flat_map="0"),
    "pointing_game": _REGION._replace(
        ties=ROW_MAJOR, normalization=ORDER_ONLY, flat_map="points nowhere: a miss"
    ),
    "energy_pointing_game": _REGION,
    "f1": _REGION,
    "iou": _REGION._replace(
        ties="values equal to the threshold are outside", flat_map="nowhere: 0"
    ),
    "pixel_average_precision": _REGION._replace(
        ties="values equal to a threshold are taken", flat_map="zeros: all at once"
    ),
    "official_metric": _BOX._replace(score="predicted class, the first of equal ones"),
    "localization_error": _BOX,
    "box_accuracy": _MAP._replace(
        ties="values equal to the threshold are outside", flat_map="no box: 0"
    ),
    "cascading_randomization": _SANITY,
    "independent_randomization": _SANITY,
    "random_labels": _SANITY._replace(
        score="{measure} of the map and that of a network trained on random labels"
    ),
    "max_iou": _CHOSEN,
    "max_f1": _CHOSEN,
    "max_box_accuracy_v2": _CHOSEN._replace(
        ties="values equal to the threshold are outside",
        flat_map="no box: 0",
        void=NOTHING,
    ),
}


def contract(name: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Tell what a metric's value means, to be stored with it.

    Args:
        name: Of any metric in `registry`, with a variant or without.
        settings: What differs from the factory's defaults.

    Returns:
        `metric`; `mask_space` that masks act in; `score` that is compared; `baseline`
        that stands for "nothing there"; `ties`; `normalization` of the map;
        `flat_map`, what a map that says nothing gets; `void`, what becomes of pixels
        of which nobody says what they are; `resize` of the map; `higher_is_better`; and
        `settings`, all of them. Everything can be written as JSON.

    Raises:
        ValueError: An unknown metric, or a setting that it does not have.
    """
    plain = registry.base(name)
    if plain not in _TERMS:
        raise ValueError(
            f"`name`={name!r} is no metric; expected one of {', '.join(_TERMS)}."
        )
    values = _defaults(plain) | registry.variant(name)
    for setting, value in (settings or {}).items():
        if setting not in values:
            raise ValueError(
                f"`settings` has {setting!r}, which {name} does not have; expected "
                f"some of {', '.join(values) or 'none'}."
            )
        values[setting] = list(value) if isinstance(value, tuple) else value
    # Where a loop runs changes no value.
    values.pop("loop", None)
    terms = {
        key: text.format(**values) for key, text in _TERMS[plain]._asdict().items()
    }
    return {
        "metric": name,
        **terms,
        "resize": ENLARGED,
        "higher_is_better": registry.HIGHER_IS_BETTER[plain],
        "settings": values,
    }


def _defaults(name: str) -> dict[str, Any]:
    found = {}
    for setting in inspect.signature(registry.FACTORIES[name]).parameters.values():
        if setting.kind is inspect.Parameter.KEYWORD_ONLY:
            value = setting.default
            found[setting.name] = list(value) if isinstance(value, tuple) else value
    return found
