"""Measure the cheap tables of docs/results again, and write them into their pages.

    python docs/results/make.py --data DIR --runs runs/results

DIR holds `cub50`, as docs/results/index.md describes it, and torchvision's
`mobilenet_v2-b0353104.pth`. Without --data only the quickstart is measured. The runs
take half an hour on two CPU cores; finished ones are not repeated.

A table lies between `<!-- measured: NAME -->` and `<!-- end -->`.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unlir_jax import cli

FOLDER = Path(__file__).parent
BLOCK = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
SEEDS = range(3)
PARTS = {"mobilenet_v2": "MobileNetV2", "efficientnet_lite0": "EfficientNet-Lite0"}
WEIGHTS = "mobilenet_v2-b0353104.pth"

Summaries = Mapping[str, Mapping[str, Any]]


def commands(data: Path | None) -> dict[str, list[str]]:
    """List the arguments of each run by the name of its workdir."""
    found = {
        f"quickstart_{seed}": ["configs/quickstart.py", f"--config.seed={seed}"]
        for seed in SEEDS
    }
    if data is None:
        return found
    path = f"--config.data.path={data / 'cub50'}"
    probe = "configs/linear_probe.py:backbone=efficientnet_lite0"
    found["probe"] = [probe, path, "--config.seed=0"]
    for backbone in PARTS:
        config = f"configs/train_parts.py:backbone={backbone}"
        for seed in SEEDS:
            arguments = [config, path, f"--config.seed={seed}"]
            if backbone == "mobilenet_v2":
                arguments.append(f"--config.model.weights={data / WEIGHTS}")
            found[f"{backbone}_{seed}"] = arguments
    return found


def _table(rows: Sequence[Sequence[str]]) -> str:
    first, *rest = rows
    lines = (first, ["---"] * len(first), *rest)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def quickstart(summaries: Summaries) -> str:
    """List the test accuracy of each seed."""
    values = [summaries[f"quickstart_{seed}"]["test/accuracy"] for seed in SEEDS]
    shown = [f"{100 * value:.1f} %" for value in values]
    return _table([("seed", *map(str, SEEDS)), ("test accuracy", *shown)])


def probe(summaries: Summaries) -> str:
    """Show the accuracy of the linear probe and its choice."""
    summary = summaries["probe"]
    accuracy = f"**{100 * summary['test/accuracy']:.1f} %**"
    return _table([("classifier", "accuracy"), ("`configs/linear_probe.py`", accuracy)])


def parts(summaries: Summaries) -> str:
    """List mean and standard deviation over seeds for each backbone."""
    names = ("test/accuracy", "test/keypoint_share_top30", "test/nmi")
    rows = [("64 parts", "accuracy", "keypoint share", "NMI")]
    for backbone, title in PARTS.items():
        cells = []
        for name in names:
            values = [100 * summaries[f"{backbone}_{seed}"][name] for seed in SEEDS]
            cells.append(f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}")
        rows.append((title, *cells))
    return _table(rows)


TABLES: dict[str, Callable[[Summaries], str]] = {
    "quickstart": quickstart,
    "probe": probe,
    "parts": parts,
}


def fill(text: str, summaries: Summaries) -> str:
    """Write the tables of a page whose runs are all there; keep the others."""

    def table(found: re.Match[str]) -> str:
        try:
            return f"{found[1]}{TABLES[found[2]](summaries)}{found[3]}"
        except KeyError as missing:
            print(f"{found[2]}: no run {missing}, the table stays as it is")
            return found[0]

    return BLOCK.sub(table, text)


def main() -> int:
    """Run what is missing, and fill the pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument("--runs", type=Path, default=Path("runs/results"))
    options = parser.parse_args()
    summaries = {}
    for name, arguments in commands(options.data).items():
        workdir = options.runs / name
        if cli.main(["train", "--config", *arguments, "--workdir", str(workdir)]):
            return 1
        summaries[name] = json.loads((workdir / "summary.json").read_text("utf-8"))
    for page in sorted(FOLDER.glob("*.md")):
        page.write_text(fill(page.read_text("utf-8"), summaries), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
