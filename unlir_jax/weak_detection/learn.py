"""The job: describe images by a frozen network, learn a detector, and test it.

Maps of a split are kept as soon as all are computed, and what is learned every few
hundred steps, so that a killed run resumes there.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from unlir_jax.core import finite
from unlir_jax.core.document_types import Record
from unlir_jax.runs import origins, sharing, workdir
from unlir_jax.runtime import config, metric_writer, preemption
from unlir_jax.runtime.config import Settings
from unlir_jax.storage import files, paths
from unlir_jax.types import Array, PyTree
from unlir_jax.weak_detection import (
    class_maps,
    descriptions,
    detector,
    gallery,
    measures,
    state_file,
)
from unlir_jax.weak_detection import settings as default_settings
from unlir_jax.weak_detection import setup as setups
from unlir_jax.weak_detection.setup import DetectionSetup

TRACES = (workdir.SUMMARY, detector.FILE, descriptions.FOLDER, metric_writer.METRICS)
FREE = ("data.compare", "gallery")
EVERY, LOGGED = 250, 50

Progress = Callable[[str, float], None]
Update = Callable[..., tuple[PyTree, PyTree, dict]]


class Learned(NamedTuple):
    """Say how a run ended: its summary, None if it was stopped, and a sentence."""

    summary: Record | None
    message: str


class Job(NamedTuple):
    """Hold a run of which the folder is known to be its own.

    Attributes:
        given: What is learned from.
        folder: The workdir.
        progress: Told what is being done, and the share of all that is done.
        asked: Gives the name of a signal that asks to stop, or "".
    """

    given: DetectionSetup
    folder: Path
    progress: Progress
    asked: Callable[[], str]


def run(
    settings: Settings,
    folder: str | Path,
    *,
    progress: Progress = lambda doing, share: None,
    say: Callable[[str], None] = lambda text: None,
) -> Learned:
    """Learn a detector as a config says, or continue with it.

    Writes the detector, `summary.json` and a drawing of found boxes to the workdir.

    Args:
        settings: See `settings.weak_detection`.
        folder: The workdir: new, or that of an earlier start with the same settings.
        progress: Told what is being done, and the share of all that is done.
        say: Told a sentence for people.

    Raises:
        ValueError: A setting that makes no sense, a folder of something else, or other
            weights or data than it was begun with.
        FloatingPointError: A number is not finite.
    """
    folder, plain = paths.check(folder, "workdir"), config.to_dict(settings)
    known = config.to_dict(default_settings.weak_detection())
    place = sharing.Place(folder, plain, FREE, known, TRACES)
    done, given = sharing.check(place), setups.prepare(settings)
    if given.data is None:
        raise ValueError("There are no images; expected those of a training.")
    test = given.data.test
    now = origins.describe(
        given.network,
        train=given.data.train.images,
        test=None if test is None else test.images,
        annotations=("boxes",),
    )
    how = settings.data.compare
    told = sharing.compare(place, now, how)
    if done is not None and (folder / detector.FILE).is_file():
        return Learned(done, f"Nothing to do: {_result(folder, done)}")
    notices = (*([told] if told else ()), *given.data.train.images.notices)
    for sentence in notices:
        say(sentence)
    sharing.check_writable(folder)
    sharing.claim(place, now, how)
    sharing.sweep(place, descriptions.FOLDER)
    every = [c for c, own in zip(given.classes, given.everywhere, strict=True) if own]
    if every:
        say(
            f"Class {every[0]!r} is in all training images, so that labels do not tell "
            "it from the background: what the network attends to stands for it."
        )
    try:
        with preemption.watch() as asked:
            summary = _learn(Job(given, folder, progress, asked))
    except preemption.Stopped as stopped:
        return Learned(
            None, f"{stopped}; what is done is kept, and the same command goes on."
        )
    return Learned(summary, f"Done: {_result(folder, summary)}")


def _learn(job: Job) -> Record:
    """Describe, train, test, and write what comes of it."""
    given = job.given
    if given.data is None:
        raise ValueError("There are no images; expected those of a training.")
    eye, train, test = given.eye, given.data.train, given.data.test
    job.progress("whitening", 0.0)
    whitening = descriptions.fit(
        eye,
        train.images,
        dimensions=given.dimensions,
        count=given.settings["features"]["images"],
        seed=given.settings["seed"],
    )
    seen = _described(job, whitening, "train", 0.05, 0.4)
    variables = _train(job, seen)
    summary: Record = {
        "classes": list(given.classes),
        "steps": given.settings["steps"],
        "images": {"train": len(seen.places)},
        "unreadable": {"train": train.images.size - len(seen.places)},
        "everywhere": list(given.everywhere),
        "dimensions": seen.cells.shape[-1],
        "network": given.network.name,
        "sha256": given.network.sha256,
        "layer": eye.layer,
    }
    found = detector.Detector(whitening, variables)
    if test is not None:
        tested = _described(job, whitening, "test", 0.8, 0.9)
        job.progress("testing", 0.95)
        boxes = detector.detect(
            given.heads(seen.cells.shape[-1]),
            given.regions,
            variables,
            tested.cells,
            tested.sizes,
            nms=given.settings["nms"],
            voting=given.settings["voting"],
        )
        places = tested.places.tolist()
        summary |= measures.measure(test, places, boxes, given.settings["rule"])
        summary["images"]["test"] = len(places)
        summary["unreadable"]["test"] = test.images.size - len(places)
        drawn = gallery.draw(test, places, boxes, given.settings["gallery"])
    else:
        drawn = None
    with sharing.alone(job.folder), sharing.writing(job.folder):
        detector.write(job.folder / detector.FILE, found)
        if drawn is not None:
            files.write_png(job.folder / gallery.FILE, drawn)
        files.write_text(job.folder / workdir.SUMMARY, files.to_json(summary))
        state_file.remove(job.folder)
    job.progress("done", 1.0)
    return summary


def _described(
    job: Job, whitening: Any, name: str, start: float, end: float
) -> descriptions.Described:
    """Compute the maps of a split, or read those that are kept."""
    path = job.folder / descriptions.FOLDER / f"{name}.npz"
    known = descriptions.kept(path)
    if known is not None:
        return known
    data = job.given.data
    images = None if data is None else getattr(data, name)
    if images is None:
        raise ValueError(f"There is no split {name}; expected one.")
    found = descriptions.describe(
        job.given.eye,
        images.images,
        whitening,
        lambda share: job.progress(
            f"features of {name}", start + (end - start) * share
        ),
        job.asked,
    )
    with sharing.writing(job.folder):
        descriptions.keep(path, found)
    return found


def _train(job: Job, seen: descriptions.Described) -> PyTree:
    """Learn from what was seen, from where an earlier run has stopped."""
    given, settings = job.given, job.given.settings
    steps, size = settings["steps"], settings["batch_size"]
    present = given.data.train.present[seen.places] if given.data else None
    if present is None:
        raise ValueError("There are no images; expected those of a training.")
    variables = given.initial(jax.random.key(settings["seed"]), seen.cells.shape[-1])
    optimiser = optax.adamw(
        optax.cosine_decay_schedule(
            settings["optimizer"]["learning_rate"], max(steps, 1)
        ),
        weight_decay=settings["optimizer"]["weight_decay"],
    )
    state = variables, optimiser.init(variables)
    begun, state = state_file.read(job.folder, state)
    update = _update(given, optimiser, seen.cells.shape[-1])
    log = metric_writer.start(job.folder, begun, steps, say=lambda text: None)
    try:
        for step in range(begun, steps):
            if job.asked() or (step > begun and step % EVERY == 0):
                state_file.write(job.folder, step, state)
                if job.asked():
                    raise preemption.Stopped(
                        f"Stopped by {job.asked()} at step {step} of {steps}"
                    )
            rows = _rows(settings["seed"], step, len(seen.cells), size)
            done = np.float32(step / steps)
            *state, losses = update(*state, seen.cells[rows], present[rows], done)
            if (step + 1) % LOGGED == 0 or step + 1 == steps:
                values = {f"train/{k}": float(v) for k, v in losses.items()}
                finite.check(values, f"step {step + 1}")
                log.write(step + 1, values)
                job.progress("learning", 0.4 + 0.4 * (step + 1) / steps)
    finally:
        log.close()
    return jax.device_get(state[0])


def _rows(seed: int, step: int, count: int, size: int) -> np.ndarray:
    """Draw the images of a step: each once an epoch, as far as batches are full."""
    size = min(size, count)
    epoch, place = divmod(step, count // size)
    order = np.random.default_rng([seed, 2, epoch]).permutation(count)
    return order[place * size : (place + 1) * size]


def _update(
    given: DetectionSetup, optimiser: optax.GradientTransformation, dimensions: int
) -> Update:
    made = given.heads(dimensions)
    losses = class_maps.losses if made is None else made.losses

    def total(
        variables: PyTree, cells: Array, present: Array, done: Array
    ) -> tuple[Array, dict]:
        found = losses(variables, cells, present, done)
        return functools.reduce(lambda one, other: one + other, found.values()), found

    @jax.jit
    def update(
        variables: PyTree, state: PyTree, cells: Array, present: Array, done: Array
    ) -> tuple[PyTree, PyTree, dict]:
        derive = jax.grad(total, has_aux=True)
        gradients, found = derive(variables, cells, present, done)
        changes, state = optimiser.update(gradients, state, variables)
        return optax.apply_updates(variables, changes), state, found

    return update


def _result(folder: Path, summary: Record) -> str:
    measured = summary.get("test/map50")
    if measured is None:
        return f"a detector of {len(summary['classes'])} classes in {folder}"
    return (
        f"mAP {measured:.3f} at an overlap of 0.5, CorLoc "
        f"{summary['test/corloc']:.3f}: `unlir detect IMAGE --model {folder}`"
    )
