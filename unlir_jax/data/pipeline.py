"""Batches of examples: shuffled and augmented for training, in order for evaluation."""

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from unlir_jax.data import augmentation, grain_steps, preprocessing
from unlir_jax.data.source import Example, Source, narrowed

Batch = dict[str, np.ndarray]
"""Rows of a global batch, as many as this process has of it.

- `image`: uint8 `[rows, size, size, 3]`.
- `label`: int32, -1 where there is none.
- `weight`: float32, 0 where the row is padding or its image cannot be read.
- `index`: int32, the place in the source, -1 for padding.
- `position`: int32, the place in the global batch.
- `boxes` `[rows, source.boxes, 4]`, `mask` uint8 `[rows, size, size]` and `keypoints`
  `[rows, len(source.parts), 3]`, where asked for; missing boxes are zeros, and what an
  augmentation brings in from outside the image is void in its mask.
A row without weight is zeros throughout, but for its index and position.
"""

Batches = Generator[Batch, None, None]
MOST_SEEDS = 2**32
# Training without end: no machine word counts further.
MOST_ROWS = 2**62
# Closed at exit, when it is too late for the workers of an iterator to end by itself.
OPEN: weakref.WeakSet[Batches] = weakref.WeakSet()


class Plan(NamedTuple):
    """Say how the rows of one process become arrays; worker processes get a copy."""

    source: Source
    change: augmentation.Operation
    annotations: tuple[str, ...]
    image_size: int
    batch_size: int
    seed: int
    strict: bool
    stop: threading.Event | None


def training(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    image_size: int,
    augment: str = "",
    annotations: Sequence[str] = (),
    start: int = 0,
    process: int = 0,
    processes: int = 1,
    workers: int = 0,
    threads: int | None = None,
    strict: bool = False,
) -> Batches:
    """Give augmented batches without end, every epoch in a new order.

    Batch t is a function of `seed` and t alone, whatever the number of processes,
    workers and threads: beginning at `start` reads nothing of what came before. The
    epochs follow one another without a gap, so a batch may hold the end of one and the
    beginning of the next.

    Workers hand over batches through shared memory, of which containers are often
    given little.

    Args:
        source: Where the examples are.
        batch_size: Rows of the global batch; each process gets an equal share.
        seed: 0 … 2³² - 1.
        image_size: Side of the images in pixels.
        augment: What is done to them, see `augmentation.build`.
        annotations: Which of the source's annotations the batches hold.
        start: The batch to begin with.
        process: Which share this is, in 0 … processes - 1.
        processes: Into how many shares a batch is cut.
        workers: Processes that read and augment; 0 for threads of this one.
        threads: Threads that do so, in each worker where there are some. By default,
            one for each core.
        strict: Whether an image that cannot be read is an error; otherwise its row
            has weight 0.

    Returns:
        A generator; its `close` ends what works for it.

    Raises:
        ValueError: A setting makes no sense, or the source lacks an annotation; later,
            with `strict`, an image cannot be read, or a worker has failed.
    """
    share = _share(source, batch_size, process, processes)
    if not 0 <= seed < MOST_SEEDS:
        raise ValueError(f"`seed`={seed}; expected 0 … {MOST_SEEDS - 1}.")
    if start < 0:
        raise ValueError(f"`start`={start}; expected 0 or more.")
    workers, threads = _hands(workers, threads)
    change = augmentation.build(augment, image_size)
    known = _known(source, annotations)
    stop = None if workers else threading.Event()
    seen = narrowed(source, known)
    plan = Plan(seen, change, known, image_size, batch_size, seed, strict, stop)
    order = grain_steps.library().MapDataset.range(source.size).seed(seed).shuffle()
    order = order.repeat(MOST_ROWS // source.size)
    blocks = order.batch(share)[start * processes + process :: processes]

    def make(step: int, indices: np.ndarray) -> Batch:
        block = (start + step) * processes + process
        return _batch(plan, indices, block * share)

    return _start(blocks.map_with_index(make), stop, workers, threads)


def evaluation(
    source: Source,
    *,
    batch_size: int,
    image_size: int,
    crop: float = 0.875,
    interpolation: str = preprocessing.BILINEAR,
    frame: augmentation.Frame | None = None,
    annotations: Sequence[str] = (),
    process: int = 0,
    processes: int = 1,
    workers: int = 0,
    threads: int | None = None,
    strict: bool = False,
) -> Batches:
    """Give every example once and in order, in the frame of evaluation.

    All processes get the same number of batches, `evaluation_batches`; the last one is
    filled up with rows of weight 0 and index -1. The pixels come from
    `preprocessing.preprocessing(image_size, crop, interpolation)`, which sees `crop` of
    the shorter side; or from `frame`, which annotations cannot follow. The other
    arguments are as in `training`.

    Raises:
        ValueError: As `training` does.
    """
    share = _share(source, batch_size, process, processes)
    workers, threads = _hands(workers, threads)
    change = augmentation.evaluation(image_size, crop, interpolation, frame)
    known = _known(source, annotations)
    stop = None if workers else threading.Event()
    seen = narrowed(source, known)
    plan = Plan(seen, change, known, image_size, batch_size, 0, strict, stop)
    steps = grain_steps.library().MapDataset.range(
        evaluation_batches(source.size, batch_size)
    )

    def make(step: int) -> Batch:
        first = step * batch_size + process * share
        indices = np.arange(first, first + share)
        return _batch(plan, np.where(indices < source.size, indices, -1), first)

    return _start(steps.map(make), stop, workers, threads)


def evaluation_batches(size: int, batch_size: int) -> int:
    """Count the batches in which `size` examples are evaluated."""
    return -(-size // batch_size)


class Timed:
    """Give the batches of another iterator, and add up how long they were waited for.

    Attributes:
        seconds: Time spent in `next` so far; whoever reports it may set it to 0.
    """

    def __init__(self, batches: Iterator[Batch]):
        self._batches = batches
        self.seconds = 0.0

    def __iter__(self) -> "Timed":
        return self

    def __next__(self) -> Batch:
        begin = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self.seconds += time.perf_counter() - begin

    def close(self) -> None:
        """End what works for these batches."""
        getattr(self._batches, "close", lambda: None)()


def timed(batches: Iterator[Batch]) -> Timed:
    """Measure how long an iterator is waited for: `timed(batches).seconds`."""
    return Timed(batches)


def _share(source: Source, batch_size: int, process: int, processes: int) -> int:
    if source.size < 1:
        raise ValueError("`source` holds no examples; expected at least one.")
    if batch_size < 1:
        raise ValueError(f"`batch_size`={batch_size}; expected at least 1.")
    if processes < 1 or not 0 <= process < processes:
        raise ValueError(
            f"`process`={process} of `processes`={processes}; expected a number in "
            "0 … processes - 1."
        )
    if batch_size % processes:
        raise ValueError(
            f"`batch_size`={batch_size} cannot be shared equally among {processes} "
            f"processes; expected a multiple of {processes}."
        )
    return batch_size // processes


def _known(source: Source, annotations: Sequence[str]) -> tuple[str, ...]:
    for name in annotations:
        if name not in source.annotations:
            raise ValueError(
                f"`annotations` asks for {name!r}, which the source does not have; it "
                f"has: {', '.join(source.annotations) or 'none'}."
            )
    return tuple(annotations)


def _hands(workers: int, threads: int | None) -> tuple[int, int]:
    if workers < 0:
        raise ValueError(f"`workers`={workers}; expected 0 or more.")
    if threads is None:
        affinity = getattr(os, "sched_getaffinity", None)
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        threads = max(cores // max(workers, 1), 1)
    if threads < 1:
        raise ValueError(f"`threads`={threads}; expected at least 1.")
    return workers, threads


def _batch(plan: Plan, indices: np.ndarray, first: int) -> Batch:
    """Read and change the examples of some rows.

    Args:
        plan: How.
        indices: Their places in the source, -1 for padding.
        first: The place of the first row in the stream of all rows.
    """
    batch = _empty(plan, len(indices))
    batch["index"][:] = indices
    batch["position"][:] = first % plan.batch_size + np.arange(len(indices))
    for row, index in enumerate(indices.tolist()):
        if plan.stop is not None and plan.stop.is_set():
            break  # Nobody is going to look at this batch.
        example = _read(plan, index) if index >= 0 else None
        if example is None:
            continue
        random = np.random.default_rng([plan.seed, first + row])
        example = plan.change(example, random)
        batch["image"][row] = example["image"]
        batch["label"][row] = example["label"]
        batch["weight"][row] = 1
        for name in plan.annotations:
            values = np.asarray(example[name])
            if name == "boxes":
                batch[name][row, : len(values)] = values
            else:
                batch[name][row] = values
    return batch


def _empty(plan: Plan, rows: int) -> Batch:
    size = plan.image_size
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "image": ((size, size, 3), np.uint8),
        "label": ((), np.int32),
        "weight": ((), np.float32),
        "index": ((), np.int32),
        "position": ((), np.int32),
    }
    further = {
        "boxes": ((plan.source.boxes, 4), np.float32),
        "mask": ((size, size), np.uint8),
        "keypoints": ((len(plan.source.parts), 3), np.float32),
    }
    shapes |= {name: further[name] for name in plan.annotations}
    return {
        name: np.zeros((rows, *shape), kind) for name, (shape, kind) in shapes.items()
    }


def _read(plan: Plan, index: int) -> Example | None:
    """Read an example, None where it cannot be read."""
    try:
        return plan.source.read(index)
    except (ValueError, OSError) as error:
        if not plan.strict:
            return None
        raise ValueError(
            f"Example {plan.source.name(index)!r} cannot be read ({error}); expected a "
            "good image, or strict=False, which gives it no weight."
        ) from error


@atexit.register
def _close_all() -> None:
    for stream in list(OPEN):
        with contextlib.suppress(ValueError):  # Another thread is waiting for a batch.
            stream.close()


def _start(
    batches: grain_steps.Steps, stop: threading.Event | None, workers: int, threads: int
) -> Batches:
    stream = _stream(batches, stop, workers, threads)
    OPEN.add(stream)
    return stream


def _stream(
    batches: grain_steps.Steps, stop: threading.Event | None, workers: int, threads: int
) -> Batches:
    """Have batches made ahead of whoever takes them."""
    # Two batches lie ready when all threads are at work on further ones.
    reading = {"num_threads": threads, "prefetch_buffer_size": threads + 2}
    options = grain_steps.library().ReadOptions(**reading)
    ahead = batches.to_iter_dataset(options)
    if workers:
        ahead = grain_steps.ahead(batches, workers, threads)
    iterator = iter(ahead)
    try:
        yield from grain_steps.received(iterator) if workers else iterator
    finally:
        if stop is not None:
            stop.set()
        iterator.close()
