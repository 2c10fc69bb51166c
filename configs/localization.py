r"""Weakly supervised localisation: where explanations say that the object is.

    unlir evaluate --config configs/localization.py:model=mobilenet_v2 \
        --config.data.path=DIR --config.model.weights=FILE --workdir runs/located

DIR holds images with boxes or masks, see docs/guides/data.md. Boxes around masks are
drawn where there are no others. The threshold of a map is one for all images, and is
chosen on the other half of them; `--config.metric_options.corloc.chosen_on=evaluated`
chooses as published tables do. Controls are in every table, and paired intervals
compare each method with them.

Arguments: `model`, a name of `unlir models` or the workdir of a training; `methods` and
`metrics`, names joined by +; `data`, a name in `unlir_jax/data/presets.py`; `refine`,
`walk`, `crf`, both joined by +, or `none`: each method and the centre are scored
without and with it. `parts` is the class map of a network of `configs/train_parts.py`.

Classes are those that the network predicts, which images without classes have too.
`--config.labels=true` takes the data's own, with which top-1 and top-5 differ from
CorLoc.

Expected: see docs/results/localization.md.

Time: two network passes an image, method and metric with a pass; on two CPU cores half
a second an image for each refined method.
"""

from unlir_jax.evaluation import settings

METHODS = ("grad_cam", "layer_cam")
METRICS = (
    "max_iou",
    "corloc",
    "top1_localization",
    "top5_localization",
    "max_box_accuracy_v2",
    "pixel_average_precision",
    "pointing_game",
)


def get_config(argument=""):
    """Give the settings."""
    return settings.locating(argument, METHODS, METRICS, refine="walk")
