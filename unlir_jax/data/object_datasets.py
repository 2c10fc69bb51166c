"""Objects of data sets that tensorflow-datasets has prepared, such as Pascal VOC."""

import functools
import os
from typing import Any, NamedTuple

import numpy as np

from unlir_jax.data import datasets
from unlir_jax.data.object_entries import COCO, VOC07, VOC10
from unlir_jax.data.objects import ObjectImages
from unlir_jax.data.source import Source

KEY, IMAGE = "objects", "image"
BOXES = datasets.Known(boxes=(KEY, "bbox"), most=10**6)
# tensorflow-datasets divides VOC's pixels, which count from 1, by the size.
FROM_ONE = {"voc": BOXES._replace(first_pixel=1)}
HARD, CROWD = "is_difficult", "is_crowd"


def tfds_objects(
    name: str,
    split: str,
    *,
    learned: str = "train",
    with_boxes: bool = True,
    data_dir: str | os.PathLike[str] | None = None,
) -> ObjectImages:
    """Read a data set with `objects` that have a `bbox` and a `label`.

    Boxes of `voc` are as its XML says: tensorflow-datasets gives them a pixel late at
    the left and at the top. Objects that are difficult or a crowd need not be found.

    Args:
        name: Its name, such as "voc/2007" or "coco/2017".
        split: A split, or an expression such as "train+validation".
        learned: The split whose objects name the classes.
        with_boxes: Whether boxes are read.
        data_dir: Where it was prepared, see `datasets.tfds`.

    Raises:
        ValueError: There is no such data set or split, it has not been prepared, or
            has no such objects; or a class of this split has no training image.
    """
    builder = datasets.builder_of(name, data_dir)
    names = _names(builder, name)
    training = _objects(builder, name, learned)
    own = training if split == learned else _objects(builder, name, split)
    shown = {int(label) for each in training for label in each.labels[each.shows]}
    order = sorted(shown, key=names.__getitem__)
    places = np.full(len(names), -1)
    places[order] = np.arange(len(order))
    for label in sorted({int(label) for each in own for label in each.labels}):
        if places[label] < 0:
            raise ValueError(
                f"Class {names[label]!r} of data set {name!r} has no training image "
                f"in {learned!r}; expected one, or no object of it."
            )
    labels = tuple(places[each.labels] for each in own)
    classes = tuple(names[label] for label in order)
    present = np.zeros((len(own), len(classes)), bool)
    for row, each in zip(present, own, strict=True):
        row[places[each.labels[each.shows]]] = True
    ignored = tuple(each.ignored for each in own)
    images = _source(builder, split, classes, labels, with_boxes)
    rule = COCO
    if builder.name in FROM_ONE:
        year = getattr(builder.builder_config, "name", "")
        rule = VOC07 if year == "2007" else VOC10
    some = any(each.any() for each in ignored)
    return ObjectImages(images, labels, present, ignored if some else None, rule)


class _Own(NamedTuple):
    """Hold the objects of one image: classes, and which are ignored or show them."""

    labels: np.ndarray
    ignored: np.ndarray
    shows: np.ndarray


def _names(builder: Any, name: str) -> list[str]:
    """Name the classes of objects, by their numbers in the data set."""
    features = builder.info.features
    inner = getattr(features[KEY], "feature", {}) if KEY in features else {}
    lacking = [key for key in ("bbox", "label") if key not in inner]
    if IMAGE not in features or lacking:
        raise ValueError(
            f"Data set {name!r} has {', '.join(features)}; expected `{IMAGE}`, and "
            f"`{KEY}` with `bbox` and `label` of each."
        )
    return list(inner["label"].names)


def _objects(builder: Any, name: str, split: str) -> list[_Own]:
    """Read the classes of all objects of a split; images stay encoded."""
    found = []
    for record in datasets.records(builder, name, split, (IMAGE,)):
        given = record[KEY]
        labels = np.asarray(given["label"], np.int64).reshape(-1)
        hard, crowd = (
            np.asarray(given.get(key, np.zeros(len(labels))), bool).reshape(-1)
            for key in (HARD, CROWD)
        )
        found.append(_Own(labels, hard | crowd, ~hard))
    return found


def _source(
    builder: Any,
    split: str,
    classes: tuple[str, ...],
    labels: tuple[np.ndarray, ...],
    with_boxes: bool,
) -> Source:
    title, directory = f"{builder.name}/{split}", str(builder.data_dir)
    first = np.asarray([own[0] if len(own) else -1 for own in labels], np.int32)
    known = FROM_ONE.get(builder.name, BOXES) if with_boxes else datasets.Known()
    read = functools.partial(_read, directory, split, known, title, first)
    return Source(
        read,
        len(labels),
        classes,
        lambda index: f"{title}/{index}",
        first,
        ("boxes",) if with_boxes else (),
        boxes=max((len(own) for own in labels), default=1) or 1,
        fingerprint=functools.partial(datasets.fingerprint, directory),
    )


def _read(
    directory: str,
    split: str,
    known: datasets.Known,
    title: str,
    first: np.ndarray,
    index: int,
) -> dict:
    read = datasets.read_record
    found = read(directory, split, (IMAGE,), known, title, False, index)
    return found | {"label": int(first[index])}
