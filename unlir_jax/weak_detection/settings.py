"""Every setting of a weakly supervised detector; configs change some of them."""

from typing import cast

from ml_collections import ConfigDict

from unlir_jax.core.document_types import Record
from unlir_jax.training import defaults

KIND = "weak_detection"
METHODS = ("oicr", "wsddn", "cam")


def weak_detection() -> ConfigDict:
    """Give the settings, for a config file to fill in."""
    whole = defaults.training()
    return ConfigDict(
        {
            "kind": KIND,
            # Seed of weights, and of the order of images.
            "seed": 0,
            # oicr: wsddn and its refinements; wsddn; cam: boxes around class maps.
            "method": "oicr",
            "data": _data(cast(ConfigDict, whole.data)),
            "model": {
                "name": "mobilenet_v2",
                "weights": cast(ConfigDict, whole.model).get_ref("weights"),
                "weights_key": "",
                # Path of the module whose maps describe regions; "": of the last stage
                # but one, and for class maps those that the network classifies by.
                "layer": "",
            },
            **_detector(),
            "batch_size": 16,
            "steps": 1000,
            "optimizer": {"learning_rate": 1e-2, "weight_decay": 1e-4},
            # Largest overlap of two boxes of a class.
            "nms": 0.3,
            # A box becomes the mean of those that overlap it so far, by their scores;
            # 1 leaves it as it is.
            "voting": 0.5,
            # Rule of average precision: coco, voc07 or voc10; auto for that which is
            # usual for such data.
            "rule": "auto",
            # Images drawn with their boxes.
            "gallery": 12,
        }
    )


def _data(whole: ConfigDict) -> Record:
    """Give the settings of images and their objects."""
    return {
        # A folder with boxes of any format, see `data.objects.object_folder`;
        # "": synthetic scenes.
        "path": whole.get_ref("path"),
        # Of JSON of COCO: a folder of images that is not that of the file.
        "images": "",
        # A data set of tensorflow-datasets with objects, such as voc/2007;
        # `path` is then the folder where it was prepared.
        "tfds": "",
        # Splits by name; "" for no test.
        "train": "train",
        "test": "test",
        # Share of images to test with, where nothing tells splits.
        "holdout": 0.0,
        # Number of the first column and row in XML: 1 as in VOC, 0 for edges.
        "first_pixel": 1,
        # stored or seen, see `data.objects.object_folder`.
        "frame": "stored",
        "white_level": "auto",
        # Synthetic scenes: how many, and the seed of classes and scenes.
        "scenes": {
            "train": 1000,
            "test": 300,
            "image_size": 96,
            "classes": 4,
            "seed": 0,
        },
        # Which change of files is refused on resuming: times or sizes.
        "compare": "times",
    }


def _detector() -> Record:
    """Give the settings of regions and of what is learned on them."""
    return {
        # Images are stretched to a square of this side; 0: that of the network.
        "image_size": 0,
        # Whitened directions of the maps, fitted to so many training images; class
        # maps are not whitened.
        "features": {"dimensions": 128, "images": 200},
        # Regions, see `detection.dense_windows`. Each is described by how it
        # differs from a context that is so many times its size, times its area to
        # the power of `exponent`.
        "windows": {
            # Square roots of the share of an image; () for `setup.scales`.
            "scales": (),
            "ratios": (0.75, 1.2, 1.9),
            "step": 0.25,
            "context": 1.5,
            "exponent": 0.6,
            # The exponent for attention, see `heads.make`.
            "attention": 0.1,
        },
        "wsddn": {
            # Divisor of the logits over regions.
            "temperature": 2.0,
            # Whether regions may be of no class, as a further output.
            "background": True,
            # Weight of the spatial regulariser; the authors have 1e-4.
            "regulariser": 0.0,
        },
        "oicr": {
            "stages": 3,
            "foreground": 0.6,
            "background": 0.1,
            # Whether the best box of a class is taken from the other classes.
            "exclusive": True,
            # Factor of the first loss.
            "first": 3.0,
            # Whether background and objects weigh alike, however many regions.
            "balanced": True,
            # Whether each stage waits until the one before has learned.
            "in_turn": True,
        },
    }
