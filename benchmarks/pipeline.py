"""Measure how many JPEGs a second the data pipeline decodes and augments.

    python benchmarks/pipeline.py FOLDER --split train

The floor is Pillow alone in one thread: decode, resize a crop, make an array. Each
side is timed several times in turn, as other work on the machine disturbs; the tables
give the median. Prints a table, and with --json a document of the same.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from unlir_jax.data import folder, pipeline
from unlir_jax.data.source import Source

FLOOR = "Pillow alone, 1 thread"


def bare(source: Source, size: int, count: int) -> float:
    """Time what no pipeline in Python could do without."""
    random = np.random.default_rng(0)
    indices = random.integers(source.size, size=count).tolist()
    begin = time.perf_counter()
    for index in indices:
        image = source.read(index)["image"]
        width, height = image.size
        side = min(width, height) * random.uniform(0.3, 1)
        left, top = random.uniform(0, width - side), random.uniform(0, height - side)
        box = left, top, left + side, top + side
        np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return count / (time.perf_counter() - begin)


def piped(
    source: Source, options: argparse.Namespace, threads: int, workers: int = 0
) -> float:
    """Time batches after the first ones, which were waiting for workers to start."""
    batches = pipeline.training(
        source,
        batch_size=options.batch,
        seed=0,
        image_size=options.size,
        augment=options.augment,
        threads=threads,
        workers=workers,
    )
    steps = max(options.count // options.batch, 1)
    # As many as may have been made while nobody was looking.
    ahead = 2 * (threads + 2) * max(workers, 1)
    try:
        for _ in range(ahead):
            next(batches)
        begin = time.perf_counter()
        for _ in range(steps):
            next(batches)
        return steps * options.batch / (time.perf_counter() - begin)
    finally:
        batches.close()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    source = folder.folder(options.folder, options.split)
    sample = np.linspace(0, source.size - 1, min(source.size, 50)).astype(int)
    sizes = [source.read(int(index))["image"].size for index in sample]
    cores = options.cores
    sides: dict[str, Callable[[], float]] = {
        FLOOR: lambda: bare(source, options.size, options.count),
        "pipeline, 1 thread": lambda: piped(source, options, threads=1),
        f"pipeline, {cores} threads": lambda: piped(source, options, threads=cores),
        f"pipeline, {cores} workers": lambda: piped(
            source, options, threads=1, workers=cores
        ),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.repetitions):
        for name, side in sides.items():
            rates[name].append(side())
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "pictures": source.size,
        "median_pixels": [
            int(statistics.median(side)) for side in zip(*sizes, strict=True)
        ],
        "cores": cores,
        "size": options.size,
        "batch": options.batch,
        "augment": options.augment,
        "load": os.getloadavg(),
        "images_per_second": rates,
        "median": medians,
        "per_floor": {name: rate / medians[FLOOR] for name, rate in medians.items()},
    }


def table(document: dict[str, Any]) -> str:
    width, height = document["median_pixels"]
    lines = [
        f"{document['pictures']} JPEGs of about {width} x {height} pixels to "
        f"{document['size']} px by `{document['augment']}`, batches of "
        f"{document['batch']}, {document['cores']} cores",
        "",
        "| | images/s | lowest | highest | times the floor |",
        "|---|---|---|---|---|",
    ]
    for name, rates in document["images_per_second"].items():
        lines.append(
            f"| {name} | {document['median'][name]:.0f} | {min(rates):.0f} | "
            f"{max(rates):.0f} | {document['per_floor'][name]:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", help="pictures as `unlir_jax.data.folder` takes them")
    parser.add_argument("--split", default="train")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--count", type=int, default=1280, help="pictures to be timed")
    parser.add_argument("--augment", default="random_resized_crop|flip")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON, no table")
    options = parser.parse_args()
    document = measure(options)
    print(json.dumps(document, indent=1) if options.json else table(document))


if __name__ == "__main__":
    main()
