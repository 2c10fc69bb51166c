"""Masks of classes next to images with objects, as Pascal VOC has them.

A value k above 0 is the k-th of the class names in alphabetical order, as in VOC; 0 is
the background and 255 void. A mask is `SegmentationClass/NAME.png` or `masks/NAME.png`
for an image `NAME.*`; both may repeat the folders of the image.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from unlir_jax.data import masks
from unlir_jax.data.object_entries import ALL, Listed
from unlir_jax.data.source import VOID

FOLDERS = "SegmentationClass", "masks"
READING = masks.Reading("classes", VOID, "classes")


def only(listed: Listed, split: str) -> Listed:
    """Keep the images of a split that have a mask.

    Raises:
        ValueError: None has one.
    """
    splits = listed.splits if split == ALL else {split: listed.splits[split]}
    every = list(dict.fromkeys(name for own in splits.values() for name in own))
    found = {name: _mask_of(listed.root, name) for name in every}
    there = {name: file for name, file in found.items() if file is not None}
    if not there:
        raise ValueError(
            f"No image of {split!r} of {listed.where} has a mask; expected "
            f"{' or '.join(f'{folder}/NAME.png' for folder in FOLDERS)} for NAME.jpg."
        )
    kept = {name: [p for p in own if p in there] for name, own in splits.items()}
    without = len(every) - len(there)
    said = f"{without} images of {split!r} of {listed.where} have no mask, and are left"
    notices = (*listed.notices, *([f"{said} out."] if without else ()))
    return listed._replace(splits=listed.splits | kept, masks=there, notices=notices)


def check(values: np.ndarray, classes: tuple[str, ...], name: str) -> None:
    """Refuse a mask with a value that is no class.

    Raises:
        ValueError: It has one.
    """
    known = values[values != VOID]
    most = int(known.max(initial=0))
    if most > len(classes):
        raise ValueError(
            f"The mask of {name!r} has the value {most}, but there are {len(classes)} "
            f"classes; expected 0, {VOID} for void, or 1 to {len(classes)}: the place "
            "of a class in alphabetical order."
        )


def _mask_of(root: Path, picture: str) -> Path | None:
    return next(filter(os.path.isfile, _places(root, picture)), None)


def _places(root: Path, picture: str) -> Iterator[Path]:
    stem = PurePosixPath(picture).with_suffix("")
    for folder in FOLDERS:
        yield root / folder / f"{stem}.png"
        yield root / folder / f"{stem.name}.png"
