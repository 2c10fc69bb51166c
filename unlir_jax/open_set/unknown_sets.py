"""Sets of images of no known class: near ones, such as other species, and far ones."""

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unlir_jax.data import image_files, preprocessing, registry
from unlir_jax.data.source import Example, Source, labelled
from unlir_jax.storage import paths

NEAR, FAR = "near", "far"
TFDS = "tfds:"
SPLIT = "test"


def opened(near: str, far: str) -> dict[str, Source]:
    """Open the sets that are asked for.

    Args:
        near: `PATH` or `NAME=PATH`, several joined by commas. A path is a folder, all
            images below which count, an `.npz` file or `tfds:NAME`, of which the split
            `test` counts. A name is the last of the path by default.
        far: So for the other kind.

    Returns:
        Sources by `near/NAME` and `far/NAME`; labels count only in a protocol.

    Raises:
        ValueError: A name that comes twice or is none, or a path without images.
    """
    found: dict[str, Source] = {}
    for kind, text in ((NEAR, near), (FAR, far)):
        for item in filter(None, (part.strip() for part in text.split(","))):
            name, path = _parsed(kind, item)
            if f"{kind}/{name}" in found:
                raise ValueError(
                    f"`{kind}` has the name {paths.shown(name)} twice; expected "
                    "NAME=PATH with other names."
                )
            found[f"{kind}/{name}"] = _open(kind, path)
    return found


def _parsed(kind: str, item: str) -> tuple[str, str]:
    """Tell the name of a set from its path."""
    name, equals, path = item.partition("=")
    if not equals or os.path.exists(item):
        name, path = Path(item.removeprefix(TFDS)).name.removesuffix(".npz"), item
    if not re.fullmatch(r"[\w.-]+", name) or not path:
        raise ValueError(
            f"`{kind}` has {paths.shown(item)}; expected PATH or NAME=PATH, with "
            "letters, digits, points, - and _ in the name."
        )
    return name, path


def _open(kind: str, path: str) -> Source:
    if path.startswith(TFDS):
        source = registry.open_source("tfds", SPLIT, name=path.removeprefix(TFDS))
        return labelled(source)
    if path.endswith(".npz"):
        return registry.open_source("npz", SPLIT, path=path)
    root = Path(path)
    if not root.is_dir():
        what = "is no folder" if root.exists() else "does not exist"
        raise ValueError(
            f"`{kind}` has {paths.shown(path)}, which {what}; expected a folder of "
            "images, an .npz file or tfds:NAME."
        )
    names = list(image_files.walk(root))
    if not names:
        raise ValueError(
            f"`{kind}` has {paths.shown(path)}, which holds no image; expected some."
        )
    return _folder(root.absolute(), names)


def _folder(root: Path, names: Sequence[str]) -> Source:
    """Make a source of all images below a folder, of one class."""
    files = [root / name for name in names]
    return Source(
        functools.partial(_read, files),
        len(names),
        (root.name,),
        names.__getitem__,
        np.zeros(len(names), np.int32),
        fingerprint=functools.partial(_fingerprint, files),
        file=lambda index: str(files[index]),
    )


def _read(files: Sequence[Path], index: int) -> Example:
    image, _ = preprocessing.read_turned(files[index])
    return {"image": image, "label": 0}


def _fingerprint(
    files: Sequence[Path], *, times: bool = True, annotations: Sequence[str] = ()
) -> str:
    del annotations
    return image_files.fingerprint(files, times=times)
