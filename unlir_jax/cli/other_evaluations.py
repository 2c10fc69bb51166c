"""Evaluations of something else than explanations, by the kind of their config."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from unlir_jax.cli import options
from unlir_jax.core import console

if TYPE_CHECKING:
    from ml_collections import ConfigDict


class Kind(NamedTuple):
    """Describe a kind of evaluation.

    Attributes:
        does: What its config does, as the end of a sentence.
        describe: Prepares it, and says in one line what it would work on.
        run: Runs it, and gives a message; it takes what `options.progress` gives.
    """

    does: str
    describe: Callable[["ConfigDict"], str]
    run: Callable[["ConfigDict", argparse.Namespace], str]


def evaluate(kind: str, settings: "ConfigDict", arguments: argparse.Namespace) -> int:
    """Run an evaluation of a kind of `KINDS`, or describe it.

    Raises:
        ValueError: An argument is of explanations, or a setting is wrong.
    """
    from unlir_jax.runtime import config

    own = KINDS[kind]
    if arguments.maps is not None or arguments.json or arguments.score is not None:
        raise ValueError(
            "--maps, --score and --json are of evaluations of explanations, but this "
            f"config {own.does}; expected none of them."
        )
    if arguments.dry_run:
        said = own.describe(settings)
        console.say(f"{config.text(settings)}\n\n{said}")
        return console.DONE
    message = own.run(settings, arguments)
    if not arguments.quiet:
        console.say(message)
    return console.DONE


def _describe_study(settings: "ConfigDict") -> str:
    from unlir_jax.evaluation.study import compare_trainings

    task = compare_trainings.prepare(settings)
    return f"{len(task.trained)} networks, {len(task.places.scored)} images"


def _study(settings: "ConfigDict", arguments: argparse.Namespace) -> str:
    from unlir_jax.evaluation.study import compare_trainings

    with options.progress(arguments) as progress:
        found = compare_trainings.run(settings, arguments.workdir, progress=progress)
    return found.message


def _message(
    run: Callable[..., Any], settings: "ConfigDict", arguments: argparse.Namespace
) -> str:
    """Run a job that complains as it goes, and give its message."""
    with options.progress(arguments) as progress:
        found = run(
            settings, arguments.workdir, progress=progress, say=console.complain
        )
    return found.message


def _describe_robustness(settings: "ConfigDict") -> str:
    from unlir_jax.evaluation.robustness import task

    given = task.prepare(settings)
    return f"{given.data.size} images of {len(given.network.class_names)} classes"


def _robustness(settings: "ConfigDict", arguments: argparse.Namespace) -> str:
    from unlir_jax.evaluation.robustness import evaluate_robustness

    return _message(evaluate_robustness.run, settings, arguments)


def _describe_open_set(settings: "ConfigDict") -> str:
    from unlir_jax.open_set import setup

    task = setup.prepare(settings)
    return f"{len(task.divisions)} splits, {task.test.size} test images"


def _open_set(settings: "ConfigDict", arguments: argparse.Namespace) -> str:
    from unlir_jax.open_set import recognise

    return _message(recognise.run, settings, arguments)


def _describe_segmentation(settings: "ConfigDict") -> str:
    from unlir_jax.weak_detection import segmentation

    task = segmentation.prepare(settings)
    return f"{task.test.images.size} images, {len(task.explainers)} ways to segment"


def _segmentation(settings: "ConfigDict", arguments: argparse.Namespace) -> str:
    from unlir_jax.weak_detection import segment

    return _message(segment.run, settings, arguments)


KINDS = {
    "study": Kind("compares trainings", _describe_study, _study),
    "robustness": Kind(
        "attacks and corrupts images", _describe_robustness, _robustness
    ),
    "segmentation": Kind(
        "segments images by classes", _describe_segmentation, _segmentation
    ),
    "open_set": Kind("tells known from unknown classes", _describe_open_set, _open_set),
}
