"""Time attacks against adv-lib, torchattacks and foolbox, on torch and on JAX."""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# The benchmark times the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import explainers
import protocol
import rounds

OURS = explainers.OURS
TORCH = ("adv-lib", "torchattacks", "foolbox")
JAX = {"foolbox on JAX": True, "foolbox on JAX, not jitted": False}
"""Sides, and whether they compile the network."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--weights", required=True, type=Path, help=".npz of a CIFAR ResNet-20")
    add("--torch-python", help="Python that has the peers in torch")
    add("--foolbox-python", help="Python that has foolbox and this library's packages")
    add("--threads", type=int, default=1, help="default: %(default)s")
    add("--rounds", type=int, default=3, help="default: %(default)s")
    add("--batch", type=int, default=8, help="default: %(default)s")
    add("--steps", type=int, default=10, help="of each attack, default: %(default)s")
    add("--attacks", help="names, separated by commas; default: all")
    output = explainers.HERE / "results"
    add("--output", type=Path, default=output, help="default: results")
    options = parser.parse_args(arguments)
    try:
        if min(options.rounds, options.batch, options.steps) < 1:
            raise ValueError(
                "`--rounds`, `--batch` and `--steps`: expected at least 1."
            )
        protocol.restrict(protocol.available_cores()[: options.threads])
        document = measure(options)
    except (OSError, ValueError, protocol.Refused) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rounds.store(document, to_markdown(document), options.output, "attacks")
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start all sides, let them take turns, and return what was found."""
    names = "threads rounds batch steps"
    settings = {name: getattr(options, name) for name in names.split()}
    settings["weights"] = str(options.weights.resolve())
    sides = {OURS: rounds.Side(sys.executable, "attacks_ours.py")}
    if options.torch_python:
        for name in TORCH:
            more = {"library": name}
            sides[name] = rounds.Side(options.torch_python, "attacks_torch.py", more)
    if options.foolbox_python:
        for name, jitted in JAX.items():
            more = {"jitted": jitted}
            python = options.foolbox_python
            sides[name] = rounds.Side(python, "attacks_foolbox.py", more)
    wanted = options.attacks.split(",") if options.attacks else None
    document = rounds.measure(sides, settings, wanted)
    return document | {"table": summarise(document)}


def summarise(document: Mapping[str, Any]) -> dict[str, Any]:
    """Divide within each round, then take medians.

    `passes` is our time over that of the gradients that the images took, and `fastest`
    divides the time of the fastest peer in torch by ours.
    """
    seconds = document["seconds"]
    own, gradients = seconds[OURS], document["sides"][OURS]["gradients"]
    table: dict[str, Any] = {}
    for attack in (name for name in own if name in gradients):
        passes = rounds.ratio(own[attack], own["value_and_gradient"])
        share = gradients[attack] / document["settings"]["batch"]
        table[attack] = {
            "milliseconds": 1000 * statistics.median(own[attack]["processor"]),
            "passes": {kind: value / share for kind, value in passes.items()},
            "ratios": {
                side: rounds.ratio(found[attack], own[attack])
                for side, found in seconds.items()
                if side != OURS and attack in found
            },
        }
        ratios = table[attack]["ratios"]
        in_torch = [found for side, found in ratios.items() if side in TORCH]
        if in_torch:
            fastest = min(in_torch, key=lambda found: found["processor"])
            table[attack]["ratios"] = {"fastest in torch": fastest} | ratios
    return table


def to_markdown(document: Mapping[str, Any]) -> str:
    """Write everything that was found as Markdown."""
    settings, machine = document["settings"], document["machine"]
    table = document["table"]
    peers = list(dict.fromkeys(p for row in table.values() for p in row["ratios"]))
    columns = ["attack", "ours, ms", "passes", *peers]
    lines = [columns, ["---", *("---:" for _ in columns[1:])]]
    for attack, row in table.items():
        passes = row["passes"]["processor"]
        cells = [attack, f"{row['milliseconds']:.0f}", f"{passes:.2f}"]
        found = (row["ratios"].get(peer) for peer in peers)
        cells += [f"{each['processor']:.2f}" if each else "" for each in found]
        lines.append(cells)
    ratios = ([row["ratios"].get(p) for row in table.values()] for p in peers)
    means = (
        statistics.geometric_mean(each["processor"] for each in found if each)
        for found in ratios
    )
    lines.append(["geometric mean", "", "", *(f"{mean:.2f}" for mean in means)])
    return "\n".join(
        [
            f"# Attacks, {document['created'][:10]}",
            "",
            f"ResNet-20 for CIFAR-10, {settings['batch']} images, {settings['steps']} "
            f"steps, float32, {settings['threads']} core(s), {settings['rounds']} "
            "rounds in turns. Times faster than each peer: medians of ratios of "
            "processor times within rounds. Passes: our time over that of the "
            f"gradients. {machine['processor']}, load {machine['load']}.",
            "",
            *("| " + " | ".join(line) + " |" for line in lines),
            "",
            *(f"* **{name}**: {about}" for name, about in document["sides"].items()),
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
