"""Time a step of CA-Stream on kept features against one from images, in torch."""

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

OURS, PEER = explainers.OURS, "torch"
STAGES = {"last two": ("block7", "block14"), "all": ()}
"""Stages that the query passes before the last maps; (): all of the backbone's."""
CLASSES = 50


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--torch-python", help="Python that has torch; without it, our side alone")
    add("--threads", type=int, default=2, help="default: %(default)s")
    add("--rounds", type=int, default=5, help="default: %(default)s")
    add("--batch", type=int, default=64, help="default: %(default)s")
    add("--side", type=int, default=128, help="of images, default: %(default)s")
    output = explainers.HERE / "results"
    add("--output", type=Path, default=output, help="default: results")
    options = parser.parse_args(arguments)
    try:
        if min(options.rounds, options.batch) < 1 or options.side < 64:
            raise ValueError(
                "`--rounds`, `--batch` and `--side`: expected 1, 1 and 64 at least."
            )
        protocol.restrict(protocol.available_cores()[: options.threads])
        document = measure(options)
    except (OSError, ValueError, protocol.Refused) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rounds.store(document, to_markdown(document), options.output, "attention-pooling")
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start both sides, let them take turns, and return what was found."""
    names = "threads rounds batch side"
    settings = {name: getattr(options, name) for name in names.split()}
    settings |= {"stages": STAGES, "classes": CLASSES, "network": "mobilenet_v2"}
    sides = {OURS: rounds.Side(sys.executable, "attention_pooling_ours.py")}
    if options.torch_python:
        script = "attention_pooling_torch.py"
        sides[PEER] = rounds.Side(options.torch_python, script)
    document = rounds.measure(sides, settings)
    return document | {"table": summarise(document["seconds"])}


def summarise(seconds: Mapping[str, Any]) -> dict[str, Any]:
    """Divide within each round, then take medians."""
    table: dict[str, Any] = {}
    for method, rows in seconds[OURS].items():
        table[method] = {
            f"{kind} milliseconds": {
                side: 1000 * statistics.median(found[method][kind])
                for side, found in seconds.items()
            }
            for kind in ("wall", "processor")
        }
        peer = seconds.get(PEER, {}).get(method)
        if peer is not None:
            table[method]["ratio"] = rounds.ratio(peer, rows)
    return table


def to_markdown(document: Mapping[str, Any]) -> str:
    """Write everything that was found as Markdown."""
    settings, machine = document["settings"], document["machine"]
    sides = list(document["sides"])
    columns = ["stages", *(f"{side}, ms" for side in sides)]
    columns += ["ratio", "ratio of processor time"] if PEER in sides else []
    rows = []
    for method, row in document["table"].items():
        cells = [method, *(f"{row['wall milliseconds'][side]:.1f}" for side in sides)]
        if "ratio" in row:
            found = row["ratio"]
            cells += [f"**{found['wall']:.1f}**", f"{found['processor']:.1f}"]
        rows.append(cells)
    lines = [columns, ["---", *("---:" for _ in columns[1:])], *rows]
    return "\n".join(
        [
            f"# A step of CA-Stream, {document['created'][:10]}",
            "",
            f"{settings['network']}, random weights, {settings['batch']} images of "
            f"{settings['side']} pixels, float32, {settings['threads']} core(s), "
            f"{settings['rounds']} rounds in turns. Ours works on kept features, "
            "which it reads from the disk; torch computes them in each step. Wall "
            "times and medians of ratios within rounds. "
            f"{machine['processor']}, load {machine['load']}.",
            "",
            *("| " + " | ".join(line) + " |" for line in lines),
            "",
            *(f"* **{name}**: {about}" for name, about in document["sides"].items()),
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
