"""Time how fast the animals of `unlir_jax.data.synthetic_parts` are drawn.

  python benchmarks/synthetic_parts.py --size 128 --workers 2

Processes share nothing, like the workers of a training; threads of one process share
the interpreter. Prints one line of JSON with images a second, the median of
`--repeats` turns each.
"""

import argparse
import concurrent.futures
import functools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

# The benchmark times the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from unlir_jax.data import synthetic_parts

CHUNK = 100


def draw(size: int, start: int) -> int:
    """Draw some images; give how many."""
    for index in range(start, start + CHUNK):
        synthetic_parts.example("train", index, image_size=size)
    return CHUNK


def turn(pool: concurrent.futures.Executor, size: int, workers: int) -> int:
    """Let all workers draw, each several times, so that they end together."""
    starts = range(0, 4 * workers * CHUNK, CHUNK)
    return sum(pool.map(functools.partial(draw, size), starts))


def rate(run: Callable[[], int], repeats: int) -> float:
    """Give how many a second, after one turn that does not count."""
    rates = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        rates.append(run() / (time.perf_counter() - start))
    return round(statistics.median(rates[1:]), 1)


def main() -> None:
    """Time one thread, several threads and several processes."""
    parser = argparse.ArgumentParser(description="Time how fast creatures are drawn.")
    parser.add_argument("--size", type=int, default=128, help="side in pixels (128)")
    parser.add_argument("--workers", type=int, default=2, help="of each kind (2)")
    parser.add_argument("--repeats", type=int, default=5, help="turns (5)")
    options = parser.parse_args()
    pools = {
        "threads": concurrent.futures.ThreadPoolExecutor,
        "processes": concurrent.futures.ProcessPoolExecutor,
    }
    found = {"one thread": rate(lambda: draw(options.size, 0), options.repeats)}
    for name, kind in pools.items():
        with kind(options.workers) as pool:
            run = functools.partial(turn, pool, options.size, options.workers)
            found[f"{options.workers} {name}"] = rate(run, options.repeats)
    about = {"cores": os.cpu_count(), "machine": platform.machine()}
    about |= {"python": platform.python_version(), "size": options.size}
    print(json.dumps(about | {"pictures a second": found}))


if __name__ == "__main__":
    main()
