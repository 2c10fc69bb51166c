r"""Weakly supervised segmentation: seeds of explanations, refined by colours.

    unlir evaluate --config configs/segmentation.py:model=mobilenet_v2 \
        --config.data.path=DIR --config.model.weights=FILE --workdir runs/segmented

DIR holds images with masks, see docs/guides/data.md. A map is a seed. `walk` spreads it
along colours, and `crf` sets it against its background in a dense CRF. The object is
what lies above one threshold, which is chosen on the other half of the images.
`miou` is the mean IoU of object and background over the pixels of all images, without
void ones. With `--config.labels=true`, images of several classes also give
`class_miou`, the mean over classes and background.

Arguments: as in `configs/localization.py`. Settings of a refinement stand under its
name: `--config.method_options.crf.background=2.0`.

Expected: see docs/results/localization.md.

Time: on two CPU cores half a second an image for each refined method.
"""

from unlir_jax.evaluation import settings

METHODS = ("layer_cam",)
METRICS = ("mean_iou", "max_iou")


def get_config(argument=""):
    """Give the settings."""
    return settings.locating(argument, METHODS, METRICS, refine="walk+crf")
