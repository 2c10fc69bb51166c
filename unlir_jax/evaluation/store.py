"""Store of an evaluation: a file for each batch, and in the end one table of all.

A batch's file appears complete or not at all, so whoever is killed continues from the
next one, and the table is the same.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from unlir_jax.core import extras
from unlir_jax.evaluation import batch_files
from unlir_jax.evaluation.batch_files import Rows, Whose
from unlir_jax.runs import sharing
from unlir_jax.storage import files

FOLDER = "batches"
TABLE, COMMA = "per_image.parquet", "per_image.csv"
COLUMNS: tuple[str, ...] = ("image", "label", "method", "metric", "value")


def file_of(folder: Path, batch: int) -> Path:
    """Name the file of a batch."""
    return folder / FOLDER / f"{batch:06d}.npz"


def write(folder: Path, batch: int, rows: Rows, whose: Whose) -> None:
    """Keep a batch, with the names of its images.

    Raises:
        ValueError: Nothing can be written there.
    """
    file = file_of(folder, batch)
    with sharing.writing(folder):
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(file, batch_files.encode(rows, whose))


def missing(folder: Path, batches: int) -> list[int]:
    """List the batches that are not there yet."""
    return [index for index in range(batches) if not file_of(folder, index).is_file()]


def drop_damaged(
    folder: Path, batches: Iterable[int], whose: Whose, say: Callable[[str], None]
) -> None:
    """Delete the batches that are damaged, so that they are made again, and say so.

    Raises:
        ValueError: A batch is sound, but of another evaluation or of other images.
    """
    for batch in batches:
        file = file_of(folder, batch)
        damage = batch_files.read(file, batch, whose)[1] if file.is_file() else ""
        if damage:
            say(f"{str(file)!r} is damaged ({damage}): it is made again.")
            with sharing.writing(folder):
                file.unlink(missing_ok=True)


def read(folder: Path, batches: int, whose: Whose) -> Rows:
    """Put all batches together, in order.

    Raises:
        ValueError: A file is broken, or of another evaluation.
    """
    found: list[Rows] = []
    for batch in range(batches):
        file = file_of(folder, batch)
        rows, damage = batch_files.read(file, batch, whose)
        first = found[0] if found else rows
        if rows is not None and first is not None:
            damage = _unlike(first, rows)
        if rows is None or damage:
            raise ValueError(
                f"{str(file)!r} is damaged ({damage}); expected what `unlir evaluate` "
                "wrote: delete it, and the same command makes it again."
            )
        found.append(rows)
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


def _unlike(first: Rows, rows: Rows) -> str:
    """Say which curve has other steps than in the first batch, "" where none."""
    for name, curve in rows.curves.items():
        one, other = first.curves[name].shape[2], curve.shape[2]
        if one != other:
            return f"{name} has {other} steps, and {one} in the first batch"
    return ""


def lines(
    rows: Rows,
    names: Sequence[str],
    methods: Sequence[str],
    metrics: Sequence[str],
    **condition: str,
) -> Iterator[Mapping[str, object]]:
    """Give the lines of the table, image by image, then method, then metric.

    What `condition` names stands first in each.
    """
    for place, name in enumerate(names):
        for method, name_of_method in enumerate(methods):
            for metric, name_of_metric in enumerate(metrics):
                yield condition | {
                    "image": files.readable(name),
                    "label": int(rows.label[place]),
                    "method": name_of_method,
                    "metric": name_of_metric,
                    "value": float(rows.values[place, method, metric]),
                }


def write_tables(folder: Path, found: Sequence[Mapping[str, object]]) -> None:
    """Write lines, see `lines`, as Parquet and as CSV.

    Args:
        folder: Where to.
        found: The lines; columns of text may stand before `COLUMNS`.
    """
    with extras.needed("report"):
        import pyarrow
        from pyarrow import parquet

    names = tuple(found[0]) if found else COLUMNS
    kinds = {"label": pyarrow.int32(), "value": pyarrow.float64()}
    schema = pyarrow.schema([(n, kinds.get(n, pyarrow.string())) for n in names])
    buffer = io.BytesIO()
    table = pyarrow.Table.from_pylist(list(found), schema=schema)
    parquet.write_table(table, buffer, compression="zstd")
    files.write_bytes(folder / TABLE, buffer.getvalue())
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    files.write_text(folder / COMMA, text.getvalue())
