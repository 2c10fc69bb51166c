"""Start of a new classifier behind attention pooling: it learns on averages first."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import objectives
from unlir_jax.core.document_types import Settings
from unlir_jax.features import cache
from unlir_jax.models import pretrained
from unlir_jax.objectives.objective import Apply, Hook, Session
from unlir_jax.training import optim
from unlir_jax.training import state as states
from unlir_jax.types import Array, Logits, Module, PyTree, RandomKey, Variables

CHUNK_BYTES, PROGRESS_EVERY = 1 << 26, 100


def hook(
    settings: Settings,
    network: pretrained.Pretrained,
    rules: Mapping[str, optim.Rule],
    classifier: str,
    steps: int,
) -> Hook:
    """Make the hook that trains a new classifier before the first step.

    It learns on average-pooled features by the settings of the training: the same
    objective, batches, optimiser, rate and number of steps. A training with
    `probe.pooling=average` would learn the same one.

    Args:
        settings: Settings of the training.
        network: A network that pools by attention.
        rules: Rules of all parameters.
        classifier: Beginning of the paths of its parameters.
        steps: Number of steps.
    """

    def start(
        variables: Variables, session: Session
    ) -> tuple[Variables, Mapping[str, object]]:
        kept = session.batches.train
        if kept is None:
            return variables, {}
        pooled = kept._replace(features=averages(network.module, kept.features))
        alone = classifier_alone(rules, classifier)
        learnt, accuracy = learn(
            settings, network.module, variables, pooled, alone, steps, session
        )
        return learnt, {"average_pooling": {"steps": steps, "accuracy": accuracy}}

    return Hook(before_first_step=start)


def classifier_alone(
    rules: Mapping[str, optim.Rule], classifier: str
) -> dict[str, optim.Rule]:
    """Let a classifier learn, with its decay, and nothing else."""
    return {
        path: optim.Rule(weight_decay=rule.weight_decay)
        if path.startswith(classifier)
        else optim.Rule(train=False)
        for path, rule in rules.items()
    }


def averages(module: Module, features: np.ndarray) -> np.ndarray:
    """Pool kept features by average, `[size, 1, 1, channels]`.

    Args:
        module: A network that pools by attention.
        features: What its `features` gives for all images.
    """
    run = jax.jit(functools.partial(module.apply, {}, method="average"))
    rows = max(1, CHUNK_BYTES // features[:1].nbytes)
    found = [
        np.asarray(run(np.asarray(features[begin : begin + rows])))
        for begin in range(0, len(features), rows)
    ]
    return np.concatenate(found)[:, None, None]


def learn(
    settings: Settings,
    module: Module,
    variables: Variables,
    pooled: cache.Features,
    rules: Mapping[str, optim.Rule],
    steps: int,
    session: Session,
    *,
    known: np.ndarray | None = None,
) -> tuple[Variables, float]:
    """Train the classifier alone; give all variables, and the last batch's accuracy.

    Args:
        settings: Settings of the training.
        module: A network that pools by attention.
        variables: Its variables.
        pooled: See `averages`.
        rules: See `classifier_alone`.
        steps: Number of steps.
        session: What a hook may use of the training.
        known: Places of the images to learn from; all by default.
    """
    objective = objectives.build(
        settings.objective.to_dict(), _decision(module), module.num_classes
    )
    options = settings.optimizer
    rate = optim.schedule(options.learning_rate, steps, **options.schedule)
    optimizer = optim.make(
        rules,
        rate,
        name=options.name,
        weight_decay=options.weight_decay,
        clip_norm=options.clip_norm,
        options=options.options.to_dict(),
    )
    update = jax.jit(
        states.make_update(objective, optimizer, rules, seed=settings.seed)
    )
    state = states.create(variables, rules, optimizer)
    rows = cache.training(
        pooled, batch_size=settings.batch_size, seed=settings.seed, known=known
    )
    means: dict[str, Any] = {}
    for step in range(steps):
        if step % PROGRESS_EVERY == 0:
            session.show(f"classifier on averages: step {step} of {steps}")
        done = np.full(settings.batch_size, step / steps, np.float32)
        state, report = update(state, next(rows) | {"done": done})
        means = report.values
    return states.variables(state), float(means["accuracy"])


def _decision(module: Module) -> Apply:
    """Give what follows the pooling as training applies it."""

    def decide(variables: Variables, pooled: Array) -> Logits:
        return module.apply(variables, jnp.asarray(pooled)[:, 0, 0], method="decide")

    def train(
        variables: Variables, pooled: Array, key: RandomKey
    ) -> tuple[Logits, PyTree]:
        del key
        return decide(variables, pooled), variables.get("batch_stats", {})

    return Apply(train, decide, "features")
