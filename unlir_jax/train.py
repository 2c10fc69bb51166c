"""Training: config → data → model → optimiser → state → step → loop → summary."""

import contextlib
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unlir_jax import (
    batches,
    checkpoint,
    config,
    features,
    initial,
    interruption,
    journal,
    mesh,
    objectives,
    optim,
    part_measures,
    pretrained,
    preview,
    progress,
    workdir,
    zoo,
)
from unlir_jax import state as states
from unlir_jax.data import augmentation, pipeline, splits
from unlir_jax.models import layers
from unlir_jax.objectives import network as networks
from unlir_jax.objectives.objective import Objective
from unlir_jax.parts import start

Settings = Any
"""A ConfigDict as of `defaults.training`, whose fields have no types."""

Say = Callable[[str], None]
DTYPES = "float32", "bfloat16", "float16"


class Outcome(NamedTuple):
    """Say how a training ended: with a summary, or stopped without one."""

    summary: dict[str, Any] | None
    message: str


class Job(NamedTuple):
    """Hold what a config stands for, before the first step."""

    settings: Settings
    laid: mesh.Layout
    data: splits.Splits
    network: pretrained.Pretrained
    objective: Objective
    rules: dict[str, optim.Rule]
    learning_rate: optax.Schedule
    optimizer: optax.GradientTransformation
    state: states.State
    steps: int
    image_size: int
    crop: float
    notices: list[str]


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
    folder = Path(folder)
    plain = config.to_dict(settings)
    finished = workdir.check(folder, plain)
    if finished is not None:
        return Outcome(finished, f"Nothing to do: {workdir.result(folder, finished)}")
    job = prepare(settings)
    leads = mesh.is_first()
    say = say if leads else lambda text: None
    if leads:
        workdir.claim(folder, plain, optim.describe(job.state.params, job.rules))
        say(preview.describe(job, depth=1))
    measured = f"test/{settings.evaluate.best}"
    manager = checkpoint.open_manager(
        folder / checkpoint.FOLDER,
        keep_last=settings.checkpoint.keep_last,
        best=measured if settings.checkpoint.best and job.data.test else "",
        largest=settings.evaluate.largest,
    )
    with manager, interruption.watch() as asked, contextlib.ExitStack() as ending:
        try:
            return _train(job, folder, manager, asked, ending, live and leads, say)
        except interruption.Stopped as stopped:
            return Outcome(None, str(stopped))


def prepare(settings: Settings) -> Job:
    """Open the data, build the network and its optimiser; nothing is written.

    Raises:
        ValueError: See `run`.
    """
    laid = mesh.layout(settings.mesh.mode, settings.mesh.shard_above)
    mesh.check_batch_size(laid, settings.batch_size, settings.optimizer.accumulate)
    data = splits.open_splits(settings.data)
    network = _open_network(settings, laid, len(data.train.classes))
    variables = jax.tree.map(np.asarray, dict(network.variables))
    notices = []
    if settings.init_from:
        found = zoo.find(network.name)[1]
        start = initial.start_from(settings.init_from, variables, found)
        variables, notices = start.variables, start.sentences()
    image_size = settings.data.image_size or network.image_size
    augmentation.build(settings.data.augment, image_size)  # Complains early.
    rules = optim.rules(variables["params"], settings.optimizer.table)
    steps = optim.steps(
        settings.steps, settings.epochs, data.train.size, settings.batch_size
    )
    learning_rate = optim.schedule(
        settings.optimizer.learning_rate, steps, **settings.optimizer.schedule
    )
    optimizer = optim.make(
        rules,
        learning_rate,
        name=settings.optimizer.name,
        weight_decay=settings.optimizer.weight_decay,
        clip_norm=settings.optimizer.clip_norm,
        options=settings.optimizer.options.to_dict(),
    )
    return Job(
        settings=settings,
        laid=laid,
        data=data,
        network=network,
        objective=_objective(settings, network, rules, image_size),
        rules=rules,
        learning_rate=learning_rate,
        optimizer=optimizer,
        state=states.create(variables, rules, optimizer, average=settings.average > 0),
        steps=steps,
        image_size=image_size,
        crop=settings.data.crop or network.crop,
        notices=notices,
    )


def _open_network(
    settings: Settings, laid: mesh.Layout, classes: int
) -> pretrained.Pretrained:
    model = settings.model
    if model.dtype not in DTYPES:
        raise ValueError(f"`model.dtype`={model.dtype!r}; expected one of {DTYPES}.")
    decision = model.decision.to_dict()
    network = pretrained.load(
        model.name,
        model.weights,
        num_classes=classes,
        seed=settings.seed,
        decision=decision if decision["name"] else None,
    )
    style = network.module.style._replace(
        dtype=None if model.dtype == "float32" else jnp.dtype(model.dtype),
        precision=model.precision,
        axis_name=laid.axis_name,
    )
    return network._replace(module=layers.with_style(network.module, style))


def _objective(
    settings: Settings,
    network: pretrained.Pretrained,
    rules: Mapping[str, optim.Rule],
    image_size: int,
) -> Objective:
    options = settings.objective.to_dict()
    name, module = options.pop("name"), network.module
    if name not in objectives.OBJECTIVES:
        known = ", ".join(objectives.OBJECTIVES)
        raise ValueError(f"`objective.name`={name!r}; expected one of {known}.")
    apply = networks.whole(module, freeze_norms=settings.model.freeze_norms)
    if settings.features.cache:
        learning = [f"params/{path}" for path, rule in rules.items() if rule.train]
        features.check_frozen(module, image_size, learning)
        apply = networks.head(module)
    objective = objectives.OBJECTIVES[name](apply, module.num_classes, **options)
    if settings.evaluate.best not in objective.metrics:
        known = ", ".join(objective.metrics)
        raise ValueError(
            f"`evaluate.best`={settings.evaluate.best!r}; expected one of {known}."
        )
    return objective


def _train(
    job: Job,
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
    step, notes = 0, workdir.first_notes()
    restored = checkpoint.restore(manager, mesh.get_state(laid, state))
    if restored is not None:
        step, state, notes = restored
        checkpoint.set_aside(manager, step)
        state = mesh.put_state(laid, state)
        say(f"Going on from step {step} of {job.steps}.")
    log, board = journal.silent(), settings.log.tensorboard
    if mesh.is_first():
        log = journal.start(
            folder, step, job.steps, tensorboard=board, live=live, say=say
        )
    ending.callback(log.close)
    reader = _batches(job, lambda text: log.show(step, text), asked)
    if restored is None:
        state = mesh.put_state(laid, _start(job, reader, notes, log))
    rows = pipeline.timed(reader.training(step))
    ending.callback(rows.close)
    update, measure = compile_steps(job)
    means, clock = progress.Means(notes["means"]), progress.Clock(notes["clock"])

    def settle(at: int, reported: states.Report) -> bool:
        """Read what a step reported; tell whether some process has to stop."""
        report = jax.device_get(reported)
        values = {name: float(value) for name, value in report.values.items()}
        workdir.check_finite(folder, values, at, report.index, job.data.train.name)
        workdir.note_unreadable(notes, "train", report, job.data.train.name)
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
        state, report = update(state, mesh.put_batch(laid, batch | {"stop": wish}))
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
            metrics = _evaluate(job, measure, state, reader.evaluation(), notes)
            improved = workdir.note_best(notes, metrics, step, settings.evaluate)
            log.write(step, metrics)
            log.say(f"step {step}: {workdir.listed(metrics)}")
        if saved or stopping or (improved and settings.checkpoint.best):
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
    if settings.model.decision.name and mesh.is_first():
        log.show(step, "measuring the parts")
        notes["measured"] = part_measures.measure(job, known, reader)
    summary = workdir.finish(folder, job, known, notes, clock.values())
    return Outcome(summary, f"Done: {workdir.result(folder, summary)}")


def _start(
    job: Job, reader: batches.Batches, notes: dict[str, Any], log: journal.Journal
) -> states.State:
    """Fit what is fitted before the first step."""
    wanted = job.settings.start.to_dict()
    if set(wanted.values()) == {"random"}:
        return job.state
    if reader.train is None or not job.settings.model.decision.name:
        raise ValueError(
            f"`start`={wanted} fits a part network to cached features; expected "
            "features.cache=True and a model.decision, or 'random' for both."
        )
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
    notes["start"] = started.notes
    return states.create(
        started.variables,
        job.rules,
        job.optimizer,
        average=job.settings.average > 0,
    )


def _batches(job: Job, show: Say, asked: Callable[[], str]) -> batches.Batches:
    settings, frame = job.settings, {"image_size": job.image_size, "crop": job.crop}
    if not settings.features.cache:
        return batches.of_pictures(job.data, settings, **frame)
    compute = functools.partial(
        features.cached,
        variables=states.variables(job.state),
        module=job.network.module,
        name=job.network.name,
        **frame,
    )
    return batches.of_features(job.data, settings, compute, show, asked)


def compile_steps(job: Job) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Compile what a step of training does, and what evaluation does with a batch."""
    update = states.make_update(
        job.objective,
        job.optimizer,
        job.rules,
        seed=job.settings.seed,
        accumulate=job.settings.optimizer.accumulate,
        average=job.settings.average,
        axis_name=job.laid.axis_name,
    )
    measure = states.make_measure(job.objective, axis_name=job.laid.axis_name)
    return mesh.compile_update(job.laid, update), mesh.compile_measure(
        job.laid, measure
    )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _evaluate(
    job: Job,
    measure: Callable[..., Any],
    state: states.State,
    rows: Any,
    notes: dict[str, Any],
) -> dict[str, float]:
    """Average over exactly the examples that can be read."""
    known, sums = states.variables(state), {}
    name = (job.data.test or job.data.train).name
    for batch in rows:
        measured = measure(known, mesh.put_batch(job.laid, batch))
        report = jax.device_get(measured)
        workdir.note_unreadable(notes, "test", report, name)
        for metric, value in report.values.items():
            sums[metric] = sums.get(metric, 0.0) + float(value)
    weight = sums.pop("weight")
    if not weight:
        raise ValueError("No picture of the test split can be read; expected some.")
    notes["test"] = {f"test/{name}": value / weight for name, value in sums.items()}
    return notes["test"]
