"""Images of a job as the network sees them, by batches."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from unlir_jax.storage import files as record


class Picture(NamedTuple):
    """Hold one image as the network sees it; `file` and `name` as records say them."""

    file: str
    name: str
    framed: Image.Image


def rows(asked: int | None, images: int) -> int:
    """Choose the number of images of a batch, for which programs are compiled.

    Without a wish it does not depend on the number of images, so that any number of
    them runs the same programs: one on a CPU, which is as fast with one image as with
    many; eight on accelerators.
    """
    if asked is None:
        return 1 if jax.default_backend() == "cpu" else 8
    return min(asked, images)


def stacked(batch: Sequence[Picture]) -> np.ndarray:
    """Stack images, `[batch, side, side, 3]` in [0, 1]."""
    return np.stack([np.asarray(picture.framed, np.float32) / 255 for picture in batch])


def read(
    names: Mapping[Path, tuple[str, str]],
    frame: Callable[[Path], Image.Image],
    size: int,
    failed: list[dict[str, str]],
    pool: Executor,
) -> Iterator[tuple[list[Picture], list[Picture]]]:
    """Read images by batches, ahead of their turn.

    Args:
        names: Files, with their names in records and the names of their images.
        frame: Reads a file.
        size: Number of images of a batch, see `rows`.
        failed: List to which those that cannot be read are added.
        pool: Threads that read.

    Yields:
        Images, and copies that fill the batch up: a program is compiled for each
        size of batch, and results do not depend on neighbours.
    """
    batch: list[Picture] = []
    files = iter(names)
    read = deque(pool.submit(frame, file) for file in itertools.islice(files, 2 * size))
    for number, (told, name) in enumerate(names.values(), start=1):
        framed = read.popleft()
        read.extend(pool.submit(frame, later) for later in itertools.islice(files, 1))
        try:
            batch.append(Picture(record.readable(told), name, framed.result()))
        except (ValueError, OSError) as error:
            failed.append({"file": record.readable(told), "error": str(error)})
        if len(batch) == size or (batch and number == len(names)):
            yield batch, [batch[-1]] * (size - len(batch))
            batch = []
