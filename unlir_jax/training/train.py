"""Training: config → data → model → optimiser → state → step → loop → summary."""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from unlir_jax.data import duplicates, pipeline
from unlir_jax.data import source as sources
from unlir_jax.features import batches, cache
from unlir_jax.filters import trainable
from unlir_jax.parts import gallery as part_gallery
from unlir_jax.parts import measures, start
from unlir_jax.runs import origins, workdir
from unlir_jax.runtime import checkpoint, config, mesh, metric_writer, preemption
from unlir_jax.storage import files, paths
from unlir_jax.training import (
    defaults,
    dry_run,
    meters,
    optim,
    probe,
    probe_choice,
    save_adapter,
)
from unlir_jax.training import notes as training_notes
from unlir_jax.training import setup as jobs
from unlir_jax.training import state as states
from unlir_jax.training.setup import Job, Settings

Say = Callable[[str], None]


class Outcome(NamedTuple):
    """Say how a training ended: with a summary, or stopped without one."""

    summary: dict[str, Any] | None
    message: str


def run(
    settings: Settings,
    folder: str | Path,
    *,
    live: bool = False,
    say: Say = lambda text: None,
) -> Outcome:
    """Train as a config says, or go on with what an earlier call began.

    Args:
        settings: See `config.load` and `defaults.training`.
        folder: The workdir, one for each training. It keeps checkpoints, metrics and,
            at the end, `summary.json` and the weights.
        live: Whether to draw a progress line.
        say: Prints a line for people.

    Returns:
        The summary and a closing sentence. No summary if SIGTERM or Ctrl-C came: then
        all is saved, and the same call goes on.

    Raises:
        ValueError: A setting, the data or the workdir does not fit; the sentence says
            what would.
        FloatingPointError: The loss or its gradient is no number any more.
        OSError: A checkpoint could not be written.
    """
    folder, leads = paths.check(folder, "workdir"), mesh.is_first()
    say = say if leads else lambda text: None
    plain = config.to_dict(settings)
    known = config.to_dict(defaults.training())
    with contextlib.ExitStack() as held:
        finished = workdir.check(folder, plain, defaults=known)
        if finished is not None and not workdir.lacking(folder, finished):
            return _nothing_to_do(folder, finished)
        # A new folder is made when nothing more can be refused.
        (begun,) = mesh.agree(int((folder / workdir.CONFIG).exists()))
        if begun:
            held.enter_context(workdir.alone(folder))
        job = jobs.prepare(settings)
        if not begun:
            held.enter_context(workdir.alone(folder))
        # Until it was locked, another process may have been there.
        finished = workdir.check(folder, plain, defaults=known)
        lacking = workdir.lacking(folder, finished) if finished is not None else []
        if finished is not None and not lacking:
            return _nothing_to_do(folder, finished)
        parameters = optim.describe(job.state.params, job.rules)
        now = origins.describe(job.network, job.further, **job.data._asdict())
        compare, classes = settings.data.compare, job.data.train.classes
        notice = workdir.claim(folder, plain, parameters, classes, now, compare)
        for sentence in (notice, workdir.made_again(folder, lacking)):
            if sentence:
                say(sentence)
        say(dry_run.describe(job, depth=1))
        return _run(job, folder, live and leads, say)


def _nothing_to_do(folder: Path, finished: dict[str, Any]) -> Outcome:
    result = training_notes.result(folder, finished)
    return Outcome(finished, f"Nothing to do: {result}")


def _run(job: Job, folder: Path, live: bool, say: Say) -> Outcome:
    """Train in a workdir that is this run's alone."""
    settings = job.settings
    measured = f"test/{settings.evaluate.best}"
    manager = checkpoint.open_manager(
        folder / checkpoint.FOLDER,
        keep_last=settings.checkpoint.keep_last,
        best=measured if settings.checkpoint.best and job.data.test else "",
        largest=settings.evaluate.largest,
    )
    with manager, preemption.watch() as asked, contextlib.ExitStack() as ending:
        try:
            job, notes = _choose(job, folder, asked, live, say)
            return _train(job, notes, folder, manager, asked, ending, live, say)
        except preemption.Stopped as stopped:
            return Outcome(None, str(stopped))


def _choose(
    job: Job, folder: Path, asked: Callable[[], str], live: bool, say: Say
) -> tuple[Job, dict[str, Any]]:
    """Choose on held-out training pictures what is left open, or read the choice."""
    notes = training_notes.first_notes()
    if not job.settings.probe.choose:
        return job, notes
    path, leads = folder / workdir.CHOICE, mesh.is_first()
    known = {"tried": {}}
    if leads and path.exists():
        known = probe_choice.check_kept(job, workdir.read(path) or {}, path)
    if mesh.agree("choice" in known) == (0,):
        log = metric_writer.silent()
        if leads:
            log = metric_writer.start(folder, 0, job.steps, live=live, say=say)
        with contextlib.ExitStack() as ending:
            ending.callback(log.close)
            show = functools.partial(log.show, 0)
            reader = _batches(job, show, asked)

            def progress(doing: str) -> None:
                show(doing)
                if asked() and jax.process_count() == 1:
                    raise preemption.Stopped(
                        f"Stopped by {asked()} at {doing}; what has been tried is "
                        "kept, and the same command goes on from there."
                    )

            if leads and reader.train is not None:
                choice = probe.choose(
                    job,
                    reader.train,
                    functools.partial(jobs.learner, job.settings),
                    tried=known["tried"],
                    keep=lambda: files.write_text(path, files.to_json(dict(known))),
                    progress=progress,
                )
                known = {"choice": probe_choice.notes(choice, job.left_open)}
                files.write_text(path, files.to_json(dict(known)))
    if leads:
        notes["chosen"] = {"probe": known["choice"]}
        say(known["choice"]["reason"])
    chosen = probe_choice.agree(job, known.get("choice"))
    return jobs.settle(job, chosen), notes


def _train(
    job: Job,
    notes: dict[str, Any],
    folder: Path,
    manager: Any,
    asked: Callable[[], str],
    ending: contextlib.ExitStack,
    live: bool,
    say: Say,
) -> Outcome:
    """Restore, loop over the steps, and finish."""
    settings, laid = job.settings, job.laid
    state = mesh.put_state(laid, job.state)
    step = 0
    restored = checkpoint.restore(
        manager, mesh.get_state(laid, state), training_notes.check_notes
    )
    if restored is not None:
        step, state, kept = restored
        notes |= kept
        checkpoint.set_aside(manager, step)
        state = mesh.put_state(laid, state)
        say(f"Going on from step {step} of {job.steps}.")
    if mesh.is_first():
        _compare(job, notes, say)
    log, board = metric_writer.silent(), settings.log.tensorboard
    if mesh.is_first():
        log = metric_writer.start(
            folder, step, job.steps, tensorboard=board, live=live, say=say
        )
    ending.callback(log.close)
    reader = _batches(job, lambda text: log.show(step, text), asked)
    if restored is None:
        state = mesh.put_state(laid, _start(job, folder, reader, notes, log))
    rows = pipeline.timed(reader.training(step))
    ending.callback(rows.close)
    update, measure = jobs.compile_steps(job)
    sound = states.make_check(laid)
    means, clock = meters.Means(notes["means"]), meters.Clock(notes["clock"])

    def settle(at: int, reported: states.Report) -> bool:
        """Read what a step reported; tell whether some process has to stop."""
        report = jax.device_get(reported)
        values = {name: float(value) for name, value in report.values.items()}
        training_notes.check_finite(
            folder, values, at, report.index, job.data.train.name
        )
        training_notes.note_unreadable(notes, "train", report, job.data.train.name)
        means.add(values)
        clock.step(settings.batch_size, rows)
        speed = clock.values()["images_per_second"]
        log.show(at, f"loss {values['loss']:.3f}, {speed:.0f} images/s")
        if at % settings.log.every == 0 or at == job.steps:
            notes["train"] = {f"train/{n}": mean for n, mean in means.take().items()}
            rate = {"learning_rate": np.asarray(job.learning_rate(at - 1)).item()}
            log.write(at, notes["train"] | rate | clock.values())
        return bool(report.stop > 0)

    pending, stopping = None, False
    while step < job.steps and not stopping:
        batch = next(rows)
        wish = np.full(len(batch["label"]), bool(asked()), np.float32)
        done = np.full_like(wish, step / job.steps)
        rows_of_step = batch | {"stop": wish, "done": done}
        state, report = update(state, mesh.put_batch(laid, rows_of_step))
        # Devices work on this step while the host reads the one before.
        stopping = pending is not None and settle(*pending)
        step += 1
        pending = (step, report)
        last = step == job.steps
        tested = job.data.test and (last or _due(step, settings.evaluate.every))
        saved = last or _due(step, settings.checkpoint.every)
        if not (tested or saved or stopping):
            continue
        stopping = settle(*pending) or stopping
        pending, metrics, improved = None, {}, False
        if tested:
            rows_of_test = reader.evaluation()
            metrics = _evaluate(job, folder, measure, state, rows_of_test, notes)
            improved = training_notes.note_best(notes, metrics, step, settings.evaluate)
            log.write(step, metrics)
            log.say(f"step {step}: {training_notes.listed(metrics)}")
        if saved or stopping or (improved and settings.checkpoint.best):
            checked = sound(mesh.get_state(laid, state))
            training_notes.check_state(folder, checked, step)
            notes |= {"means": means.sums(), "clock": clock.sums()}
            checkpoint.save(manager, step, mesh.get_state(laid, state), notes, metrics)
        clock.pause()
    checkpoint.finish(manager)
    if step < job.steps:
        return Outcome(
            None,
            f"Stopped by {asked() or 'another process'} at step {step} of {job.steps}: "
            "all is saved, and the same command goes on from there.",
        )
    known = mesh.gather(laid, states.variables(state))
    if mesh.is_first():
        save_adapter.write(folder, job, known)
    notes["filters"] = trainable.summary(known)
    known = trainable.plain(known)
    if settings.model.decision.name and mesh.is_first():
        log.show(step, "measuring the parts")
        gallery = part_gallery.collect(job, known, reader)
        centres = part_gallery.centres(gallery)
        notes["measured"] = measures.measure(job, known, reader, centres)
        for values, where in (
            (gallery, f"the parts in {part_gallery.FILE}"),
            (notes["measured"], "the parts' measures"),
        ):
            training_notes.check_measured(folder, values, where)
        part_gallery.write(folder, gallery)
    summary = training_notes.finish(folder, job, known, notes, clock.values())
    return Outcome(summary, f"Done: {training_notes.result(folder, summary)}")


def _compare(job: Job, notes: dict[str, Any], say: Say) -> None:
    """Look once for pictures that are both trained and tested on, and say so."""
    if job.data.test is None or not job.settings.data.duplicates:
        return
    if notes.get("duplicates") is None:
        found = duplicates.between(job.data.train, job.data.test)
        notes["duplicates"] = found.document()
        for sentence in found.sentences():
            say(sentence)


def _start(
    job: Job,
    folder: Path,
    reader: batches.Batches,
    notes: dict[str, Any],
    log: metric_writer.Journal,
) -> states.State:
    """Fit what is fitted before the first step."""
    wanted = job.settings.start.to_dict()
    if {wanted["parts"], wanted["classifier"]} == {"random"} or reader.train is None:
        return job.state
    known = reader.train.weight > 0
    started = start.start(
        job.network.module,
        states.variables(job.state),
        reader.train.features if known.all() else reader.train.features[known],
        reader.train.label[known],
        key=jax.random.key(job.settings.seed),
        progress=lambda doing: log.show(0, f"start: {doing}"),
        **wanted,
    )
    advice = "expected features and weights that are numbers"
    training_notes.check_measured(folder, started.notes, "the start", advice=advice)
    notes["start"] = started.notes
    return states.create(
        started.variables,
        job.rules,
        job.optimizer,
        average=job.settings.average > 0,
    )


def _batches(job: Job, show: Say, asked: Callable[[], str]) -> batches.Batches:
    settings, frame = job.settings, job.frame
    if not settings.features.cache:
        return batches.of_pictures(job.data, settings, **frame)
    tried = probe.poolings(settings, job.left_open)

    def compute(source: Any, **reading: Any) -> cache.Features:
        found = cache.cached(
            source,
            states.variables(job.state),
            job.network.module,
            name=job.network.name,
            poolings=tried,
            **frame,
            **reading,
        )
        chosen = settings.probe.pooling
        return cache.pooled_by(found, tried.index(chosen)) if chosen in tried else found

    return batches.of_features(job.data, settings, compute, show, asked)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _evaluate(
    job: Job,
    folder: Path,
    measure: Callable[..., Any],
    state: states.State,
    rows: Any,
    notes: dict[str, Any],
) -> dict[str, float]:
    """Average over exactly the examples that can be read."""
    known, sums = states.variables(state), {}
    name = (job.data.test or job.data.train).name
    broken: list[str] = []
    for batch in rows:
        measured = measure(known, mesh.put_batch(job.laid, batch))
        report = jax.device_get(measured)
        training_notes.note_unreadable(notes, "test", report, name)
        broken += [name(int(place)) for place in report.index[report.broken]]
        for metric, value in report.values.items():
            sums[metric] = sums.get(metric, 0.0) + float(value)
    weight = sums.pop("weight")
    if not weight:
        why = sources.reason(job.data.test or job.data.train, 0)
        raise ValueError(f"No picture of the test split can be read: {why}")
    found = {f"test/{metric}": value / weight for metric, value in sums.items()}
    training_notes.check_measured(folder, found, "the test split", broken)
    notes["test"] = found
    return found
