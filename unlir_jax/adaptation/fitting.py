"""Fit a method to one draw of pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from unlir_jax import adapters, pooling
from unlir_jax.adaptation import methods, probes, training, trunk

Voter = Callable[[np.ndarray], np.ndarray]

# Steps of an adapter: enough for few pictures, more for many.
FEWEST_STEPS, MOST_STEPS, PICTURES = 150, 600, 250


class Fitted(NamedTuple):
    """Hold what was learnt from a draw.

    Attributes:
        classify: From places in the test to log probabilities, `[pictures, classes]`.
        count: Numbers that learnt.
        weights: What adapts the trunk, adapters in front; None for a probe.
        head: Of the adapters; None for a probe.
        notes: For the draw's file.
    """

    classify: Voter
    count: int
    weights: Any
    head: Any
    notes: dict[str, Any]


def fit(
    task: Any,
    seen: Any,
    chosen: np.ndarray,
    labels: np.ndarray,
    classes: int,
    number: int,
) -> Fitted:
    """Fit the method of a task to a draw.

    Args:
        task: See `few_shot.Task`.
        seen: See `pictures.Pictures`, with the draw prepared.
        chosen: Places of the pictures.
        labels: Of them, 0 to `classes - 1`.
        classes: Number of classes.
        number: Of the draw.
    """
    method, variables = task.method, task.network.variables
    pool = pooling.POOLINGS[method.pooling]
    frozen = jax.jit(lambda known, rows: pool(seen.cut.after(known, rows)))
    views = np.stack(
        [trunk.gather(frozen, variables, view) for view in seen.train(chosen)]
    )
    by_probe, count = None, 0
    if method.probe and not (method.adapters and steps(task, len(labels))):
        decide = probes.PROBES[method.probe](views, labels, classes)
        count = (views.shape[-1] + 1) * classes

        def by_probe(places: np.ndarray) -> np.ndarray:
            rows = [trunk.gather(frozen, variables, view[places]) for view in seen.test]
            return decide(np.stack(rows))

    if not method.adapters:
        return Fitted(_vote(by_probe, []), count, None, None, {})
    return _adapt(task, seen, chosen, labels, views, number, by_probe, count)


def _adapt(
    task: Any,
    seen: Any,
    chosen: np.ndarray,
    labels: np.ndarray,
    views: np.ndarray,
    number: int,
    by_probe: Voter | None,
    count: int,
) -> Fitted:
    """Train the adapters of a method, and let them vote, with the probe if any."""
    method, network, classes = task.method, task.network, int(labels.max()) + 1
    made, plan = _prepare(task, len(labels))
    head = training.start_head(plan, views, labels, classes)
    rows, targets = _views(task, seen, chosen, labels)
    learnt = training.train(
        training.Network(seen.cut.after, made.adapt, network.variables),
        training.Learnt(made.start, head),
        rows,
        np.eye(classes, dtype=np.float32)[targets],
        plan,
        mixed=tuple("mixup" in kind for kind in method.adapters),
        seed=task.settings.seed + 1000 * number,
    )
    weights = methods.drawn_back(made.start, learnt.trunk, method.back)
    describe = training.describe(seen.cut.after, made.adapt, plan)
    voters = [
        _voter(
            plan,
            lambda known, some, own=own: describe(known, own, some),
            deciding,
            network.variables,
            seen.test,
        )
        for own, deciding in _each((weights, learnt.head), len(method.adapters))
    ]
    each = made.count + int(np.size(head["kernel"]))
    return Fitted(
        _vote(by_probe, voters),
        count + each * len(method.adapters),
        weights,
        learnt.head,
        {"steps": plan.steps, "adapter_parameters": made.count},
    )


def _prepare(task: Any, pictures: int) -> tuple[methods.Adaptation, training.Plan]:
    """Make what learns of the trunk, and say how."""
    method, network = task.method, task.network
    behind = trunk.pattern(network.module, task.image_size, task.after)
    last = trunk.last_pattern(network.module, task.image_size)
    made = methods.adaptation(
        method.trunk, network.name, network.variables, behind, last
    )
    plan = training.Plan(
        steps=steps(task, pictures),
        batch_size=task.settings.batch_size,
        learning_rate=method.rate,
        head_rate=task.settings.head_rate,
        pooling=method.pooling,
    )
    return made, plan


def _each(leaves: Any, count: int) -> list[Any]:
    """Take adapters apart."""
    return [
        jax.tree.map(lambda leaf, place=place: leaf[place], leaves)
        for place in range(count)
    ]


def _voter(
    plan: training.Plan,
    describe: Callable[[Any, np.ndarray], jax.Array],
    head: Any,
    variables: Any,
    test: np.ndarray,
) -> Voter:
    """Make what one adapter says of pictures of the test, its views averaged."""

    def score(view: np.ndarray) -> np.ndarray:
        rows = trunk.gather(describe, variables, view)
        return probes.log_probabilities(np.asarray(training.logits(plan, head, rows)))

    return lambda places: np.mean([score(view[places]) for view in test], axis=0)


def save(fitted: Fitted, task: Any, folder: Path, names: Sequence[str]) -> None:
    """Write each adapter as a small file, where weights of filters have learnt.

    Args:
        fitted: What was learnt.
        task: See `few_shot.Task`.
        folder: Where to; made if it is missing.
        names: Of the classes.
    """
    network, method = task.network, task.method
    if method.trunk not in ("filters", "input_filters"):
        return
    folder.mkdir(exist_ok=True)
    select = trunk.pattern(network.module, task.image_size, task.after)
    every = _each((fitted.weights, fitted.head), len(method.adapters))
    for place, (kind, own) in enumerate(zip(method.adapters, every, strict=True)):
        weights, head = jax.tree.map(np.asarray, own)
        # A head of cosines has no bias that counts.
        head = {"kernel": head["kernel"]}
        adapters.save(
            folder / f"{place}_{kind}.safetensors",
            weights,
            backbone=network.name,
            fingerprint=adapters.fingerprint(network.variables),
            select=select,
            mode="output" if method.trunk == "filters" else "input",
            head=head,
            metadata={
                "head": "cosine",
                "scale": probes.SCALE,
                "pooling": method.pooling,
                "class_names": list(names),
                "image_size": task.image_size,
                "crop": task.crop,
            },
            head_type="int8",
            overwrite=True,
        )


def steps(task: Any, pictures: int) -> int:
    """Choose how long adapters learn.

    One picture of each class says nothing of how pictures of a class differ: there
    weights of filters only hurt, and nothing is learnt.
    """
    if task.settings.steps:
        return task.settings.steps
    if task.settings.k < 2:
        return 0
    grown = FEWEST_STEPS * (pictures / PICTURES) ** 0.5
    return int(np.clip(grown, FEWEST_STEPS, MOST_STEPS))


def _views(
    task: Any, seen: Any, chosen: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put the views of each adapter side by side: `[adapters, rows, …]`."""
    inner, kinds = seen.train(chosen), task.method.adapters
    shape = inner.shape[2:]
    flips = inner.reshape(-1, *shape)
    if not any("crops" in kind for kind in kinds):
        return np.stack([flips] * len(kinds)), np.tile(labels, len(inner))
    crops = seen.cropped(chosen)
    both = np.concatenate([inner, crops]).reshape(-1, *shape)
    # As many rows for each adapter, so that one choice of rows suits all.
    times = -(-len(both) // len(flips))
    repeated = np.concatenate([flips] * times)[: len(both)]
    rows = [both if "crops" in kind else repeated for kind in kinds]
    return np.stack(rows), np.tile(labels, len(inner) + len(crops))


def _vote(by_probe: Voter | None, adapters: Sequence[Voter]) -> Voter:
    """Average log probabilities: the adapters', and theirs with the probe's."""

    def classify(places: np.ndarray) -> np.ndarray:
        found = []
        if adapters:
            found.append(np.mean([voter(places) for voter in adapters], axis=0))
        if by_probe is not None:
            found.append(by_probe(places))
        return probes.log_probabilities(np.mean(found, axis=0))

    return classify
