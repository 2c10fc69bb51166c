"""Find images that are both trained and tested on."""

import functools
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from unlir_jax.core.document_types import Document
from unlir_jax.data.source import Source, narrowed

# Beyond so much, looking would take longer than many trainings do.
MOST_PICTURES, MOST_PIXELS = 50_000, 5_000_000_000
KEPT, SAMPLED, CHUNK = 100, 4096, 256


class Duplicates(NamedTuple):
    """Say which images of a test are training images too.

    Attributes:
        count: Number of such images of the test.
        pairs: The first of them: name in the test, name in the training.
        compared: How many images were looked at, of both.
        of: How many there are.
    """

    count: int
    pairs: list[tuple[str, str]]
    compared: int
    of: int

    def sentences(self, what: str = "test images") -> list[str]:
        """Say what people should know, if anything."""
        found = []
        if self.count:
            shown = ", ".join(f"{one} ({other})" for one, other in self.pairs[:3])
            more = ", …" if self.count > 3 else ""
            found.append(
                f"{self.count} {what} are training images too, byte for byte or "
                f"pixel for pixel: {shown}{more}."
            )
        if self.compared < self.of:
            found.append(
                f"Images that are both trained and tested on were looked for among "
                f"{self.compared} of {self.of} only."
            )
        return found

    def document(self) -> Document:
        """Give it as what JSON can hold."""
        return self._asdict()


def between(train: Source, test: Source) -> Duplicates:
    """Find images of a test that are training images as well.

    By their pixels, upright and in 8-bit RGB, so that other metadata or a lossless copy
    in another format hide nothing; an image that was resized or encoded anew is
    another one. What cannot be read is left out. Files that are the same byte for byte
    are found even where there are too many pixels to look at.

    Args:
        train: The training images.
        test: The test's.
    """
    train, test = narrowed(train), narrowed(test)
    of = train.size + test.size
    if of > MOST_PICTURES:
        return Duplicates(0, [], 0, of)
    pairs, left, compared = _same_files(train, test), MOST_PIXELS, 0
    alike: dict[bytes, list[int]] = {}
    for source in (test, train):
        for index, seen in _looks(source) if left > 0 else ():
            compared += 1
            left -= seen.pixels
            if source is test and seen.key:
                alike.setdefault(seen.key, []).append(index)
            for place in alike.get(seen.key, ()) if source is train else ():
                if place not in pairs and _equal(train, index, test, place):
                    pairs[place] = index
            if left <= 0:
                break
    named = [(test.name(one), train.name(pairs[one])) for one in sorted(pairs)[:KEPT]]
    return Duplicates(len(pairs), named, compared, of)


class _Look(NamedTuple):
    """Hold what equal images have in common; b"" for one that cannot be read."""

    key: bytes
    pixels: int


def _looks(source: Source) -> Iterator[tuple[int, _Look]]:
    """Look at all images in order, read by several threads."""
    workers = min(os.cpu_count() or 1, 8)
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, source.size, CHUNK):
            places = range(start, min(start + CHUNK, source.size))
            yield from zip(
                places, pool.map(functools.partial(_look, source), places), strict=True
            )


def _look(source: Source, index: int) -> _Look:
    pixels = _pixels(source, index)
    if pixels is None:
        return _Look(b"", 0)
    # A few of the numbers tell most images apart, and all of them are compared then.
    some = pixels.reshape(-1)[:: max(pixels.size // SAMPLED, 1)]
    digest = hashlib.blake2b(repr(pixels.shape).encode() + some.tobytes())
    return _Look(digest.digest(), pixels.shape[0] * pixels.shape[1])


def _pixels(source: Source, index: int) -> np.ndarray | None:
    try:
        return np.asarray(source.read(index)["image"])
    except (ValueError, OSError):
        return None


def _equal(one: Source, index: int, other: Source, place: int) -> bool:
    first, second = _pixels(one, index), _pixels(other, place)
    return first is not None and second is not None and np.array_equal(first, second)


def _same_files(train: Source, test: Source) -> dict[int, int]:
    """Find files that are the same byte for byte: files of one size, by hash."""
    if train.file is None or test.file is None:
        return {}
    files = [
        [file(index) for index in range(source.size)]
        for source, file in ((train, train.file), (test, test.file))
    ]
    sizes = [[_size(file) for file in some] for some in files]
    shared = set(sizes[0]) & set(sizes[1]) - {-1}
    hashes = [
        [
            _hash(file) if size in shared else None
            for file, size in zip(*both, strict=True)
        ]
        for both in zip(files, sizes, strict=True)
    ]
    first: dict[bytes, int] = {}
    for index, own in enumerate(hashes[0]):
        if own is not None:
            first.setdefault(own, index)
    return {
        index: first[own]
        for index, own in enumerate(hashes[1])
        if own is not None and own in first
    }


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size
    except OSError:
        return -1


def _hash(file: str) -> bytes | None:
    try:
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "blake2b").digest()
    except OSError:
        return None
