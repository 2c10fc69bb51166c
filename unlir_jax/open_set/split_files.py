"""The file of a split: what came of it, and what it was fitted to and scored on.

It is read as anybody may have written it: by a sum of its own, of the types that it
has, and of the classes, images and weights of this run.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unlir_jax.core import finite
from unlir_jax.core.document_types import Document, Record
from unlir_jax.runs import sharing
from unlir_jax.storage import documents, files

SUM = "crc32"


class Whose(NamedTuple):
    """Say whose a split is.

    Attributes:
        split: Its number.
        weights: Hash of the network's weights.
        known: Names of known classes.
        unknown: Names of unknown classes.
        images: Names of the test images.
        scores: Names of the scores.
        sets: Names of the images of further sets, by set.
        hard: Names of hard unknown classes, where somebody says which are.
    """

    split: int
    weights: str
    known: Sequence[str]
    unknown: Sequence[str]
    images: Sequence[str]
    scores: Sequence[str]
    sets: Mapping[str, Sequence[str]] = {}
    hard: Sequence[str] = ()

    def about(self) -> Record:
        """Say what stands in its file."""
        return {
            "split": self.split,
            "weights": self.weights,
            "known": list(map(files.readable, self.known)),
            "unknown": list(map(files.readable, self.unknown)),
            "images": list(map(files.readable, self.images)),
            "set_images": {
                name: list(map(files.readable, images))
                for name, images in self.sets.items()
            },
        } | ({"hard": list(map(files.readable, self.hard))} if self.hard else {})


def write(file: Path, found: Mapping[str, object], whose: Whose) -> None:
    """Keep a split.

    Raises:
        ValueError: Nothing can be written there.
        FloatingPointError: A number is not finite.
    """
    finite.check(found, f"split {whose.split}")
    document = dict(found) | whose.about()
    summed = document | {
        SUM: _sum(documents.parse_json(files.to_json(document), "A split"))
    }
    with sharing.writing(file.parent.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(file, files.to_json(summed).encode("utf-8"))


def read(file: Path, whose: Whose) -> tuple[Record | None, str]:
    """Read the file of a split.

    Returns:
        The split and "", None and "" if there is no such file; or, if it is damaged,
        None and in which way.

    Raises:
        ValueError: It is sound, but of other weights, classes or images.
    """
    try:
        document = documents.read_object(file)
    except FileNotFoundError:
        return None, ""
    except ValueError as error:
        return None, str(error)
    if document.get(SUM) != _sum(document):
        return None, "it is not what was written"
    for what, value in whose.about().items():
        if document.get(what) != value:
            raise ValueError(
                f"{str(file)!r} is of other {what}; expected a split of this run: "
                "delete it, and the same command makes it again, or choose another "
                "workdir."
            )
    return (document, "") if _has(document, whose.scores) else (None, "scores lack")


def _has(document: Document, names: Sequence[str]) -> bool:
    """Tell whether a split has all scores of all images."""
    scores, images = document.get("scores"), document.get("images", [])
    return isinstance(scores, dict) and all(
        isinstance(scores.get(name), list) and len(scores[name]) == len(images)
        for name in names
    )


def _sum(document: Document) -> int:
    """Sum up a split, but for the sum and what JSON's writer adds."""
    own = {n: value for n, value in document.items() if n not in (SUM, "not_finite")}
    return zlib.crc32(json.dumps(own, sort_keys=True).encode())
