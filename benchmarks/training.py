"""Measure how long training waits for its data, and what the loop costs beyond a step.

    python benchmarks/training.py FOLDER --model resnet18 --batch 256 --dtype bfloat16 \
        --workers 14

FOLDER holds images as `unlir_jax.data.folder` takes them, with a split `train`;
without it JPEGs of 500 x 375 pixels are drawn from a fixed seed. Two sides take turns:
`unlir train` as it is, and its compiled step alone on one batch that stays on the
device, which is what a step must take at least. Prints a table, or JSON with --json.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from unlir_jax.data import pipeline
from unlir_jax.features import batches
from unlir_jax.runtime import config, mesh
from unlir_jax.storage import files
from unlir_jax.training import setup as setups

CONFIG = Path(__file__).parents[1] / "configs" / "supervised.py"


def draw_pictures(folder: Path, count: int) -> None:
    """Write smooth noisy JPEGs of two classes, about as large as ImageNet's."""
    random = np.random.default_rng(0)
    for index in range(count):
        small = random.integers(0, 256, (12, 16, 3), np.uint8)
        image = Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC)
        noisy = np.asarray(image, np.int16) + random.integers(-9, 10, (375, 500, 3))
        place = folder / "train" / f"class {index % 2}"
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        picture.save(place / f"{index:04}.jpg", quality=90)


def open_setup(options: argparse.Namespace, folder: Path) -> setups.TrainingSetup:
    settings = config.load(
        f"{CONFIG}:data=folder,model={options.model}",
        [
            f"data.path={folder}",
            "data.test=",
            f"data.image_size={options.size}",
            f"data.workers={options.workers}",
            f"batch_size={options.batch}",
            f"model.dtype={options.dtype}",
            f"model.precision={options.precision}",
            "epochs=0",
            "steps=1000000",
        ],
    )
    return setups.prepare(settings)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    setup = open_setup(options, folder)
    update, _ = setups.compile_steps(setup)
    state = mesh.put_state(setup.laid, setup.state)
    frame = setup.frame
    reader = batches.of_pictures(setup.data, setup.settings, **frame)
    rows = pipeline.timed(reader.training(0))
    fixed = mesh.put_batch(setup.laid, next(rows))
    for _ in range(3):  # Compiles, and lets the workers get ahead.
        state, report = update(state, fixed)
    jax.block_until_ready(report)
    alone, whole, waited = [], [], []
    try:
        for _ in range(options.repetitions):
            begin = time.perf_counter()
            for _ in range(options.steps):
                state, report = update(state, fixed)
            jax.block_until_ready(report)
            alone.append((time.perf_counter() - begin) / options.steps)
            # What lay ready meanwhile is used up first.
            for _ in range(options.drain):
                state, report = update(state, mesh.put_batch(setup.laid, next(rows)))
            jax.block_until_ready(report)
            rows.seconds, before = 0.0, None
            begin = time.perf_counter()
            for _ in range(options.steps):
                batch = mesh.put_batch(setup.laid, next(rows))
                state, report = update(state, batch)
                jax.device_get(before)
                before = report
            jax.block_until_ready(report)
            whole.append((time.perf_counter() - begin) / options.steps)
            waited.append(rows.seconds / options.steps)
    finally:
        rows.close()
    step = statistics.median(whole)
    return {
        "model": options.model,
        "batch": options.batch,
        "size": options.size,
        "dtype": options.dtype,
        "precision": options.precision,
        "workers": options.workers,
        "cores": len(os.sched_getaffinity(0)),
        "versions": files.versions(),
        "milliseconds": {
            "step alone": [1000 * value for value in alone],
            "with data": [1000 * value for value in whole],
            "waiting": [1000 * value for value in waited],
        },
        "images_per_second": options.batch / step,
        "data_wait": statistics.median(waited) / step,
        "times_the_step": step / statistics.median(alone),
    }


def table(document: dict[str, Any]) -> str:
    return "\n".join(
        [
            f"{document['model']}, batch {document['batch']}, {document['size']} px, "
            f"{document['dtype']}, {document['workers']} workers on "
            f"{document['cores']} cores, {document['versions']['device']}",
            "",
            "| images/s | share of time waiting for data | times the step alone |",
            "|---|---|---|",
            f"| {document['images_per_second']:.0f} | {document['data_wait']:.1%} | "
            f"{document['times_the_step']:.3f} |",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", help="pictures; drawn by default")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--precision", default="default")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--drain", type=int, default=30, help="steps not timed")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=1024, help="to be drawn")
    parser.add_argument("--json", action="store_true", help="print JSON, no table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        if not options.folder:
            draw_pictures(folder, options.pictures)
        document = measure(options, folder)
    print(json.dumps(document, indent=1) if options.json else table(document))


if __name__ == "__main__":
    main()
