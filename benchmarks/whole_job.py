"""Time whole jobs against the build before, and against the passes that they need.

    python benchmarks/whole_job.py FOLDER --weights mobilenet_v2-b0353104.pth \
        --before CHECKOUT --images 200 --threads 2 --max-isa AVX2

FOLDER holds files whose names begin with the number of their class. `unlir evaluate`
scores six CAMs and the controls by five metrics, `unlir explain` explains the first
images by four methods and writes the report, `unlir train` computes the features of a
linear probe. Checkouts take turns, each with its own folder of kept programs, which a
job of four images has filled.

A job needs so many passes of the network; the profile times one pass in the job's own
chunks, and prints the share of the job that is none. `--memory` prints the peak of a
process as well.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

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
    return {
        "evaluate": Job(evaluate, len(files), passes(len(METHODS), steps)),
        "explain": Job(explain, len(few), passes(len(EXPLAINED), 28)),
    }


def run(
    checkout: Path, job: Job, kept: Path, options: argparse.Namespace
) -> tuple[float, float]:
    """Run a job in a process; give seconds of the clock, and its peak in MiB."""
    environment: Mapping[str, str] = os.environ | {
        "PYTHONPATH": str(checkout),
        "PYTHONDONTWRITEBYTECODE": "",
        "UNLIR_JAX_CACHE": str(kept),
        # What a checkout without kept programs is left with.
        "JAX_COMPILATION_CACHE_DIR": "" if checkout == HERE.parent else str(kept),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    if checkout == HERE.parent:
        del environment["JAX_COMPILATION_CACHE_DIR"]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "unlir_jax.cli", *job.command],
        env=environment,
        cwd=checkout,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    spent = time.perf_counter() - begun
    if status:
        raise SystemExit(f"{' '.join(job.command)} failed: {told[-800:]}")
    return spent, usage.ru_maxrss / 1024


def seconds_of_a_pass(options: argparse.Namespace) -> float:
    """Time one image's pass in the chunks of a job, warm."""
    network = load("mobilenet_v2", weights=options.weights, fold=True)
    forward = split.whole(network.model)
    few = loops.few_enough(8, (SIZE, SIZE), "auto")
    images = np.random.default_rng(0).random((few, SIZE, SIZE, 3)).astype(np.float32)
    images = jax.device_put(images)
    found = []
    for _ in range(30):
        begun = time.perf_counter()
        jax.block_until_ready(forward(network.variables, images))
        found.append((time.perf_counter() - begun) / few)
    return statistics.median(found[5:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
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
    print("| job | build | images | seconds | images / s | passes' share | peak, MiB |")
    print("|---|---|---|---|---|---|---|")
    for name in options.jobs.split(","):
        for side, checkout in sides.items():  # Programs of the job's own shapes.
            few = jobs(place / "few", options, place / f"few {name} {side}")[name]
            run(checkout, few, place / side, options)
        for number in range(options.rounds):
            for side, checkout in sides.items():
                output = place / f"{name} {side} {number}"
                job = jobs(place / "all", options, output)[name]
                before = seconds_of_a_pass(options)
                spent, peak = run(checkout, job, place / side, options)
                one = (before + seconds_of_a_pass(options)) / 2
                share = one * job.passes * job.images / spent
                print(
                    f"| {name} | {side} | {job.images} | {spent:.1f} | "
                    f"{job.images / spent:.2f} | {share:.0%} | {peak:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
