r"""Weakly supervised segmentation: seeds of explanations, refined by colours.

    unlir evaluate --config configs/segmentation.py:seeds=runs/seeds \
        --workdir runs/segmented
    unlir evaluate --config configs/segmentation.py:model=mobilenet_v2 \
        --config.data.path=DIR --config.model.weights=FILE --workdir runs/objects

The first command segments images with several classes each, by default synthetic
scenes. `configs/weak_detection.py:method=cam` makes `runs/seeds`: a classifier that
learns from classes of images alone. A map of each class that an image has is a seed.
`walk` spreads it along colours, and `crf` sets it against its background in a dense
CRF. Each pixel gets the class of the highest map, or the background where none is high
enough: as high as is best on the other half of the images. `miou` is the mean IoU of
the classes and the background over the pixels of all images, without void ones. The
centre is the control.

The last command segments one object in each image of DIR by the maps of any network.
There `miou` is the mean of object and background. With `--config.labels=true`, data
of several classes also give `class_miou`. Formats are in docs/guides/localize.md.

Arguments: `seeds`, the workdir of such a training, or else the arguments of
`configs/localization.py`; `refine` in both. Settings of a refinement stand under its
name: `--config.method_options.crf.background=2.0`.

Expected: on scenes of data seed 1 with `--config.image_size=448` in the training, mIoU
50.7 % plain, 59.4 % after the walk and 58.8 % after the CRF; see
docs/results/localization.md.

Time: on two CPU cores half a second an image for each refined method.
"""

from unlir_jax.evaluation import settings
from unlir_jax.weak_detection import segmentation

METHODS = ("layer_cam",)
METRICS = ("mean_iou", "max_iou")


def get_config(argument=""):
    """Give the settings."""
    if segmentation.is_asked(argument):
        return segmentation.choose(argument)
    return settings.locating(argument, METHODS, METRICS, refine="walk+crf")
