"""Time whole jobs against the build before, and against the passes that they need.

    python benchmarks/whole_job.py FOLDER --weights mobilenet_v2-b0353104.pth \
        --before CHECKOUT --images 200 --threads 2 --max-isa AVX2

FOLDER holds files whose names begin with the number of their class. `unlir evaluate`
scores six CAMs and the controls by five metrics. `unlir explain` explains a quarter of
the images by four methods and writes the report. With `--classes DIR`, `unlir train`
computes the features of a linear probe on DIR/train and DIR/test. Checkouts take turns,
each with its own folder of kept programs, which a job of four images has filled.

A job needs so many passes of the network. One pass is timed before and after it, in
the job's own chunks; the last columns are the share of the job's processor seconds that
such passes take, and the peak of its memory. Processor seconds bear other load. Passes
inside a curve are cheaper than one that is timed alone, so a share may exceed 100 %.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import first_call
import jax
import numpy as np

from unlir_jax import load, saliency, split
from unlir_jax.core import loops

HERE = Path(__file__).resolve().parent
METHODS = (
    "grad_cam",
    "grad_cam_plus_plus",
    "xgrad_cam",
    "hires_cam",
    "layer_cam",
    "eigen_cam",
)
EXPLAINED = METHODS[:4]
METRICS = (
    "average_drop",
    "average_increase",
    "average_gain",
    "insertion",
    "deletion",
)
ONE_STEP = (
    "--config.probe.choose=False",
    "--config.probe.pooling=average",
    "--config.optimizer.weight_decay=1.0",
    "--config.steps=1",
)
FEW = 4
SIZE = 224


class Job(NamedTuple):
    """Hold a command, how many images it takes, and how many passes it needs."""

    command: list[str]
    images: int
    passes: int


def passes(methods: int, steps: int) -> int:
    """Count the forward passes of an image: of itself, of CAMs, masked, of curves."""
    maps = methods + len(saliency.CONTROLS)
    return 1 + methods + maps * (1 + 2 * steps + 1)


def jobs(photos: Path, options: argparse.Namespace, output: Path) -> dict[str, Job]:
    """List the jobs over a folder of images."""
    files = sorted(photos.iterdir())
    weights, steps = str(options.weights), options.curve_steps
    chosen = f"model=mobilenet_v2,methods={'+'.join(METHODS)}"
    evaluate = ["evaluate", "--config", f"configs/evaluate.py:{chosen}"]
    evaluate[-1] += f",metrics={'+'.join(METRICS)}"
    evaluate += [f"--config.data.path={photos}", f"--config.model.weights={weights}"]
    for name in ("insertion", "deletion"):
        evaluate += [f"--config.metric_options.{name}.steps={steps}"]
    evaluate += ["--workdir", str(output)]
    few = files[: max(len(files) // 4, FEW)]
    explain = ["explain", *map(str, few), "--model", "mobilenet_v2", "--quiet"]
    explain += ["--weights", weights, "--output", str(output)]
    for name in EXPLAINED:
        explain += ["--method", name]
    # The report of explain has curves of 28 steps, whatever is asked of evaluate.
    found = {
        "evaluate": Job(evaluate, len(files), passes(len(METHODS), steps)),
        "explain": Job(explain, len(few), passes(len(EXPLAINED), 28)),
    }
    if options.classes:
        train = ["train", "--config", "configs/linear_probe.py:backbone=mobilenet_v2"]
        train += [f"--config.data.path={options.classes}", *ONE_STEP]
        train += [f"--config.model.weights={weights}", "--workdir", str(output)]
        # A folder of its own, or the first run's features would do.
        train += [f"--config.features.folder={output}_features"]
        count = sum(path.is_file() for path in options.classes.rglob("*/*/*"))
        found["train"] = Job(train, count, 1)
    return found


def run(checkout: Path, job: Job, kept: Path) -> tuple[float, float, float]:
    """Run a job; give seconds of the clock, of the processor, and its peak in MiB."""
    environment = os.environ | {
        "PYTHONPATH": str(checkout),
        "PYTHONDONTWRITEBYTECODE": "",
        "UNLIR_JAX_CACHE": str(kept),
    }
    command = [sys.executable, "-m", "unlir_jax.cli", *job.command]
    return first_call.run_once(command, environment, checkout)


def seconds_of_a_pass(options: argparse.Namespace) -> float:
    """Time one image's pass in the chunks of a job, warm, in processor seconds."""
    network = load("mobilenet_v2", weights=options.weights, fold=True)
    forward = split.whole(network.model)
    few = loops.few_enough(8, (SIZE, SIZE), "auto")
    images = np.random.default_rng(0).random((few, SIZE, SIZE, 3)).astype(np.float32)
    images = jax.device_put(images)
    found = []
    for _ in range(30):
        begun = time.process_time()
        jax.block_until_ready(forward(network.variables, images))
        found.append((time.process_time() - begun) / few)
    return statistics.median(found[5:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--classes", type=Path, help="a folder of train/ and test/")
    parser.add_argument("--before", type=Path, help="another checkout of this library")
    parser.add_argument("--images", type=int, default=200, help="default: %(default)s")
    parser.add_argument(
        "--curve-steps", type=int, default=28, help="default: %(default)s"
    )
    parser.add_argument("--rounds", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--jobs", default="evaluate,explain", help="%(default)s")
    parser.add_argument("--threads", type=int, help="keep to so many cores")
    parser.add_argument("--max-isa", help="such as AVX2")
    options = parser.parse_args()
    options.weights, source = options.weights.resolve(), options.folder.resolve()
    if options.threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    if options.max_isa:
        os.environ["XLA_FLAGS"] = f"--xla_cpu_max_isa={options.max_isa}"
    options.classes = options.classes and options.classes.resolve()
    sides = {"this": HERE.parent}
    if options.before:
        sides["before"] = options.before.resolve()
    with tempfile.TemporaryDirectory() as place:
        report(options, source, sides, Path(place))


def report(
    options: argparse.Namespace, source: Path, sides: dict[str, Path], place: Path
) -> None:
    """Run all jobs in turns, and print the table."""
    photos = sorted(source.iterdir())
    for name, count in (("few", FEW), ("all", options.images)):
        (place / name).mkdir()
        for photo in photos[:count]:
            shutil.copy(photo, place / name)
    print("| job | build | images | seconds | of the processor | passes | peak, MiB |")
    print("|---|---|---|---|---|---|---|")
    for name in options.jobs.split(","):
        for side, checkout in sides.items():  # Programs of the job's own shapes.
            few = jobs(place / "few", options, place / f"few {name} {side}")[name]
            run(checkout, few, place / side)
        for number in range(options.rounds):
            for side, checkout in sides.items():
                output = place / f"{name} {side} {number}"
                job = jobs(place / "all", options, output)[name]
                before = seconds_of_a_pass(options)
                clock, spent, peak = run(checkout, job, place / side)
                one = (before + seconds_of_a_pass(options)) / 2
                share = one * job.passes * job.images / spent
                print(
                    f"| {name} | {side} | {job.images} | {clock:.1f} | {spent:.1f} | "
                    f"{share:.0%} | {peak:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
