"""One method at one number of shots: all draws of it, each kept as soon as it is done.

A run that is killed continues with the next draw.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from unlir_jax.core import finite
from unlir_jax.core.document_types import Record
from unlir_jax.few_shot import comparison, episode_files, episodes, fitting, methods
from unlir_jax.few_shot import settings as default_settings
from unlir_jax.few_shot.frozen_features import FrozenFeatures
from unlir_jax.few_shot.setup import FewShotSetup
from unlir_jax.runs import sharing, workdir
from unlir_jax.runtime import config
from unlir_jax.statistics import significance
from unlir_jax.storage import files

DRAWS, ADAPTERS = "draws", "adapters"
TRACES = (workdir.SUMMARY, DRAWS, ADAPTERS)
FREE = (
    *("data.cache", "data.compare", "data.duplicates"),
    *("data.threads", "data.workers"),
)


class Drawn(NamedTuple):
    """Hold a draw before anything is learnt.

    Attributes:
        chosen: Places of the images that are learnt from.
        labels: Labels of them, among the classes drawn.
        tested: Places, among the test images that could be read, of what it is
            tested on.
        target: Their labels.
        whose: What stands in its file.
    """

    chosen: np.ndarray
    labels: np.ndarray
    tested: np.ndarray
    target: np.ndarray
    whose: episode_files.Whose


def place(given: FewShotSetup, folder: Path) -> sharing.Place:
    """Say whose a folder is that has this run alone."""
    known = config.to_dict(default_settings.few_shot())
    settings = config.to_dict(given.settings)
    return sharing.Place(folder, settings, FREE, known, TRACES)


def finished(own: sharing.Place) -> Record | None:
    """Give the summary if the run is done there already; one that is none is not it.

    Raises:
        ValueError: The folder is of something else.
    """
    found = sharing.check(own)
    return found if found is not None and is_summary(found) else None


def is_summary(found: Mapping[str, object]) -> bool:
    """Tell whether a document is the summary of a run alone."""
    numbers = ("test/accuracy", "test/accuracy_low", "test/accuracy_high", "test/loss")
    accuracies = found.get("test/accuracy_draws")
    return (
        set(comparison.SAID + comparison.COMMON + ("method", "k")) <= set(found)
        and isinstance(accuracies, list)
        and bool(accuracies)
        and all(isinstance(n, float) for n in [*accuracies, *map(found.get, numbers)])
    )


def run(
    given: FewShotSetup,
    features: FrozenFeatures,
    folder: Path,
    *,
    claim: Callable[[], None],
    asked: Callable[[], str],
    say: Callable[[str], None],
) -> Record | None:
    """Learn from each draw, or from those that are left.

    Args:
        given: What is learnt.
        features: The images at its cut.
        folder: Its own.
        claim: Called before anything is written.
        asked: Gives the name of a signal that asks to stop, or "".
        say: Told a line at a time what is done.

    Returns:
        The summary, which is written too; None if it was asked to stop.

    Raises:
        ValueError: A draw that is there is of something else.
        FloatingPointError: What comes of a draw is not finite.
    """
    found = []
    for number in range(given.settings.draws):
        file = folder / DRAWS / f"{number:03d}.json"
        drawn = _drawn(given, features, number)
        kept, damage = episode_files.read(file, drawn.whose)
        if kept is None and asked():
            return None
        if damage:
            say(f"{str(file)!r} is damaged ({damage}): it is made again.")
        if kept is None:
            fitted, kept = _learn(given, features, drawn)
            claim()
            if number == 0:
                with sharing.writing(folder):
                    names = drawn.whose.classes
                    fitting.save(fitted, given, folder / ADAPTERS, names)
            episode_files.write(file, kept, drawn.whose)
            say(
                f"draw {number}: test/accuracy {kept['accuracy']:.4f}, "
                f"{kept['seconds']:.0f} s"
            )
        found.append(kept)
    claim()
    summary = _summary(given, found)
    finite.check(summary, f"the summary of {given.name}")
    with sharing.alone(folder), sharing.writing(folder):
        files.write_text(folder / workdir.SUMMARY, files.to_json(summary))
    return summary


def _drawn(given: FewShotSetup, features: FrozenFeatures, number: int) -> Drawn:
    settings, train = given.settings, given.data.train
    # `setup.prepare` has looked all of them up.
    known = cast(np.ndarray, train.labels)
    chosen, classes = episodes.draw(known, settings.k, number, settings.ways)
    tested = np.flatnonzero(np.isin(features.test_labels, classes))
    whose = episode_files.Whose(
        number,
        given.network.sha256,
        [train.classes[int(label)] for label in classes],
        [train.name(int(index)) for index in chosen],
        len(tested),
    )
    labels = np.searchsorted(classes, known[chosen])
    target = np.searchsorted(classes, features.test_labels[tested])
    return Drawn(chosen, labels, tested, target, whose)


def _learn(
    given: FewShotSetup, features: FrozenFeatures, drawn: Drawn
) -> tuple[fitting.Fitted, Record]:
    """Learn from one draw, and test on all of the test split."""
    chosen, number = drawn.chosen, drawn.whose.draw
    others = episodes.others(given.data.train.size, chosen, given.unlabelled, number)
    features.prepare(chosen, crops=methods.crops(given.method))
    features.prepare(others)
    begun = time.perf_counter()
    count = len(drawn.whose.classes)
    fitted = fitting.fit(given, features, chosen, drawn.labels, count, number, others)
    seconds = time.perf_counter() - begun
    scores = fitted.classify(features.tested(drawn.tested))
    broken = np.flatnonzero(~np.isfinite(scores).all(1))
    if len(broken):
        names = [features.test_names[int(drawn.tested[row])] for row in broken]
        raise FloatingPointError(
            f"What {given.settings.method} says after draw {number} is not finite"
            f"{finite.named(names)}; expected numbers: look at the weights, or try a "
            f"smaller `head_rate` than {given.settings.head_rate:g}."
        )
    right = scores.argmax(1) == drawn.target
    return fitted, {
        "accuracy": float(right.mean()),
        "loss": float(-scores[np.arange(len(right)), drawn.target].mean()),
        "seconds": seconds,
        "trained_parameters": fitted.count,
        "right": right.astype(int).tolist(),
        **fitted.notes,
    }


def _summary(given: FewShotSetup, found: Sequence[Record]) -> Record:
    settings = given.settings
    accuracies = [each["accuracy"] for each in found]
    interval = significance.bootstrap(np.asarray(accuracies))
    return {
        "test/accuracy": float(np.mean(accuracies)),
        "test/accuracy_draws": accuracies,
        "test/accuracy_low": float(interval.low),
        "test/accuracy_high": float(interval.high),
        "test/loss": float(np.mean([each["loss"] for each in found])),
        "trained_parameters": found[0]["trained_parameters"],
        "seconds_per_draw": float(np.mean([each["seconds"] for each in found])),
        "method": settings.method,
        "k": settings.k,
        "ways": settings.ways or len(given.data.train.classes),
        "unlabelled": found[0].get("unlabelled", 0),
        "duplicates": given.duplicates,
        "model": given.network.name,
        "after": given.after,
        "pooling": given.method.pooling,
        "test_examples": len(found[0]["right"]),
        "versions": files.versions(),
    }
