"""Files of texts that classes are compared with: embeddings, names, and a scale."""

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlir_jax.storage import documents, paths
from unlir_jax.weights import bounded_zip, readers

EMBEDDINGS, NAMES = "embeddings", "class_names"
TERMS = "logit_scale", "logit_bias"
_EXPECTED = (
    "expected an .npz with `embeddings` and `class_names`, a .safetensors with "
    "`embeddings` and `class_names` in its header, or an .npy with names, one a line, "
    "in the .txt of the same name"
)


class Texts(NamedTuple):
    """Hold embeddings of texts.

    Attributes:
        embeddings: `[classes, width]`.
        class_names: One name a text; () where nothing says them.
        terms: `logit_scale` and `logit_bias`, where they are known.
    """

    embeddings: np.ndarray
    class_names: tuple[str, ...] = ()
    terms: Mapping[str, float] = {}


def read(path: str | os.PathLike[str]) -> Texts:
    """Read embeddings and names of texts.

    Args:
        path: An `.npz` with `embeddings` and `class_names`; a `.safetensors` with
            `embeddings`, and a JSON list `class_names` in its header; or an `.npy`,
            with names, one a line, in the `.txt` of the same name. The first two may
            have `logit_scale` and `logit_bias` as CLIP's files have them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, of another format, or has no embeddings.
    """
    path = Path(path)
    paths.check(path, "texts")
    if not path.is_file():
        raise FileNotFoundError(f"`texts`={str(path)!r} is no file; {_EXPECTED}.")
    try:
        with path.open("rb") as file:
            start = file.read(8)
            if start[:2] == b"PK":
                archive = bounded_zip.open_zip(file)
                arrays = {
                    name.removesuffix(".npy"): _array(archive.read(name))
                    for name in archive.sizes
                }
                names = arrays.get(NAMES, np.zeros(0, "U1"))
            elif start[:6] == b"\x93NUMPY":
                arrays, names = {EMBEDDINGS: _array(path.read_bytes())}, _lines(path)
            else:
                arrays = readers.read(path)
                told = readers.read_metadata(path).get(NAMES, "[]")
                names = documents.parse_json(told, f"its `{NAMES}`", "a list of texts")
    except (ValueError, OSError, EOFError, MemoryError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"`texts`={str(path)!r} cannot be read ({said:.200}); {_EXPECTED}."
        ) from error
    if EMBEDDINGS not in arrays:
        raise ValueError(f"`texts`={str(path)!r} has no `embeddings`; {_EXPECTED}.")
    return Texts(arrays[EMBEDDINGS], tuple(map(str, names)), terms(arrays))


def terms(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Give `logit_scale` and `logit_bias` of arrays, whatever stands before the names.

    What comes twice is left out, since nothing says which of them counts.
    """
    found = {}
    for term in TERMS:
        own = [
            a for name, a in arrays.items() if re.fullmatch(rf"(.*[./])?{term}", name)
        ]
        if len(own) == 1 and own[0].size == 1 and own[0].dtype.kind == "f":
            found[term] = float(own[0].reshape(()))
    return found


def _array(data: bytes | bytearray) -> np.ndarray:
    """Read an array of numbers or texts; objects are refused."""
    try:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    # The header is a text of Python, whose damage shows in as many ways.
    except Exception as error:
        raise ValueError(f"an array is damaged: {error!s:.100}") from error


def _lines(path: Path) -> list[str]:
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        return []
    return [line.strip() for line in beside.read_text("utf-8").splitlines()]
