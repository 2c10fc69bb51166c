"""Batches made by grain, in worker processes that share nothing with the main one."""

import contextlib
import itertools
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from unlir_jax.core import extras

Steps = Any
"""A data set of grain, or what walks over it; grain may not be installed."""

# Bytes from which an array comes from a worker through shared memory.
LEAST_SHARED = 2**16
# Held while processes are started, as two pipelines might do at once.
STARTING = threading.Lock()


def library() -> Any:
    """Import grain, which not every command needs.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    with extras.needed("train"):
        import grain
    return grain


def ahead(batches: Steps, workers: int, threads: int) -> Steps:
    """Have batches made by worker processes."""
    from absl import flags

    grain = library()
    # It looks at flags of the command line, which nobody else may have read.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    made = grain.experimental.WithOptionsIterDataset(
        batches.to_iter_dataset(options),
        grain.experimental.DatasetOptions(min_shm_size=LEAST_SHARED),
    )
    return made.mp_prefetch(
        grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1),
        worker_init_fn=_begin_worker,
    )


def received(batches: Steps) -> Iterator[dict[str, np.ndarray]]:
    """Take batches over from worker processes, and turn any failure into one error."""
    try:
        with STARTING, _main_hidden():
            first = next(batches)
            batches.get_state()  # Comes back when all of them have been started.
        for batch in itertools.chain([first], batches):
            # A copy: shared memory is scarce, and whoever keeps a batch would keep it.
            yield {name: np.array(values) for name, values in batch.items()}
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(
            f"A worker process of the data pipeline failed ({error}); expected enough "
            "memory, and a source that other processes can read, or workers=0."
        ) from error


@contextlib.contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep worker processes from running the main script again, as they would.

    They need nothing of it, as cloudpickle gives them what was defined there; and a
    script that trains without `if __name__ == "__main__":` would train in each of them.
    """
    main = vars(sys.modules["__main__"])
    names = ("__file__", "__spec__")
    hidden = {name: main[name] for name in names if name in main}
    main.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        main.update(hidden)


def _begin_worker(worker: int, workers: int) -> None:
    """Keep JAX, which grain imports, away from the accelerators of the main process."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_platforms", "cpu")
