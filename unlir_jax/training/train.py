"""Training: config → data → model → optimiser → state → step → loop → summary."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import CheckpointManager

from unlir_jax.core.document_types import Record, Settings
from unlir_jax.data import duplicates, pipeline
from unlir_jax.data import source as sources
from unlir_jax.features import batches, cache
from unlir_jax.objectives.objective import Batch, Session
from unlir_jax.runs import divergence, origins, workdir
from unlir_jax.runtime import checkpoint, config, mesh, metric_writer, preemption
from unlir_jax.storage import files, paths
from unlir_jax.training import (
    defaults,
    dry_run,
    finish,
    meters,
    optim,
    probe,
    probe_choice,
    probe_search,
    replays,
    run_record,
)
from unlir_jax.training import setup as setups
from unlir_jax.training import state as states
from unlir_jax.training.run_record import RunRecord
from unlir_jax.training.setup import TrainingSetup

Say = Callable[[str], None]


class Outcome(NamedTuple):
    """Say how a training ended: with a summary, or stopped without one."""

    summary: Record | None
    message: str


def run(
    settings: Settings,
    folder: str | Path,
    *,
    live: bool = False,
    say: Say = lambda text: None,
) -> Outcome:
    """Train as a config says, or continue with what an earlier call began.

    Args:
        settings: See `config.load` and `defaults.training`.
        folder: The workdir, one for each training. It keeps checkpoints, metrics and,
            at the end, `summary.json` and the weights.
        live: Whether to draw a progress line.
        say: Prints a line for people.

    Returns:
        The summary and a closing sentence. No summary if SIGTERM or Ctrl-C came: then
        all is saved, and the same call continues.

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
        setup = setups.prepare(settings)
        if not begun:
            held.enter_context(workdir.alone(folder))
        # Until it was locked, another process may have been there.
        finished = workdir.check(folder, plain, defaults=known)
        lacking = workdir.lacking(folder, finished) if finished is not None else []
        if finished is not None and not lacking:
            return _nothing_to_do(folder, finished)
        parameters = optim.describe(setup.state.params, setup.rules)
        now = origins.describe(setup.network, setup.further, **setup.data._asdict())
        compare, classes = settings.data.compare, setup.data.train.classes
        notice = workdir.claim(folder, plain, parameters, classes, now, compare)
        for sentence in (notice, workdir.made_again(folder, lacking)):
            if sentence:
                say(sentence)
        say(dry_run.describe(setup, depth=1))
        return _run(setup, folder, live and leads, say)


def _nothing_to_do(folder: Path, finished: Record) -> Outcome:
    result = finish.result(folder, finished)
    return Outcome(finished, f"Nothing to do: {result}")


def _run(setup: TrainingSetup, folder: Path, live: bool, say: Say) -> Outcome:
    """Train in a workdir that is this run's alone."""
    settings = setup.settings
    measured = f"test/{settings.evaluate.best}"
    manager = checkpoint.open_manager(
        folder / checkpoint.FOLDER,
        keep_last=settings.checkpoint.keep_last,
        best=measured if settings.checkpoint.best and setup.data.test else "",
        largest=settings.evaluate.largest,
    )
    with manager, preemption.watch() as asked, contextlib.ExitStack() as ending:
        try:
            setup, record = _choose(setup, folder, asked, live, say)
            return _train(setup, record, folder, manager, asked, ending, live, say)
        except preemption.Stopped as stopped:
            return Outcome(None, str(stopped))


def _choose(
    setup: TrainingSetup, folder: Path, asked: Callable[[], str], live: bool, say: Say
) -> tuple[TrainingSetup, RunRecord]:
    """Choose on held-out training images what is left open, or read the choice."""
    if not setup.settings.probe.choose:
        return setup, RunRecord()
    path, leads = folder / workdir.CHOICE, mesh.is_first()
    known: Record = {"tried": {}}
    if leads and path.exists():
        known = probe_choice.check_kept(setup, workdir.read(path) or {}, path)
    if mesh.agree("choice" in known) == (0,):
        log = metric_writer.silent()
        if leads:
            log = metric_writer.start(folder, 0, setup.steps, live=live, say=say)
        with contextlib.ExitStack() as ending:
            ending.callback(log.close)
            show = functools.partial(log.show, 0)
            reader = _batches(setup, show, asked, choosing=True)

            def progress(doing: str) -> None:
                show(doing)
                if asked() and jax.process_count() == 1:
                    raise preemption.Stopped(
                        f"Stopped by {asked()} at {doing}; what has been tried is "
                        "kept, and the same command goes on from there."
                    )

            if leads and reader.train is not None:
                choice = probe_search.choose(
                    setup,
                    reader.train,
                    tried=known["tried"],
                    keep=lambda: files.write_text(path, files.to_json(dict(known))),
                    progress=progress,
                )
                known = {"choice": probe_choice.notes(choice, setup.left_open)}
                files.write_text(path, files.to_json(dict(known)))
    record = RunRecord()
    if leads:
        record = RunRecord(chosen={"probe": known["choice"]})
        say(known["choice"]["reason"])
    chosen = probe_choice.agree(setup, known.get("choice"))
    return setups.settle(setup, chosen), record


def _train(
    setup: TrainingSetup,
    record: RunRecord,
    folder: Path,
    manager: CheckpointManager,
    asked: Callable[[], str],
    ending: contextlib.ExitStack,
    live: bool,
    say: Say,
) -> Outcome:
    """Restore, loop over the steps, and finish."""
    settings, laid = setup.settings, setup.laid
    state = mesh.put_state(laid, setup.state)
    step = 0
    restored = checkpoint.restore(manager, mesh.get_state(laid, state), run_record.read)
    if restored is not None:
        step, state, kept = restored
        record = run_record.read(kept)
        checkpoint.set_aside(manager, step)
        state = mesh.put_state(laid, state)
        say(f"Going on from step {step} of {setup.steps}.")
    if mesh.is_first():
        record = _compare(setup, record, say)
    log, board = metric_writer.silent(), settings.log.tensorboard
    if mesh.is_first():
        log = metric_writer.start(
            folder, step, setup.steps, tensorboard=board, live=live, say=say
        )
    ending.callback(log.close)

    def show(text: str) -> None:
        log.show(step, text)

    reader = _batches(setup, show, asked)
    session = Session(folder, reader, show)
    hooks = (*setup.hooks, *setup.objective.hooks)
    if restored is None:
        known = begun = states.variables(setup.state)
        for hook in hooks:
            known, entries = hook.before_first_step(known, session)
            record = record._replace(start={**record.start, **entries})
        if known is not begun:
            state = mesh.put_state(laid, setups.first_state(setup, known))
    rows = pipeline.timed(replays.batches(reader.training, step, setup.objective))
    ending.callback(rows.close)
    update, measure = setups.compile_steps(setup)
    sound = states.make_check(laid)
    means = meters.RunningMean(record.means)
    clock = meters.Throughput(record.clock)

    def settle(at: int, reported: states.Report) -> bool:
        """Read what a step reported; tell whether some process has to stop."""
        nonlocal record
        report = jax.device_get(reported)
        values = {name: float(value) for name, value in report.values.items()}
        name = setup.data.train.name
        divergence.check_step(folder, values, at, report.index, name)
        record = run_record.with_unreadable(record, "train", report, name)
        means.add(values)
        clock.step(settings.batch_size, rows)
        speed = clock.values()["images_per_second"]
        log.show(at, f"loss {values['loss']:.3f}, {speed:.0f} images/s")
        if at % settings.log.every == 0 or at == setup.steps:
            line = {f"train/{name}": mean for name, mean in means.take().items()}
            record = record._replace(train=line)
            rate = {"learning_rate": np.asarray(setup.learning_rate(at - 1)).item()}
            log.write(at, line | rate | clock.values())
        return bool(report.stop > 0)

    pending, stopping = None, False
    while step < setup.steps and not stopping:
        batch = next(rows)
        wish = np.full(len(batch["label"]), bool(asked()), np.float32)
        done = np.full_like(wish, step / setup.steps)
        rows_of_step = batch | {"stop": wish, "done": done}
        state, report = update(state, mesh.put_batch(laid, rows_of_step))
        # Devices work on this step while the host reads the one before.
        stopping = pending is not None and settle(*pending)
        step += 1
        pending = (step, report)
        last = step == setup.steps
        tested = setup.data.test and (last or _due(step, settings.evaluate.every))
        saved = last or _due(step, settings.checkpoint.every)
        if not (tested or saved or stopping):
            continue
        stopping = settle(*pending) or stopping
        pending, metrics, improved = None, {}, False
        if tested:
            metrics, record = _evaluate(
                setup, folder, measure, state, reader.evaluation(), record
            )
            by, largest = f"test/{settings.evaluate.best}", settings.evaluate.largest
            record = run_record.with_test(record, metrics, step, by, largest)
            improved = record.best["step"] == step
            log.write(step, metrics)
            log.say(f"step {step}: {finish.listed(metrics)}")
            numbers = {**record.train, **record.test}
            notice = setup.objective.notice(numbers, record.best)
            if notice:
                log.say(f"step {step}: {notice}")
        if saved or stopping or (improved and settings.checkpoint.best):
            checked = sound(mesh.get_state(laid, state))
            divergence.check_state(folder, checked, step)
            record = record._replace(means=means.sums(), clock=clock.sums())
            kept = run_record.document(record)
            checkpoint.save(manager, step, mesh.get_state(laid, state), kept, metrics)
        clock.pause()
    checkpoint.finish(manager)
    if step < setup.steps:
        who = asked() or "another process"
        return Outcome(
            None,
            f"Stopped by {who} at step {step} of {setup.steps}: all is saved, and the "
            "same command goes on from there.",
        )
    known = mesh.gather(laid, states.variables(state))
    measured: Record = {}
    for hook in hooks:
        known, entries = hook.after_last_step(known, session)
        measured |= entries
    summary = finish.finish(folder, setup, known, record, measured, clock.values())
    return Outcome(summary, f"Done: {finish.result(folder, summary)}")


def _compare(setup: TrainingSetup, record: RunRecord, say: Say) -> RunRecord:
    """Look once for images that are both trained and tested on, and say so."""
    train, test = setup.data
    wanted = setup.settings.data.duplicates and record.duplicates is None
    if test is None or not wanted:
        return record
    found = duplicates.between(train, test)
    for sentence in found.sentences():
        say(sentence)
    return record._replace(duplicates=found.document())


def _batches(
    setup: TrainingSetup, show: Say, asked: Callable[[], str], choosing: bool = False
) -> batches.Batches:
    """Give images, or features: of the pooling, or of all that is chosen among."""
    settings, frame = setup.settings, setup.frame
    if not settings.features.cache:
        wanted = setup.objective.annotations
        return batches.of_pictures(setup.data, settings, annotations=wanted, **frame)
    tried = probe.poolings(settings, setup.left_open, setup.network.module)

    def compute(source: sources.Source, **reading: Any) -> cache.Features:
        found = cache.cached(
            source,
            states.variables(setup.state),
            setup.network.module,
            name=setup.network.name,
            poolings=tried,
            **frame,
            **reading,
        )
        chosen = settings.probe.pooling
        if choosing or chosen not in tried:
            return found
        return cache.pooled_by(found, tried, chosen)

    return batches.of_features(setup.data, settings, compute, show, asked)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _evaluate(
    setup: TrainingSetup,
    folder: Path,
    measure: Callable[..., states.Report],
    state: states.State,
    rows: Iterator[Batch],
    record: RunRecord,
) -> tuple[dict[str, float], RunRecord]:
    """Average over exactly the examples that can be read."""
    known, sums = states.variables(state), {}
    name = (setup.data.test or setup.data.train).name
    broken: list[str] = []
    for batch in rows:
        measured = measure(known, mesh.put_batch(setup.laid, batch))
        report = jax.device_get(measured)
        record = run_record.with_unreadable(record, "test", report, name)
        broken += [name(int(place)) for place in report.index[report.broken]]
        for metric, value in report.values.items():
            sums[metric] = sums.get(metric, 0.0) + float(value)
    weight = sums.pop("weight")
    if not weight:
        why = sources.reason(setup.data.test or setup.data.train, 0)
        raise ValueError(f"No image of the test split can be read: {why}")
    found = {f"test/{metric}": value / weight for metric, value in sums.items()}
    divergence.check_measured(folder, found, "the test split", broken)
    return found, record
