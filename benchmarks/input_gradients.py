"""Time steps of interpretable gradients against plain ones and against torch's."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# The benchmark times the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import explainers
import protocol
import rounds

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
    rounds.store(document, to_markdown(document), options.output, "input-gradients")
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start both sides, let them take turns, and return what was found."""
    names = "threads rounds batch depth"
    settings = {name: getattr(options, name) for name in names.split()}
    sides = {explainers.OURS: rounds.Side(sys.executable, "input_gradients_ours.py")}
    if options.torch_python:
        script = "input_gradients_torch.py"
        sides[TORCH] = rounds.Side(options.torch_python, script)
    document = rounds.measure(sides, settings)
    return document | {"table": summarise(document["seconds"])}


def summarise(seconds: Mapping[str, Any]) -> dict[str, Any]:
    """Divide within each round, then take medians."""
    ours = seconds[explainers.OURS]
    table: dict[str, Any] = {
        f"{side}: interpretable / plain": rounds.ratio(found[RESEMBLING], found[PLAIN])
        for side, found in seconds.items()
    }
    for method in (PLAIN, RESEMBLING) if TORCH in seconds else ():
        table[f"{method}: torch / ours"] = rounds.ratio(
            seconds[TORCH][method], ours[method]
        )
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
