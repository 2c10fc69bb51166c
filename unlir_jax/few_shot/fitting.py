"""Fit a method to one draw of images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from unlir_jax import adapters
from unlir_jax.adapters import head as heads
from unlir_jax.features import block_cut
from unlir_jax.few_shot import adapter_training, methods, probes, pseudo_labels
from unlir_jax.few_shot import frozen_features as pictures
from unlir_jax.few_shot.frozen_features import FrozenFeatures
from unlir_jax.few_shot.setup import FewShotSetup, adaptation, steps
from unlir_jax.filters import sparsity
from unlir_jax.types import Array, PyTree, Variables

Predictor = Callable[[pictures.Shown], np.ndarray]
"""From images to log probabilities, `[images, classes]`."""


class SupportSet(NamedTuple):
    """Hold the images that are learnt from.

    Attributes:
        chosen: Places of training images.
        targets: Shares of classes, `[images, classes]`.
        num_labelled: The first `num_labelled` images have true labels, the others
            pseudo-labels.
    """

    chosen: np.ndarray
    targets: np.ndarray
    num_labelled: int

    @property
    def labels(self) -> np.ndarray:
        """Give the class that has the largest share of each image."""
        return self.targets.argmax(1)


class Group(NamedTuple):
    """Hold adapters of one kind, along the first axis of every leaf.

    Attributes:
        method: Method of these alone.
        weights: Weights that adapt the backbone.
        head: Heads of the adapters.
    """

    method: methods.Method
    weights: PyTree
    head: PyTree


class Fitted(NamedTuple):
    """Hold what was learnt from a draw.

    Attributes:
        classify: From images to log probabilities, `[images, classes]`.
        count: Numbers that learnt.
        groups: Adapters; () for a probe.
        notes: For the draw's file.
    """

    classify: Predictor
    count: int
    groups: tuple[Group, ...]
    notes: dict[str, int]


def fit(
    setup: FewShotSetup,
    features: FrozenFeatures,
    chosen: np.ndarray,
    labels: np.ndarray,
    classes: int,
    number: int,
    others: np.ndarray | None = None,
) -> Fitted:
    """Fit the method of a run to a draw.

    With `others` it is fitted twice: first to the draw, then also to the others
    that it is surest about, each with the shares of classes that it gave
    (pseudo-labels: Lee, 2013).

    Args:
        setup: The run.
        features: Features of the draw and the others, prepared.
        chosen: Places of the images.
        labels: Labels of them, 0 to `classes - 1`.
        classes: Number of classes.
        number: Number of the draw.
        others: Places of images without labels.
    """
    hot = np.eye(classes, dtype=np.float32)[labels]
    first = _fit(setup, features, SupportSet(chosen, hot, len(chosen)), number)
    if others is None or not len(others):
        return first
    guessed = pseudo_labels.confident(first.classify(features.trained(others)))
    joined = others[guessed.places]
    if methods.crops(setup.method):
        features.prepare(joined, crops=True)
    targets = np.concatenate([hot, guessed.targets])
    both = SupportSet(np.concatenate([chosen, joined]), targets, len(chosen))
    second = _fit(setup, features, both, number)
    notes = {"unlabelled": len(others), "pseudo_labelled": len(joined)}
    return second._replace(notes=second.notes | notes)


def _fit(
    setup: FewShotSetup, features: FrozenFeatures, support: SupportSet, number: int
) -> Fitted:
    method, classes = setup.method, support.targets.shape[1]
    views = features.pool(
        features.train(support.chosen), method.pooling, support.chosen
    )
    by_probe: Predictor | None = None
    count = 0
    if method.probe and not (method.adapters and steps(setup, len(support.chosen))):
        by_probe = _probe(method, features, support, views)
        count = (views.shape[-1] + 1) * classes
    if not method.adapters:
        return Fitted(_ensemble(by_probe, []), count, (), {})
    predictors: list[Predictor] = []
    groups, notes = [], {"steps": steps(setup, len(support.chosen))}
    for own in methods.groups(method):
        alone = setup._replace(method=own)
        group, some, each, made = _adapt(alone, features, support, views, number)
        groups.append(group)
        predictors += some
        count += each * len(some)
        notes.setdefault("adapter_parameters", made)
    return Fitted(_ensemble(by_probe, predictors), count, tuple(groups), notes)


def _probe(
    method: methods.Method,
    features: FrozenFeatures,
    support: SupportSet,
    views: np.ndarray,
) -> Predictor:
    """Fit a method's probe to pooled views, and to crops where it learns from them."""
    options = (
        {"num_labelled": support.num_labelled} if method.probe == "logistic" else {}
    )
    if method.crops:
        cut = features.pool(
            features.cropped(support.chosen), method.pooling, support.chosen
        )
        views = np.concatenate([views, cut])
    fit_probe = probes.PROBES[method.probe]
    decide = fit_probe(views, support.labels, support.targets.shape[1], **options)
    return lambda shown: decide(shown.pooled(method.pooling))


def _adapt(
    setup: FewShotSetup,
    features: FrozenFeatures,
    support: SupportSet,
    views: np.ndarray,
    number: int,
) -> tuple[Group, list[Predictor], int, int]:
    """Train the adapters of one kind.

    Returns:
        They, what each says of images, and how many numbers learn of each, with its
        head and without.
    """
    method, network = setup.method, setup.network
    made, plan = adaptation(setup, len(support.chosen))
    head = adapter_training.start_head(
        plan, views, support.labels, support.targets.shape[1]
    )
    rows, targets = _rows(setup, features, support)
    learnt = adapter_training.train(
        adapter_training.Network(features.cut.after, made.adapt, network.variables),
        adapter_training.Learnt(made.start, head),
        rows,
        targets,
        plan,
        mixed=tuple("mixup" in kind for kind in method.adapters),
        seed=setup.settings.seed + 1000 * number,
    )
    # Drawn back to 1, a weight that is 0 would be a half.
    back = 0.0 if sparsity.sparse(plan.penalty) else method.back
    weights = methods.drawn_back(made.start, learnt.trunk, back)
    describe = adapter_training.describe(features.cut.after, made.adapt, plan)
    predictors = [
        _predictor(
            plan,
            lambda known, some, own=own: describe(known, own, some),
            deciding,
            network.variables,
        )
        for own, deciding in _each((weights, learnt.head), len(method.adapters))
    ]
    each = made.count + sum(int(np.size(head[name])) for name in heads.HEADS[plan.head])
    return Group(method, weights, learnt.head), predictors, each, made.count


def _each(leaves: PyTree, count: int) -> list[PyTree]:
    """Take adapters apart."""
    return [
        jax.tree.map(lambda leaf, place=place: leaf[place], leaves)
        for place in range(count)
    ]


def _predictor(
    plan: adapter_training.Plan,
    describe: Callable[[Variables, Array], jax.Array],
    head: PyTree,
    variables: Variables,
) -> Predictor:
    """Make what one adapter says of images, their views averaged."""

    def score(view: np.ndarray) -> np.ndarray:
        rows = block_cut.gather(describe, variables, view)
        return probes.log_probabilities(
            np.asarray(adapter_training.logits(plan, head, rows))
        )

    return lambda shown: np.mean([score(view) for view in shown.views()], axis=0)


def save(
    fitted: Fitted, setup: FewShotSetup, folder: Path, names: Sequence[str]
) -> None:
    """Write each adapter as a small file, where weights of filters have learnt.

    Args:
        fitted: What was learnt.
        setup: The run.
        folder: Where to; made if it is missing.
        names: Names of the classes.
    """
    network, place = setup.network, 0
    select = block_cut.pattern(network.module, setup.image_size, setup.after)
    kind_of_head = setup.settings.head
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
                head={name: head[name] for name in heads.HEADS[kind_of_head]},
                metadata={
                    "head": kind_of_head,
                    "scale": heads.SCALE,
                    "pooling": method.pooling,
                    "class_names": list(names),
                    "image_size": setup.image_size,
                    "crop": setup.crop,
                    "interpolation": setup.interpolation,
                },
                head_type="int8",
                overwrite=True,
            )
            place += 1


def _rows(
    setup: FewShotSetup, features: FrozenFeatures, support: SupportSet
) -> tuple[list[np.ndarray], np.ndarray]:
    """Give the views that each adapter learns from, `[rows, …]`, and their targets."""
    inner, kinds = features.train(support.chosen), setup.method.adapters
    shape = inner.shape[2:]
    flips = inner.reshape(-1, *shape)
    if not methods.crops(setup.method):
        return [flips] * len(kinds), np.tile(support.targets, (len(inner), 1))
    cut = features.cropped(support.chosen)
    both = np.concatenate([inner, cut]).reshape(-1, *shape)
    # Flips are gone through again while there are crops: one choice of rows suits all.
    rows = [both if "crops" in kind else flips for kind in kinds]
    return rows, np.tile(support.targets, (len(inner) + len(cut), 1))


def _ensemble(by_probe: Predictor | None, adapters: Sequence[Predictor]) -> Predictor:
    """Average log probabilities: the adapters', and theirs with the probe's."""

    def classify(shown: pictures.Shown) -> np.ndarray:
        found = []
        if adapters:
            found.append(np.mean([predictor(shown) for predictor in adapters], axis=0))
        if by_probe is not None:
            found.append(by_probe(shown))
        return probes.log_probabilities(np.mean(found, axis=0))

    return classify
