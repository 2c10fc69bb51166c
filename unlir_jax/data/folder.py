"""Pictures in a folder, by split and class, with what tables beside them say."""

import difflib
import functools
import hashlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlir_jax.data import classes as class_names
from unlir_jax.data import files, frames, levels, masks, preprocessing, tables
from unlir_jax.data.annotations import MASKS, Notes, gather, narrowed, noted
from unlir_jax.data.source import Example, Source

TABLES = ("index.csv", "labels.csv")
PARTS = "parts.csv"
# Folders of these names are no classes.
SPECIAL = (tables.IMAGES, MASKS)


class Listing(NamedTuple):
    """Hold the pictures of a folder, relative to it, before a split is chosen.

    Attributes:
        pictures: One path for each.
        labels: The name of the class of each; "" where there is none.
        splits: The split of each; None where nothing says so.
        classes: Names of the classes by index.
    """

    pictures: list[str]
    labels: list[str]
    splits: list[str] | None
    classes: tuple[str, ...]


def folder(
    path: str | os.PathLike[str],
    split: str,
    *,
    holdout: float = 0.0,
    seed: int = 0,
    annotations: str = frames.STORED,
    keypoints_outside: str = frames.REFUSE,
    white_level: levels.WhiteLevel = levels.AUTO,
    mask: masks.Kind = "auto",
    ignore: int | None = masks.VOID,
) -> Source:
    """List the pictures of a folder.

    The folder is laid out in one of these ways:

    - `SPLIT/CLASS/*.jpg`: the classes are the folders of `train` (of all splits where
      there is no `train`), sorted; pictures deeper in a class belong to it.
    - `CLASS/*.jpg`: `holdout` cuts it into `train` and `test`.
    - `index.csv` or `labels.csv` with a column `path`, or `name` for a picture
      `NAME.*` or `images/NAME.*`, and where wanted `class` or `label`, and `split`.
      With `SPLIT/CLASS` the table gives no classes, only annotations; so it does with
      `CLASS/*.jpg` where it has no column of classes.
    - pictures only, which then have no label.

    Boxes are columns x0, y0, x1, y1 of the table, several lines for several boxes; its
    column `mask`, or else `masks/PICTURE.png`, says where the masks are (see
    `masks.read_mask`); keypoints are in `parts.csv`. Each has to be there for all
    pictures of the split or none. Hidden files and files without the suffix of a
    picture are left out, the latter counted in `Source.notices`.

    Args:
        path: The folder.
        split: A split of it, or "all".
        holdout: Share of every class, in [0, 1), that is "test" where the folder itself
            has no splits; the rest is "train".
        seed: What `holdout` draws by.
        annotations: "stored": boxes, masks and keypoints are places in the pixels of
            the file and turn with a photo that EXIF turns; "seen": they are places in
            the photo as it is seen.
        keypoints_outside: What becomes of a keypoint more than a pixel beyond the edge,
            "refuse" or "hide".
        white_level: Which value is white in grey pictures of more than 8 bits, "auto",
            "maximum" or a number; see `levels`.
        mask: What the masks show: an "object", "classes" (or parts) or a "trimap";
            "auto" tells the first two by the values of some, see `masks.reading`.
        ignore: The value of void in them; None if there is none.

    Raises:
        ValueError: The folder is not laid out so, a table contradicts it, a setting
            makes no sense, or its masks do not tell what they are.
    """
    white_level = levels.check_white_level(white_level)
    if not 0 <= holdout < 1:
        raise ValueError(f"`holdout`={holdout} is a share; expected a value in [0, 1).")
    root = _existing(Path(path))
    others: list[str] = []
    listing, index = _list(root, split, others)
    chosen = _choose(root, listing, split, holdout, seed)
    pictures = [listing.pictures[i] for i in chosen]
    number = {name: label for label, name in enumerate(listing.classes)}
    labels = np.asarray([number.get(listing.labels[i], -1) for i in chosen], np.int32)
    parts = None
    if (root / PARTS).is_file():
        parts = tables.read(root / PARTS, listing.pictures)
    notes = gather(
        root,
        pictures,
        index,
        parts,
        frame=annotations,
        outside=keypoints_outside,
        mask=mask,
        ignore=ignore,
    )

    notice = files.left_out(others, f"in {str(root)!r}")
    if notice:
        warnings.warn(notice, stacklevel=2)

    read = functools.partial(_read, root, pictures, labels, white_level)
    return Source(
        functools.partial(read, notes),
        len(pictures),
        listing.classes,
        lambda index: pictures[index],
        labels,
        notes.kinds,
        notes.parts,
        notes.most,
        functools.partial(_fingerprint, root, pictures, white_level),
        file=lambda index: str(root / pictures[index]),
        masks="" if notes.masks is None else masks.described(notes.reading),
        reading=lambda kinds: functools.partial(read, narrowed(notes, kinds)),
        notices=(notice,) if notice else (),
    )


def _read(
    root: Path,
    pictures: list[str],
    labels: np.ndarray,
    white_level: levels.WhiteLevel,
    notes: Notes,
    index: int,
) -> Example:
    file = root / pictures[index]
    image, turned = preprocessing.read_turned(file, white_level=white_level)
    example: Example = {"image": image, "label": int(labels[index])}
    return example | noted(notes, index, image.size, file, turned)


def _fingerprint(
    root: Path, pictures: list[str], white_level: levels.WhiteLevel
) -> str:
    """Hash sizes and times of the files, which is quicker than what is in them."""
    digest = hashlib.sha256()
    if white_level != levels.AUTO:
        digest.update(f"{white_level}\n".encode())
    for name in pictures:
        known = os.stat(root / name)
        digest.update(f"{known.st_size} {known.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _existing(root: Path) -> Path:
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"Folder {str(root)!r} {kind}; expected a folder of pictures.")
    # Worker processes may run elsewhere.
    return root.absolute()


def _list(
    root: Path, split: str, others: list[str]
) -> tuple[Listing, tables.Table | None]:
    """Tell which layout a folder has, and list it so."""
    inner = [name for name in files.folders(root) if name not in SPECIAL]
    table = next((root / name for name in TABLES if (root / name).is_file()), None)
    if files.has_splits(root, inner):
        listing = _by_split(root, inner, split, others)
        return listing, table and tables.read(table, listing.pictures)
    outside = f"{MASKS}/"
    listed = files.walk(root, others=others)
    pictures = [name for name in listed if not name.startswith(outside)]
    others[:] = [name for name in others if not name.startswith(outside)]
    if not pictures:
        raise ValueError(
            f"Folder {str(root)!r} has no pictures; expected some of "
            f"{', '.join(sorted(files.SUFFIXES))} in it or below."
        )
    index = table and tables.read(table, pictures)
    deep = root / tables.IMAGES
    if not inner and not index and deep.is_dir() and files.folders(deep):
        raise ValueError(
            f"Folder {str(root)!r} has its classes in {tables.IMAGES!r}; expected "
            f"`path`={str(deep)!r}, or a table {TABLES[0]} in the former."
        )
    # With a table, one folder is more likely the place of all pictures than a class.
    by_class = len(inner) > (1 if index else 0)
    if index and (_class_column(index) or not by_class):
        return _by_table(index), index
    listing = _by_class(root, pictures, inner if by_class else [])
    if index and "split" in index.columns:
        listing = listing._replace(splits=_splits_of(index, pictures))
    return listing, index


def _by_split(root: Path, splits: list[str], split: str, others: list[str]) -> Listing:
    check_split(split, splits, f"folder {str(root)!r}")
    asked = splits if split == "all" else [split]
    has_train = "train" in splits
    naming = ["train"] if has_train else splits
    classes = class_names.in_order(
        name for part in naming for name in files.folders(root / part)
    )
    known = frozenset(classes)
    for name in classes if has_train else ():
        if not any(True for _ in files.walk(root, f"train/{name}")):
            raise ValueError(
                f"Class {name!r} has no pictures in {str(root / 'train')!r}; expected "
                "at least one, or no such folder."
            )
    pictures, labels, belonging = [], [], []
    for part in asked:
        for strange in [x for x in files.folders(root / part) if x not in known]:
            raise ValueError(
                f"Class {strange!r} is in {str(root / part)!r} but not in "
                f"{str(root / 'train')!r}; expected the classes of train in every "
                "split."
            )
        found = list(files.walk(root, part, others=others))
        if not found:
            raise ValueError(
                f"Folder {str(root / part)!r} has no pictures; expected some of "
                f"{', '.join(sorted(files.SUFFIXES))} below it."
            )
        pictures += found
        labels += [_class_of(root, name, 1, known) for name in found]
        belonging += [part] * len(found)
    return Listing(pictures, labels, belonging, classes)


def _class_of(root: Path, name: str, depth: int, classes: frozenset[str]) -> str:
    parts = name.split("/")
    if not classes:
        return ""
    if len(parts) <= depth + 1 or parts[depth] not in classes:
        raise ValueError(
            f"Image {str(root / name)!r} is in no folder of a class, but others are; "
            "expected all pictures in such folders."
        )
    return parts[depth]


def _by_class(root: Path, pictures: list[str], classes: list[str]) -> Listing:
    known = frozenset(classes)
    labels = [_class_of(root, name, 0, known) for name in pictures]
    present = set(labels)
    for name in classes:
        if name not in present:
            raise ValueError(
                f"Class {name!r} has no pictures in {str(root / name)!r}; expected at "
                "least one, or no such folder."
            )
    return Listing(pictures, labels, None, class_names.in_order(classes))


def _class_column(table: tables.Table) -> str:
    return next((name for name in ("class", "label") if name in table.columns), "")


def _by_table(table: tables.Table) -> Listing:
    column = _class_column(table)
    labels: dict[str, str] = {}
    for row, picture in zip(table.rows, table.pictures, strict=True):
        if not picture:
            key = "path" if "path" in table.columns else "name"
            raise ValueError(
                f"{row.where} has {key}={row.values[key]!r}; expected a picture in "
                f"{str(table.file.parent)!r}."
            )
        label = row.values[column] if column else ""
        if column and not label:
            raise ValueError(
                f"{row.where} has no {column}; expected one in every line."
            )
        if labels.setdefault(picture, label) != label:
            raise ValueError(
                f"{row.where} has {column}={label!r} for {picture!r}, a line before "
                f"{labels[picture]!r}; expected one class for each picture."
            )
    if not labels:
        raise ValueError(f"Table {str(table.file)!r} has no rows; expected some.")
    if all(class_names.number(name) is not None for name in labels.values()):
        # Tables write whole numbers with a point where some are missing.
        labels = {p: class_names.plain_number(name) for p, name in labels.items()}
    classes = class_names.in_order(labels.values()) if column else ()
    splits = _splits_of(table, list(labels)) if "split" in table.columns else None
    listing = Listing(list(labels), list(labels.values()), splits, classes)
    if column and splits and "train" in splits:
        pairs = set(zip(labels.values(), splits, strict=True))
        for name in classes:
            if (name, "train") not in pairs:
                raise ValueError(
                    f"Class {name!r} of {str(table.file)!r} has no picture in the "
                    "split 'train'; expected at least one."
                )
    return listing


def _splits_of(table: tables.Table, pictures: list[str]) -> list[str]:
    splits: dict[str, str] = {}
    for row, picture in zip(table.rows, table.pictures, strict=True):
        split = row.values["split"]
        if not split or (picture and splits.setdefault(picture, split) != split):
            raise ValueError(
                f"{row.where} has split={split!r}; expected "
                "one split for each picture, the same in all its lines."
            )
    for picture in pictures:
        if picture not in splits:
            raise ValueError(
                f"Table {str(table.file)!r} has no row for {picture!r}; expected one "
                "for every picture."
            )
    return [splits[picture] for picture in pictures]


def _choose(
    root: Path, listing: Listing, split: str, holdout: float, seed: int
) -> list[int]:
    splits = listing.splits
    where = f"folder {str(root)!r}"
    if splits is not None and holdout:
        raise ValueError(
            f"`holdout`={holdout} is for pictures without splits, but {where} has "
            f"{', '.join(sorted(set(splits)))}; expected `holdout`=0."
        )
    if splits is None:
        check_split(split, ("train", "test"), where)
        if not holdout and split != "all":
            raise ValueError(
                f"`split`={split!r} is not in {where}, which has no splits; expected "
                f"`holdout`=0.2 to make train and test, or `split`='all'."
            )
        splits = hold_out(listing.pictures, listing.labels, holdout, seed)
    known = sorted(set(splits), key=lambda name: (name != "train", name))
    check_split(split, known, where)
    return [i for i, name in enumerate(splits) if split in ("all", name)]


def check_split(split: str, known: Sequence[str], where: str) -> None:
    """Raise ValueError unless a split is known, or "all"."""
    known = [*known, *({"all"} - set(known))]
    if split not in known:
        near = difflib.get_close_matches(split, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"`split`={split!r} is not in {where}; {hint}known: {', '.join(known)}."
        )


def hold_out(
    names: Sequence[str], strata: Sequence, share: float, seed: int
) -> list[str]:
    """Put a share of every stratum into "test", and the rest into "train".

    A picture's place follows from the seed and the names of its stratum, not from their
    order. A stratum of two or more has at least one picture on either side; a single
    one is for training.

    Args:
        names: The identity of each picture.
        strata: What each is stratified by, such as its class.
        share: The share of "test", in [0, 1); 0 puts everything into "train".
        seed: What is drawn by.
    """
    groups: dict = {}
    for place, stratum in enumerate(strata):
        groups.setdefault(stratum, []).append(place)
    splits = ["train"] * len(names)
    if not share:
        return splits

    def draw(place: int) -> bytes:
        return hashlib.sha256(
            f"{seed}/{names[place]}".encode("utf-8", "surrogateescape")
        ).digest()

    for places in groups.values():
        count = min(max(int(share * len(places) + 0.5), 1), len(places) - 1)
        for place in sorted(places, key=draw)[:count]:
            splits[place] = "test"
    return splits
