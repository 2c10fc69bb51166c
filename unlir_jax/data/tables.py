"""Tables in CSV next to the images of a folder: which row is about which image."""

import csv
import math
import sys
from collections.abc import Container, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from unlir_jax.data.budget import FREE, RATIO
from unlir_jax.storage import paths

IMAGES = "images"
# What a row takes in memory besides its text.
ROW_BYTES = 260


class Row(NamedTuple):
    """Hold one line of a table by the names of its columns."""

    file: Path
    line: int
    values: dict[str, str]

    @property
    def where(self) -> str:
        """Say which line this is, to begin a message with."""
        return f"Line {self.line} of {str(self.file)!r}"


class Table(NamedTuple):
    """Hold a CSV file and which image each row is about.

    Attributes:
        file: Where it was read from.
        columns: The names of its columns.
        rows: Its rows.
        pictures: The image of each row, relative to the folder; "" where the folder
            has none of that name.
    """

    file: Path
    columns: tuple[str, ...]
    rows: list[Row]
    pictures: list[str]


def read(file: Path, pictures: Sequence[str]) -> Table:
    """Read a table with a column `path` or `name`.

    Args:
        file: A CSV file in UTF-8 with a header, in the folder of the images.
        pictures: The images that there are, relative to that folder. A `path` is one
            of them; a `name` is one of them without suffix, and without `images/`.

    Raises:
        ValueError: The file is no such table, a path leads out of the folder, or a name
            fits two images.
    """
    columns, rows = _rows(file)
    if "path" in columns:
        known = set(pictures)
        found = [inside(row, "path") for row in rows]
        return Table(file, columns, rows, [p if p in known else "" for p in found])
    if "name" not in columns:
        raise ValueError(
            f"Table {str(file)!r} has the columns {', '.join(columns)}; expected "
            "`path` or `name` among them."
        )
    named: dict[str, set[str]] = {}
    for picture in pictures:
        stem = PurePosixPath(picture).with_suffix("").as_posix()
        for name in (stem, picture, stem.removeprefix(f"{IMAGES}/")):
            named.setdefault(name, set()).add(picture)
    found = []
    for row in rows:
        fitting = sorted(named.get(row.values["name"], ()))
        if len(fitting) > 1:
            raise ValueError(
                f"{row.where} has name={row.values['name']!r}, which fits "
                f"{fitting[0]!r} and {fitting[1]!r}; expected a column `path`."
            )
        found.append(fitting[0] if fitting else "")
    return Table(file, columns, rows, found)


def _rows(file: Path) -> tuple[tuple[str, ...], list[Row]]:
    rows: list[Row] = []
    try:
        most = (FREE + RATIO * file.stat().st_size) // ROW_BYTES
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            columns = tuple(name.strip() for name in next(reader, ()))
            _check_columns(file, columns)
            for values in reader:
                if any(map(len, values)):
                    rows.append(_row(file, reader.line_num, columns, values))
                if len(rows) > most:
                    raise ValueError(
                        f"Table {str(file)!r} has more than {most:,} rows, but only "
                        f"{file.stat().st_size:,} bytes; expected a path or name in "
                        "every row."
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"Table {str(file)!r} cannot be read ({error}); expected CSV in UTF-8."
        ) from error
    return columns, rows


def _check_columns(file: Path, columns: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for column in columns:
        if column and column in seen:
            raise ValueError(
                f"Table {str(file)!r} has two columns {column!r}; expected one."
            )
        seen.add(column)


def _row(file: Path, line: int, columns: tuple[str, ...], values: list[str]) -> Row:
    if len(values) != len(columns):
        raise ValueError(
            f"Line {line} of {str(file)!r} has {len(values)} values; expected "
            f"{len(columns)} as its header has, parted by commas."
        )
    # Classes and splits are the same in many rows.
    stripped = (sys.intern(value.strip()) for value in values)
    return Row(file, line, dict(zip(columns, stripped, strict=True)))


def inside(row: Row, column: str) -> str:
    """Read a path that must not leave the folder, or raise ValueError."""
    return inner_path(row.values[column], f"{row.where} has {column}", "table")


def inner_path(text: str, told: str, file: str) -> str:
    """Read a path that must not leave the folder of a file.

    Args:
        text: The path as it is written there.
        told: What begins the sentence of an error.
        file: What the file is.

    Raises:
        ValueError: It leads out of the folder, or is longer than a name can be.
    """
    path = PurePosixPath(text.replace("\\", "/"))
    long = any(len(part) > paths.MOST_OF_NAME for part in path.parts)
    if path.is_absolute() or ".." in path.parts or long:
        raise ValueError(
            f"{told}={paths.shown(text)}; expected a path relative to the folder of "
            f"the {file}, and in it."
        )
    return path.as_posix()


def number(row: Row, column: str) -> float:
    """Read a finite number, or raise ValueError."""
    return finite(row.where, column, row.values[column])


def finite(where: str, name: str, text: str) -> float:
    """Turn a text into a finite number, or raise ValueError with its name and place."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where} has {name}={text[:40]!r}; expected a number.")
    return value


def check_all(table: Table, pictures: Sequence[str], found: Container[str]) -> None:
    """Raise ValueError unless each image is among those that rows were found for."""
    for picture in pictures:
        if picture not in found:
            raise ValueError(
                f"Table {str(table.file)!r} has no row for {picture!r}; expected one "
                "for every image."
            )
