"""Find image files, and give each a name of its own."""

import glob
import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from unlir_jax.storage import paths as places

SUFFIXES = frozenset(
    ".avif .bmp .gif .j2k .jfif .jp2 .jpe .jpeg .jpg .mpo .pbm .pgm .png .pnm .ppm "
    ".tga .tif .tiff .webp".split()
)
# What usually lies next to images, and nobody takes for one.
COMPANIONS = frozenset(
    ".csv .db .html .ini .json .jsonl .log .mat .md .npy .npz .parquet .pdf .rst .tsv "
    ".txt .xml .yaml .yml".split()
)
SPLITS = ("train", "test", "val", "validation", "valid", "dev")
LONGEST_NAME = 160


class Found(NamedTuple):
    """List image files in order, and what was asked for but matched nothing."""

    files: list[Path]
    unmatched: list[str]
    names: list[str]
    """Names of the files in records: distinct, without folders of absolute paths."""

    def told(self) -> dict[Path, str]:
        """Give the names of the files in records."""
        return dict(zip(self.files, self.names, strict=True))

    def failures(self) -> list[dict[str, str]]:
        """Say of what matched nothing that it did not, as of files that are broken."""
        return [
            {"file": places.told(item), "error": f"No image matches {item!r}."}
            for item in self.unmatched
        ]


def left_out(names: Sequence[str], where: str) -> str:
    """Count the files that were not taken, by suffix; "" where there were none.

    Args:
        names: Names of files, and of folders that cannot be read, which end in a slash.
        where: Where they are, for the sentence.
    """
    closed = [name.removesuffix("/") for name in names if name.endswith("/")]
    said = _closed(closed, where)
    names = [name for name in names if not name.endswith("/")]
    if not names:
        return said
    counts = Counter(os.path.splitext(name)[1].lower() or "none" for name in names)
    shown = ", ".join(f"{suffix} ({count})" for suffix, count in counts.most_common(5))
    further = ", …" if len(counts) > 5 else ""
    files = "1 file" if len(names) == 1 else f"{len(names)} files"
    known = " ".join(sorted(SUFFIXES))
    return (
        f"{files} {where} left out, whose suffix is no image's: {shown}{further}; "
        f"images are {known}.{said and ' '}{said}"
    )


def _closed(names: Sequence[str], where: str) -> str:
    if not names:
        return ""
    shown = ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")
    kind = "folder or link" if len(names) == 1 else "folders or links"
    return f"{len(names)} {kind} {where} left out, which cannot be read: {shown}."


def find_pictures(asked: Sequence[str], outside: str | os.PathLike[str] = "") -> Found:
    """Expand files, folders and patterns into image files, each of them once.

    A folder gives all images in it and below, recognised by their suffix, in sorted
    order; links are followed, hidden files and folders are left out. A pattern such as
    `photos/*.jpg` is expanded here where the shell did not. A file named as such is
    taken whatever its suffix, even if it is missing, so that reading it says what is
    wrong. Files in a folder whose suffix is neither an image's nor that of usual
    company are counted in one warning.

    Args:
        asked: Paths and patterns.
        outside: A folder whose files are not taken when a folder or pattern is
            expanded, for example the one that results go to.
    """
    files: dict[Path, tuple[Path, str]] = {}
    unmatched = []
    barred = _real(outside) if outside else None
    strange: list[str] = []
    for item in asked:
        if not item:
            # It would be the current folder, with all that lies below.
            raise ValueError(
                "An image is named '', which is no path; expected image files, "
                "folders that hold some ('.' for the current one), or patterns."
            )
        path = Path(item)
        # Those of `os.path` take a name that is too long for one that is not there.
        if os.path.isdir(path):
            matches = _pictures_below(path, barred, strange)
        elif not os.path.exists(path) and glob.has_magic(item):
            matches = _pictures_like(item, barred, strange)
        else:
            matches = [path]
        if not matches:
            unmatched.append(item)
        for match in matches:
            files.setdefault(_real(match), (match, _told(match, item)))
    if strange:
        warnings.warn(left_out(strange, "in folders"), stacklevel=2)
    return Found(
        [path for path, _ in files.values()],
        unmatched,
        apart([name for _, name in files.values()]),
    )


def _told(match: Path, item: str) -> str:
    """Name an image for records: below the folder or pattern that is absolute."""
    if not match.is_absolute():
        return str(match)
    fixed = Path(item)
    while glob.has_magic(str(fixed)) and not os.path.exists(fixed):
        fixed = fixed.parent
    inside = match != fixed and match.is_relative_to(fixed)
    return str(match.relative_to(fixed)) if inside else places.told(match)


def apart(names: Sequence[str]) -> list[str]:
    """Number the names that come again: `a.jpg`, `a.jpg (2)`."""
    found: dict[str, None] = {}
    for name in names:
        other, count = name, 1
        while other in found:
            count += 1
            other = f"{name} ({count})"
        found[other] = None
    return list(found)


def _pictures_like(pattern: str, barred: Path | None, strange: list[str]) -> list[Path]:
    found: list[Path] = []
    head, deep, tail = pattern.partition("**")
    if deep:
        # `glob` would follow links that lead back for ever.
        for place in sorted(glob.glob(head)) if head else ["."]:
            found += _pictures_below(Path(place), barred, strange, tail)
        return found
    for match in sorted(glob.glob(pattern)):
        path = Path(match)
        found += (
            _pictures_below(path, barred, strange)
            if path.is_dir()
            else _allowed([path], barred)
        )
    return found


def _fits(name: str, tail: str) -> bool:
    """Tell whether an image or a folder it is in ends as a pattern does after `**`."""
    tail = tail.strip("/" + os.sep)
    path = PurePath(name)
    return not tail or any(part.match(tail) for part in (path, *path.parents))


def _pictures_below(
    folder: Path, barred: Path | None, strange: list[str], tail: str = ""
) -> list[Path]:
    others: list[str] = []
    paths = (folder / name for name in walk(folder, others=others) if _fits(name, tail))
    found = _allowed(paths, barred)
    asked = [name for name in others if _fits(name, tail)]
    ends = ["/" if name.endswith("/") else "" for name in asked]
    for name, end in zip(asked, ends, strict=True):
        strange += [f"{path}{end}" for path in _allowed([folder / name], barred)]
    strange += [f"{path}/" for path in found if not os.path.isfile(path)]
    return [path for path in found if os.path.isfile(path)]


def walk(
    root: str | os.PathLike[str],
    below: str = "",
    above: tuple[str, ...] = (),
    others: list[str] | None = None,
) -> Iterator[str]:
    """Give the images below a folder, by their suffix, sorted, links followed.

    Args:
        root: The folder.
        below: A folder in it to which the search is limited, relative to it.
        above: Real paths of the folders on the way, which are not gone into again.
        others: Takes the paths of files whose suffix is neither an image's nor that
            of usual company; and of folders and links that cannot be looked into, with
            a slash at the end.

    Yields:
        Paths relative to `root`, parts parted by slashes; no hidden ones.
    """
    here = os.path.join(root, below)
    real = os.path.join(os.path.realpath(here), "")
    # A link to a folder above, or to one that leads back here, would never end.
    if any(outer.startswith(real) for outer in above):
        return
    try:
        with os.scandir(here) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        if not below:
            raise ValueError(
                f"Folder {str(root)!r} cannot be read ({error.strerror}); expected one "
                "that can."
            ) from error
        if others is not None:
            others.append(f"{below}/")
        return
    for entry in found:
        name = f"{below}/{entry.name}" if below else entry.name
        if entry.name.startswith("."):
            continue
        suffix = os.path.splitext(entry.name)[1].lower()
        leads = _leads(entry)
        if leads is not None and leads:
            yield from walk(root, name, (*above, real), others)
        elif suffix in SUFFIXES:
            yield name
        elif leads is None and others is not None:
            others.append(f"{name}/")
        elif others is not None and not _is_company(entry.name, suffix):
            others.append(name)


def _leads(entry: os.DirEntry[str]) -> bool | None:
    """Tell whether it is a folder, None for a link to itself or to what is closed."""
    try:
        return entry.is_dir()
    except OSError:
        return None


def _is_company(name: str, suffix: str) -> bool:
    """Tell documents and tables: README and LICENSE have no suffix."""
    return suffix in COMPANIONS or (not suffix and name.isupper())


def classes_of(paths: Sequence[Path], roots: Sequence[Path]) -> list[str | None]:
    """Name the class of each image by the folder that it is in.

    Below one of `roots` that is the first folder, however deep the image lies in it,
    or the one below a split (`train/cat/1.jpg`); elsewhere the image's own folder.
    None for an image that lies next to such folders.
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


def fingerprint(
    paths: Iterable[str | os.PathLike[str]], *, times: bool = True, known: bytes = b""
) -> str:
    """Hash sizes and times of files, which is quicker than what is in them.

    Args:
        paths: The files, in order; one that is not there, or cannot be looked at, is
            told from one that is.
        times: Whether it counts when they were written, which a copy may change.
        known: What else is hashed, before them.
    """
    digest = hashlib.sha256(known)
    for path in paths:
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            digest.update(b"not there\n")
            continue
        time = f" {found.st_mtime_ns}" if times else ""
        digest.update(f"{found.st_size}{time}\n".encode())
    return digest.hexdigest()


def folders(root: str | os.PathLike[str]) -> list[str]:
    """List the folders in a folder, sorted; no hidden ones."""
    try:
        found = [path.name for path in Path(root).iterdir() if os.path.isdir(path)]
    except OSError:
        # Whoever walks through it says so.
        return []
    return sorted(name for name in found if not name.startswith("."))


def closed(folder: str | os.PathLike[str]) -> str:
    """Say why a folder cannot be looked into; "" where it can."""
    try:
        with os.scandir(folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def has_splits(root: str | os.PathLike[str], inner: Sequence[str] = ()) -> bool:
    """Tell `train/cat/1.jpg` from `train/1.jpg` where trains are a class.

    Args:
        root: The folder.
        inner: Subfolders that may be splits; all by default.
    """
    root, inner = Path(root), inner or folders(root)
    main = [name for name in ("train", "test") if name in inner]
    return bool(main) and (
        all(name in SPLITS for name in inner)
        or any(folders(root / name) for name in main)
    )


def _real(path: str | os.PathLike[str]) -> Path:
    """Follow links, as `Path.resolve` does, which fails at one to itself."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # There is a NUL in it.
        return Path(path)


def _allowed(paths: Iterable[Path], barred: Path | None) -> list[Path]:
    if barred is None:
        return list(paths)
    real = ((path, _real(path)) for path in paths)
    return [path for path, place in real if barred not in place.parents]


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
