"""Sets of images of no known class: near ones, such as other species, and far ones."""

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unlir_jax.data import image_files, levels, preprocessing, registry
from unlir_jax.data.source import Example, Source, labelled
from unlir_jax.storage import paths

NEAR, FAR = "near", "far"
TFDS = "tfds:"
SPLIT = "test"


def opened(
    near: str, far: str, white_level: levels.WhiteLevel = levels.AUTO
) -> dict[str, Source]:
    """Open the sets that are asked for.

    Args:
        near: `PATH` or `NAME=PATH`, several joined by commas. A path is a folder, all
            images below which count, an `.npz` file or `tfds:NAME`, of which the split
            `test` counts. A name is the last of the path by default.
        far: So for the other kind.
        white_level: White of images in folders, see `data.folder`.

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
            found[f"{kind}/{name}"] = _open(kind, path, white_level)
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


def _open(kind: str, path: str, white_level: levels.WhiteLevel) -> Source:
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
    white_level = levels.check_white_level(white_level)
    return _folder(root.absolute(), names, white_level)


def _folder(root: Path, names: Sequence[str], white_level: levels.WhiteLevel) -> Source:
    """Make a source of all images below a folder, of one class."""
    files = [root / name for name in names]
    return Source(
        functools.partial(_read, files, white_level),
        len(names),
        (root.name,),
        names.__getitem__,
        np.zeros(len(names), np.int32),
        fingerprint=functools.partial(_fingerprint, files, white_level),
        file=lambda index: str(files[index]),
    )


def _read(files: Sequence[Path], white_level: levels.WhiteLevel, index: int) -> Example:
    image = preprocessing.read_image(files[index], white_level=white_level)
    return {"image": image, "label": 0}


def _fingerprint(
    files: Sequence[Path],
    white_level: levels.WhiteLevel,
    *,
    times: bool = True,
    annotations: Sequence[str] = (),
) -> str:
    del annotations
    known = b"" if white_level == levels.AUTO else f"{white_level}\n".encode()
    return image_files.fingerprint(files, times=times, known=known)
