"""Methods from elsewhere: folders with a map for each image, made by any program."""

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding

from unlir_jax import maps
from unlir_jax.data import image_files, source
from unlir_jax.evaluation import map_files
from unlir_jax.storage import files, paths
from unlir_jax.types import Explainer

EXPECTED = "FOLDER/METHOD/IMAGE.npz, .npy or .png"


class GivenMethod(NamedTuple):
    """Hold a method of which nothing but maps is known.

    Attributes:
        files: Its maps in the order of the data.
        signed: Whether one of them has negative values.
        sha256: Hash of the maps' values.
    """

    files: tuple[Path, ...]
    signed: bool
    sha256: str

    def about(self) -> dict[str, object]:
        """Say what stands in the place of settings."""
        return {"maps": len(self.files), "sha256": self.sha256}


def find(
    folder: str | os.PathLike[str], data: source.Source, taken: Collection[str]
) -> dict[str, GivenMethod]:
    """Find the maps of all images, and read each once, before any work is done.

    A folder with maps in it is one method of its own name. In any other folder, each
    folder in it is a method. A map has the path of its image or, where no other image
    is called so, its name alone; the suffix is the map's.

    Args:
        folder: Where the maps are.
        data: The images.
        taken: Names that other methods have.

    Raises:
        ValueError: There is no map, an image has none or two, two images share one, a
            name is taken, or a map is none (`map_files.read`).
    """
    root = paths.check(folder, "maps")
    if not root.is_dir():
        raise ValueError(f"`maps`={str(root)!r} is no folder; expected {EXPECTED}.")
    own = any(_is_map(path) for path in root.iterdir())
    inner = [root] if own else sorted(path for path in root.iterdir() if path.is_dir())
    listed = {path: _listed(path) for path in inner}
    methods = {path: found for path, found in listed.items() if found}
    if not methods:
        raise ValueError(f"`maps`={str(root)!r} holds no map; expected {EXPECTED}.")
    found = {}
    for path, known in methods.items():
        name = files.readable(path.resolve().name)
        if name in taken or "/" in name:
            raise ValueError(
                f"`maps` has a method {name!r}, which is the name of a method here; "
                f"expected another name of its folder, such as {name + '_elsewhere'!r}."
            )
        found[name] = _read(_matched(name, known, data))
    return found


def _is_map(path: Path) -> bool:
    return path.suffix.lower() in map_files.SUFFIXES and path.is_file()


def _listed(folder: Path) -> dict[str, list[Path]]:
    """List the maps below a folder by their paths without suffix."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if _is_map(path):
            key = path.relative_to(folder).with_suffix("").as_posix()
            found.setdefault(key, []).append(path)
    return found


def _matched(
    name: str, known: Mapping[str, Sequence[Path]], data: source.Source
) -> tuple[Path, ...]:
    """Give each image its map."""
    every = [_key(data.name(index)) for index in range(data.size)]
    stems: dict[str, list[int]] = {}
    for index, key in enumerate(every):
        stems.setdefault(PurePosixPath(key).name, []).append(index)
    matched, missing = [], []
    for index, key in enumerate(every):
        stem = PurePosixPath(key).name
        there = known.get(key, [])
        if not there and stem in known:
            there = known[stem]
            if len(stems[stem]) > 1:
                first, second = (data.name(i) for i in stems[stem][:2])
                raise ValueError(
                    f"{str(there[0])!r} is the map of {first!r} and of {second!r}; "
                    f"expected the path of its image, such as {name}/{key}.npy."
                )
        if len(there) > 1:
            raise ValueError(
                f"{str(there[0])!r} and {there[1].name!r} are both maps of "
                f"{data.name(index)!r}; expected one."
            )
        matched += there
        missing += [] if there else [index]
    if missing:
        raise ValueError(
            f"The method {name!r} in `maps` has no map for {len(missing)} of "
            f"{data.size} images, such as {files.readable(data.name(missing[0]))!r}; "
            f"expected {name}/{every[missing[0]]}.npz, .npy or .png."
        )
    return tuple(matched)


def _key(name: str) -> str:
    path = PurePosixPath(name.replace(os.sep, "/"))
    known = path.suffix.lower() in image_files.SUFFIXES
    return str(path.with_suffix("") if known else path)


def _read(chosen: tuple[Path, ...]) -> GivenMethod:
    """Look at every map of a method."""
    digest, signed = hashlib.sha256(), False
    for path in chosen:
        values = map_files.read(path)
        digest.update(f"{values.shape}".encode() + values.tobytes())
        signed = signed or bool((values < 0).any())
    return GivenMethod(chosen, signed, digest.hexdigest())


def refuse(variables, images, labels, *, key=None):
    """Stand for an explainer where none can be: of other images there are no maps."""
    raise ValueError("A map from `maps` belongs to its image; expected no other image.")


def explainer(method: GivenMethod, index: np.ndarray, size: int) -> Explainer:
    """Give the maps of some images, whatever is asked of them.

    Args:
        method: The method.
        index: Places of the images in the data, -1 for rows without an image.
        size: Side of the images; maps are enlarged or reduced to it, as metrics do.
    """
    filled = np.where(index >= 0, index, max(int(index.max()), 0))
    known = {place: _sized(method.files[place], size) for place in set(filled.tolist())}
    values = np.stack([known[place] for place in filled.tolist()])

    def explain(variables, images, labels, *, key=None):
        del variables, labels, key
        sharding = getattr(images, "sharding", None)
        several = isinstance(sharding, NamedSharding)
        return jax.device_put(values, sharding if several else None)

    return explain


def _sized(path: Path, size: int) -> np.ndarray:
    values = map_files.read(path)
    if len(values) == size:
        return values
    weights = maps.interpolation(len(values), size)
    return (weights @ values @ weights.T).astype(np.float32)
