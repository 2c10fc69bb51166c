"""Time whole processes from the shell: one photograph explained, ours and torch's.

    python benchmarks/first_call.py PHOTO --weights mobilenet_v2-b0353104.pth \
        --torch-python PATH --threads 2

The processes take turns: `unlir explain --method grad_cam` with an empty folder of kept
programs, the same with the programs of the call before, another checkout of this
library (`--before FOLDER`) with and without JAX's own cache, and a script of torch and
pytorch-grad-cam that writes one overlay. Ours scores the map and four controls too, and
writes the report. Prints medians and ratios to the torch script; `--max-isa AVX2` holds
XLA back to what other machines have.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TORCH = HERE / "first_call_torch.py"


def run_once(
    command: list[str], environment: dict[str, str], where: Path = Path(HERE.anchor)
) -> tuple[float, float, float]:
    """Run a process; give seconds of the clock, of the processor, and its peak MiB.

    By default it runs where no checkout is: it would import from there.
    """
    begun = time.perf_counter()
    # What is installed has bytecode; a checkout has it after the first run.
    environment = {**environment, "PYTHONDONTWRITEBYTECODE": ""}
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(
            command, env=environment, cwd=where, stdout=told, stderr=told
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        spent = time.perf_counter() - begun
        if status:
            told.seek(0)
            raise SystemExit(f"{' '.join(command)} failed: {told.read()[-500:]}")
    return spent, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def explain(
    checkout: Path, options: argparse.Namespace, output: Path, kept: dict[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Give the command of a checkout, and its environment."""
    command = [sys.executable, "-m", "unlir_jax.cli", "explain", options.photo]
    command += ["--model", "mobilenet_v2", "--method", options.method]
    command += ["--weights", options.weights, "--output", str(output), "--quiet"]
    environment = os.environ | kept | {"PYTHONPATH": str(checkout)}
    if options.max_isa:
        environment["XLA_FLAGS"] = f"--xla_cpu_max_isa={options.max_isa}"
    return command, environment


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photo")
    parser.add_argument("--weights", required=True, help="torchvision's MobileNetV2")
    parser.add_argument("--torch-python", help="Python that has torch and grad-cam")
    parser.add_argument("--before", help="another checkout of this library")
    parser.add_argument("--method", default="grad_cam", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--threads", type=int, help="keep to so many cores")
    parser.add_argument("--max-isa", help="such as AVX2")
    options = parser.parse_args()
    options.photo = str(Path(options.photo).resolve())
    options.weights = str(Path(options.weights).resolve())
    if options.threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    with tempfile.TemporaryDirectory() as folder:
        report(options, take_turns(options, Path(folder)))


def take_turns(
    options: argparse.Namespace, folder: Path
) -> dict[str, list[tuple[float, float, float]]]:
    """Time every variant once a round."""
    found: dict[str, list[tuple[float, float, float]]] = {}

    def run(name: str, command: list[str], environment: dict[str, str]) -> None:
        found.setdefault(name, []).append(run_once(command, environment))

    for number in range(options.rounds):
        place = folder / str(number)
        kept = {"UNLIR_JAX_CACHE": str(place / "kept")}
        for name in ("first", "next"):
            run(name, *explain(HERE.parent, options, place / name, kept))
        if options.before:
            jax = {
                "JAX_COMPILATION_CACHE_DIR": str(place / "jax"),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            }
            before = Path(options.before).resolve()
            run("before", *explain(before, options, place / "before", {}))
            for name in ("", "before, next"):
                output = place / f"jax {name}"
                command = explain(before, options, output, jax)
                run(name or "before, filling JAX's cache", *command)
        if options.torch_python:
            files = [options.photo, options.weights, str(place / "overlay.png")]
            command = [options.torch_python, str(TORCH), *files]
            run("torch", command, dict(os.environ))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    return found


def report(
    options: argparse.Namespace, found: dict[str, list[tuple[float, float, float]]]
) -> None:
    """Print medians, and ratios to the torch script."""
    middle = {
        name: [statistics.median(values) for values in zip(*rows, strict=True)]
        for name, rows in found.items()
    }
    print("| process | seconds | of the processor | seconds / torch | peak, MiB |")
    print("|---|---|---|---|---|")
    for name, (clock, spent, peak) in middle.items():
        ratio = f"{clock / middle['torch'][0]:.2f}" if "torch" in middle else "–"
        print(f"| {name} | {clock:.1f} | {spent:.1f} | {ratio} | {peak:.0f} |")


if __name__ == "__main__":
    main()
