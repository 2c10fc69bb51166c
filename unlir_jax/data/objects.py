"""Images with several objects: folders with a table of boxes, and synthetic scenes."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlir_jax.data import (
    annotations,
    folder,
    frames,
    levels,
    listing,
    synthetic_scenes,
    tables,
)
from unlir_jax.data.source import Example, Source
from unlir_jax.data.tables import Row, Table

TABLE = "boxes.csv"
NEEDED = ("path", "split", "class", *annotations.BOX)


class ObjectImages(NamedTuple):
    """Hold images and the classes of their objects.

    Attributes:
        images: The images, with `boxes`. The label of one is the class
            of its first object, -1 without any.
        labels: The class of each object of each image, in the order of its boxes.
    """

    images: Source
    labels: tuple[np.ndarray, ...]

    @property
    def present(self) -> np.ndarray:
        """Say which classes each image has, bool `[images, classes]`."""
        found = np.zeros((len(self.labels), len(self.images.classes)), bool)
        for row, own in zip(found, self.labels, strict=True):
            row[own] = True
        return found


def object_folder(
    path: str | os.PathLike[str],
    split: str,
    *,
    frame: str = frames.STORED,
    white_level: levels.WhiteLevel = levels.AUTO,
) -> ObjectImages:
    """Read a folder of images with a table `boxes.csv` of their objects.

    The table has the columns `path`, `split`, `class`, `x0`, `y0`, `x1` and `y1`, and a
    row for each object. Boxes are corners in pixels: x1 and y1 are edges, not a width
    and a height. A row without class and box says that an image has no object.

    Args:
        path: The folder.
        split: Which images.
        frame: "stored": boxes are places in the pixels of the file; "seen": in the
            upright photo.
        white_level: See `folder.folder`.

    Raises:
        ValueError: The table is missing, lacks a column or an image, or contradicts
            itself; or a class of this split has no training image.
    """
    frames.check(frame, frames.REFUSE)
    white_level = levels.check_white_level(white_level)
    root = Path(path).absolute()
    table = _table(root)
    splits = _splits(table)
    known = sorted(set(splits.values()), key=lambda name: (name != "train", name))
    listing.check_split(split, known, f"table {str(table.file)!r}")
    chosen = [name for name, own in splits.items() if split in ("all", own)]
    classes = _classes(table, splits)
    number = {name: label for label, name in enumerate(classes)}
    found: dict[str, list[int]] = {name: [] for name in splits}
    for row, picture in zip(table.rows, table.pictures, strict=True):
        if row.values["class"]:
            found[picture].append(number[row.values["class"]])
    notes = annotations.gather(root, chosen, table, None, frame=frame)
    notes = annotations.narrowed(notes, ("boxes",))
    labels = tuple(np.asarray(found[name], np.int64) for name in chosen)
    first = np.asarray([own[0] if len(own) else -1 for own in labels], np.int32)
    read = functools.partial(folder.read_example, root, chosen, first, white_level)
    images = Source(
        functools.partial(read, notes),
        len(chosen),
        classes,
        lambda index: chosen[index],
        first,
        notes.kinds,
        boxes=notes.most,
        fingerprint=functools.partial(
            folder.fingerprint, root, chosen, white_level, notes
        ),
        file=lambda index: str(root / chosen[index]),
        reading=lambda kinds: functools.partial(
            read, annotations.narrowed(notes, kinds)
        ),
    )
    return ObjectImages(images, labels)


def _table(root: Path) -> Table:
    file = root / TABLE
    if not file.is_file():
        raise ValueError(
            f"Folder {str(root)!r} has no {TABLE}; expected a table with the columns "
            f"{', '.join(NEEDED)} in it."
        )
    table = tables.read(file, ())
    lacking = [column for column in NEEDED if column not in table.columns]
    if lacking:
        raise ValueError(
            f"Table {str(file)!r} lacks {', '.join(lacking)}; expected the columns "
            f"{', '.join(NEEDED)}."
        )
    if not table.rows:
        raise ValueError(f"Table {str(file)!r} has no rows; expected one per object.")
    pictures = [tables.inside(row, "path") for row in table.rows]
    for row, picture in zip(table.rows, pictures, strict=True):
        if not (root / picture).is_file():
            raise ValueError(
                f"{row.where} names {picture!r}, which is not in the folder; expected "
                "a path of an image relative to it."
            )
        _check_row(row)
    return table._replace(pictures=pictures)


def _check_row(row: Row) -> None:
    """Refuse a row with half of an object, or with a width in place of an edge."""
    there = [bool(row.values[column]) for column in ("class", *annotations.BOX)]
    if any(there) != all(there):
        raise ValueError(
            f"{row.where} has a part of an object; expected a class and four numbers, "
            "or none of them for an image without objects."
        )
    if not all(there):
        return
    x0, y0, x1, y1 = (tables.number(row, column) for column in annotations.BOX)
    if x1 <= x0 or y1 <= y0:
        raise ValueError(
            f"{row.where} has the box {x0:g}, {y0:g}, {x1:g}, {y1:g}; expected corners "
            "with x0 < x1 and y0 < y1, so add x0 and y0 to a width and a height."
        )


def _splits(table: Table) -> dict[str, str]:
    """Give the split of each image, in the order of the table."""
    found: dict[str, str] = {}
    for row, picture in zip(table.rows, table.pictures, strict=True):
        own = row.values["split"]
        if not own or found.setdefault(picture, own) != own:
            raise ValueError(
                f"{row.where} puts {picture!r} into split {own!r}; expected one split "
                "for all rows of an image."
            )
    return found


def _classes(table: Table, splits: dict[str, str]) -> tuple[str, ...]:
    """Name the classes of training images, and refuse others."""
    of: dict[str, set[str]] = {}
    for row, picture in zip(table.rows, table.pictures, strict=True):
        if row.values["class"]:
            of.setdefault(row.values["class"], set()).add(splits[picture])
    if "train" not in splits.values():
        known = ", ".join(sorted(set(splits.values())))
        raise ValueError(
            f"Table {str(table.file)!r} has the splits {known}; expected 'train' too."
        )
    for name, own in sorted(of.items()):
        if "train" not in own:
            raise ValueError(
                f"Class {name!r} of {str(table.file)!r} has no training image; "
                "expected one, or no object of it."
            )
    if not of:
        raise ValueError(f"Table {str(table.file)!r} names no class; expected some.")
    return tuple(sorted(of))


def scenes(
    split: str, size: int, *, seed: int = 0, image_size: int = 96, classes: int = 4
) -> ObjectImages:
    """Draw synthetic scenes with animals and their boxes.

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

    def read(index: int) -> Example:
        scene = drawn[index]
        label = int(first[index])
        return {"image": scene.image, "label": label, "boxes": scene.boxes}

    images = Source(
        read,
        size,
        tuple(f"animal{number}" for number in range(classes)),
        lambda index: f"{split}/{index:05d}",
        first,
        ("boxes",),
        boxes=max(len(scene.labels) for scene in drawn),
    )
    return ObjectImages(images, tuple(scene.labels for scene in drawn))


def boxes(given: ObjectImages, places: Sequence[int]) -> list[np.ndarray]:
    """Read the boxes of some images, float32 `[objects, 4]` of each.

    Raises:
        ValueError: An image or a box of it cannot be read.
    """
    return [given.images.read(place)["boxes"] for place in places]
