r"""Learn to find objects from the classes of images alone, with WSDDN and OICR.

    unlir train --config configs/weak_detection.py:backbone=mobilenet_v2 \
        --config.data.path=DIR --config.model.weights=FILE --workdir runs/detector
    unlir detect photo.jpg --model runs/detector --output found

DIR has images and `boxes.csv` with the columns path, split, class, x0, y0, x1 and y1, a
row for each object; or XML of Pascal VOC, or JSON of COCO, see docs/guides/detect.md.
Training reads the classes of an image and no box, so its images need none; boxes of the
split `test` are for testing. Without `data.path` there are 1,000 synthetic scenes of
one to three animals, and 300 to test with.

The network is frozen. Windows of several sizes are described by maps of one of its
layers; `--config.method=wsddn` leaves the refinements out, and `cam` draws boxes around
class maps, as a control. What all training images have is found by attention.

Arguments: `backbone`, a name of `unlir models`; `method`, oicr, wsddn or cam; `data`, a
data set of tensorflow-datasets, such as voc (2007, train and validation to learn from)
or voc/2012 (train to learn from, validation to test).

Follows Bilen and Vedaldi, *Weakly supervised deep detection networks*, CVPR 2016, and
Tang et al., *Multiple instance detection network with online instance classifier
refinement*, CVPR 2017, on kept features in place of a network that is trained.

Expected: on the synthetic scenes with MobileNetV2 and seed 0, mAP 55.0 % at an overlap
of 0.5 and CorLoc 70.0 %, and with `cam` 16.6 % and 39.8 %; on unseen scenes 63 % and
76 %, see docs/results/detection.md. No figures are published for frozen features.

Time: two minutes on two busy CPU cores.
"""

from unlir_jax.runtime import config
from unlir_jax.weak_detection import settings

VOC_2007 = ("voc", "voc/2007")


def get_config(argument=""):
    """Give the settings."""
    given = config.parse_arguments(
        argument, backbone="mobilenet_v2", method="oicr", data=""
    )
    found = settings.weak_detection()
    if given.data in VOC_2007:
        # As is usual; no other year has objects of the test.
        found.data.update(tfds=given.data, train="train+validation")
    elif given.data:
        found.data.update(tfds=given.data, test="validation")
    found.model.name = given.backbone
    found.method = given.method
    return found


def get_variants(argument=""):
    """Name three seeds."""
    del argument
    return {f"seed={seed}": {"seed": seed} for seed in range(3)}
