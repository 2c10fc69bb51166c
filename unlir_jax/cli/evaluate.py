"""`unlir evaluate`."""

import argparse
import importlib
from typing import TYPE_CHECKING

from unlir_jax.cli import options, other_evaluations
from unlir_jax.core import console, extras

if TYPE_CHECKING:
    from ml_collections import ConfigDict

MODEL = "--config.model.name"
SUMMARY = "score explanations, robustness or open-set recognition on a data set"
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
  unlir evaluate --model mobilenet_v2 --config.data.path=pictures --dry-run
  unlir evaluate --config configs/robustness.py:model=mobilenet_v2 \\
      --config.data.path=pictures --config.model.weights=FILE --workdir runs/robust
  unlir evaluate --config configs/open_set.py:scores=msp+energy+best \\
      --config.data.path=birds --config.model.weights=FILE --workdir runs/open

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
    parser.add_argument("--workdir", metavar="DIR", help=help)
    options.score(parser)
    help = "maps of other methods: FOLDER/METHOD/IMAGE.npz, .npy or .png"
    parser.add_argument("--maps", metavar="FOLDER", help=help)
    help = "print what would be done, how long it may take, and stop"
    parser.add_argument("--dry-run", action="store_true", help=help)
    options.json(parser)
    options.quiet(parser)


def check(arguments: argparse.Namespace) -> None:
    """Refuse what can be refused at once."""
    from unlir_jax.cli import early_evaluation

    if not (arguments.workdir or arguments.dry_run):
        raise ValueError("--workdir is missing; expected a folder, or --dry-run.")
    if arguments.json and not arguments.dry_run:
        raise ValueError(
            "--json prints a dry run; expected --dry-run too, or summary.json of the "
            "workdir."
        )
    early_evaluation.check(arguments)


def run(arguments: argparse.Namespace) -> int:
    """Score explainers by metrics as the config says."""
    from unlir_jax.runtime import finished

    asked, folder = options.asked(arguments), arguments.workdir
    before = "" if arguments.dry_run else finished.answer(asked, folder)
    if before:
        if not arguments.quiet:
            console.say(before)
        return console.DONE
    # Batches are read by it; whoever lacks it is told before any work.
    with extras.needed("train"):
        importlib.import_module("grain")
    from unlir_jax.evaluation import settings as names
    from unlir_jax.evaluation.study import settings as studies
    from unlir_jax.runtime import config, mesh

    score = [] if arguments.score is None else [f"score={arguments.score}"]
    own = [] if arguments.model is None else [f"{MODEL}={arguments.model}"]
    overrides = [*score, *names.renamed(arguments.overrides), *own]
    settings = config.load(arguments.config, overrides)
    kind = studies.kind(settings)
    if kind in other_evaluations.KINDS:
        return other_evaluations.evaluate(kind, settings, arguments)
    if arguments.maps is not None:
        settings.maps = arguments.maps
    mesh.join_processes()
    if arguments.dry_run:
        return _dry_run(settings, arguments)
    from unlir_jax.evaluation import evaluate

    with options.progress(arguments) as progress:
        outcome = evaluate.run(
            settings, folder, progress=progress, say=console.complain
        )
    if outcome.message and not arguments.quiet:
        console.say(outcome.message)
    if outcome.summary is not None:
        places = finished.named(config.to_dict(settings))
        finished.note(asked, folder, outcome.message, "Done before: ", places)
    return console.DONE


def _dry_run(settings: "ConfigDict", arguments: argparse.Namespace) -> int:
    """Say what would be done, and how long it may take."""
    from unlir_jax.evaluation import dry_run

    document = dry_run.describe(settings, arguments.workdir)
    if arguments.json:
        return console.print_json(document)
    head = ("passes of an image", "forward", "back", "head", "explanations")
    console.print_table(head, dry_run.rows(document), right=(1, 2, 3, 4))
    console.say("\n" + dry_run.lines(document))
    return console.DONE
