"""The job: learn from few pictures of each class, several draws of them, and compare.

Every draw is kept as soon as it is done, so that a run which is killed goes on with the
next one.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unlir_jax import config, interruption, pretrained, record, workdir
from unlir_jax.adaptation import draws, fitting, methods, pictures, trunk
from unlir_jax.data import splits
from unlir_jax.metrics import statistics

DRAWS, ADAPTERS = "draws", "adapters"
FREE = ("data.cache", "data.threads", "data.workers")

Say = Callable[[str], None]


class Outcome(NamedTuple):
    """Say how a run ended: its summary, None if it was stopped, and a sentence."""

    summary: dict[str, Any] | None
    message: str


class Task(NamedTuple):
    """Hold what a config stands for."""

    settings: Any
    method: methods.Method
    network: pretrained.Pretrained
    data: splits.Splits
    after: str
    image_size: int
    crop: float


def prepare(settings: Any) -> Task:
    """Open the data and the network, and refuse what makes no sense.

    Raises:
        ValueError: A setting that makes no sense; the sentence says what would.
    """
    if settings.method not in methods.METHODS:
        known = ", ".join(methods.METHODS)
        raise ValueError(f"`method`={settings.method!r}; expected one of {known}.")
    for name in ("k", "draws", "batch_size"):
        if settings[name] < 1:
            raise ValueError(f"`{name}`={settings[name]}; expected 1 or more.")
    data = splits.open_splits(settings.data)
    if data.test is None:
        raise ValueError("`data.test`='' leaves nothing to test on; expected a split.")
    if data.train.labels is None:
        raise ValueError(
            f"{data.train.name(0)!r} and others have classes that are known only when "
            "they are read; expected a folder, an npz file or a prepared data set."
        )
    draws.draw(data.train.labels, settings.k, 0, settings.ways)
    model = settings.model
    network = pretrained.load(model.name, model.weights, fold=False)
    return Task(
        settings,
        methods.METHODS[settings.method],
        network,
        data,
        trunk.behind(network.module, network.image_size, model.after),
        settings.data.image_size or network.image_size,
        settings.data.crop or network.crop,
    )


def run(settings: Any, folder: str | Path, *, say: Say = lambda text: None) -> Outcome:
    """Learn from few pictures as a config says, or go on with it.

    Writes `summary.json` to the workdir, and each draw to `draws/`.

    Args:
        settings: See `adaptation.settings.few_shot`.
        folder: The workdir: new, or that of an earlier start with the same settings.
        say: Told a line at a time what is done.

    Raises:
        ValueError: A setting that makes no sense, or a folder of something else.
    """
    folder, plain = Path(folder), config.to_dict(settings)
    done = workdir.check(folder, plain, FREE)
    if done is not None:
        return Outcome(done, f"Done before: {_result(folder, done)}")
    task = prepare(settings)
    (folder / DRAWS).mkdir(parents=True, exist_ok=True)
    record.write_text(folder / workdir.CONFIG, record.to_json(dict(plain)))
    seen = pictures.Pictures(task)
    with interruption.watch() as asked:
        for number in range(settings.draws):
            file = folder / DRAWS / f"{number:03d}.json"
            if file.is_file():
                continue
            if asked():
                return Outcome(
                    None,
                    f"Stopped by {asked()} after {number} of {settings.draws} draws: "
                    "the same command goes on from there.",
                )
            found = _draw(task, seen, number, folder)
            record.write_text(file, record.to_json(found))
            say(
                f"draw {number}: test/accuracy {found['accuracy']:.4f}, "
                f"{found['seconds']:.0f} s"
            )
    summary = _summary(task, folder)
    record.write_text(folder / workdir.SUMMARY, record.to_json(summary))
    return Outcome(summary, f"Done: {_result(folder, summary)}")


def _result(folder: Path, summary: dict[str, Any]) -> str:
    found = summary["test/accuracy_draws"]
    spread = f" +- {np.std(found, ddof=1):.4f}" if len(found) > 1 else ""
    return (
        f"{len(found)} draws in {str(folder)!r}, test/accuracy "
        f"{summary['test/accuracy']:.4f}{spread}"
    )


def _draw(
    task: Task, seen: pictures.Pictures, number: int, folder: Path
) -> dict[str, Any]:
    """Learn from one draw, and test on all of the test split."""
    settings = task.settings
    chosen, classes = draws.draw(
        task.data.train.labels, settings.k, number, settings.ways
    )
    labels = np.searchsorted(classes, task.data.train.labels[chosen])
    tested = np.flatnonzero(np.isin(seen.test_labels, classes))
    target = np.searchsorted(classes, seen.test_labels[tested])
    seen.prepare(chosen)
    begun = time.perf_counter()
    fitted = fitting.fit(task, seen, chosen, labels, len(classes), number)
    seconds = time.perf_counter() - begun
    scores = fitted.classify(tested)
    right = scores.argmax(1) == target
    names = [task.data.train.classes[int(label)] for label in classes]
    if fitted.weights is not None and number == 0:
        fitting.save(fitted, task, folder / ADAPTERS, names)
    return {
        "draw": number,
        "accuracy": float(right.mean()),
        "loss": float(-scores[np.arange(len(target)), target].mean()),
        "seconds": seconds,
        "trained_parameters": fitted.count,
        "classes": names,
        "pictures": [task.data.train.name(int(index)) for index in chosen],
        "right": right.astype(int).tolist(),
        **fitted.notes,
    }


def _summary(task: Task, folder: Path) -> dict[str, Any]:
    settings = task.settings
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
        "ways": settings.ways or len(task.data.train.classes),
        "model": task.network.name,
        "after": task.after,
        "pooling": task.method.pooling,
        "test_examples": len(found[0]["right"]),
        "versions": record.versions(),
    }
