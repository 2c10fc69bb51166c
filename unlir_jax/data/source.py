"""Data sets as sources: examples by index, and facts that need no reading."""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from unlir_jax.core.document_types import Record

VOID = 255
"""In a mask: nobody says what this pixel is, and metrics leave it out."""

Example = Record
"""One image and what is known of it.

- `image`: 8-bit RGB, a Pillow image or uint8 `[height, width, 3]`.
- `label`: index of its class, -1 where there is none.
- `boxes`: `[n, 4]` as x0, y0, x1, y1 in its pixels, half-open.
- `mask`: uint8 `[height, width]`, 0 for the background, k for the k-th part, and
  `VOID` where nobody says what there is.
- `keypoints`: `[k, 3]` as x, y, visible; (0, 0, 0) where it cannot be seen.

The centre of a pixel lies at + 0.5: the left edge of an image is x = 0.
"""

ANNOTATIONS = ("boxes", "mask", "keypoints")


class Source(NamedTuple):
    """Give examples by index, from wherever they are.

    Attributes:
        read: `index -> Example`; safe to call from several threads, and raising
            ValueError or FileNotFoundError for an example that cannot be read.
        size: Number of examples.
        classes: Names of the classes by label; () where nothing is labelled.
        name: `index -> str`, the identity of an example in messages and tables.
        labels: int32 `[size]`, where known without reading the images.
        label: `index -> int`, where that is quicker than to read the image, for who
            has to know all labels that are not known; -1 for none.
        file: `index -> str`, where an example's image is a file of its own.
        annotations: Kinds that all examples have: "boxes", "mask" and "keypoints".
        parts: Names of the keypoints, or of the mask's values from 1.
        boxes: The largest number of boxes that an example has.
        fingerprint: `(*, times=True, annotations=()) -> str`, tells whether what lies
            on the disk has changed, by sizes of files and, with `times`, when they were
            written; with these annotations too. None where nothing lies there.
        masks: How the values of its masks are read, in words; "" if that is fixed.
        reading: `annotations -> read`, where it saves work to read no others, and
            spares who does not ask for them what is wrong with them.
        notices: Sentences about what was left out, for whoever reads the data.
    """

    read: Callable[[int], Example]
    size: int
    classes: tuple[str, ...]
    name: Callable[[int], str]
    labels: np.ndarray | None = None
    annotations: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    boxes: int = 1
    fingerprint: Callable[..., str] | None = None
    label: Callable[[int], int] | None = None
    file: Callable[[int], str] | None = None
    masks: str = ""
    reading: Callable[[tuple[str, ...]], Callable[[int], Example]] | None = None
    notices: tuple[str, ...] = ()


def narrowed(source: Source, annotations: Sequence[str] = ()) -> Source:
    """Read no other annotations than these."""
    kinds = tuple(kind for kind in source.annotations if kind in annotations)
    if source.reading is not None:
        return source._replace(read=source.reading(kinds), annotations=kinds)
    unwanted = set(ANNOTATIONS).difference(kinds)

    def read(index: int) -> Example:
        example = source.read(index)
        return {name: value for name, value in example.items() if name not in unwanted}

    return source._replace(read=read, annotations=kinds)


def reason(source: Source, index: int, annotations: Sequence[str] = ()) -> str:
    """Say why an example cannot be read with these annotations, "" if it can."""
    try:
        narrowed(source, annotations).read(index)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def labelled(source: Source) -> Source:
    """Find out the labels that only reading tells, one by one."""
    if source.labels is not None:
        return source

    read = narrowed(source).read

    def look(index: int) -> int:
        if source.label is not None:
            return source.label(index)
        return int(read(index)["label"])

    labels = np.asarray([look(index) for index in range(source.size)], np.int32)
    return source._replace(labels=labels)


def relabelled(source: Source, places: np.ndarray, classes: tuple[str, ...]) -> Source:
    """Give the classes of a source other numbers.

    Args:
        source: The examples.
        places: The new label of each old one, int32 `[classes of the source]`.
        classes: Names of the classes by their new labels.
    """
    labels = source.labels
    if labels is not None:
        labels = _replaced(places, labels)
    # Partial functions reach worker processes, closures do not.
    label = source.label and functools.partial(_label_of, source.label, places)
    reading = source.reading
    return source._replace(
        read=functools.partial(_read_as, source.read, places),
        reading=reading
        and (lambda kinds: functools.partial(_read_as, reading(kinds), places)),
        classes=classes,
        labels=labels,
        label=label,
    )


def _replaced(places: np.ndarray, labels: np.ndarray | int) -> np.ndarray:
    known = np.asarray(labels, np.int32)
    return np.where(known < 0, -1, places[known]).astype(np.int32)


def _label_of(label: Callable[[int], int], places: np.ndarray, index: int) -> int:
    return int(_replaced(places, label(index)))


def _read_as(read: Callable[[int], Example], places: np.ndarray, index: int) -> Example:
    example = read(index)
    return {**example, "label": int(_replaced(places, example["label"]))}


def subset(source: Source, indices: np.ndarray) -> Source:
    """Keep the examples at some indices, in that order."""
    indices = np.asarray(indices)
    label, reading, file = source.label, source.reading, source.file

    def among[T](read: Callable[[int], T]) -> Callable[[int], T]:
        return lambda index: read(int(indices[index]))

    return source._replace(
        read=among(source.read),
        size=len(indices),
        name=among(source.name),
        labels=None if source.labels is None else source.labels[indices],
        label=label and among(label),
        file=file and among(file),
        reading=reading and (lambda kinds: among(reading(kinds))),
    )


def cached(source: Source) -> Source:
    """Keep every example in memory, decoded, once it has been read.

    Worker processes each fill a memory of their own; threads share one. What is read
    with other annotations is kept apart.
    """
    reads: dict[tuple[str, ...], Callable[[int], Example]] = {}
    lock = threading.Lock()

    def reading(kinds: tuple[str, ...]) -> Callable[[int], Example]:
        with lock:
            if kinds not in reads:
                reads[kinds] = _remembered(narrowed(source, kinds).read)
            return reads[kinds]

    return source._replace(read=_remembered(source.read), reading=reading)


def _remembered(read: Callable[[int], Example]) -> Callable[[int], Example]:
    memory: dict[int, Example] = {}
    lock = threading.Lock()

    def recall(index: int) -> Example:
        found = memory.get(index)
        if found is None:
            # Two threads may read the same one, which is waste, not harm.
            found = read(index)
            with lock:
                found = memory.setdefault(index, found)
        return dict(found)

    return recall
