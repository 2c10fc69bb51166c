"""Objects in JSON files of COCO, one for each split."""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from unlir_jax.core.document_types import Record
from unlir_jax.data import budget, image_files, tables
from unlir_jax.data.object_entries import COCO, Entry, Listed, Wanted
from unlir_jax.storage import documents

INNER, KEYS = "annotations", ("images", "annotations", "categories")
EXPECTED = "JSON of COCO with `images`, `annotations` and `categories`"
# A split is what is left of the name of a file without these words and years.
_WORDS = {"instances", "annotations", "annotation", "coco", "json"}
# Files of COCO that hold other things than boxes.
_OTHERS = ("captions", "person_keypoints", "panoptic", "stuff", "image_info")
# Numbers in lists take more memory than their texts; see SECURITY.md.
_RATIO = 7


def fits(root: Path) -> bool:
    """Tell whether a folder has JSON where COCO has it."""
    return bool(_files(root))


def read(path: Path, wanted: Wanted, *, images: str | os.PathLike[str] = "") -> Listed:
    """Read JSON of COCO, a file of which holds a split.

    A file is `instances_train2017.json` in the folder or in `annotations`, or
    `train/_annotations.coco.json`: both are the split "train". `bbox` is x, y, width
    and height in pixels that count from 0. Crowds need not be found. Images are
    `file_name` relative to `images`, or else to the folder of the file, to the folder
    itself, to its `images`, or to the folder in either that is named like the split.

    Args:
        path: A folder, or one file without splits.
        wanted: What is to be read.
        images: Folder of the images; "" for these places.

    Raises:
        ValueError: A file is missing, is no such JSON, or contradicts itself.
    """
    if os.path.isfile(path):
        by_split, where, root = {"": path}, f"file {str(path)!r}", path.parent
    else:
        where, root = f"folder {str(path)!r}", path
        known = _by_split(path)
        if not known:
            raise ValueError(
                f"Folder {str(path)!r} has no JSON of COCO; expected "
                f"{INNER}/instances_train.json, or a file."
            )
        by_split = known
        if "" not in known:
            by_split = {name: known[name] for name in wanted.among([*known], where)}
    given = Path(images).absolute() if os.fspath(images) else None
    if given is not None and not os.path.isdir(given):
        raise ValueError(
            f"`images`={os.fspath(images)!r} is no folder; expected that of the images."
        )
    listed = Listed(given or root, where, {}, [], {}, COCO)
    sizes: dict[str, tuple[int, int]] = {}
    entries: dict[str, list[Entry]] = {}
    for split, file in by_split.items():
        document = _document(file)
        places = ("",) if given else _places(root, file, split)
        pictures = _pictures(listed.root, file, document["images"], places)
        listed.splits[split] = list(pictures.values())
        boxed = wanted.boxed(split)
        # An image of two splits is kept as the one that needs boxes wants it.
        new = {name for name in pictures.values() if boxed or name not in entries}
        entries |= {name: [] for name in new}
        for entry in _entries(file, document, pictures, boxed):
            if entry.picture in new:
                entries[entry.picture].append(entry)
        if boxed:
            sizes |= _sizes(file, document["images"], pictures)
    every = [entry for own in entries.values() for entry in own]
    return listed._replace(entries=every, sizes=sizes)


def _files(root: Path) -> list[Path]:
    """List the files of boxes of a folder, by name."""
    inner = [root / name for name in image_files.folders(root)]
    found = [*root.glob("*.json"), *(root / INNER).glob("*.json")]
    # As Roboflow writes them, next to the images of a split.
    found += [own for place in inner for own in place.glob("_annotations*.json")]
    found = sorted({file for file in found if not file.name.startswith(_OTHERS)})
    instances = [file for file in found if file.name.startswith("instances")]
    return instances or [file for file in found if _told_split(file) is not None]


def _told_split(file: Path) -> str | None:
    """Name the split of a file by its name; "" for none, None for no file of boxes."""
    words = re.split(r"[_.\- ]+", file.stem.lower())
    if not _WORDS & set(words):
        return None
    if file.stem.startswith("_"):
        return file.parent.name
    return "_".join(word for word in words if word and word not in _WORDS)


def _by_split(root: Path) -> dict[str, Path]:
    """Find the file of each split: `train`, or `train2017` where years differ."""
    files = _files(root)
    full = {(_told_split(file) or ""): file for file in files}
    if len(full) < len(files):
        raise ValueError(
            f"Folder {str(root)!r} has {len(files)} files of boxes for "
            f"{', '.join(map(repr, sorted(full)))}; expected one for each split."
        )
    short = {re.sub(r"(?<=[a-z])\d+$", "", name): file for name, file in full.items()}
    return short if len(short) == len(full) else full


def _document(file: Path) -> dict[str, list[Record]]:
    told = repr(str(file))
    try:
        data = file.read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{told} cannot be read ({error}); expected {EXPECTED}."
        ) from error
    within = budget.FREE + _RATIO * len(data)
    found = documents.parse_json(data, told, EXPECTED, within)
    for key in KEYS:
        rows = found.get(key) if isinstance(found, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"{told} has no list of {key}; expected {EXPECTED}.")
    return found


def _places(root: Path, file: Path, split: str) -> tuple[str, ...]:
    """Name folders where the images of a file may be, relative to the root."""
    dated = re.sub(r"^instances_", "", file.stem)
    own = file.parent.relative_to(root).as_posix()
    names = dict.fromkeys(name for name in (dated, split) if name)
    inner = [place for name in names for place in (name, f"images/{name}")]
    return tuple(dict.fromkeys((own, *inner, "", "images")))


def _pictures(
    root: Path, file: Path, images: Sequence[Record], places: Sequence[str]
) -> dict[Any, str]:
    """Find the images of a file by their numbers."""
    found: dict[Any, str] = {}
    there: Sequence[str] = places
    for row in images:
        number, name = row.get("id"), row.get("file_name")
        if not isinstance(number, int | str) or not isinstance(name, str) or not name:
            raise ValueError(
                f"{str(file)!r} has an image with id={number!r} and file_name={name!r}"
                "; expected a number and a path."
            )
        told = f"{str(file)!r} has file_name"
        inner = tables.inner_path(name, told, "images")
        # All images are where the first one is.
        there = [place for place in there if os.path.isfile(root / place / inner)]
        if not there or number in found:
            raise ValueError(
                f"{told}={name!r}, which is no file in {str(root)!r}, or twice the id "
                f"{number!r}; expected an image in {' or '.join(map(repr, places))} "
                "there, or --config.data.images=DIR."
            )
        found[number] = (PurePosixPath(there[0]) / inner).as_posix()
    return found


def _entries(
    file: Path, document: dict[str, list[Record]], pictures: dict[Any, str], boxed: bool
) -> list[Entry]:
    names = {str(row.get("id")): row.get("name") for row in document["categories"]}
    found = []
    for place, row in enumerate(document["annotations"]):
        number = row.get("id", place)
        where = f"Annotation {number!r:.40} of {str(file)!r}"
        image, label = row.get("image_id"), names.get(str(row.get("category_id")))
        known = isinstance(image, int | str) and image in pictures
        if not known or not isinstance(label, str) or not label:
            raise ValueError(
                f"{where} has image_id={image!r:.40} and category_id="
                f"{row.get('category_id')!r:.40}; expected those of `images` and "
                "`categories`."
            )
        crowd = row.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise ValueError(f"{where} has iscrowd={crowd!r:.40}; expected 0 or 1.")
        box = _box(where, row.get("bbox")) if boxed else None
        found.append(
            Entry(
                ("Annotation", number, file), pictures[image], label, box, bool(crowd)
            )
        )
    return found


def _box(where: str, given: Any) -> list[float] | None:
    """Turn x, y, width and height into edges."""
    if given is None:
        return None
    numbers = given if isinstance(given, list) and len(given) == 4 else [math.nan]
    if not all(isinstance(each, int | float) and abs(each) < 1e9 for each in numbers):
        raise ValueError(
            f"{where} has bbox={given!r:.80}; expected x, y, width and height."
        )
    x, y, width, height = map(float, numbers)
    if width <= 0 or height <= 0:
        raise ValueError(
            f"{where} has bbox={given!r:.80}; expected a width and a height above 0."
        )
    return [x, y, x + width, y + height]


def _sizes(
    file: Path, images: Sequence[Record], pictures: dict[Any, str]
) -> dict[str, tuple[int, int]]:
    """Read width and height of images; those without are left out."""
    found = {}
    for row in images:
        size = row.get("width"), row.get("height")
        if size == (None, None):
            continue
        if not all(isinstance(side, int) and side > 0 for side in size):
            raise ValueError(
                f"{str(file)!r} has an image of width={size[0]!r:.40} and height="
                f"{size[1]!r:.40}; expected whole numbers above 0."
            )
        found[pictures[row["id"]]] = size
    return found
