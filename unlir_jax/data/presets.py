"""Data sets by name, for the arguments of config files: `configs/train.py:data=cub`."""

from typing import Any

from ml_collections import config_dict

from unlir_jax.core import choices
from unlir_jax.core.document_types import Record

# Other names under which people know them.
SYNONYMS = {
    "cub": "caltech_birds2011",
    "cars": "cars196",
    "flowers": "oxford_flowers102",
    "pets": "oxford_iiit_pet",
    "dogs": "stanford_dogs",
    "imagenet": "imagenet2012",
}
PREPARED = (
    "caltech_birds2011",
    "cars196",
    "cifar10",
    "cifar100",
    "imagenet2012",
    "oxford_flowers102",
    "oxford_iiit_pet",
    "stanford_dogs",
)
SMALL = ("cifar10", "cifar100")


def choose_data(settings: Any, name: str) -> None:
    """Fill in the group `data` of a training's settings for a data set.

    `folder` and `npz` need `--config.data.path=…` still; for what tensorflow-datasets
    has prepared, it says where, if not in the usual place.

    Args:
        settings: See `defaults.training`.
        name: `folder`, `npz`, `elpv`, `synthetic_parts`, one of `PREPARED` or of
            `SYNONYMS`, or `tfds:NAME` for any other that is prepared.

    Raises:
        ValueError: There is no such data set.
    """
    name = SYNONYMS.get(name, name)
    options: Record = {}
    if name in PREPARED or name.startswith("tfds:"):
        source, options = "tfds", {"name": name.removeprefix("tfds:")}
    elif name in ("folder", "npz"):
        source, options = name, {"holdout": 0.0}
        options |= folder_options() if name == "folder" else {}
    elif name in ("elpv", "synthetic_parts"):
        source = name
        options = {"classes": 10} if name == "synthetic_parts" else {"share": 0.25}
    else:
        known = ("folder", "npz", "elpv", "synthetic_parts", *PREPARED, *SYNONYMS)
        wrong = f"`data`={name!r} is not a data set"
        source = choices.pick(name, known, wrong, "known: {}, tfds:NAME")
    settings.data.source = source
    settings.data.options = options
    if name in SMALL:
        settings.data.augment = "pad_crop(4)|flip"


def folder_options() -> dict[str, object]:
    """Give the options of a folder that say how what lies in it is read.

    `annotations`, `keypoints_outside` and `white_level` are as in `data.folder`;
    `mask` is auto, object, classes or trimap, see `data.masks.read_mask`; `ignore` is
    the stored value of void, none if there is none; `classes` names all classes, where
    the folder lacks some.
    """
    return {
        "annotations": "stored",
        "keypoints_outside": "refuse",
        "white_level": "auto",
        "mask": "auto",
        "ignore": config_dict.FieldReference(255, field_type=int),
        "classes": config_dict.placeholder(str),
    }
