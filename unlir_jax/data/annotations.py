"""Boxes, keypoints and masks that lie next to the images of a folder."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from unlir_jax.data import frames, geometry, masks, source, tables
from unlir_jax.data.masks import Reading, read_mask
from unlir_jax.data.tables import Row, Table

BOX = ("x0", "y0", "x1", "y1")
MASKS = "masks"


class Notes(NamedTuple):
    """Hold what is known of some images besides their classes.

    Attributes:
        boxes: `[n, 4]` for each image; None if there are none.
        masks: The file of the mask of each image; None if there are none.
        points: Keypoints, `[images, k, 3]`; None if there are none.
        parts: Names of the keypoints.
        frame: Pixels that they count in, one of `frames.FRAMES`.
        outside: What becomes of a keypoint beyond the edge, one of `frames.OUTSIDE`.
        reading: Reading of the masks.
        sizes: Width and height that a file of boxes gives each image, None where it
            does not; None for none of them.
        called: What people call the setting `frame`.
    """

    boxes: list[np.ndarray] | None
    masks: list[Path] | None
    points: np.ndarray | None
    parts: tuple[str, ...]
    frame: str = frames.STORED
    outside: str = frames.REFUSE
    reading: Reading = Reading()
    sizes: list[tuple[int, int] | None] | None = None
    called: frames.Setting = frames.FOLDER

    @property
    def kinds(self) -> tuple[str, ...]:
        """Name the present ones of `source.ANNOTATIONS`."""
        found = zip(source.ANNOTATIONS, self[:3], strict=True)
        return tuple(kind for kind, values in found if values is not None)

    @property
    def most(self) -> int:
        """Count the boxes of the image that has most; at least 1."""
        return max((len(some) for some in self.boxes or ()), default=1) or 1


def gather(
    root: Path,
    pictures: Sequence[str],
    index: Table | None,
    parts: Table | None,
    *,
    frame: str = frames.STORED,
    outside: str = frames.REFUSE,
    mask: masks.Kind = "auto",
    ignore: int | None = masks.VOID,
) -> Notes:
    """Collect boxes, masks and keypoints of some images of a folder.

    Args:
        root: The folder.
        pictures: The images, relative to it.
        index: A table that may have the columns x0, y0, x1, y1 and `mask`.
        parts: A table with the columns NAME_x, NAME_y and NAME_vis for each part.
        frame: "stored": they are places in the stored pixels, and turn with a photo
            that EXIF turns; "seen": they are places in the upright photo.
        outside: Whether "refuse" or "hide" is done to keypoints beyond the edge.
        mask: What the masks are, see `masks.read_mask`.
        ignore: The value of void in them; None if there is none.

    Raises:
        ValueError: A setting is none of these, a table says something of one image
            and nothing of another, or what it says makes no sense; or masks do not
            tell what they are.
    """
    frames.check(frame, outside)
    names, points = _keypoints(parts, pictures) if parts else ((), None)
    boxes = _boxes(index, pictures) if index else None
    files = _masks(root, index, pictures)
    reading = masks.reading(files or (), mask, ignore)
    return Notes(boxes, files, points, names, frame, outside, reading)


def narrowed(notes: Notes, kinds: Sequence[str]) -> Notes:
    """Keep annotations of some kinds only."""
    return notes._replace(
        boxes=notes.boxes if "boxes" in kinds else None,
        masks=notes.masks if "mask" in kinds else None,
        points=notes.points if "keypoints" in kinds else None,
    )


def noted(
    notes: Notes, index: int, size: tuple[int, int], where: Path, turned: int = 1
) -> source.Example:
    """Give the annotations of one image, as places in the upright image.

    Args:
        notes: The annotations of all.
        index: Which of the images.
        size: Width and height of the upright image.
        where: Its file, for messages.
        turned: The EXIF orientation by which it was turned, 1 … 8.

    Raises:
        FileNotFoundError: Its mask is missing.
        ValueError: A box or keypoint is not in the image, or the mask is not a mask
            of it.
    """
    frame = frames.frame(where, notes.frame, size, turned, notes.called)
    places: source.Example = {}
    if notes.boxes is not None:
        frames.check_size(frame, None if notes.sizes is None else notes.sizes[index])
        places["boxes"] = frames.fit_boxes(notes.boxes[index], frame)
    if notes.points is not None:
        places["keypoints"] = frames.fit_keypoints(
            notes.points[index], notes.parts, frame, notes.outside
        )
    known = geometry.turn(places, frame.turned, frame.size)
    if notes.masks is not None:
        known["mask"] = read_mask(
            notes.masks[index],
            size,
            orientation=frame.turned,
            **notes.reading._asdict(),
        )
    return known


def _boxes(table: Table, pictures: Sequence[str]) -> list[np.ndarray] | None:
    there = [column for column in BOX if column in table.columns]
    if not there:
        return None
    if len(there) < len(BOX):
        raise ValueError(
            f"Table {str(table.file)!r} has the columns {', '.join(there)} of boxes; "
            f"expected {', '.join(BOX)}."
        )
    found: dict[str, list[list[float]]] = {}
    for row, picture in zip(table.rows, table.pictures, strict=True):
        some = found.setdefault(picture, [])
        box = box_of(row)
        if box is not None:
            some.append(box)
    tables.check_all(table, pictures, found)
    boxes = [np.asarray(found[p], np.float32).reshape(-1, 4) for p in pictures]
    frames.check_pixels(boxes, f"table {str(table.file)!r}")
    return boxes


def box_of(row: Row) -> list[float] | None:
    """Read the box of a line, None where it has no number.

    Raises:
        ValueError: A number is missing, or the edges are not in order.
    """
    # A line without numbers says that there is nothing to be boxed.
    if not any(row.values[column] for column in BOX):
        return None
    box = [tables.number(row, column) for column in BOX]
    if box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError(
            f"{row.where} has the box {', '.join(f'{value:g}' for value in box)}; "
            "expected x0 < x1 and y0 < y1, so add x0 and y0 to a width and a height."
        )
    return box


def _keypoints(
    table: Table, pictures: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    names = tuple(
        column[:-2]
        for column in table.columns
        if column.endswith("_x") and f"{column[:-2]}_y" in table.columns
    )
    if not names:
        raise ValueError(
            f"Table {str(table.file)!r} has no keypoints; expected columns NAME_x, "
            "NAME_y and NAME_vis for each part."
        )
    found: dict[str, np.ndarray] = {}
    for row, picture in zip(table.rows, table.pictures, strict=True):
        if picture and picture in found:
            raise ValueError(
                f"{row.where} is a second row for {picture!r}; expected one "
                "row of keypoints for each image."
            )
        points = [_point(row, name) for name in names]
        found[picture] = np.asarray(points, np.float32)
    tables.check_all(table, pictures, found)
    points = [found[picture] for picture in pictures]
    return names, np.asarray(points, np.float32).reshape(-1, len(names), 3)


def _point(row: Row, name: str) -> tuple[float, float, float]:
    x, y, seen = f"{name}_x", f"{name}_y", f"{name}_vis"
    if seen not in row.values:
        visible = bool(row.values[x] or row.values[y])
    elif row.values[seen] not in ("", "0", "1", "0.0", "1.0"):
        raise ValueError(
            f"{row.where} has {seen}={row.values[seen]!r}; expected 0 or 1."
        )
    else:
        visible = row.values[seen] in ("1", "1.0")
    if not visible:
        return 0.0, 0.0, 0.0
    return tables.number(row, x), tables.number(row, y), 1.0


def _masks(
    root: Path, table: Table | None, pictures: Sequence[str]
) -> list[Path] | None:
    if table is not None and "mask" in table.columns:
        found: dict[str, str] = {}
        asked = set(pictures)
        for row, picture in zip(table.rows, table.pictures, strict=True):
            mask = tables.inside(row, "mask") if row.values["mask"] else ""
            if picture in asked and not os.path.isfile(root / mask):
                raise ValueError(
                    f"{row.where} has mask={row.values['mask']!r}; expected "
                    "a file for every image."
                )
            if picture and found.setdefault(picture, mask) != mask:
                raise ValueError(
                    f"{row.where} has another mask for {picture!r} than a "
                    "line before; expected one mask for each image."
                )
        tables.check_all(table, pictures, found)
        return [root / found[picture] for picture in pictures]
    if not os.path.isdir(root / MASKS):
        return None
    there = [_mask_of(root, picture) for picture in pictures]
    if not any(there):
        return None
    if not all(there):
        missing = pictures[there.index("")]
        raise ValueError(
            f"Folder {str(root / MASKS)!r} has no mask for {missing!r}, but for "
            "others; expected one for every image."
        )
    return [root / mask for mask in there]


def _mask_of(root: Path, picture: str) -> str:
    stem = PurePosixPath(picture.removeprefix(f"{tables.IMAGES}/")).with_suffix("")
    # Not `with_suffix`: a name may hold a dot of its own.
    for name in (f"{MASKS}/{stem}.png", f"{MASKS}/{stem.name}.png"):
        if os.path.isfile(root / name):
            return name
    return ""
