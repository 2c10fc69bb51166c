"""`unlir evaluate`."""

import argparse
import importlib

from unlir_jax.cli import options
from unlir_jax.core import console, extras

MODEL = "--config.model.name"
SUMMARY = "score explanations of a data set"
EPILOG = """\
examples:
  unlir evaluate --config configs/evaluate.py:model=mobilenet_v2,\\
methods=grad_cam+opti_cam,metrics=average_drop+insertion \\
      --config.data.path=pictures --config.model.weights=FILE --workdir runs/scores
  unlir evaluate --config configs/evaluate.py:model=runs/birds \\
      --config.data.path=birds --config.labels=predicted --workdir runs/scores
  unlir evaluate --config configs/evaluate.py:model=mobilenet_v2 --maps theirs \
      --config.data.path=pictures --config.model.weights=FILE --workdir runs/scores
  unlir evaluate --model nets:small --config.data.path=pictures --workdir runs/scores

Writes per_image.parquet and .csv (image, label, method, metric, value), summary.json
with intervals, summary.md and report.html. Killed or stopped, the same command goes on
where it was, and ends with the same table.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    options.config(parser, "configs/evaluate.py")
    help = "for --config.model.name: see `unlir models`, or module:factory"
    parser.add_argument("--model", metavar="NAME", help=help)
    help = "where all of it is kept"
    parser.add_argument("--workdir", required=True, metavar="DIR", help=help)
    options.score(parser)
    help = "maps of other methods: FOLDER/METHOD/IMAGE.npz, .npy or .png"
    parser.add_argument("--maps", metavar="FOLDER", help=help)
    options.quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    """Score explainers by metrics as the config says."""
    # Batches are read by it; whoever lacks it is told before any work.
    with extras.needed("train"):
        importlib.import_module("grain")
    from unlir_jax.evaluation import settings as names
    from unlir_jax.runtime import config, mesh

    asked = [] if arguments.score is None else [f"score={arguments.score}"]
    own = [] if arguments.model is None else [f"{MODEL}={arguments.model}"]
    overrides = [*asked, *names.renamed(arguments.overrides), *own]
    settings = config.load(arguments.config, overrides)
    if arguments.maps is not None:
        settings.maps = arguments.maps
    mesh.join_processes()
    from unlir_jax.evaluation import evaluate

    with options.progress(arguments) as progress:
        outcome = evaluate.run(
            settings, arguments.workdir, progress=progress, say=console.complain
        )
    if outcome.message and not arguments.quiet:
        console.say(outcome.message)
    return console.DONE
