"""Find picture files, and give each a name of its own."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

SUFFIXES = frozenset(
    ".avif .bmp .gif .jpeg .jpg .pgm .png .ppm .tif .tiff .webp".split()
)
SPLITS = ("train", "test", "val", "validation", "valid", "dev")
LONGEST_NAME = 160


class Found(NamedTuple):
    """List picture files in order, and what was asked for but matched nothing."""

    files: list[Path]
    unmatched: list[str]


def find_pictures(asked: Sequence[str], outside: str | os.PathLike[str] = "") -> Found:
    """Expand files, folders and patterns into picture files, each of them once.

    A folder gives all pictures in it and below, told by their suffix, in sorted order;
    links are followed, hidden files and folders are left out. A pattern such as
    `photos/*.jpg` is expanded here where the shell did not. A file named as such is
    taken whatever its suffix, even if it is missing, so that reading it says what is
    wrong.

    Args:
        asked: Paths and patterns.
        outside: A folder whose files are not taken when a folder or pattern is
            expanded, for example the one that results go to.
    """
    files: dict[Path, Path] = {}
    unmatched = []
    barred = Path(outside).resolve() if outside else None
    for item in asked:
        path = Path(item)
        if path.is_dir():
            matches = _pictures_below(path, barred)
        elif not path.exists() and glob.has_magic(item):
            matches = _pictures_like(item, barred)
        else:
            matches = [path]
        if not matches:
            unmatched.append(item)
        for match in matches:
            files.setdefault(match.resolve(), match)
    return Found(list(files.values()), unmatched)


def _pictures_like(pattern: str, barred: Path | None) -> list[Path]:
    found: list[Path] = []
    head, deep, tail = pattern.partition("**")
    if deep:
        # `glob` would follow links that lead back for ever.
        for place in sorted(glob.glob(head)) if head else ["."]:
            found += _pictures_below(Path(place), barred, tail)
        return found
    for match in sorted(glob.glob(pattern)):
        path = Path(match)
        found += (
            _pictures_below(path, barred) if path.is_dir() else _allowed([path], barred)
        )
    return found


def _fits(name: str, tail: str) -> bool:
    """Tell whether a picture or a folder it is in ends as a pattern does after `**`."""
    tail = tail.strip("/" + os.sep)
    path = PurePath(name)
    return not tail or any(part.match(tail) for part in (path, *path.parents))


def _pictures_below(folder: Path, barred: Path | None, tail: str = "") -> list[Path]:
    paths = (folder / name for name in walk(folder) if _fits(name, tail))
    return _allowed((path for path in paths if path.is_file()), barred)


def walk(
    root: str | os.PathLike[str], below: str = "", above: tuple[str, ...] = ()
) -> Iterator[str]:
    """Give the pictures below a folder, told by their suffix, sorted, links followed.

    Args:
        root: The folder.
        below: A folder in it to which the search is limited, relative to it.
        above: Real paths of the folders on the way, which are not gone into again.

    Yields:
        Paths relative to `root`, parts parted by slashes; no hidden ones.
    """
    here = os.path.join(root, below)
    real = os.path.join(os.path.realpath(here), "")
    # A link to a folder above, or to one that leads back here, would never end.
    if any(outer.startswith(real) for outer in above):
        return
    with os.scandir(here) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = f"{below}/{entry.name}" if below else entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from walk(root, name, (*above, real))
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield name


def classes_of(paths: Sequence[Path], roots: Sequence[Path]) -> list[str | None]:
    """Name the class of each picture by the folder that it is in.

    Below one of `roots` that is the first folder, however deep the picture lies in it,
    or the one below a split (`train/cat/1.jpg`); elsewhere the picture's own folder.
    None for a picture that lies beside such folders.
    """
    folders = [root for root in roots if root.is_dir()]
    split = {root: has_splits(root) for root in folders}
    found: list[str | None] = []
    for path in paths:
        root = next((own for own in folders if path.is_relative_to(own)), None)
        if root is None:
            found.append(path.absolute().parent.name)
            continue
        inner = path.relative_to(root).parts[:-1]
        depth = int(split[root])
        found.append(inner[depth] if len(inner) > depth else None)
    beside = {root for root in folders if not any(map(Path.is_dir, root.iterdir()))}
    return [
        path.absolute().parent.name if path.parent in beside else name
        for path, name in zip(paths, found, strict=True)
    ]


def folders(root: str | os.PathLike[str]) -> list[str]:
    """List the folders in a folder, sorted; no hidden ones."""
    names = (path.name for path in Path(root).iterdir() if path.is_dir())
    return sorted(name for name in names if not name.startswith("."))


def has_splits(root: str | os.PathLike[str], inner: Sequence[str] = ()) -> bool:
    """Tell `train/cat/1.jpg` from `train/1.jpg` where trains are a class.

    Args:
        root: The folder.
        inner: Those of its folders that may be splits; all by default.
    """
    root, inner = Path(root), inner or folders(root)
    main = [name for name in ("train", "test") if name in inner]
    return bool(main) and (
        all(name in SPLITS for name in inner)
        or any(folders(root / name) for name in main)
    )


def _allowed(paths: Iterable[Path], barred: Path | None) -> list[Path]:
    if barred is None:
        return list(paths)
    return [path for path in paths if barred not in path.resolve().parents]


def distinct_names(files: Sequence[Path]) -> list[str]:
    """Name each file by its stem; a second `cat` becomes `cat-2`.

    Names differ even where the disk ignores upper and lower case, and are short enough
    to be made longer.
    """
    names: list[str] = []
    taken: set[str] = set()
    for file in files:
        stem = _shorten(file.stem) or "picture"
        name, count = stem, 1
        while name.casefold() in taken:
            count += 1
            name = f"{stem}-{count}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _shorten(stem: str) -> str:
    """Cut a name to what every file system takes, and drop what is no text."""
    data = stem.encode("utf-8", "replace")[:LONGEST_NAME]
    return "".join(
        c if c.isprintable() and c not in '<>:"/\\|?*' else "_"
        for c in data.decode("utf-8", "ignore")
    ).strip(" .")
