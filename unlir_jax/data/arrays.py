"""Images and labels that lie as arrays in an .npz file."""

import functools
import hashlib
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from unlir_jax.data import classes as class_names
from unlir_jax.data import folder
from unlir_jax.data.budget import FREE, RATIO
from unlir_jax.data.source import Example, Source

# Which arrays are the images of a split, and what their labels are called.
PAIRS = ((r"x_(\w+)", "y_{}"), (r"(\w+)_images", "{}_labels"))
WHOLE = (("images", "labels"), ("x", "y"))
CLASSES = ("classes", "class_names")
SPLIT = ("split", "splits")
EXPECTED = (
    "x_train and y_train, train_images and train_labels, or images and labels with or "
    "without split"
)


def npz(
    path: str | os.PathLike[str], split: str, *, holdout: float = 0.0, seed: int = 0
) -> Source:
    """Read images and labels from an .npz file, into memory.

    Its arrays are `x_train`, `y_train`, `x_test`, `y_test` as Keras calls them, or
    `train_images`, `train_labels`, … as MedMNIST does, or `images` and `labels`, with
    an array `split` of names or without. Names of the classes may be in `classes` or
    `class_names`, and are numbered anew, by `classes.in_order`. Images are uint8, or
    floating point in [0, 1]; `[n, h, w, 3]`, `[n, h, w]` or `[n, h, w, 1]`. Labels are
    integers `[n]` or `[n, 1]`.

    Args:
        path: The file.
        split: A split of it, or "all".
        holdout: Share of every class, in [0, 1), that is "test" where the file itself
            has no splits; the rest is "train".
        seed: Seed of `holdout`.

    Raises:
        ValueError: The file is missing, is something else, or contradicts itself.
    """
    if not 0 <= holdout < 1:
        raise ValueError(f"`holdout`={holdout} is a share; expected a value in [0, 1).")
    path = Path(path)
    if not os.path.isfile(path):
        kind = "is a folder" if os.path.isdir(path) else "does not exist"
        raise ValueError(f"File {str(path)!r} {kind}; expected an .npz file.")
    # NumPy does not close a file that it opened and could not read.
    with path.open("rb") as stream, _opened(stream, path) as file:
        pairs = _pairs(file.files)
        if not pairs:
            raise ValueError(
                f"File {str(path)!r} holds {', '.join(file.files) or 'nothing'}; "
                f"expected {EXPECTED}."
            )
        _check_room(file, [name for pair in pairs.values() for name in pair], path)
        labels = {part: _labels(file, y, path) for part, (_, y) in pairs.items()}
        classes = _classes(file, labels, path)
        kept = _chosen(file, labels, split, holdout, seed, path)
        sums = _sums(file)
        stored = {p: _images(file, *pairs[p], len(labels[p]), path) for p in kept}
    # The place in the array of the file is what stays the same.
    names = [(part, int(place)) for part, places in kept.items() for place in places]
    chosen = np.concatenate([labels[part][places] for part, places in kept.items()])
    pictures = [stored[part][place] for part, place in names]

    return class_names.ordered(
        Source(
            functools.partial(_read, pictures, chosen),
            len(pictures),
            classes,
            functools.partial(_name, path.stem, names),
            chosen,
            fingerprint=functools.partial(_fingerprint, sums),
        )
    )


def _fingerprint(
    sums: str, *, times: bool = True, annotations: Sequence[str] = ()
) -> str:
    """Give the sums of what was read, which no time changes."""
    del times, annotations
    return sums


def _sums(file: np.lib.npyio.NpzFile) -> str:
    """Hash name, size and checksum of each array, as the file has them."""
    lines = [f"{x.filename} {x.file_size} {x.CRC}" for x in _entries(file)]
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()


def _read(pictures: list[np.ndarray], labels: np.ndarray, index: int) -> Example:
    picture = pictures[index]
    colours = picture if picture.ndim == 3 else picture[..., None]
    image = np.broadcast_to(colours, (*picture.shape[:2], 3)).copy()
    return {"image": image, "label": int(labels[index])}


def _name(stem: str, names: list[tuple[str, int]], index: int) -> str:
    part, place = names[index]
    return "/".join(filter(None, (stem, part, str(place))))


def _entries(file: np.lib.npyio.NpzFile) -> list[zipfile.ZipInfo]:
    return [] if file.zip is None else file.zip.infolist()


def _check_room(file: np.lib.npyio.NpzFile, names: list[str], path: Path) -> None:
    """Refuse arrays that are far larger than their file, or of far too many images.

    Raises:
        ValueError: They are.
    """
    sizes = {entry.filename: entry.file_size for entry in _entries(file)}
    wanted = {*names, *CLASSES, *SPLIT}
    needed = sum(sizes.get(f"{name}.npy", sizes.get(name, 0)) for name in wanted)
    size = path.stat().st_size
    if needed > FREE + RATIO * size:
        raise ValueError(
            f"File {str(path)!r} of {size:,} bytes holds arrays of {needed:,} bytes; "
            f"expected at most 8 times its bytes and 64 MB, or the file as numpy.savez "
            "writes it, not compressed."
        )


def _opened(stream: BinaryIO, path: Path) -> np.lib.npyio.NpzFile:
    try:
        file = np.load(stream, allow_pickle=False)
    # Damage shows in many ways: of zip, of deflate, of the text that tells the shape.
    except Exception as error:
        raise ValueError(
            f"File {str(path)!r} cannot be read ({_reason(error)}); expected an .npz "
            "file, as numpy.savez writes it."
        ) from error
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise ValueError(
            f"File {str(path)!r} holds a single array; expected an .npz file with "
            f"{EXPECTED}."
        )
    return file


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _pairs(names: list[str]) -> dict[str, tuple[str, str]]:
    """Name the images and labels of each split; "" for a file without splits."""
    found = {}
    for name in names:
        for pattern, labels in PAIRS:
            match = re.fullmatch(pattern, name)
            if match and labels.format(match[1]) in names:
                found.setdefault(match[1], (name, labels.format(match[1])))
    if not found:
        whole = [pair for pair in WHOLE if set(pair) <= set(names)]
        return {"": whole[0]} if whole else {}
    return found


def _array(file: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    try:
        array = file[name]
    except Exception as error:
        raise ValueError(
            f"Array {name!r} of {str(path)!r} cannot be read ({_reason(error)}); "
            "expected numbers or text, and a file that is whole."
        ) from error
    # What is no array comes as bytes.
    if not isinstance(array, np.ndarray):
        raise ValueError(
            f"Array {name!r} of {str(path)!r} is something else; expected an array, as "
            "numpy.savez writes it."
        )
    return array


def _labels(file: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    labels = _array(file, name, path)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"Array {name!r} of {str(path)!r} is {labels.dtype} {list(labels.shape)}; "
            "expected one integer for each image."
        )
    return labels.astype(np.int32)


def _classes(
    file: np.lib.npyio.NpzFile, labels: dict[str, np.ndarray], path: Path
) -> tuple[str, ...]:
    given = next((name for name in CLASSES if name in file.files), None)
    everything = np.concatenate(list(labels.values()))
    if not len(everything):
        raise ValueError(f"File {str(path)!r} holds no images; expected some.")
    classes = tuple(map(str, range(int(everything.max()) + 1)))
    if given:
        classes = tuple(map(_text, _array(file, given, path).ravel()))
    if everything.min() < 0 or everything.max() >= len(classes):
        raise ValueError(
            f"File {str(path)!r} has labels from {everything.min()} to "
            f"{everything.max()}; expected 0 to {len(classes) - 1}."
        )
    present = np.unique(labels.get("train", everything))
    for index, name in enumerate(classes):
        if index not in present:
            shown = f"{name!r} ({index})" if given else str(index)
            raise ValueError(
                f"Class {shown} of {str(path)!r} has no images; expected some of "
                "every class to train on."
            )
    return classes


def _text(name: np.generic) -> str:
    """Read the name of a class, which may be stored as bytes or as a number."""
    if isinstance(name, bytes):
        return name.decode("utf-8", "replace")
    text = str(name)
    return class_names.plain_number(text) if isinstance(name, np.floating) else text


def _chosen(
    file: np.lib.npyio.NpzFile,
    labels: dict[str, np.ndarray],
    split: str,
    holdout: float,
    seed: int,
    path: Path,
) -> dict[str, np.ndarray]:
    """Say which places of which arrays a split is made of."""
    where = f"file {str(path)!r}"
    column = next((name for name in SPLIT if name in file.files), None)
    known = [part for part in labels if part]
    whole = labels.get("", np.zeros(0, np.int32))
    splits = np.zeros(0, str)
    if column and not known:
        splits = _array(file, column, path).astype(str)
        known = sorted(set(splits.ravel().tolist()))
        if splits.shape != whole.shape:
            raise ValueError(
                f"Array {column!r} of {str(path)!r} has shape {list(splits.shape)}; "
                f"expected one split for each of {len(whole)} labels."
            )
    if known and holdout:
        raise ValueError(
            f"`holdout`={holdout} is for images without splits, but {where} has "
            f"{', '.join(known)}; expected `holdout`=0."
        )
    folder.check_split(split, known or ("train", "test"), where)
    if "" not in labels:
        asked = known if split == "all" else [split]
        return {part: np.arange(len(labels[part])) for part in asked}
    if split == "all":
        return {"": np.arange(len(whole))}
    if not known and not holdout:
        raise ValueError(
            f"`split`={split!r} is not in {where}, which has no splits; expected "
            "`holdout`=0.2 to make train and test, or `split`='all'."
        )
    if not known:
        names = [str(index) for index in range(len(whole))]
        splits = np.asarray(folder.hold_out(names, whole.tolist(), holdout, seed))
    return {"": np.flatnonzero(splits == split)}


def _images(
    file: np.lib.npyio.NpzFile, name: str, of: str, count: int, path: Path
) -> np.ndarray:
    """Read images as uint8 `[n, h, w]`, or with a last axis of 1 or 3."""
    images = _array(file, name, path)
    where = f"Array {name!r} of {str(path)!r}"
    if images.ndim not in (3, 4) or (
        images.ndim == 4 and images.shape[-1] not in (1, 3)
    ):
        raise ValueError(
            f"{where} has shape {list(images.shape)}; expected [n, height, width] or "
            "[n, height, width, 3], the colours last."
        )
    if len(images) != count:
        raise ValueError(
            f"{where} holds {len(images)} images; expected {count} as {of!r} has "
            "labels."
        )
    if np.issubdtype(images.dtype, np.floating):
        # A NaN fails both.
        if len(images) and not (images.min() >= 0 and images.max() <= 1):
            raise ValueError(
                f"{where} holds floating point values outside [0, 1]; expected 8-bit "
                "images as uint8, or divided by 255."
            )
        levels = np.empty(images.shape, np.uint8)
        for place, picture in enumerate(images):
            levels[place] = np.round(picture * 255)
        return levels
    if images.dtype != np.uint8:
        raise ValueError(
            f"{where} is {images.dtype}; expected uint8 or floating point in [0, 1]."
        )
    return images
