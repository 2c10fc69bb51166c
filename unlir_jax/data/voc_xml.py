"""Objects in XML files of Pascal VOC, one for each image."""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.parsers import expat

from unlir_jax.data import image_files, tables
from unlir_jax.data.object_entries import ALL, VOC10, Entry, Listed, Wanted

ANNOTATIONS, IMAGE_SETS = "Annotations", "ImageSets/Main"
# Folders of images next to a folder of XML.
IMAGES = ("JPEGImages", "images", "Images")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
MOST_BYTES, MOST_DEPTH, MOST_TEXT = 4 << 20, 20, 1000
"""An annotation has a few thousand bytes, and four tags in each other."""

_ROOT = ("annotation",)
_OBJECT = (*_ROOT, "object")
_TEXTS = {
    (*_ROOT, "filename"): "filename",
    (*_ROOT, "size", "width"): "width",
    (*_ROOT, "size", "height"): "height",
    (*_OBJECT, "name"): "name",
    (*_OBJECT, "difficult"): "difficult",
    **{(*_OBJECT, "bndbox", corner): corner for corner in CORNERS},
}


class Annotation(NamedTuple):
    """Hold the texts of an annotation, as they are written.

    Attributes:
        image: `filename`, `width` and `height`, where there are such.
        objects: `name`, `difficult` and the corners of each object.
    """

    image: dict[str, str]
    objects: list[dict[str, str]]


def fits(root: Path) -> bool:
    """Tell whether a folder has XML in it or below."""
    return next(_files(root, ""), None) is not None


def read(root: Path, wanted: Wanted, *, first_pixel: int = 1) -> Listed:
    """Read XML of Pascal VOC in one of three layouts.

    - `Annotations/NAME.xml`, `JPEGImages/NAME.jpg`, and `ImageSets/Main/SPLIT.txt` with
      a name a line, as in VOC itself;
    - `train/` and `test/` with images and XML in each;
    - images and XML without splits.

    The image of `NAME.xml` is `NAME.*` next to it, or in `JPEGImages` or `images` next
    to its folder. Corners are pixels that count from 1, and the last one is inside, as
    in VOC: 1, 1, width, height is the whole image. Some tools write edges that count
    from 0, which is the same but for the first column and row: see `first_pixel`.
    Difficult objects need not be found, and do not say that an image has a class.

    Args:
        root: The folder.
        wanted: What is to be read.
        first_pixel: Number of the first column and row: 1, or 0 for edges.

    Raises:
        ValueError: A file is missing, is no such annotation, or contradicts itself.
    """
    where = f"folder {str(root)!r}"
    by_split = _listed(root, wanted, where)
    pictures = [name for name in image_files.walk(root)]
    beside = _Beside(root, _by_place(pictures))
    splits: dict[str, list[str]] = {}
    entries: dict[str, list[Entry]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for split, files in by_split.items():
        own = splits.setdefault(split, [])
        for name in files:
            file = root / name
            found = parse(file)
            picture = beside.picture(name, found)
            own.append(picture)
            boxed = wanted.boxed(split)
            # An image of two splits is kept as the one that needs boxes wants it.
            if boxed or picture not in entries:
                entries[picture] = _entries(file, picture, found, boxed, first_pixel)
            size = _size(file, found) if boxed else None
            if size is not None:
                sizes[picture] = size
    every = [entry for own in entries.values() for entry in own]
    unused = len(set(pictures) - {p for own in splits.values() for p in own})
    whole = wanted.split == ALL or "" in splits
    notices = (f"{unused} images of {where} have no XML, and are left out.",)
    return Listed(
        root, where, splits, every, sizes, VOC10, notices if whole and unused else ()
    )


def parse(file: Path) -> Annotation:
    """Read an annotation of a stranger; entities and a DOCTYPE are refused.

    Raises:
        ValueError: It cannot be read, is too large, or is no such annotation.
    """
    told = f"Annotation {str(file)!r}"
    try:
        with file.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{told} cannot be read ({getattr(error, 'strerror', None) or error}); "
            "expected XML of Pascal VOC."
        ) from error
    if len(data) > MOST_BYTES:
        raise ValueError(
            f"{told} has more than {MOST_BYTES:,} bytes; expected XML of Pascal VOC."
        )
    reader = _Reader(told)
    try:
        reader.parser.Parse(data, True)
    except (expat.ExpatError, LookupError, UnicodeError) as error:
        raise ValueError(
            f"{told} is no XML ({error}); expected XML of Pascal VOC."
        ) from error
    return Annotation(reader.image, reader.objects)


class _Reader:
    """Collect the texts of known tags, while a parser goes through a file."""

    def __init__(self, told: str):
        self.told = told
        self.image: dict[str, str] = {}
        self.objects: list[dict[str, str]] = []
        self.path: tuple[str, ...] = ()
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self.refuse
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text

    def refuse(self, *declared: object) -> None:
        del declared
        raise ValueError(
            f"{self.told} has a DOCTYPE; expected XML of Pascal VOC, which has none."
        )

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        del attributes
        self.path = (*self.path, tag)
        if len(self.path) > MOST_DEPTH or self.path[:1] != _ROOT:
            raise ValueError(
                f"{self.told} has the tag {tag[:40]!r} at depth {len(self.path)}; "
                "expected `annotation` with objects in it."
            )
        if self.path == _OBJECT:
            self.objects.append({})

    def end(self, tag: str) -> None:
        del tag
        self.path = self.path[:-1]

    def text(self, text: str) -> None:
        name = _TEXTS.get(self.path)
        if name is not None:
            own = self.objects[-1] if self.path[:2] == _OBJECT else self.image
            own[name] = own.get(name, "") + text
            if len(own[name]) > MOST_TEXT:
                raise ValueError(
                    f"{self.told} has a {name} of more than {MOST_TEXT:,} characters; "
                    "expected XML of Pascal VOC."
                )


class _Beside(NamedTuple):
    """Find the images of XML files."""

    root: Path
    by_place: dict[tuple[str, str], str]

    def picture(self, name: str, found: Annotation) -> str:
        """Find the image of an XML file."""
        path = PurePosixPath(name)
        folders = (path.parent, *(path.parent.parent / place for place in IMAGES))
        told = PurePosixPath(found.image.get("filename", "").replace("\\", "/")).stem
        for stem in (path.stem, told):
            for place in folders:
                picture = self.by_place.get((place.as_posix(), stem))
                if picture:
                    return picture
        raise ValueError(
            f"Annotation {str(self.root / name)!r} has no image; expected "
            f"{path.stem}.jpg next to it, or in {' or '.join(IMAGES[:2])} next to its "
            "folder."
        )


def _by_place(pictures: Sequence[str]) -> dict[tuple[str, str], str]:
    """Find images by folder and name without suffix."""
    found = {}
    for picture in pictures:
        path = PurePosixPath(picture)
        found.setdefault((path.parent.as_posix(), path.stem), picture)
    return found


def _files(root: Path, below: str) -> Iterator[str]:
    """Give the XML files below a folder, relative to the root."""
    for place, inner, names in os.walk(root / below):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(".xml") and not name.startswith("."):
                yield (Path(place) / name).relative_to(root).as_posix()


def _listed(root: Path, wanted: Wanted, where: str) -> dict[str, list[str]]:
    """List the XML files of each split that is wanted."""
    sets = root / IMAGE_SETS
    # `cat_train.txt` says which images have a cat, not what a split is.
    known = (
        [path.stem for path in sorted(sets.glob("*.txt")) if "_" not in path.stem]
        if os.path.isdir(sets)
        else []
    )
    if known:
        chosen = wanted.among(known, where)
        return {split: _of_set(root, sets / f"{split}.txt") for split in chosen}
    inner = [
        name
        for name in image_files.folders(root)
        if next(_files(root, name), None) is not None
    ]
    if image_files.has_splits(root, inner):
        return {
            split: list(_files(root, split)) for split in wanted.among(inner, where)
        }
    return {"": list(_files(root, ""))}


def _of_set(root: Path, file: Path) -> list[str]:
    """Read the names of a split, one a line."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"List {str(file)!r} cannot be read ({error}); expected a name a line."
        ) from error
    names = [line.split()[0] for line in lines if line.strip()]
    inner = functools.partial(
        tables.inner_path, told=f"List {str(file)!r} has a name", file="annotations"
    )
    return list(dict.fromkeys(f"{ANNOTATIONS}/{inner(name)}.xml" for name in names))


def _entries(
    file: Path, picture: str, found: Annotation, boxed: bool, first_pixel: int
) -> list[Entry]:
    entries = []
    for place, each in enumerate(found.objects, start=1):
        where = f"Object {place} of {str(file)!r}"
        label = each.get("name", "").strip()
        difficult = each.get("difficult", "").strip() or "0"
        if not label or difficult not in ("0", "1"):
            raise ValueError(
                f"{where} has the name {label!r} and difficult={difficult!r}; "
                "expected a name, and 0 or 1."
            )
        hard = difficult == "1"
        box = _box(where, each, first_pixel) if boxed else None
        entries.append(
            Entry(("Object", place, file), picture, label, box, hard, not hard)
        )
    return entries


def _box(where: str, found: dict[str, str], first_pixel: int) -> list[float] | None:
    """Turn pixels of which the last one is inside into edges that count from 0."""
    if not any(found.get(corner, "").strip() for corner in CORNERS):
        return None
    x0, y0, x1, y1 = (_number(where, corner, found) for corner in CORNERS)
    if x1 < x0 or y1 < y0:
        raise ValueError(
            f"{where} has the box {x0:g}, {y0:g}, {x1:g}, {y1:g}; expected xmin <= "
            "xmax and ymin <= ymax."
        )
    return [x0 - first_pixel, y0 - first_pixel, x1, y1]


def _number(where: str, name: str, found: dict[str, str]) -> float:
    return tables.finite(where, name, found.get(name, "").strip())


def _size(file: Path, found: Annotation) -> tuple[int, int] | None:
    """Read width and height; None where a tool left them out, or wrote 0."""
    if not any(found.image.get(name, "").strip() for name in ("width", "height")):
        return None
    where = f"Annotation {str(file)!r}"
    width, height = (_number(where, name, found.image) for name in ("width", "height"))
    return (int(width), int(height)) if width > 0 and height > 0 else None
