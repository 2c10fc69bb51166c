"""What a data set is: examples by index, and what is known of them unread."""

import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

VOID = 255
"""In a mask: nobody says what this pixel is, and metrics leave it out."""

Example = dict[str, Any]
"""One picture and what is known of it.

- `image`: 8-bit RGB, a Pillow image or uint8 `[height, width, 3]`.
- `label`: index of its class, -1 where there is none.
- `boxes`: `[n, 4]` as x0, y0, x1, y1 in its pixels, half-open.
- `mask`: uint8 `[height, width]`, 0 for the background, k for the k-th part, and
  `VOID` where nobody says what there is.
- `keypoints`: `[k, 3]` as x, y, visible; (0, 0, 0) where it cannot be seen.

The centre of a pixel lies at + 0.5: the left edge of a picture is x = 0.
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
        labels: int32 `[size]`, where known without reading the pictures.
        label: `index -> int`, where that is quicker than to read the picture, for who
            has to know all labels that are not known; -1 for none.
        file: `index -> str`, where an example's picture is a file of its own.
        annotations: Those of "boxes", "mask" and "keypoints" that every example has.
        parts: Names of the keypoints, or of the mask's values from 1.
        boxes: The largest number of boxes that an example has.
        fingerprint: Tells whether what lies on the disk has changed; None where
            nothing does.
        masks: How the values of its masks are read, in words; "" if that is fixed.
    """

    read: Callable[[int], Example]
    size: int
    classes: tuple[str, ...]
    name: Callable[[int], str]
    labels: np.ndarray | None = None
    annotations: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    boxes: int = 1
    fingerprint: Callable[[], str] | None = None
    label: Callable[[int], int] | None = None
    file: Callable[[int], str] | None = None
    masks: str = ""


def labelled(source: Source) -> Source:
    """Find out the labels that only reading tells, one by one."""
    if source.labels is not None:
        return source

    def look(index: int) -> int:
        if source.label is not None:
            return source.label(index)
        return int(source.read(index)["label"])

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
    return source._replace(
        read=functools.partial(_read_as, source.read, places),
        classes=classes,
        labels=labels,
        label=label,
    )


def _replaced(places: np.ndarray, labels: Any) -> np.ndarray:
    labels = np.asarray(labels, np.int32)
    return np.where(labels < 0, -1, places[labels]).astype(np.int32)


def _label_of(label: Callable[[int], int], places: np.ndarray, index: int) -> int:
    return int(_replaced(places, label(index)))


def _read_as(read: Callable[[int], Example], places: np.ndarray, index: int) -> Example:
    example = read(index)
    return {**example, "label": int(_replaced(places, example["label"]))}


def subset(source: Source, indices: np.ndarray) -> Source:
    """Keep the examples at some indices, in that order."""
    indices = np.asarray(indices)
    label, file = source.label, source.file
    return source._replace(
        read=lambda index: source.read(int(indices[index])),
        size=len(indices),
        name=lambda index: source.name(int(indices[index])),
        labels=None if source.labels is None else source.labels[indices],
        label=label and (lambda index: label(int(indices[index]))),
        file=file and (lambda index: file(int(indices[index]))),
    )


def cached(source: Source) -> Source:
    """Keep every example in memory, decoded, once it has been read.

    Worker processes each fill a memory of their own; threads share one.
    """
    memory: dict[int, Example] = {}
    lock = threading.Lock()

    def read(index: int) -> Example:
        found = memory.get(index)
        if found is None:
            # Two threads may read the same one, which is waste, not harm.
            found = source.read(index)
            with lock:
                found = memory.setdefault(index, found)
        return dict(found)

    return source._replace(read=read)
