"""Images of a folder with their classes and splits, in any usual layout."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from unlir_jax.core import choices
from unlir_jax.data import classes as class_names
from unlir_jax.data import image_files, tables
from unlir_jax.data.annotations import MASKS

TABLES = ("index.csv", "labels.csv")
# Folders of these names are no classes.
SPECIAL = (tables.IMAGES, MASKS)


class Listing(NamedTuple):
    """Hold the images of a folder, relative to it, before a split is chosen.

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


def list_folder(
    root: Path, split: str, others: list[str], *, is_open: bool = False
) -> tuple[Listing, tables.Table | None]:
    """Tell which layout a folder has, and list it so.

    Args:
        root: The folder.
        split: A split of it, or "all".
        others: Gets the files that are left out.
        is_open: Whether a split may have classes that `train` lacks.
    """
    inner = [name for name in image_files.folders(root) if name not in SPECIAL]
    table = next((root / name for name in TABLES if (root / name).is_file()), None)
    if image_files.has_splits(root, inner):
        listing = _by_split(root, inner, split, others, is_open)
        return listing, table and tables.read(table, listing.pictures)
    outside = f"{MASKS}/"
    listed = image_files.walk(root, others=others)
    pictures = [name for name in listed if not name.startswith(outside)]
    others[:] = [name for name in others if not name.startswith(outside)]
    if not pictures:
        raise ValueError(
            f"Folder {str(root)!r} has no images; expected some of "
            f"{', '.join(sorted(image_files.SUFFIXES))} in it or below."
        )
    index = table and tables.read(table, pictures)
    deep = root / tables.IMAGES
    if not inner and not index and deep.is_dir() and image_files.folders(deep):
        raise ValueError(
            f"Folder {str(root)!r} has its classes in {tables.IMAGES!r}; expected "
            f"`path`={str(deep)!r}, or a table {TABLES[0]} in the former."
        )
    # With a table, one folder is more likely the place of all images than a class.
    by_class = len(inner) > (1 if index else 0)
    if index and (_class_column(index) or not by_class):
        return _by_table(index, is_open), index
    listing = _by_class(root, pictures, inner if by_class else [])
    if index and "split" in index.columns:
        listing = listing._replace(splits=_splits_of(index, pictures))
    return listing, index


def _by_split(
    root: Path, splits: list[str], split: str, others: list[str], is_open: bool
) -> Listing:
    check_split(split, splits, f"folder {str(root)!r}")
    asked = splits if split == "all" else [split]
    has_train = "train" in splits and not is_open
    naming = ["train"] if has_train else splits
    classes = class_names.in_order(
        name for part in naming for name in image_files.folders(root / part)
    )
    known = frozenset(classes)
    for name in classes if has_train else ():
        if not any(True for _ in image_files.walk(root, f"train/{name}")):
            raise _without_pictures(name, root / "train")
    pictures, labels, belonging = [], [], []
    for part in asked:
        for strange in [x for x in image_files.folders(root / part) if x not in known]:
            raise ValueError(
                f"Class {strange!r} is in {str(root / part)!r} but not in "
                f"{str(root / 'train')!r}; expected the classes of train in every "
                "split, or all classes by data.options.classes=FILE."
            )
        found = list(image_files.walk(root, part, others=others))
        if not found:
            raise ValueError(
                f"Folder {str(root / part)!r} has no images; expected some of "
                f"{', '.join(sorted(image_files.SUFFIXES))} below it."
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
            "expected all images in such folders."
        )
    return parts[depth]


def _by_class(root: Path, pictures: list[str], classes: list[str]) -> Listing:
    known = frozenset(classes)
    labels = [_class_of(root, name, 0, known) for name in pictures]
    present = set(labels)
    for name in classes:
        if name not in present:
            raise _without_pictures(name, root)
    return Listing(pictures, labels, None, class_names.in_order(classes))


def _without_pictures(name: str, above: Path) -> ValueError:
    """Say that a class has no images, or that its folder may not be looked into."""
    reason = image_files.closed(above / name)
    if reason:
        return ValueError(
            f"Class {name!r} cannot be read: {str(above / name)!r} is closed "
            f"({reason}); expected a folder that can be read, or no such folder."
        )
    return ValueError(
        f"Class {name!r} has no images in {str(above)!r}; expected at least one, or "
        "no such folder."
    )


def _class_column(table: tables.Table) -> str:
    return next((name for name in ("class", "label") if name in table.columns), "")


def _by_table(table: tables.Table, is_open: bool) -> Listing:
    column = _class_column(table)
    labels: dict[str, str] = {}
    for row, picture in zip(table.rows, table.pictures, strict=True):
        if not picture:
            key = "path" if "path" in table.columns else "name"
            raise ValueError(
                f"{row.where} has {key}={row.values[key]!r}; expected an image in "
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
                f"{labels[picture]!r}; expected one class for each image."
            )
    if not labels:
        raise ValueError(f"Table {str(table.file)!r} has no rows; expected some.")
    if all(class_names.number(name) is not None for name in labels.values()):
        # Tables write whole numbers with a point where some are missing.
        labels = {p: class_names.plain_number(name) for p, name in labels.items()}
    classes = class_names.in_order(labels.values()) if column else ()
    splits = _splits_of(table, list(labels)) if "split" in table.columns else None
    listing = Listing(list(labels), list(labels.values()), splits, classes)
    if column and splits and "train" in splits and not is_open:
        pairs = set(zip(labels.values(), splits, strict=True))
        for name in classes:
            if (name, "train") not in pairs:
                raise ValueError(
                    f"Class {name!r} of {str(table.file)!r} has no image in the "
                    "split 'train'; expected at least one, or all classes by "
                    "data.options.classes=FILE."
                )
    return listing


def _splits_of(table: tables.Table, pictures: list[str]) -> list[str]:
    splits: dict[str, str] = {}
    for row, picture in zip(table.rows, table.pictures, strict=True):
        split = row.values["split"]
        if not split or (picture and splits.setdefault(picture, split) != split):
            raise ValueError(
                f"{row.where} has split={split!r}; expected "
                "one split for each image, the same in all its lines."
            )
    for picture in pictures:
        if picture not in splits:
            raise ValueError(
                f"Table {str(table.file)!r} has no row for {picture!r}; expected one "
                "for every image."
            )
    return [splits[picture] for picture in pictures]


def check_split(split: str, known: Sequence[str], where: str) -> None:
    """Raise ValueError unless a split is known, or "all"."""
    known = [*known, *({"all"} - set(known))]
    choices.pick(split, known, f"`split`={split!r} is not in {where}")
