"""Choose what a linear probe leaves open on held-out training images.

Every candidate is trained as the trainer would train it, by the same objective, batches
and optimiser, on a part of the training images, and measured on the rest of them.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from unlir_jax.core import finite
from unlir_jax.core.document_types import Settings
from unlir_jax.features import cache
from unlir_jax.training import held_out
from unlir_jax.training import setup as setups
from unlir_jax.training.probe import STEPS, WEIGHT_DECAY, Candidate, default, poolings
from unlir_jax.training.setup import TrainingSetup

Tried = dict[str, list[list[float]]]
"""What `held_out.measure` gave, by a name of what it was asked for."""


class Score(NamedTuple):
    """Hold what a candidate reached on held-out images: means over them."""

    measured: float
    loss: float


class Choice(NamedTuple):
    """Hold what has been chosen, and why.

    Attributes:
        candidate: What to train with.
        reason: A sentence for people.
        pictures: Number of held-out images in all.
        folds: In how many turns.
        scores: Scores of all candidates that were tried.
    """

    candidate: Candidate
    reason: str
    pictures: int = 0
    folds: int = 0
    scores: Mapping[Candidate, Score] = {}


def choose(
    setup: TrainingSetup,
    train: cache.Features,
    *,
    tried: Tried,
    keep: Callable[[], None] = lambda: None,
    progress: Callable[[str], None] = lambda text: None,
) -> Choice:
    """Choose what a config leaves open, on training images alone.

    Pooling and decay are chosen together at a usual number of steps, and then the
    steps: more as long as that helps, or else fewer. The best decay has the largest
    `evaluate.best` over all that is held out; of equal ones, the smallest loss. Of ways
    to pool, the first one counts that is within one standard error of the best
    (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3).

    Args:
        setup: Provisional, see `probe.default`.
        train: Features of the training images, pooled as `probe.poolings` says.
        tried: What an interrupted search had found out; filled in.
        keep: Called when something has been added to it.
        progress: Told what is being done; may raise an exception to stop.
    """
    settings, opened = setup.settings, setup.left_open
    module = setup.network.module
    first = default(settings, opened, setup.data.train.size, module)
    own = first.pooling or getattr(module, "pooling", "")
    first = first._replace(pooling=own, steps=setup.steps)
    label, weight = np.asarray(train.label), np.asarray(train.weight)
    held = held_out.deal(label, weight, settings.seed)
    if not opened:
        return Choice(first, "probe: nothing is left to choose.")
    if not held:
        return Choice(first, _words_for_few(first, setup))
    ways = poolings(settings, opened, module) or (own,)
    decays = (first.weight_decay,)
    if WEIGHT_DECAY in opened:
        decays = tuple(settings.probe.weight_decays)
    scores: dict[Candidate, Score] = {}
    measure = functools.partial(
        _measure,
        scores,
        setup=setup,
        rows={way: _rows(train, ways, way) for way in ways},
        held=held,
        compiled=_compilers(setup, ways, first),
        tried=tried,
        keep=keep,
        progress=progress,
    )
    for pooling in ways:
        measure(pooling, decays, first.steps)
    pictures = sum(len(outside) for _, outside in held)
    best = _choose_pooling(scores, ways, pictures, settings)
    if STEPS in opened:
        best = _choose_steps(best, measure, scores, settings)
    reason = _words(best, scores, pictures, len(held), settings)
    return Choice(best, reason, pictures, len(held), scores)


def _compilers(
    setup: TrainingSetup, ways: Sequence[str], first: Candidate
) -> dict[int, held_out.Compiled]:
    """Make what folds share, and ways to pool whose classifiers are equally wide."""
    by_width = {way.count("+"): way for way in reversed(ways)}
    if not hasattr(setup.network.module, "ways"):
        return dict.fromkeys(by_width, held_out.compiler(setup))
    return {
        joined: held_out.compiler(setups.settle(setup, first._replace(pooling=way)))
        for joined, way in by_width.items()
    }


def _rows(train: cache.Features, ways: Sequence[str], way: str) -> cache.Features:
    return cache.pooled_by(train, ways, way) if len(ways) > 1 else train


def _measure(
    scores: dict[Candidate, Score],
    pooling: str,
    decays: Sequence[float],
    steps: int,
    *,
    setup: TrainingSetup,
    rows: Mapping[str, cache.Features],
    held: Sequence[tuple[np.ndarray, np.ndarray]],
    compiled: Mapping[int, held_out.Compiled],
    tried: Tried,
    keep: Callable[[], None],
    progress: Callable[[str], None],
) -> None:
    """Add the scores of candidates that differ in their decay, over all folds."""
    sums = np.zeros((3, len(decays)))
    for fold, split in enumerate(held):
        key = f"{pooling} {steps} {fold} {' '.join(map(repr, decays))}"
        if key not in tried:
            doing = f"probe: {pooling or 'own'} pooling, {steps} steps, fold {fold}"
            tell = functools.partial(progress, doing)
            plan = steps, decays
            given = rows[pooling], split, plan, compiled[pooling.count("+")]
            found = held_out.measure(setup, *given, tell)
            _check_finite(found, doing, decays, settings=setup.settings)
            tried[key] = found
            keep()
        sums += np.asarray(tried[key])
    measured, loss = sums[:2] / sums[2]
    for decay, *score in zip(decays, measured.tolist(), loss.tolist(), strict=True):
        scores[Candidate(pooling, decay, steps)] = Score(*score)


def _check_finite(
    found: Sequence[Sequence[float]],
    doing: str,
    decays: Sequence[float],
    settings: Settings,
) -> None:
    """Stop at candidates that are no numbers: nothing is better or worse than those."""
    names = settings.evaluate.best, "loss"
    values = {
        f"{name} of weight decay {decay:g}": value
        for name, row in zip(names, found, strict=False)
        for decay, value in zip(decays, row, strict=True)
    }
    advice = (
        "expected features that are numbers, a smaller optimizer.learning_rate, or "
        "other probe.weight_decays"
    )
    finite.check(values, doing.replace("probe: ", "the probe with "), advice=advice)


def _best(scores: Mapping[Candidate, Score], settings: Settings) -> Candidate:
    """Give the best candidate, the first of equal ones."""
    sign = 1 if settings.evaluate.largest else -1
    return max(scores, key=lambda c: (sign * scores[c].measured, -scores[c].loss))


def _choose_pooling(
    scores: Mapping[Candidate, Score],
    ways: Sequence[str],
    pictures: int,
    settings: Settings,
) -> Candidate:
    """Give the best decay of the first way to pool that the best cannot be told from.

    Few images would else choose by chance a way that is worse by far.
    """
    sign = 1 if settings.evaluate.largest else -1
    top = scores[_best(scores, settings)].measured
    error = 0.0
    if settings.evaluate.best.endswith("accuracy"):
        error = math.sqrt(top * (1 - top) / pictures)
    own = []
    for way in ways:
        rivals = {c: score for c, score in scores.items() if c.pooling == way}
        own.append(_best(rivals, settings))
    return next(c for c in own if sign * (top - scores[c].measured) <= error)


def _choose_steps(
    best: Candidate,
    measure: Callable[[str, Sequence[float], int], None],
    scores: dict[Candidate, Score],
    settings: Settings,
) -> Candidate:
    """Go to more steps as long as that helps, or else to fewer."""
    sign = 1 if settings.evaluate.largest else -1
    steps, begun = sorted(settings.probe.steps), best.steps
    more = [each for each in steps if each > begun]
    fewer = [each for each in reversed(steps) if each < begun]
    for way in (more, fewer):
        for each in way:
            measure(best.pooling, (best.weight_decay,), each)
            reached = best._replace(steps=each)
            if sign * (scores[reached].measured - scores[best].measured) <= 0:
                break
            best = reached
        if best.steps != begun:
            break
    return best


def _words(
    best: Candidate,
    scores: Mapping[Candidate, Score],
    pictures: int,
    folds: int,
    settings: Settings,
) -> str:
    turns = "" if folds == 1 else f" in {folds} turns"
    name = settings.evaluate.best
    lines = [
        f"probe: chosen on {pictures} training images, held out{turns}: "
        f"{_named(best)}; held-out {name} {scores[best].measured:.4f}."
    ]
    ways = dict.fromkeys(candidate.pooling for candidate in scores)
    reached = []
    for way in ways if len(ways) > 1 else ():
        own = {c: score for c, score in scores.items() if c.pooling == way}
        reached.append(f"{way} {own[_best(own, settings)].measured:.4f}")
    if reached:
        lines.append(f"  the best of each pooling: {', '.join(reached)}.")
    return "\n".join(lines)


def _words_for_few(first: Candidate, setup: TrainingSetup) -> str:
    return (
        f"probe: {setup.data.train.size} training images of "
        f"{len(setup.data.train.classes)} classes are too few to hold some out; "
        f"the defaults are taken: {_named(first)}."
    )


def _named(candidate: Candidate) -> str:
    return (
        f"{candidate.pooling or 'own'} pooling, weight decay "
        f"{candidate.weight_decay:g}, {candidate.steps} steps"
    )
