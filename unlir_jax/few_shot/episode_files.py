"""The file of a draw: what came of it, and what it was learnt from and tested on.

It is read as anybody may have written it: by a sum of its own, of the types that it
has, and of the images and weights of this run.
"""

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unlir_jax.core.document_types import Record
from unlir_jax.runs import sharing
from unlir_jax.storage import documents, files

SUM = "crc32"


class Whose(NamedTuple):
    """Say whose a draw is.

    Attributes:
        draw: Its number.
        weights: Hash of the network's weights.
        classes: Names of those that are told apart.
        pictures: Names of those that are learnt from.
        tested: Number of images that it is tested on.
    """

    draw: int
    weights: str
    classes: Sequence[str]
    pictures: Sequence[str]
    tested: int

    def about(self) -> dict[str, object]:
        """Say what stands in its file."""
        return {
            "draw": self.draw,
            "weights": self.weights,
            "classes": list(map(files.readable, self.classes)),
            "pictures": list(map(files.readable, self.pictures)),
        }


def write(file: Path, found: Mapping[str, object], whose: Whose) -> None:
    """Keep a draw.

    Raises:
        ValueError: Nothing can be written there.
    """
    document = dict(found) | whose.about()
    summed = document | {
        SUM: _sum(documents.parse_json(files.to_json(document), "A draw"))
    }
    with sharing.writing(file.parent.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        # As bytes: text would have letters written out that the sum has as they are.
        files.write_bytes(file, files.to_json(summed).encode("utf-8"))


def _sum(document: Record) -> int:
    """Sum up a draw, but for the sum and what JSON's writer adds."""
    own = {n: value for n, value in document.items() if n not in (SUM, "not_finite")}
    return zlib.crc32(json.dumps(own, sort_keys=True).encode())


def read(file: Path, whose: Whose) -> tuple[Record | None, str]:
    """Read the file of a draw.

    Returns:
        The draw and "", None and "" if there is no such file; or, if it is damaged,
        None and in which way.

    Raises:
        ValueError: It is sound, but of other weights or images.
    """
    try:
        document = documents.read_object(file)
        _check(document)
    except FileNotFoundError:
        return None, ""
    except ValueError as error:
        return None, str(error)
    other = _other(document, whose)
    if other:
        raise ValueError(
            f"{str(file)!r} is of something else: {other}; expected a draw of this "
            "run: delete it, and the same command makes it again, or choose another "
            "workdir."
        )
    return document, ""


def _check(document: Record) -> None:
    """Refuse what is no draw as it was written."""
    # An earlier version wrote no sum.
    if SUM in document and document[SUM] != _sum(document):
        raise ValueError("it is not what was written")
    for name in ("accuracy", "loss", "seconds", "trained_parameters", "draw"):
        value = document.get(name)
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not math.isfinite(value)
        ):
            raise ValueError(f"its {name!r} is no number")
    for name, kind in (("right", int), ("classes", str), ("pictures", str)):
        values = document.get(name)
        if not isinstance(values, list) or not values:
            raise ValueError(f"its {name!r} is no list")
        if not all(isinstance(value, kind) for value in values):
            raise ValueError(f"its {name!r} is no list of the right kind")
    right = document["right"]
    mean = sum(right) / len(right)
    if not set(right) <= {0, 1} or abs(document["accuracy"] - mean) > 1e-9:
        raise ValueError("its accuracy is not that of its images")
    if not isinstance(document.get("unlabelled", 0), int):
        raise ValueError("its 'unlabelled' is no number")


def _other(document: Record, whose: Whose) -> str:
    """Say what a draw is of that is something else here; "" where nothing is."""
    for what, value in whose.about().items():
        there = document.get(what, value if what == "weights" else None)
        if there == value:
            continue
        if not isinstance(value, list) or not isinstance(there, list):
            return f"{what} {str(there)[:12]!r} there, {str(value)[:12]!r} here"
        lengths = len(there), len(value)
        differing = ((a, b) for a, b in zip(there, value, strict=False) if a != b)
        one, another = next(differing, lengths)
        return f"{what} {one!r:.200} there, {another!r:.200} here"
    if len(document["right"]) != whose.tested:
        return f"{len(document['right'])} tested there, {whose.tested} here"
    return ""
