"""What an evaluation keeps: a file for each batch, and in the end one table of all.

A batch's file appears complete or not at all, so whoever is killed goes on from the
next one, and the table is the same.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlir_jax import record

FOLDER = "batches"
TABLE, COMMA = "per_image.parquet", "per_image.csv"
COLUMNS: tuple[str, ...] = ("image", "label", "method", "metric", "value")


class Rows(NamedTuple):
    """Hold the scores of some pictures.

    Attributes:
        index: Places in the data, `[pictures]`; those that could be read.
        label: The class that is explained, `[pictures]`.
        predicted: The network's class, `[pictures]`.
        probability: Of `label`, `[pictures]`.
        values: `[pictures, methods, metrics]`.
        flat: Whether maps are flat, `[pictures, methods]`.
        curves: By metric, `[pictures, methods, steps]`.
        unreadable: Places of pictures that could not be read.
    """

    index: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    values: np.ndarray
    flat: np.ndarray
    curves: dict[str, np.ndarray]
    unreadable: np.ndarray


def file_of(folder: Path, batch: int) -> Path:
    """Name the file of a batch."""
    return folder / FOLDER / f"{batch:06d}.npz"


def write(folder: Path, batch: int, rows: Rows) -> None:
    """Keep a batch."""
    arrays = {name: getattr(rows, name) for name in rows._fields if name != "curves"}
    arrays |= {f"curve/{name}": curve for name, curve in rows.curves.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    file = file_of(folder, batch)
    file.parent.mkdir(parents=True, exist_ok=True)
    record.write_bytes(file, buffer.getvalue())


def missing(folder: Path, batches: int) -> list[int]:
    """List the batches that are not there yet."""
    return [index for index in range(batches) if not file_of(folder, index).is_file()]


def read(folder: Path, batches: int) -> Rows:
    """Put all batches together, in order.

    Raises:
        ValueError: A file is broken; it may be deleted, and is made again.
    """
    found = [_read(file_of(folder, index)) for index in range(batches)]
    joined = {
        name: np.concatenate([getattr(rows, name) for rows in found])
        for name in Rows._fields
        if name != "curves"
    }
    curves = {
        name: np.concatenate([rows.curves[name] for rows in found])
        for name in found[0].curves
    }
    return Rows(**joined, curves=curves)


def _read(file: Path) -> Rows:
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        plain = {name: arrays[name] for name in Rows._fields if name != "curves"}
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise ValueError(
            f"{str(file)!r} cannot be read ({error}); expected what `unlir evaluate` "
            "wrote: delete it, and the same command makes it again."
        ) from error
    curves = {
        name.removeprefix("curve/"): values
        for name, values in arrays.items()
        if name.startswith("curve/")
    }
    return Rows(**plain, curves=curves)


def lines(
    rows: Rows,
    names: Sequence[str],
    methods: Sequence[str],
    metrics: Sequence[str],
) -> Iterator[Mapping[str, object]]:
    """Give the lines of the table, picture by picture, then method, then metric."""
    for place, name in enumerate(names):
        for method, name_of_method in enumerate(methods):
            for metric, name_of_metric in enumerate(metrics):
                yield {
                    "image": record.readable(name),
                    "label": int(rows.label[place]),
                    "method": name_of_method,
                    "metric": name_of_metric,
                    "value": float(rows.values[place, method, metric]),
                }


def write_tables(
    folder: Path,
    rows: Rows,
    names: Sequence[str],
    methods: Sequence[str],
    metrics: Sequence[str],
) -> None:
    """Write one line for each picture, method and metric, as Parquet and as CSV."""
    import pyarrow
    from pyarrow import parquet

    found = list(lines(rows, names, methods, metrics))
    kinds = pyarrow.string(), pyarrow.int32(), *(pyarrow.string(),) * 2
    schema = pyarrow.schema(
        list(zip(COLUMNS, (*kinds, pyarrow.float64()), strict=True))
    )
    buffer = io.BytesIO()
    table = pyarrow.Table.from_pylist(found, schema=schema)
    parquet.write_table(table, buffer, compression="zstd")
    record.write_bytes(folder / TABLE, buffer.getvalue())
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    record.write_text(folder / COMMA, text.getvalue())
