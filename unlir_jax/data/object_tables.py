"""Objects in a table `boxes.csv` next to the images of a folder."""

import os
from pathlib import Path

from unlir_jax.data import annotations, tables
from unlir_jax.data.object_entries import Entry, Listed, Wanted
from unlir_jax.data.tables import Row, Table

TABLE = "boxes.csv"
NEEDED = ("path", "split", "class")


def fits(root: Path) -> bool:
    """Tell whether a folder has such a table."""
    return os.path.isfile(root / TABLE)


def read(root: Path, wanted: Wanted) -> Listed:
    """Read the table of a folder.

    Raises:
        ValueError: It lacks a column, a split or an image, or contradicts itself.
    """
    table = _table(root, wanted.boxes)
    splits = _splits(table)
    where = f"table {str(table.file)!r}"
    chosen = wanted.among(
        sorted(splits, key=lambda name: (name != "train", name)), where
    )
    entries = [
        _entry(row, picture)
        for row, picture in zip(table.rows, table.pictures, strict=True)
    ]
    _check_empty(entries)
    asked = {picture for split in chosen for picture in splits[split]}
    return Listed(
        root,
        where,
        {split: splits[split] for split in chosen},
        [entry for entry in entries if entry.picture in asked],
    )


def _table(root: Path, boxes: bool) -> Table:
    file = root / TABLE
    table = tables.read(file, ())
    needed = (*NEEDED, *annotations.BOX)
    some = any(column in table.columns for column in annotations.BOX)
    lacking = [
        column
        for column in (needed if boxes or some else NEEDED)
        if column not in table.columns
    ]
    if lacking:
        raise ValueError(
            f"Table {str(file)!r} lacks {', '.join(lacking)}; expected the columns "
            f"{', '.join(needed)}."
        )
    if not table.rows:
        raise ValueError(f"Table {str(file)!r} has no rows; expected one per object.")
    pictures = [tables.inside(row, "path") for row in table.rows]
    for row, picture in zip(table.rows, pictures, strict=True):
        if not os.path.isfile(root / picture):
            raise ValueError(
                f"{row.where} names {picture!r}, which is not in the folder; expected "
                "a path of an image relative to it."
            )
    return table._replace(pictures=pictures)


def _entry(row: Row, picture: str) -> Entry:
    """Read a row: an object with or without a box, or an image without objects."""
    label = row.values["class"]
    box = annotations.box_of(row) if "x0" in row.values else None
    if box is not None and not label:
        raise ValueError(
            f"{row.where} has a box of no class; expected a class, or no numbers for "
            "an image without objects."
        )
    return Entry(("Line", row.line, row.file), picture, label, box)


def _check_empty(entries: list[Entry]) -> None:
    """Refuse an image that has an object by one row, and none by another."""
    empty = {entry.picture: entry for entry in entries if not entry.label}
    for entry in entries:
        if entry.label and entry.picture in empty:
            raise ValueError(
                f"{empty[entry.picture].where} has no class for {entry.picture!r}, "
                f"which has {entry.label!r} in another row; expected no such row."
            )


def _splits(table: Table) -> dict[str, list[str]]:
    """Give the images of each split, in the order of the table."""
    found: dict[str, str] = {}
    for row, picture in zip(table.rows, table.pictures, strict=True):
        own = row.values["split"]
        if not own or found.setdefault(picture, own) != own:
            raise ValueError(
                f"{row.where} puts {picture!r} into split {own!r}; expected one split "
                "for all rows of an image."
            )
    splits: dict[str, list[str]] = {}
    for picture, own in found.items():
        splits.setdefault(own, []).append(picture)
    return splits
