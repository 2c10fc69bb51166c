"""Time explainers of transformers against their peers in torch, and against passes."""

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
NETWORKS = {"vit": "vit_small_patch16_224", "swin": "swin_tiny_patch4_window7_224"}
SIDES = {
    "peer": {"lxt": False, "frozen": False},
    "peer, frozen": {"lxt": False, "frozen": True},
    "lxt": {"lxt": True, "frozen": True},
}
"""Sides of torch. What lxt changes holds for its whole process."""
WORK = {
    "vit/grad_cam": ("pytorch-grad-cam", "forward"),
    "swin/grad_cam": ("pytorch-grad-cam", "forward"),
    "vit/attention_rollout": ("hooks, as the official code", "forward"),
    "vit/generic_attention": ("hooks, as the official code", "gradient"),
    "vit/attn_lrp, gamma 0": ("lxt", "gradient"),
    "vit/attn_lrp": ("lxt and zennit", "gradient"),
}
"""Who has a method, and the pass that it cannot do without."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--torch-python", help="Python that has torch; without it, our side alone")
    add("--threads", type=int, default=1, help="default: %(default)s")
    add("--rounds", type=int, default=5, help="default: %(default)s")
    add("--images", type=int, default=2, help="default: %(default)s")
    add("--methods", help="such as vit/attn_lrp, with semicolons; default: all")
    output = explainers.HERE / "results"
    add("--output", type=Path, default=output, help="default: results")
    options = parser.parse_args(arguments)
    try:
        if min(options.rounds, options.images) < 1:
            raise ValueError("`--rounds` and `--images`: expected at least 1.")
        protocol.restrict(protocol.available_cores()[: options.threads])
        document = measure(options)
    except (OSError, ValueError, protocol.Refused) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rounds.store(document, to_markdown(document), options.output, "tokens")
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start all sides, let them take turns, and return what was found."""
    names = "threads rounds images"
    settings = {name: getattr(options, name) for name in names.split()}
    settings |= NETWORKS | {"side": 224}
    sides = {OURS: rounds.Side(sys.executable, "tokens_ours.py")}
    for name, own in SIDES.items() if options.torch_python else ():
        sides[name] = rounds.Side(options.torch_python, "tokens_torch.py", own)
    wanted = options.methods.split(";") if options.methods else None
    document = rounds.measure(sides, settings, wanted)
    return document | {"table": summarise(document["seconds"])}


def summarise(seconds: Mapping[str, Any]) -> dict[str, Any]:
    """Divide within each round, then take medians: peers by ours, ours by passes."""
    ours, table = seconds[OURS], {}
    for method, rows in ours.items():
        network, _, name = method.partition("/")
        table[method] = {
            "milliseconds": 1000 * statistics.median(rows["processor"]),
            "sides": {
                side: rounds.ratio(found[method], rows)
                for side, found in seconds.items()
                if side != OURS and method in found
            },
        }
        unit = ours.get(f"{network}/{WORK[method][1]}") if method in WORK else None
        if unit is not None:
            table[method]["passes"] = rounds.ratio(rows, unit)
    return table


def to_markdown(document: Mapping[str, Any]) -> str:
    """Write everything that was found as Markdown."""
    settings, machine = document["settings"], document["machine"]
    sides = [name for name in document["sides"] if name != OURS]
    columns = ["method", "peer", "ours, ms", "multiple of the least", *sides]
    rows = []
    for method, row in document["table"].items():
        peer, unit = WORK.get(method, ("", ""))
        passes = row.get("passes")
        cells = [method, peer, f"{row['milliseconds']:.0f}"]
        cells.append(f"{passes['processor']:.2f} {unit}" if passes else "")
        for side in sides:
            found = row["sides"].get(side)
            cells.append(
                f"**{found['processor']:.2f}** ({found['wall']:.2f})" if found else ""
            )
        rows.append(cells)
    lines = [columns, ["---", "---", *("---:" for _ in columns[2:])], *rows]
    return "\n".join(
        [
            f"# Explainers of transformers, {document['created'][:10]}",
            "",
            f"{settings['vit']} and {settings['swin']}, {settings['images']} images of "
            f"{settings['side']} pixels, float32, random weights, "
            f"{settings['threads']} core(s) a side, {settings['rounds']} rounds in "
            "turns. Times of the peer over ours, of the processor; in brackets the "
            "wall's. Medians of ratios within rounds. "
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
