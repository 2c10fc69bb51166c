"""One method at one number of shots: all draws of it, each kept as soon as it is done.

A run that is killed goes on with the next draw.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from unlir_jax import config, record, workdir
from unlir_jax.adaptation import draws, fitting, pictures, task
from unlir_jax.adaptation import settings as default_settings
from unlir_jax.metrics import statistics

DRAWS, ADAPTERS = "draws", "adapters"
FREE = (
    *("data.cache", "data.compare", "data.duplicates"),
    *("data.threads", "data.workers"),
)


def finished(given: task.Task, folder: Path) -> dict[str, Any] | None:
    """Give the summary if the run is done there already.

    Raises:
        ValueError: The folder is of something else.
    """
    known = config.to_dict(default_settings.few_shot())
    return workdir.check(folder, config.to_dict(given.settings), FREE, known)


def run(
    given: task.Task,
    seen: pictures.Pictures,
    folder: Path,
    *,
    asked: Callable[[], str],
    say: Callable[[str], None],
) -> dict[str, Any] | None:
    """Learn from each draw, or from those that are left.

    Args:
        given: What is learnt.
        seen: The pictures at its cut.
        folder: Its own.
        asked: Gives the name of a signal that asks to stop, or "".
        say: Told a line at a time what is done.

    Returns:
        The summary, which is written too; None if it was asked to stop.
    """
    settings = given.settings
    (folder / DRAWS).mkdir(parents=True, exist_ok=True)
    plain = config.to_dict(settings)
    record.write_text(folder / workdir.CONFIG, record.to_json(dict(plain)))
    for number in range(settings.draws):
        file = folder / DRAWS / f"{number:03d}.json"
        if file.is_file():
            continue
        if asked():
            return None
        found = _draw(given, seen, number, folder)
        record.write_text(file, record.to_json(found))
        say(
            f"draw {number}: test/accuracy {found['accuracy']:.4f}, "
            f"{found['seconds']:.0f} s"
        )
    summary = _summary(given, folder)
    record.write_text(folder / workdir.SUMMARY, record.to_json(summary))
    return summary


def _draw(
    given: task.Task, seen: pictures.Pictures, number: int, folder: Path
) -> dict[str, Any]:
    """Learn from one draw, and test on all of the test split."""
    settings, train = given.settings, given.data.train
    # `task.prepare` has looked all of them up.
    known = cast(np.ndarray, train.labels)
    chosen, classes = draws.draw(known, settings.k, number, settings.ways)
    labels = np.searchsorted(classes, known[chosen])
    tested = np.flatnonzero(np.isin(seen.test_labels, classes))
    target = np.searchsorted(classes, seen.test_labels[tested])
    others = draws.others(train.size, chosen, given.unlabelled, number)
    seen.prepare(chosen, crops=fitting.crops(given.method))
    seen.prepare(others)
    begun = time.perf_counter()
    fitted = fitting.fit(given, seen, chosen, labels, len(classes), number, others)
    seconds = time.perf_counter() - begun
    scores = fitted.classify(seen.tested(tested))
    right = scores.argmax(1) == target
    names = [train.classes[int(label)] for label in classes]
    if number == 0:
        fitting.save(fitted, given, folder / ADAPTERS, names)
    return {
        "draw": number,
        "accuracy": float(right.mean()),
        "loss": float(-scores[np.arange(len(target)), target].mean()),
        "seconds": seconds,
        "trained_parameters": fitted.count,
        "classes": names,
        "pictures": [train.name(int(index)) for index in chosen],
        "right": right.astype(int).tolist(),
        **fitted.notes,
    }


def _summary(given: task.Task, folder: Path) -> dict[str, Any]:
    settings = given.settings
    files = [folder / DRAWS / f"{n:03d}.json" for n in range(settings.draws)]
    found = [json.loads(file.read_text("utf-8")) for file in files]
    accuracies = [each["accuracy"] for each in found]
    interval = statistics.bootstrap(np.asarray(accuracies))
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
        "versions": record.versions(),
    }
