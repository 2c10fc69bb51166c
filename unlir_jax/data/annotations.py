"""Boxes, keypoints and masks that lie beside the pictures of a folder."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from unlir_jax.data import frames, geometry, preprocessing, source, tables
from unlir_jax.data.tables import Row, Table

BOX = ("x0", "y0", "x1", "y1")
MASKS = "masks"


class Notes(NamedTuple):
    """Hold what is known of some pictures besides their classes.

    Attributes:
        boxes: `[n, 4]` for each picture; None if there are none.
        masks: The file of the mask of each picture; None if there are none.
        points: Keypoints, `[pictures, k, 3]`; None if there are none.
        parts: Names of the keypoints.
        frame: Of which pixels they are, one of `frames.FRAMES`.
        outside: What becomes of a keypoint beyond the edge, one of `frames.OUTSIDE`.
    """

    boxes: list[np.ndarray] | None
    masks: list[Path] | None
    points: np.ndarray | None
    parts: tuple[str, ...]
    frame: str = frames.STORED
    outside: str = frames.REFUSE

    @property
    def kinds(self) -> tuple[str, ...]:
        """Name those of `source.ANNOTATIONS` that there are."""
        found = zip(source.ANNOTATIONS, self[:3], strict=True)
        return tuple(kind for kind, values in found if values is not None)

    @property
    def most(self) -> int:
        """Count the boxes of the picture that has most; at least 1."""
        return max((len(some) for some in self.boxes or ()), default=1) or 1


def gather(
    root: Path,
    pictures: Sequence[str],
    index: Table | None,
    parts: Table | None,
    frame: str = frames.STORED,
    outside: str = frames.REFUSE,
) -> Notes:
    """Collect boxes, masks and keypoints of some pictures of a folder.

    Args:
        root: The folder.
        pictures: The pictures, relative to it.
        index: A table that may have the columns x0, y0, x1, y1 and `mask`.
        parts: A table with the columns NAME_x, NAME_y and NAME_vis for each part.
        frame: "stored": they are places in the stored pixels, and turn with a photo
            that EXIF turns; "seen": they are places in the upright photo.
        outside: Whether "refuse" or "hide" is done to keypoints beyond the edge.

    Raises:
        ValueError: A setting is none of these, a table says something of one picture
            and nothing of another, or what it says makes no sense.
    """
    frames.check(frame, outside)
    names, points = _keypoints(parts, pictures) if parts else ((), None)
    return Notes(
        _boxes(index, pictures) if index else None,
        _masks(root, index, pictures),
        points,
        names,
        frame,
        outside,
    )


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
    """Give the annotations of one picture, as places in the upright picture.

    Args:
        notes: The annotations of all.
        index: Which of the pictures.
        size: Width and height of the upright picture.
        where: Its file, for messages.
        turned: The EXIF orientation by which it was turned, 1 … 8.

    Raises:
        FileNotFoundError: Its mask is missing.
        ValueError: A box or keypoint is not in the picture, or the mask is not a mask
            of it.
    """
    frame = frames.frame(where, notes.frame, size, turned)
    places: source.Example = {}
    if notes.boxes is not None:
        places["boxes"] = frames.fit_boxes(notes.boxes[index], frame)
    if notes.points is not None:
        places["keypoints"] = frames.fit_keypoints(
            notes.points[index], notes.parts, frame, notes.outside
        )
    known = geometry.turn(places, frame.turned, frame.size)
    if notes.masks is not None:
        known["mask"] = read_mask(notes.masks[index], size, orientation=frame.turned)
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
        # A line without numbers says that there is nothing to be boxed.
        if not any(row.values[column] for column in BOX):
            continue
        box = [tables.number(row, column) for column in BOX]
        if box[0] >= box[2] or box[1] >= box[3]:
            raise ValueError(
                f"{row.where} has the box {_shown(box)}; expected x0 < x1 and y0 < y1."
            )
        some.append(box)
    tables.check_all(table, pictures, found)
    return [np.asarray(found[p], np.float32).reshape(-1, 4) for p in pictures]


def _shown(box: Sequence[float] | np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in box)


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
                "row of keypoints for each picture."
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
            if picture in asked and not (root / mask).is_file():
                raise ValueError(
                    f"{row.where} has mask={row.values['mask']!r}; expected "
                    "a file for every picture."
                )
            if picture and found.setdefault(picture, mask) != mask:
                raise ValueError(
                    f"{row.where} has another mask for {picture!r} than a "
                    "line before; expected one mask for each picture."
                )
        tables.check_all(table, pictures, found)
        return [root / found[picture] for picture in pictures]
    if not (root / MASKS).is_dir():
        return None
    there = [_mask_of(root, picture) for picture in pictures]
    if not any(there):
        return None
    if not all(there):
        missing = pictures[there.index("")]
        raise ValueError(
            f"Folder {str(root / MASKS)!r} has no mask for {missing!r}, but for "
            "others; expected one for every picture."
        )
    return [root / mask for mask in there]


def _mask_of(root: Path, picture: str) -> str:
    stem = PurePosixPath(picture.removeprefix(f"{tables.IMAGES}/")).with_suffix("")
    # Not `with_suffix`: a name may hold a dot of its own.
    for name in (f"{MASKS}/{stem}.png", f"{MASKS}/{stem.name}.png"):
        if (root / name).is_file():
            return name
    return ""


def read_mask(path: Path, size: tuple[int, int], *, orientation: int = 1) -> np.ndarray:
    """Read a mask, uint8 `[height, width]`, 0 for the background, upright.

    A grey picture with values above 127, and any JPEG, is cut there into 0 and 1; so is
    a palette of 0 and 255 only. Otherwise its values are the parts; 255 in a palette
    means "not said", as in Pascal VOC, and becomes background.

    Args:
        path: The picture of the mask.
        size: Width and height of the upright picture that it belongs to.
        orientation: The EXIF orientation that turns it where it has none of its own.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no picture, has another size, or is coloured.
    """
    where = f"Mask {str(path)!r}"
    found = preprocessing.decode_file(path, where)
    values = np.asarray(frames.upright_mask(found, size, orientation, where))
    lossy, palette = found.format == "JPEG", found.image.mode == "P"
    if values.ndim == 3:
        colours = values[..., : 1 if values.shape[-1] < 3 else 3]
        if (colours != colours[..., :1]).any():
            raise ValueError(
                f"Mask {str(path)!r} is coloured; expected grey values or a palette."
            )
        values = colours[..., 0]
    if values.max(initial=0) > 255:
        raise ValueError(f"Mask {str(path)!r} has 16 bits; expected 8.")
    return part_values(values.astype(np.uint8), lossy=lossy, palette=palette)


def part_values(
    values: np.ndarray, *, lossy: bool = False, palette: bool = False
) -> np.ndarray:
    """Tell a picture of an object from numbers of parts, as `read_mask` says."""
    object_only = np.isin(values, (0, 255)).all() if palette else values.max() > 127
    if lossy or object_only:
        return (values > 127).astype(np.uint8)
    return np.where(values == 255, 0, values).astype(np.uint8)
