"""Fit a method to one draw of pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from unlir_jax import adapters
from unlir_jax.adapters import head as heads
from unlir_jax.features import block_cut
from unlir_jax.few_shot import adapter_training, methods, probes, pseudo_labels
from unlir_jax.few_shot import frozen_features as pictures
from unlir_jax.filters import sparsity
from unlir_jax.types import Array

Voter = Callable[[pictures.Shown], np.ndarray]

# Steps of an adapter: enough for few pictures, more for many.
FEWEST_STEPS, MOST_STEPS, PICTURES = 150, 600, 250


# What learns nothing from one picture a class.
RESTING = ("filters", "shifts")


class Lesson(NamedTuple):
    """Hold what is learnt from.

    Attributes:
        chosen: Places of training pictures.
        targets: Shares of classes, `[pictures, classes]`.
        sure: So many at the front have labels that somebody gave.
    """

    chosen: np.ndarray
    targets: np.ndarray
    sure: int

    @property
    def labels(self) -> np.ndarray:
        """Give the class that has the largest share of each picture."""
        return self.targets.argmax(1)


class Group(NamedTuple):
    """Hold adapters of one kind, along the first axis of every leaf.

    Attributes:
        method: Of these alone.
        weights: What adapts the trunk.
        head: Of the adapters.
    """

    method: methods.Method
    weights: Any
    head: Any


class Fitted(NamedTuple):
    """Hold what was learnt from a draw.

    Attributes:
        classify: From pictures to log probabilities, `[pictures, classes]`.
        count: Numbers that learnt.
        groups: Adapters; () for a probe.
        notes: For the draw's file.
    """

    classify: Voter
    count: int
    groups: tuple[Group, ...]
    notes: dict[str, Any]


def fit(
    task: Any,
    seen: Any,
    chosen: np.ndarray,
    labels: np.ndarray,
    classes: int,
    number: int,
    others: np.ndarray | None = None,
) -> Fitted:
    """Fit the method of a task to a draw.

    With `others` it is fitted twice: first to the draw, then also to those of the
    others that it is surest about, each with the shares of classes that it gave
    (pseudo-labels: Lee, 2013).

    Args:
        task: See `task.Task`.
        seen: See `pictures.Pictures`, with the draw and the others prepared.
        chosen: Places of the pictures.
        labels: Of them, 0 to `classes - 1`.
        classes: Number of classes.
        number: Of the draw.
        others: Places of pictures whose labels nobody knows.
    """
    hot = np.eye(classes, dtype=np.float32)[labels]
    first = _fit(task, seen, Lesson(chosen, hot, len(chosen)), number)
    if others is None or not len(others):
        return first
    guessed = pseudo_labels.confident(first.classify(seen.trained(others)))
    joined = others[guessed.places]
    if crops(task.method):
        seen.prepare(joined, crops=True)
    targets = np.concatenate([hot, guessed.targets])
    both = Lesson(np.concatenate([chosen, joined]), targets, len(chosen))
    second = _fit(task, seen, both, number)
    notes = {"unlabelled": len(others), "pseudo_labelled": len(joined)}
    return second._replace(notes=second.notes | notes)


def crops(method: methods.Method) -> bool:
    """Tell whether a method learns from crops."""
    return any(
        own.crops or any("crops" in kind for kind in own.adapters)
        for own in methods.groups(method)
    )


def _fit(task: Any, seen: Any, lesson: Lesson, number: int) -> Fitted:
    method, classes = task.method, lesson.targets.shape[1]
    views = seen.pool(seen.train(lesson.chosen), method.pooling, lesson.chosen)
    by_probe: Voter | None = None
    count = 0
    if method.probe and not (method.adapters and steps(task, len(lesson.chosen))):
        by_probe = _probe(method, seen, lesson, views)
        count = (views.shape[-1] + 1) * classes
    if not method.adapters:
        return Fitted(_vote(by_probe, []), count, (), {})
    voters: list[Voter] = []
    groups, notes = [], {"steps": steps(task, len(lesson.chosen))}
    for own in methods.groups(method):
        alone = task._replace(method=own)
        group, some, each, made = _adapt(alone, seen, lesson, views, number)
        groups.append(group)
        voters += some
        count += each * len(some)
        notes.setdefault("adapter_parameters", made)
    return Fitted(_vote(by_probe, voters), count, tuple(groups), notes)


def _probe(
    method: methods.Method, seen: Any, lesson: Lesson, views: np.ndarray
) -> Voter:
    """Fit a method's probe to pooled views, and to crops where it learns from them."""
    options = {"sure": lesson.sure} if method.probe == "logistic" else {}
    if method.crops:
        cut = seen.pool(seen.cropped(lesson.chosen), method.pooling, lesson.chosen)
        views = np.concatenate([views, cut])
    fit_probe = probes.PROBES[method.probe]
    decide = fit_probe(views, lesson.labels, lesson.targets.shape[1], **options)
    return lambda shown: decide(shown.pooled(method.pooling))


def _adapt(
    task: Any, seen: Any, lesson: Lesson, views: np.ndarray, number: int
) -> tuple[Group, list[Voter], int, int]:
    """Train the adapters of one kind.

    Returns:
        They, what each says of pictures, and how many numbers learn of each, with its
        head and without.
    """
    method, network = task.method, task.network
    made, plan = _prepare(task, len(lesson.chosen))
    head = adapter_training.start_head(
        plan, views, lesson.labels, lesson.targets.shape[1]
    )
    rows, targets = _rows(task, seen, lesson)
    learnt = adapter_training.train(
        adapter_training.Network(seen.cut.after, made.adapt, network.variables),
        adapter_training.Learnt(made.start, head),
        rows,
        targets,
        plan,
        mixed=tuple("mixup" in kind for kind in method.adapters),
        seed=task.settings.seed + 1000 * number,
    )
    # Drawn back to 1, a weight that is 0 would be a half.
    back = 0.0 if sparsity.sparse(plan.penalty) else method.back
    weights = methods.drawn_back(made.start, learnt.trunk, back)
    describe = adapter_training.describe(seen.cut.after, made.adapt, plan)
    voters = [
        _voter(
            plan,
            lambda known, some, own=own: describe(known, own, some),
            deciding,
            network.variables,
        )
        for own, deciding in _each((weights, learnt.head), len(method.adapters))
    ]
    each = made.count + sum(int(np.size(head[name])) for name in _counted(plan.head))
    return Group(method, weights, learnt.head), voters, each, made.count


def _prepare(
    task: Any, pictures: int
) -> tuple[methods.Adaptation, adapter_training.Plan]:
    """Make what learns of the trunk, and say how."""
    method, network = task.method, task.network
    behind = block_cut.pattern(network.module, task.image_size, task.after)
    last = block_cut.last_pattern(network.module, task.image_size)
    made = methods.adaptation(
        method.trunk, network.name, network.variables, behind, last
    )
    plan = adapter_training.Plan(
        steps=steps(task, pictures),
        batch_size=task.settings.batch_size,
        learning_rate=method.rate,
        head_rate=task.settings.head_rate,
        head=task.settings.head,
        head_start=task.settings.head_start,
        pooling=method.pooling,
        penalty=sparsity.Penalty(**task.settings.penalty),
    )
    return made, plan


def check(task: Any) -> None:
    """Refuse a penalty of weights that a method does not learn, before it learns.

    Raises:
        ValueError: So it is.
    """
    for own in methods.groups(task.method):
        if task.settings.penalty.name and own.trunk:
            made, plan = _prepare(task._replace(method=own), 1)
            sparsity.begin(made.start, plan.penalty)


def _counted(head: str) -> tuple[str, ...]:
    """Name the arrays of a head that count: of cosines, the bias does not."""
    return ("kernel",) if head == "cosine" else ("kernel", "bias")


def _each(leaves: Any, count: int) -> list[Any]:
    """Take adapters apart."""
    return [
        jax.tree.map(lambda leaf, place=place: leaf[place], leaves)
        for place in range(count)
    ]


def _voter(
    plan: adapter_training.Plan,
    describe: Callable[[Any, Array], jax.Array],
    head: Any,
    variables: Any,
) -> Voter:
    """Make what one adapter says of pictures, their views averaged."""

    def score(view: np.ndarray) -> np.ndarray:
        rows = block_cut.gather(describe, variables, view)
        return probes.log_probabilities(
            np.asarray(adapter_training.logits(plan, head, rows))
        )

    return lambda shown: np.mean([score(view) for view in shown.views()], axis=0)


def save(fitted: Fitted, task: Any, folder: Path, names: Sequence[str]) -> None:
    """Write each adapter as a small file, where weights of filters have learnt.

    Args:
        fitted: What was learnt.
        task: See `task.Task`.
        folder: Where to; made if it is missing.
        names: Of the classes.
    """
    network, place = task.network, 0
    select = block_cut.pattern(network.module, task.image_size, task.after)
    kind_of_head = task.settings.head
    for method, *learnt in fitted.groups:
        if method.trunk not in methods.MODES:
            continue
        folder.mkdir(exist_ok=True)
        every = _each(tuple(learnt), len(method.adapters))
        for kind, own in zip(method.adapters, every, strict=True):
            weights, head = jax.tree.map(np.asarray, own)
            name = f"shifts_{kind}" if method.trunk == "shifts" else kind
            adapters.save(
                folder / f"{place}_{name}.safetensors",
                weights,
                backbone=network.name,
                fingerprint=adapters.fingerprint(network.variables),
                select=select,
                mode=methods.MODES[method.trunk],
                head={name: head[name] for name in _counted(kind_of_head)},
                metadata={
                    "head": kind_of_head,
                    "scale": heads.SCALE,
                    "pooling": method.pooling,
                    "class_names": list(names),
                    "image_size": task.image_size,
                    "crop": task.crop,
                    "interpolation": task.interpolation,
                },
                head_type="int8",
                overwrite=True,
            )
            place += 1


def steps(task: Any, pictures: int) -> int:
    """Choose how long adapters learn.

    One picture of each class says nothing of how pictures of a class differ: there
    weights of filters only hurt, and nothing is learnt. What they are compared with
    learns all the same.
    """
    if task.settings.steps:
        return task.settings.steps
    if task.settings.k < 2 and task.method.trunk in RESTING:
        return 0
    grown = FEWEST_STEPS * (pictures / PICTURES) ** 0.5
    return int(np.clip(grown, FEWEST_STEPS, MOST_STEPS))


def _rows(task: Any, seen: Any, lesson: Lesson) -> tuple[list[np.ndarray], np.ndarray]:
    """Give the views that each adapter learns from, `[rows, …]`, and their targets."""
    inner, kinds = seen.train(lesson.chosen), task.method.adapters
    shape = inner.shape[2:]
    flips = inner.reshape(-1, *shape)
    if not crops(task.method):
        return [flips] * len(kinds), np.tile(lesson.targets, (len(inner), 1))
    cut = seen.cropped(lesson.chosen)
    both = np.concatenate([inner, cut]).reshape(-1, *shape)
    # Flips are gone through again while there are crops: one choice of rows suits all.
    rows = [both if "crops" in kind else flips for kind in kinds]
    return rows, np.tile(lesson.targets, (len(inner) + len(cut), 1))


def _vote(by_probe: Voter | None, adapters: Sequence[Voter]) -> Voter:
    """Average log probabilities: the adapters', and theirs with the probe's."""

    def classify(shown: pictures.Shown) -> np.ndarray:
        found = []
        if adapters:
            found.append(np.mean([voter(shown) for voter in adapters], axis=0))
        if by_probe is not None:
            found.append(by_probe(shown))
        return probes.log_probabilities(np.mean(found, axis=0))

    return classify
