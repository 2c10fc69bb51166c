"""Images with several objects: folders with boxes of any format, and scenes."""

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlir_jax.data import (
    annotations,
    coco_json,
    folder,
    frames,
    levels,
    object_masks,
    object_tables,
    synthetic_scenes,
    voc_xml,
)
from unlir_jax.data.annotations import Notes
from unlir_jax.data.object_entries import ALL, COCO, Entry, Listed, Wanted
from unlir_jax.data.source import Example, Source
from unlir_jax.storage import paths


class ObjectImages(NamedTuple):
    """Hold images and the classes of their objects.

    Attributes:
        images: The images, with `boxes` where they were asked for. The label of one is
            the class of its first object, -1 without any.
        labels: The class of each object of each image, in the order of its boxes.
        present: Which classes each image has, bool `[images, classes]`. A difficult
            object of VOC does not count, as in its authors' lists.
        ignored: Objects of each image that need not be found; None if there are none.
        rule: Rule of average precision that is usual for such data.
    """

    images: Source
    labels: tuple[np.ndarray, ...]
    present: np.ndarray
    ignored: tuple[np.ndarray, ...] | None = None
    rule: str = COCO


def object_folder(
    path: str | os.PathLike[str],
    split: str,
    *,
    learned: str = "train",
    with_boxes: bool = True,
    with_masks: bool = False,
    images: str | os.PathLike[str] = "",
    holdout: float = 0.0,
    seed: int = 0,
    first_pixel: int = 1,
    frame: str = frames.STORED,
    white_level: levels.WhiteLevel = levels.AUTO,
) -> ObjectImages:
    """Read a folder of images with their objects, in one of three formats.

    - `boxes.csv`, a table with the columns `path`, `split`, `class`, `x0`, `y0`, `x1`
      and `y1`, and a row for each object. Boxes are corners in pixels: x1 and y1 are
      edges, not a width and a height. A row without class says that an image has no
      object. Images without a row are not used.
    - JSON of COCO, see `coco_json.read`; `path` may also be such a file.
    - XML of Pascal VOC, see `voc_xml.read`.

    Args:
        path: The folder.
        split: Which images; "all" for every split.
        learned: The split whose objects name the classes.
        with_boxes: Whether boxes are read. Without, objects need no boxes.
        with_masks: Whether masks are read, see `object_masks`. Then images without one
            are left out.
        images: For JSON of COCO, the folder of the images, if not that of the file.
        holdout: Share of each class, in [0, 1), that is "test" where nothing tells
            splits; the rest is "train".
        seed: Seed of `holdout`.
        first_pixel: Number of the first column and row in XML: 1 as in VOC, or 0 for
            edges.
        frame: "stored": boxes are places in the pixels of the file; "seen": in the
            upright photo.
        white_level: See `folder.folder`.

    Raises:
        ValueError: The folder has none of these, or a file lacks an image, contradicts
            itself or lacks a box; or a class of this split has no training image.
    """
    frames.check(frame, called=frames.OBJECTS)
    white_level = levels.check_white_level(white_level)
    if not 0 <= holdout < 1:
        raise ValueError(f"`holdout`={holdout} is a share; expected a value in [0, 1).")
    if first_pixel not in (0, 1):
        raise ValueError(f"`first_pixel`={first_pixel}; expected 1, or 0 for edges.")
    wanted = Wanted(split, learned, with_boxes)
    if os.fspath(images):
        paths.check(images, "images")
    root = paths.check(path, "path").absolute()
    listed = _reader(root, images, first_pixel)(wanted)
    listed = _with_splits(listed, wanted, holdout, seed)
    if with_masks:
        listed = object_masks.only(listed, split)
    return _assemble(listed, wanted, frame, white_level)


def _reader(
    root: Path, images: str | os.PathLike[str], first_pixel: int
) -> Callable[[Wanted], Listed]:
    """Tell the format of the boxes of a folder."""
    is_file = os.path.isfile(root)
    if is_file and root.suffix.lower() != ".json":
        raise ValueError(
            f"{str(root)!r} is a file; expected a folder, or a file of JSON of COCO."
        )
    if not is_file:
        folder.existing(root)
    if not (is_file or images) and object_tables.fits(root):
        return functools.partial(object_tables.read, root)
    if is_file or images or coco_json.fits(root):
        return functools.partial(coco_json.read, root, images=images)
    if voc_xml.fits(root):
        return functools.partial(voc_xml.read, root, first_pixel=first_pixel)
    raise ValueError(
        f"Folder {str(root)!r} has no {object_tables.TABLE}, no XML of Pascal VOC and "
        "no JSON of COCO; expected a table with the columns "
        f"{', '.join((*object_tables.NEEDED, *annotations.BOX))}, or one of these."
    )


def _with_splits(listed: Listed, wanted: Wanted, holdout: float, seed: int) -> Listed:
    """Hold images out for a test where nothing tells splits."""
    if "" not in listed.splits:
        if holdout:
            raise ValueError(
                f"`holdout`={holdout} is for images without splits, but {listed.where} "
                f"has {', '.join(sorted(listed.splits))}; expected `holdout`=0."
            )
        return listed
    pictures = listed.splits[""]
    wanted.among(("train", "test"), listed.where)
    if not holdout and ALL != wanted.split:
        raise ValueError(
            f"`split`={wanted.split!r} is not in {listed.where}, which has no splits; "
            "expected --config.data.holdout=0.2 to make train and test."
        )
    first = {entry.picture: entry.label for entry in reversed(listed.entries)}
    strata = [first.get(picture, "") for picture in pictures]
    splits: dict[str, list[str]] = {"train": [], "test": []}
    for picture, own in zip(
        pictures, folder.hold_out(pictures, strata, holdout, seed), strict=True
    ):
        splits[own].append(picture)
    return listed._replace(splits=splits)


def _assemble(
    listed: Listed, wanted: Wanted, frame: str, white_level: levels.WhiteLevel
) -> ObjectImages:
    """Open the images of a split, with what is known of their objects."""
    chosen = _pictures(listed, wanted.split)
    if not chosen:
        raise ValueError(
            f"The split {wanted.split!r} of {listed.where} is empty; expected images."
        )
    classes = _classes(listed, wanted)
    number = {name: label for label, name in enumerate(classes)}
    found: dict[str, list[Entry]] = {name: [] for name in chosen}
    for entry in listed.entries:
        if entry.label and entry.picture in found:
            found[entry.picture].append(entry)
    objects = list(found.values())
    labels = tuple(
        np.asarray([number[each.label] for each in own], np.int64) for own in objects
    )
    present = np.zeros((len(chosen), len(classes)), bool)
    for row, own in zip(present, objects, strict=True):
        row[[number[each.label] for each in own if each.shows]] = True
    ignored = tuple(np.asarray([each.ignored for each in own], bool) for own in objects)
    sizes = [listed.sizes.get(name) for name in chosen] if wanted.boxes else None
    boxes = [_boxes(own) for own in objects] if wanted.boxes else None
    frames.check_pixels(boxes or (), listed.where)
    notes = Notes(
        boxes,
        [listed.masks[name] for name in chosen] if listed.masks else None,
        *(None, (), frame, frames.REFUSE, object_masks.READING, sizes, frames.OBJECTS),
    )
    images = _source(listed, chosen, classes, labels, notes, white_level)
    any_ignored = any(own.any() for own in ignored)
    return ObjectImages(
        images, labels, present, ignored if any_ignored else None, listed.rule
    )


def _pictures(listed: Listed, split: str) -> list[str]:
    if split != ALL:
        return listed.splits[split]
    every = (picture for own in listed.splits.values() for picture in own)
    return list(dict.fromkeys(every))


def _boxes(own: Sequence[Entry]) -> np.ndarray:
    for entry in own:
        if entry.box is None:
            raise ValueError(
                f"{entry.where} has {entry.label!r} without a box; expected one, as a "
                "test compares boxes: only training images need none."
            )
    return np.asarray([entry.box for entry in own], np.float32).reshape(-1, 4)


def _classes(listed: Listed, wanted: Wanted) -> tuple[str, ...]:
    """Name the classes of training images, and refuse others."""
    training = set(_pictures(listed, wanted.learned))
    known = {
        entry.label
        for entry in listed.entries
        if entry.label and entry.shows and entry.picture in training
    }
    for entry in listed.entries:
        if entry.label and entry.label not in known:
            raise ValueError(
                f"Class {entry.label!r} of {listed.where} has no training image; "
                "expected one, or no object of it."
            )
    if not known:
        raise ValueError(
            f"The split {wanted.learned!r} of {listed.where} names no class; expected "
            "some."
        )
    return tuple(sorted(known))


def _source(
    listed: Listed,
    chosen: list[str],
    classes: tuple[str, ...],
    labels: tuple[np.ndarray, ...],
    notes: Notes,
    white_level: levels.WhiteLevel,
) -> Source:
    root = listed.root
    first = np.asarray([own[0] if len(own) else -1 for own in labels], np.int32)
    read = functools.partial(folder.read_example, root, chosen, first, white_level)
    return Source(
        functools.partial(read, notes),
        len(chosen),
        classes,
        lambda index: chosen[index],
        first,
        notes.kinds,
        boxes=notes.most,
        fingerprint=functools.partial(
            _fingerprint, root, chosen, white_level, notes, labels
        ),
        file=lambda index: str(root / chosen[index]),
        reading=lambda kinds: functools.partial(
            read, annotations.narrowed(notes, kinds)
        ),
        notices=listed.notices,
    )


def _fingerprint(
    root: Path,
    chosen: list[str],
    white_level: levels.WhiteLevel,
    notes: Notes,
    labels: tuple[np.ndarray, ...],
    *,
    times: bool = True,
    annotations: Sequence[str] = (),
) -> str:
    """Tell whether images, the classes of their objects or their boxes have changed."""
    found = folder.fingerprint(
        root, chosen, white_level, notes, times=times, annotations=annotations
    )
    every = b"\n".join(own.tobytes() for own in labels)
    return hashlib.sha256(found.encode() + every).hexdigest()


def scenes(
    split: str, size: int, *, seed: int = 0, image_size: int = 96, classes: int = 4
) -> ObjectImages:
    """Draw synthetic scenes with animals, their boxes and masks.

    Args:
        split: "train", "validation" or "test".
        size: Number of scenes.
        seed: Seed of classes and scenes.
        image_size: Side of the images in pixels, 32 or more.
        classes: Number of classes, 2 to 4.

    Raises:
        ValueError: A setting out of its range.
    """
    if size < 1:
        raise ValueError(f"`size`={size}; expected 1 scene or more.")
    drawn = [
        synthetic_scenes.draw_scene(
            split, index, seed=seed, image_size=image_size, classes=classes
        )
        for index in range(size)
    ]
    first = np.asarray([scene.labels[0] for scene in drawn], np.int32)
    present = np.zeros((size, classes), bool)
    for row, scene in zip(present, drawn, strict=True):
        row[scene.labels] = True

    def read(index: int) -> Example:
        scene = drawn[index]
        label = int(first[index])
        known = {"boxes": scene.boxes, "mask": scene.mask}
        return {"image": scene.image, "label": label, **known}

    images = Source(
        read,
        size,
        tuple(f"animal{number}" for number in range(classes)),
        lambda index: f"{split}/{index:05d}",
        first,
        ("boxes", "mask"),
        boxes=max(len(scene.labels) for scene in drawn),
    )
    return ObjectImages(images, tuple(scene.labels for scene in drawn), present)


def count(given: ObjectImages) -> int:
    """Count the objects that should be found."""
    every = sum(map(len, given.labels))
    return every - sum(int(own.sum()) for own in given.ignored or ())


def boxes(given: ObjectImages, places: Sequence[int]) -> list[np.ndarray]:
    """Read the boxes of some images, float32 `[objects, 4]` of each.

    Raises:
        ValueError: An image or a box of it cannot be read.
    """
    return [given.images.read(place)["boxes"] for place in places]
