"""Fit a method to one draw of pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from unlir_jax import pooling
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
        head: Of the adapters.
        notes: For the draw's file.
        save: Write the adapters to a folder.
    """

    classify: Callable[[np.ndarray], np.ndarray]
    count: int
    weights: Any
    head: Any
    notes: dict[str, Any]
    save: Callable[[Path], None]


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
    frozen = jax.jit(
        lambda known, rows: pooling.POOLINGS[method.pooling](
            seen.cut.after(known, rows)
        )
    )
    inner = seen.train(chosen)
    views = np.stack([trunk.gather(frozen, variables, view) for view in inner])
    notes: dict[str, Any] = {}
    if method.probe:
        decide = probes.PROBES[method.probe](views, labels, classes)

        def by_probe(places: np.ndarray) -> np.ndarray:
            rows = [trunk.gather(frozen, variables, view[places]) for view in seen.test]
            return decide(np.stack(rows))

    else:
        by_probe = None
    count = views.shape[-1] * classes + classes if method.probe else 0
    if not method.adapters:
        return Fitted(
            _vote(by_probe, []), count, None, None, notes, lambda folder: None
        )
    behind = trunk.pattern(task.network.module, task.image_size, task.after)
    last = trunk.last_pattern(task.network.module, task.image_size)
    made = methods.adaptation(method.trunk, task.network.name, variables, behind, last)
    plan = training.Plan(
        steps=steps(task, len(labels)) if made.count or method.trunk == "" else 0,
        batch_size=task.settings.batch_size,
        learning_rate=method.rate,
        head_rate=task.settings.head_rate,
        pooling=method.pooling,
    )
    head = training.start_head(plan, views, labels, classes)
    rows, targets = _views(task, seen, chosen, labels, inner)
    learnt = training.train(
        seen.cut.after,
        made.adapt,
        variables,
        made.start,
        head,
        rows,
        targets,
        classes,
        plan,
        mixed=tuple(kind == "mixup" for kind in method.adapters),
        seed=task.settings.seed + 1000 * number,
    )
    weights = methods.drawn_back(made.start, learnt.trunk, method.back)
    voters: list[Callable[[np.ndarray], np.ndarray]] = []
    describe = training.describe(seen.cut.after, made.adapt, plan)
    for place in range(len(method.adapters)):
        own = jax.tree.map(
            lambda leaf, place=place: leaf[place], (weights, learnt.head)
        )

        def by_adapter(places: np.ndarray, own: Any = own) -> np.ndarray:
            found = []
            for view in seen.test:
                half = lambda known, some: describe(known, own[0], some)  # noqa: E731
                descriptors = trunk.gather(half, variables, view[places])
                scores = np.asarray(training.logits(plan, own[1], descriptors))
                found.append(probes.log_probabilities(scores))
            return np.mean(found, axis=0)

        voters.append(by_adapter)
    own = made.count + int(np.size(head["kernel"]))
    return Fitted(
        _vote(by_probe, voters),
        count + own * len(method.adapters),
        weights,
        learnt.head,
        notes | {"steps": plan.steps, "adapter_parameters": made.count},
        lambda folder: None,
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
    task: Any, seen: Any, chosen: np.ndarray, labels: np.ndarray, inner: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put the views of each adapter side by side: `[adapters, pictures, …]`."""
    shape = inner.shape[2:]
    flips = inner.reshape(-1, *shape)
    if "crops" not in task.method.adapters:
        rows = np.stack([flips] * len(task.method.adapters))
        return rows, np.tile(labels, len(inner))
    crops = seen.cropped(chosen)
    both = np.concatenate([inner, crops]).reshape(-1, *shape)
    times = -(-len(both) // len(flips))
    # As many rows for each adapter, so that one batch of places suits all.
    repeated = np.concatenate([flips] * times)[: len(both)]
    kinds = {"crops": both}
    rows = np.stack([kinds.get(kind, repeated) for kind in task.method.adapters])
    return rows, np.tile(labels, len(inner) + len(crops))


def _vote(
    by_probe: Voter | None, adapters: Sequence[Voter]
) -> Callable[[np.ndarray], np.ndarray]:
    """Average log probabilities: the adapters', and theirs with the probe's."""

    def classify(places: np.ndarray) -> np.ndarray:
        found = []
        if adapters:
            found.append(np.mean([voter(places) for voter in adapters], axis=0))
        if by_probe is not None:
            found.append(by_probe(places))
        return probes.log_probabilities(np.mean(found, axis=0))

    return classify
