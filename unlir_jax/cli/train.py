"""`unlir train`."""

import argparse
import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from unlir_jax.cli import options
from unlir_jax.core import console, extras

if TYPE_CHECKING:
    from ml_collections import ConfigDict

SUMMARY = "train a network as a config says"
EPILOG = """\
examples:
  unlir train --config configs/quickstart.py --workdir runs/first
  unlir train --config configs/linear_probe.py:backbone=efficientnet_lite0 \\
      --config.data.path=birds --config.seed=1 --workdir runs/birds
  unlir train --config configs/quickstart.py --dry-run

Any setting can be changed by --config.NAME=VALUE; --dry-run lists them all. The same
command with the same workdir goes on with a training that was stopped. A finished
workdir is a network: `unlir explain cat.jpg --model runs/birds`.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    options.config(parser)
    add = parser.add_argument
    add("--workdir", metavar="DIR", help="where all of this training is kept")
    add("--dry-run", action="store_true", help="print what would be done, and stop")
    options.quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train, or adapt to few shots, as the config says."""
    import logging

    before = "" if arguments.dry_run or not arguments.workdir else _before(arguments)
    if before:
        if not arguments.quiet:
            console.say(before)
        return console.DONE
    with extras.needed("train"):
        importlib.import_module("grain")
        from absl import logging as absl_logging

    from unlir_jax.runtime import config, mesh

    # Orbax writes down there what it also raises, at length.
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    settings = config.load(arguments.config, arguments.overrides)
    if not (arguments.workdir or arguments.dry_run):
        raise ValueError("--workdir is missing; expected a folder, or --dry-run.")
    mesh.join_processes()
    from unlir_jax.few_shot import settings as few_shots
    from unlir_jax.weak_detection import settings as detectors

    if settings.get("kind") == detectors.KIND:
        return _detector(settings, arguments)

    if few_shots.kind(settings) == few_shots.KIND:
        return _few_shot(settings, arguments)
    from unlir_jax.training import dry_run, optim, setup, train

    settings, notice = optim.replaced(settings, arguments.overrides)
    if notice:
        console.complain(notice)
    if arguments.dry_run:
        console.say(config.text(settings))
        console.say("\n" + dry_run.describe(setup.prepare(settings)))
        return console.DONE
    with _say(arguments) as say:
        outcome = train.run(
            settings,
            arguments.workdir,
            live=options.drawn(arguments) == "bar",
            say=say,
        )
    if not arguments.quiet and mesh.is_first():
        console.say(outcome.message)
    if outcome.summary is not None and not notice:
        # What its data and weights are does not matter to a finished training.
        _note(arguments, outcome.message, "Nothing to do: ", [])
    return console.DONE


def _before(arguments: argparse.Namespace) -> str:
    """Give the answer to the same command after the same training; "" without."""
    from unlir_jax.runtime import finished

    return finished.answer(options.asked(arguments), arguments.workdir)


def _note(
    arguments: argparse.Namespace, said: str, before: str, places: list[str] | None
) -> None:
    from unlir_jax.runtime import finished

    asked = options.asked(arguments)
    finished.note(asked, arguments.workdir, said, before, places)


def _few_shot(settings: "ConfigDict", arguments: argparse.Namespace) -> int:
    from unlir_jax.few_shot import adapt
    from unlir_jax.runtime import config, finished

    if arguments.dry_run:
        task = adapt.prepare(settings)
        console.say(config.text(settings))
        console.say(
            f"\n{len(task.data.train.classes)} classes, cut after {task.after!r}"
        )
        return console.DONE
    with _say(arguments) as say:
        outcome = adapt.run(settings, arguments.workdir, say=say)
    if not arguments.quiet:
        console.say(outcome.message)
    if outcome.summary is not None:
        places = finished.named(config.to_dict(settings))
        _note(arguments, outcome.message, "Done before: ", places)
    return console.DONE


def _detector(settings: "ConfigDict", arguments: argparse.Namespace) -> int:
    from unlir_jax.runtime import config, finished
    from unlir_jax.weak_detection import learn, setup

    if arguments.dry_run:
        given = setup.prepare(settings)
        console.say(config.text(settings))
        console.say(
            f"\n{len(given.classes)} classes, {len(given.regions.windows)} regions, "
            f"maps of {given.eye.layer!r}"
        )
        return console.DONE
    with options.progress(arguments) as progress:
        outcome = learn.run(
            settings, arguments.workdir, progress=progress, say=console.complain
        )
    if not arguments.quiet:
        console.say(outcome.message)
    if outcome.summary is not None:
        places = finished.named(config.to_dict(settings))
        _note(arguments, outcome.message, "Nothing to do: ", places)
    return console.DONE


@contextlib.contextmanager
def _say(arguments: argparse.Namespace) -> Iterator[Callable[[str], None]]:
    """Print sentences, or with `--progress lines` each with the time."""
    if options.drawn(arguments) == "lines":
        with console.sentences() as say:
            yield say
    else:
        yield (lambda text: None) if arguments.quiet else console.say
