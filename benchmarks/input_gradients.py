"""Time steps of interpretable gradients against plain ones and against torch's."""

import argparse
import contextlib
import datetime
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# The benchmark times the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import explainers
import protocol
import turns

from unlir_jax.storage import files

TORCH = "torch"
PLAIN, RESEMBLING = "plain", "interpretable gradients"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--torch-python", help="Python that has torch; without it, our side alone")
    add("--threads", type=int, default=1, help="default: %(default)s")
    add("--rounds", type=int, default=5, help="default: %(default)s")
    add("--batch", type=int, default=64, help="default: %(default)s")
    add("--depth", type=int, default=8, help="of the network; default: %(default)s")
    output = explainers.HERE / "results"
    add("--output", type=Path, default=output, help="default: results")
    options = parser.parse_args(arguments)
    try:
        if min(options.rounds, options.batch) < 1:
            raise ValueError("`--rounds` and `--batch`: expected at least 1.")
        protocol.restrict(protocol.available_cores()[: options.threads])
        document = measure(options)
    except (OSError, ValueError, protocol.Refused) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = to_markdown(document)
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    stem = document["created"][:10] + "-input-gradients-cpu"
    for suffix, content in (("json", files.to_json(document)), ("md", text)):
        files.write_text(options.output / f"{stem}.{suffix}", content)
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start both sides, let them take turns, and return what was found."""
    names = "threads rounds batch depth"
    settings = {name: getattr(options, name) for name in names.split()}
    pythons = {explainers.OURS: sys.executable, TORCH: options.torch_python}
    scripts = {explainers.OURS: "input_gradients_ours.py"}
    scripts[TORCH] = "input_gradients_torch.py"
    with contextlib.ExitStack() as stack:
        workers = {}
        for name, python in pythons.items():
            if not python:
                continue
            place = explainers.HERE / scripts[name]
            workers[name] = protocol.Worker(python, place, {}, name)
            stack.enter_context(workers[name])
            workers[name].ask("load", settings=settings)
        seconds = explainers.take_turns(workers, options.rounds, None)
        about = {name: worker.ask("describe") for name, worker in workers.items()}
    return {
        "schema": 1,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "settings": settings,
        "machine": {"processor": turns.processor(), "load": protocol.load_average()},
        "sides": about,
        "seconds": seconds,
        "table": summarise(seconds),
    }


def summarise(seconds: Mapping[str, Any]) -> dict[str, Any]:
    """Divide within each round, then take medians."""

    def ratio(above: Any, below: Any) -> dict[str, float]:
        return {
            kind: statistics.median(
                each / own for each, own in zip(above[kind], below[kind], strict=True)
            )
            for kind in ("processor", "wall")
        }

    ours = seconds[explainers.OURS]
    table: dict[str, Any] = {
        f"{side}: interpretable / plain": ratio(found[RESEMBLING], found[PLAIN])
        for side, found in seconds.items()
    }
    for method in (PLAIN, RESEMBLING) if TORCH in seconds else ():
        table[f"{method}: torch / ours"] = ratio(seconds[TORCH][method], ours[method])
    return table


def to_markdown(document: Mapping[str, Any]) -> str:
    """Write everything that was found as Markdown."""
    settings, machine = document["settings"], document["machine"]
    rows = [
        f"| {name} | {found['processor']:.2f} | {found['wall']:.2f} |"
        for name, found in document["table"].items()
    ]
    return "\n".join(
        [
            f"# Steps of interpretable gradients, {document['created'][:10]}",
            "",
            f"cifar_resnet{settings['depth']}, batches of {settings['batch']} images, "
            f"32 pixels, float32, {settings['threads']} core(s) a side, "
            f"{settings['rounds']} rounds in turns. Medians of ratios within rounds. "
            f"{machine['processor']}, load {machine['load']}.",
            "",
            "| ratio | processor time | wall time |",
            "| --- | ---: | ---: |",
            *rows,
            "",
            *(f"* **{name}**: {about}" for name, about in document["sides"].items()),
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
