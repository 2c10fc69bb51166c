"""Setup of a training from its config: data, network, objective, optimiser, state."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unlir_jax import adapters, objectives
from unlir_jax.core.document_types import Settings
from unlir_jax.data import augmentation, preprocessing, splits
from unlir_jax.features import trunks
from unlir_jax.filters import sparsity, trainable
from unlir_jax.models import drawing, layers, pretrained, zoo
from unlir_jax.objectives import network as networks
from unlir_jax.objectives.objective import Hook, Objective
from unlir_jax.parts import hook as part_hook
from unlir_jax.parts import start
from unlir_jax.parts.part_run import PartRun
from unlir_jax.runtime import mesh, ranges
from unlir_jax.training import init_from, optim, pooling, probe, replays, save_adapter
from unlir_jax.training import state as states
from unlir_jax.types import PyTree, Variables
from unlir_jax.weights import readers

DTYPES = "float32", "bfloat16", "float16"


class TrainingSetup(NamedTuple):
    """Hold what a config stands for, before the first step.

    Settings that are `left_open` are provisional until `settle`; `further` are hashes
    of other weights, by their setting; `hooks` are the network's, not the objective's.
    """

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
    frame: preprocessing.Frame
    hooks: tuple[Hook, ...]
    notices: list[str]
    left_open: tuple[str, ...]
    further: dict[str, str]

    @property
    def image_size(self) -> int:
        """Give the side of the images in pixels."""
        return self.frame["image_size"]


def prepare(settings: Settings) -> TrainingSetup:
    """Open the data, build the network and its optimiser; nothing is written.

    Raises:
        ValueError: See `run`.
    """
    ranges.check(settings)
    laid = mesh.layout(settings.mesh.mode, settings.mesh.shard_above)
    mesh.check_batch_size(laid, settings.batch_size, settings.optimizer.accumulate)
    data = splits.open_splits(settings.data)
    network, begun, notices = _begin(settings, laid, data.train.classes)
    image_size = settings.data.image_size or network.image_size
    opened = probe.left_open(settings, network.module, image_size)
    first = probe.default(settings, opened, data.train.size, network.module)
    settings = probe.settle(settings, opened, first)
    network, variables = _pooled(settings, network, begun.variables)
    augmentation.build(settings.data.augment, image_size)  # Complains early.
    if settings.model.decision.name:
        rows, columns = trunks.map_shape(network.module, image_size, network.image_size)
        network.module.classifier.check(rows, columns)
    _check_start(settings, network, data, begun.taken)
    penalty = sparsity.Penalty(**settings.penalty)
    weights = trainable.start(network, settings, penalty, image_size)
    variables["params"] = variables["params"] | weights
    rules = optim.rules(variables["params"], settings.optimizer.table)
    rules, told = pooling.with_classifier(settings, network, rules)
    notices = notices + told + _check_weights(settings, network, rules, weights)
    steps = optim.steps(
        settings.steps, settings.epochs, data.train.size, settings.batch_size
    )
    ranges.check_one("steps", steps)
    decay = settings.optimizer.weight_decay
    rate, optimizer = learner(settings, rules, steps=steps, weight_decay=decay)
    learning, _ = optim.split_by_rule(variables["params"], rules)
    _check_update(settings, optimizer, learning)
    objective = _objective(settings, network, rules, image_size)
    networks.check(objective, variables, image_size)
    splits.check(data, objective.annotations, settings.objective.name)
    frame = _frame(settings, network, image_size)
    return TrainingSetup(
        settings=settings,
        laid=laid,
        data=data,
        network=network,
        objective=trainable.weighted(objective, penalty, weights),
        rules=rules,
        learning_rate=rate,
        optimizer=optimizer,
        state=_state(settings, objective, image_size, variables, rules, optimizer),
        steps=steps,
        frame=frame,
        hooks=_hooks(settings, data, network, rules, frame, steps),
        notices=notices + replays.told(settings, objective, steps, data.train.size),
        left_open=opened,
        further=_further(settings, begun),
    )


def _begin(
    settings: Settings, laid: mesh.Layout, names: tuple[str, ...]
) -> tuple[pretrained.Pretrained, init_from.Start, list[str]]:
    """Load the network, its classifier numbered as the data's classes are.

    Returns:
        The network, what it starts from, and sentences.
    """
    network, told = _open_network(settings, laid, names)
    blocks = "blocks" in getattr(network.module, "knows", ())
    network, notices = init_from.own_classes(
        network, names, blocks=blocks, seed=settings.seed
    )
    notices = told + notices
    variables = jax.tree.map(np.asarray, dict(network.variables))
    network, variables = _pooled(settings, network, variables)
    if not settings.init_from:
        return network, init_from.Start(variables, [], [], [], []), notices
    begun = init_from.start_from(
        settings.init_from,
        variables,
        zoo.find(network.name)[1],
        names,
        blocks=blocks,
        key=settings.init_key,
    )
    return network, begun, begun.sentences()


def _further(settings: Settings, begun: init_from.Start) -> dict[str, str]:
    """Give the hashes of weights that came from elsewhere, by the setting that does."""
    adapter = settings.model.adapter
    found = {"model.adapter": readers.sha256(adapter)} if adapter else {}
    return found | ({"init_from": begun.sha256} if settings.init_from else {})


def _frame(
    settings: Settings, network: pretrained.Pretrained, image_size: int
) -> preprocessing.Frame:
    """Say how images are framed: as the settings say, or as the network is used."""
    return {
        "image_size": image_size,
        "crop": settings.data.crop or network.crop,
        "interpolation": settings.data.interpolation or network.interpolation,
    }


def _hooks(
    settings: Settings,
    data: splits.Splits,
    network: pretrained.Pretrained,
    rules: Mapping[str, optim.Rule],
    frame: preprocessing.Frame,
    steps: int,
) -> tuple[Hook, ...]:
    """Make the hooks of what the network has: weights of filters, and parts."""
    hooks, own = [], settings.data
    if settings.model.attention_pooling.name:
        hooks += pooling.hooks(settings, network, rules, steps)
    if any(path.startswith(f"{trainable.FOLDER}/") for path in rules):
        hooks.append(save_adapter.hook(settings, network, rules, frame))
    if settings.model.decision.name:
        drawn = own.options.to_dict() | {"split": own.test}
        run = PartRun(
            data,
            network,
            frame,
            settings.seed,
            settings.start.whitening,
            settings.start.labels_per_class,
            drawn if own.source == "synthetic_parts" else None,
        )
        hooks.append(part_hook.hook(run, settings.start))
    return tuple(hooks)


def settle(setup: TrainingSetup, choice: probe.Candidate) -> TrainingSetup:
    """Fill in what was left open, and begin again with that."""
    settings = probe.settle(setup.settings, setup.left_open, choice)
    known = states.variables(setup.state)
    network, known = _pooled(settings, setup.network, known)
    learning_rate, optimizer = learner(
        settings, setup.rules, steps=choice.steps, weight_decay=choice.weight_decay
    )
    begun = setup._replace(
        settings=settings,
        network=network,
        objective=_objective(settings, network, setup.rules, setup.image_size),
        learning_rate=learning_rate,
        optimizer=optimizer,
        steps=choice.steps,
    )
    return begun._replace(state=first_state(begun, known))


def first_state(setup: TrainingSetup, variables: Variables) -> states.State:
    """Start from other variables than those that the setup has."""
    how = setup.settings, setup.objective, setup.image_size
    return _state(*how, variables, setup.rules, setup.optimizer)


def _state(
    settings: Settings,
    objective: Objective,
    image_size: int,
    variables: Variables,
    rules: Mapping[str, optim.Rule],
    optimizer: optax.GradientTransformation,
) -> states.State:
    average = settings.average > 0
    change = replays.shape(settings, objective, image_size)
    return states.create(variables, rules, optimizer, average=average, change=change)


def _pooled(
    settings: Settings, network: pretrained.Pretrained, variables: Variables
) -> tuple[pretrained.Pretrained, Variables]:
    """Let a head pool as the settings say, or as where it started from did."""
    begun = init_from.pooling(settings.init_from) if settings.init_from else ""
    module = layers.with_pooling(network.module, settings.probe.pooling or begun)
    if module is not network.module and hasattr(module, "ways"):
        variables = drawing.with_head(
            module, variables, network.image_size, settings.seed
        )
    return network._replace(module=module), variables


def _check_weights(
    settings: Settings,
    network: pretrained.Pretrained,
    rules: Mapping[str, optim.Rule],
    weights: Mapping[str, PyTree],
) -> list[str]:
    """Refuse weights of filters that do not learn; say what will not be written."""
    if not weights:
        return []
    own = [p for p in rules if p.startswith(f"{trainable.FOLDER}/")]
    if not any(rules[path].train for path in own):
        raise ValueError(
            "`optimizer.table` freezes the weights of filters that model.filters asks "
            f"for; expected ('{trainable.FOLDER}/.*', {{}}) in front, or no "
            "model.filters."
        )
    reason = save_adapter.reason(settings, network.module, rules)
    return [f"no {save_adapter.FILE} will be written: {reason}"] if reason else []


def learner(
    settings: Settings,
    rules: Mapping[str, optim.Rule],
    *,
    steps: int,
    weight_decay: float | jax.Array,
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """Make the learning rate of each step, and the optimiser."""
    learning_rate = optim.schedule(
        settings.optimizer.learning_rate, steps, **settings.optimizer.schedule
    )
    made = optim.make(
        rules,
        learning_rate,
        name=settings.optimizer.name,
        weight_decay=weight_decay,
        clip_norm=settings.optimizer.clip_norm,
        options=settings.optimizer.options.to_dict(),
    )
    penalty = sparsity.Penalty(**settings.penalty)
    return learning_rate, trainable.stopping(made, penalty)


def _check_update(
    settings: Settings, optimizer: optax.GradientTransformation, learning: PyTree
) -> None:
    """Refuse options that an optimiser fails on when it is used, by a dry run of it."""

    def update(leaves: PyTree) -> PyTree:
        return optimizer.update(leaves, optimizer.init(leaves), leaves)

    try:
        jax.eval_shape(update, learning)
    except (TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"`optimizer.options`={settings.optimizer.options.to_dict()} are refused "
            f"by optax.{settings.optimizer.name} ({reason}); expected options of the "
            "types that it documents."
        ) from error


def _check_start(
    settings: Settings,
    network: pretrained.Pretrained,
    data: splits.Splits,
    taken: Sequence[str],
) -> None:
    wanted = settings.start.to_dict()
    if {wanted["parts"], wanted["classifier"]} == {"random"}:
        return
    if not (settings.features.cache and settings.model.decision.name):
        raise ValueError(
            f"`start`={wanted} fits a part network to cached features; expected "
            "features.cache=True and a model.decision, or 'random' for both."
        )
    start.check(network.module, data.train.size, **wanted)
    if wanted["parts"] == "project" and "params/classifier/parts/kernel" not in taken:
        raise ValueError(
            f"`init_from`={settings.init_from!r} has no prototypes of this network, "
            "which start.parts='project' moves to cells; expected the workdir of a "
            "training with method=prototypes on the same backbone and classes."
        )


def _open_network(
    settings: Settings, laid: mesh.Layout, names: tuple[str, ...]
) -> tuple[pretrained.Pretrained, list[str]]:
    """Load the network for the data's classes; give it, and sentences."""
    model, notices = settings.model, []
    if model.dtype not in DTYPES:
        raise ValueError(f"`model.dtype`={model.dtype!r}; expected one of {DTYPES}.")
    network = pretrained.load(
        model.name,
        model.weights,
        weights_key=model.weights_key,
        crop=settings.data.crop or None,
        interpolation=settings.data.interpolation or None,
        seed=settings.seed,
        **pooling.head(settings, len(names)),
    )
    if model.attention_pooling.name:
        network, notices = pooling.for_classes(network, names, settings.seed)
    if model.adapter:
        network = adapters.weigh(adapters.load(model.adapter), network)
    style = network.module.style._replace(
        dtype=None if model.dtype == "float32" else jnp.dtype(model.dtype),
        precision=model.precision,
        axis_name=laid.axis_name,
    )
    module = layers.with_style(network.module, style)
    if model.dropout is not None:
        module = layers.with_dropout(module, model.dropout)
    return network._replace(module=module), notices


def _objective(
    settings: Settings,
    network: pretrained.Pretrained,
    rules: Mapping[str, optim.Rule],
    image_size: int,
) -> Objective:
    module = network.module
    apply = networks.whole(module, freeze_norms=settings.model.freeze_norms)
    if settings.features.cache:
        learning = [f"params/{path}" for path, rule in rules.items() if rule.train]
        trunks.check_frozen(module, image_size, learning)
        apply = networks.head(module)
    wanted = settings.objective.to_dict()
    objective = objectives.build(wanted, apply, module.num_classes)
    if settings.evaluate.best not in objective.metrics:
        known = ", ".join(objective.metrics)
        raise ValueError(
            f"`evaluate.best`={settings.evaluate.best!r}; expected one of {known}."
        )
    return objective


def compile_steps(
    setup: TrainingSetup,
) -> tuple[states.Update, Callable[..., states.Report]]:
    """Compile what a step of training does, and what evaluation does with a batch."""
    update = states.make_update(
        setup.objective,
        setup.optimizer,
        setup.rules,
        seed=setup.settings.seed,
        accumulate=setup.settings.optimizer.accumulate,
        average=setup.settings.average,
        axis_name=setup.laid.axis_name,
    )
    measure = states.make_measure(setup.objective, axis_name=setup.laid.axis_name)
    return mesh.compile_update(setup.laid, update), mesh.compile_measure(
        setup.laid, measure
    )
