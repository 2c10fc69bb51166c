"""Start both sides, let them take turns, and gather what they measured."""

import argparse
import contextlib
import datetime
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import protocol
import summary

from unlir_jax.models import zoo
from unlir_jax.weights import packages

HERE = Path(__file__).resolve().parent
CALLS = {"gradient": 3}
USUAL_CALLS, SLOW_CALLS = 5, 1
STEPS_FOR_MEMORY = 2
# `runtime.allocator` sets it from inside; torch takes it from outside only.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_ARENA_MAX": "1",
}
# Of our side: how tables mark it, whether norms are folded, further environment.
KINDS: dict[str, tuple[str, bool, dict[str, str]]] = {
    "plain": ("", False, {}),
    "folded": (", norms folded", True, {}),
    "untouched": (", allocator untouched", False, {"UNLIR_JAX_KEEP_MEMORY": "0"}),
}
COMPARED = ("forward", "gradient", "grad_cam_mask", "insertion_deletion")


class Variant(NamedTuple):
    """Describe one process that is timed."""

    python: str
    script: str
    settings: dict[str, Any]
    environment: dict[str, str]


class Sides(NamedTuple):
    """Hold the running processes, ours first, and why torch is not there, if so."""

    workers: dict[str, protocol.Worker]
    variants: dict[str, Variant]
    peers: list[str]
    note: str


def measure(
    options: argparse.Namespace, check: Callable[[str], None]
) -> dict[str, Any]:
    """Do everything that the options ask for, and return one document of it.

    `check` is told the device as soon as it is known, and may raise to end the run.
    """
    before = protocol.load_average()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = _start_all(options, stack, check)
        batch = str(folder / "batch.npz")
        made = sides.workers[summary.OURS].ask(
            "make_batch", folder=options.images, count=options.batch, path=batch
        )
        for worker in sides.workers.values():
            worker.ask("take_batch", path=batch)
        about = {name: worker.ask("describe") for name, worker in sides.workers.items()}
        first = _first_calls(sides.workers)
        seconds = _take_turns(options, sides.workers)
        differences = _compare(sides, folder)
        for worker in sides.workers.values():
            worker.close()
        methods = {name: list(times) for name, times in seconds.items()}
        memory = {} if options.no_memory else _peaks(sides, methods, batch)
    for name, variant in sides.variants.items():
        about[name]["environment"] = variant.environment
    names = "model batch dtype steps curve_steps repetitions slow_repetitions"
    settings = {name: getattr(options, name) for name in names.split()} | made
    return {
        "schema": 1,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "notes": [sides.note] if sides.note else [],
        "machine": _machine(options, about[summary.OURS]["backend"], before),
        "settings": settings,
        "variants": about,
        "peers": sides.peers,
        "seconds": seconds,
        "first_call_seconds": first,
        "summary": summary.summarise(seconds, settings, sides.peers),
        "peak_memory": memory,
        "differences": differences,
    }


def _machine(
    options: argparse.Namespace, backend: str, before: list[float]
) -> dict[str, Any]:
    return {
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": options.cores,
        "threads": options.threads,
        "device": backend,
        "load_before": before,
        "load_after": protocol.load_average(),
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:  # Not Linux.
        return platform.processor() or platform.machine()
    models = [line.split(":", 1)[1] for line in lines if line.startswith("model name")]
    return models[0].strip() if models else platform.machine()


def _start_all(
    options: argparse.Namespace,
    stack: contextlib.ExitStack,
    check: Callable[[str], None],
) -> Sides:
    ours = _our_variants(options)
    workers = {name: _start(stack, name, variant) for name, variant in ours.items()}
    backend = workers[summary.OURS].ask("describe")["backend"]
    check(backend)
    weights = _weights_file(options)
    note = _why_alone(options, backend, weights)
    if note or weights is None:
        return Sides(workers, ours, [], note)
    peers = _torch_variants(options, weights)
    try:
        theirs = {name: _start(stack, name, variant) for name, variant in peers.items()}
    except protocol.Refused as refusal:
        if refusal.kind not in ("ImportError", "ModuleNotFoundError"):
            raise
        note = f"Our side alone: that Python lacks something ({refusal})."
        return Sides(workers, ours, [], note)
    return Sides(workers | theirs, ours | peers, list(peers), "")


def _start(stack: contextlib.ExitStack, name: str, variant: Variant) -> protocol.Worker:
    say(f"starting {name}")
    worker = protocol.Worker(
        variant.python, HERE / variant.script, variant.environment, name
    )
    stack.enter_context(worker)
    worker.ask("load", settings=variant.settings)
    return worker


def _first_calls(workers: Mapping[str, protocol.Worker]) -> dict[str, Any]:
    """Warm up: what compiles does so here, and memory is asked for."""
    first = {}
    for name, worker in workers.items():
        say(f"warming up {name}")
        methods = worker.ask("methods")
        first[name] = {m: worker.ask("first_call", method=m) for m in methods}
    return first


def _take_turns(
    options: argparse.Namespace, workers: Mapping[str, protocol.Worker]
) -> dict[str, dict[str, list[float]]]:
    """Time each method on all sides in turn, then the next, and all that again."""
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in workers}
    methods = {name: worker.ask("methods") for name, worker in workers.items()}
    # In the order of our methods, then those that only a peer has.
    every = dict.fromkeys(method for known in methods.values() for method in known)
    for turn in range(options.repetitions):
        # Who goes first changes, as the caches are warm for the first one's successor.
        order = list(workers) if turn % 2 == 0 else list(workers)[::-1]
        for method in every:
            slow = method in summary.METHODS and summary.METHODS[method].slow
            if slow and turn >= options.slow_repetitions:
                continue
            say(f"round {turn + 1} of {options.repetitions}: {method}")
            calls = SLOW_CALLS if slow else CALLS.get(method, USUAL_CALLS)
            for name in order:
                if method in methods[name]:
                    taken = workers[name].ask("time", method=method, calls=calls)
                    seconds[name].setdefault(method, []).append(taken)
    return seconds


def _compare(sides: Sides, folder: Path) -> dict[str, Any]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for number, (name, worker) in enumerate(sides.workers.items()):
        path = str(folder / f"results{number}.npz")
        worker.ask("save_results", path=path, names=COMPARED)
        with np.load(path) as arrays:
            found[name] = dict(arrays)
    own = found.pop(summary.OURS)
    return {name: summary.differences(own, theirs) for name, theirs in found.items()}


def _peaks(
    sides: Sides, methods: Mapping[str, Sequence[str]], batch: str
) -> dict[str, Any]:
    """Measure memory in processes that do one thing only."""
    peaks: dict[str, dict[str, Any]] = {}
    for name, variant in sides.variants.items():
        if name.endswith(("folded", "memory kept")):
            continue  # A process a method takes minutes, and these tell little more.
        settings = variant.settings | {"steps": STEPS_FOR_MEMORY}
        peaks[name] = {}
        for method in methods[name]:
            with contextlib.ExitStack() as stack:
                worker = _start(stack, name, variant._replace(settings=settings))
                worker.ask("take_batch", path=batch)
                worker.ask("time", method=method, calls=2)
                peaks[name][method] = worker.ask("peak")
    return peaks


def say(text: str) -> None:
    if text and sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _our_variants(options: argparse.Namespace) -> dict[str, Variant]:
    settings = {
        "model": options.model,
        "weights": options.weights,
        "dtype": options.dtype,
        "steps": options.steps,
        "curve_steps": options.curve_steps,
    }
    # Several processes share an accelerator here, and JAX would take most of it each.
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if options.device:
        environment["JAX_PLATFORMS"] = options.device
    variants = {}
    for kind in KINDS:
        if kind in options.ours:
            remark, folded, further = KINDS[kind]
            variants[summary.OURS + remark] = Variant(
                sys.executable,
                "ours.py",
                settings | {"fold": folded},
                environment | further,
            )
    return variants


def _torch_variants(options: argparse.Namespace, weights: str) -> dict[str, Variant]:
    settings = {
        "model": options.model,
        "weights": weights,
        "steps": options.steps,
        "curve_steps": options.curve_steps,
        "threads": options.threads,
    }
    variants = {}
    kinds = {"": {}, ", memory kept": KEEP_MEMORY}
    for remark, environment in kinds.items():
        if remark and not options.torch_keep_memory:
            continue
        for layout in ("", " channels_last"):
            chosen = settings | {"channels_last": bool(layout)}
            variants[f"{summary.TORCH}{layout}{remark}"] = Variant(
                options.torch_python, "torch_peer.py", chosen, environment
            )
    return variants


def _why_alone(options: argparse.Namespace, backend: str, weights: str | None) -> str:
    """Say why torch is left out, or nothing if it is not."""
    if options.ours_only:
        return "Our side alone, as --ours-only asks."
    if not options.torch_python:
        return "Our side alone: --torch-python names no Python that has torch."
    if backend != "cpu":
        return f"Our side alone: torch is timed on CPU only, and ours ran on {backend}."
    if weights is None:
        return "Our side alone: torch needs a file of weights."
    if options.dtype == "bfloat16":
        return "Our side alone: torch is timed in float32 only."
    return ""


def _weights_file(options: argparse.Namespace) -> str | None:
    if options.weights == "random":
        return None
    path = options.weights or packages.find(zoo.find(options.model)[1].package)
    return None if path is None else str(Path(path).resolve())
