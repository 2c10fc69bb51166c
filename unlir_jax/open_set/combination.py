"""Choice of a score or an average of scores, on known classes alone.

Some known classes are held out in turn and stand for unknown ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from unlir_jax.core import finite
from unlir_jax.core.document_types import Document, Record
from unlir_jax.open_set import recogniser
from unlir_jax.parts import logistic
from unlir_jax.statistics import separation

GAIN = 1e-3
"""Least rise of the AUROC for which one more score is taken."""
TURNS, SHARES, ROUNDS = 2, 5, 5
"""Turns of a round, shares of the images of which one is left out, and rounds."""


class Combination(NamedTuple):
    """Hold an average of standardised scores.

    Attributes:
        names: Scores that are averaged; one is a score alone.
        means: Mean of each score on left-out images of known classes.
        spreads: Standard deviation of each on them.
        auroc: AUROC on pseudo-unknown images, mean over the turns.
        alone: AUROC of each score that could be chosen, by name.
    """

    names: tuple[str, ...]
    means: Mapping[str, float]
    spreads: Mapping[str, float]
    auroc: float
    alone: Mapping[str, float]

    def combine(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """Average the chosen scores of images, standardised, `[images]`."""
        return np.mean([self._scaled(name, scores[name]) for name in self.names], 0)

    def record(self) -> Record:
        """Write down what it is made of, as `read` takes it."""
        return {
            "names": list(self.names),
            "means": {name: self.means[name] for name in self.names},
            "spreads": {name: self.spreads[name] for name in self.names},
        }

    def _scaled(self, name: str, scores: np.ndarray) -> np.ndarray:
        return (np.asarray(scores) - self.means[name]) / self.spreads[name]


def read(said: Document) -> Combination:
    """Make a combination of what `Combination.record` wrote down.

    Raises:
        KeyError: A score has no mean or spread.
        TypeError: One of them is no number.
        ValueError: No score, or a spread that is not finite and above 0.
    """
    names = tuple(said["names"])
    means, spreads = (
        {name: float(said[what][name]) for name in names}
        for what in ("means", "spreads")
    )
    finite.check({"means": means, "spreads": spreads}, "a combination")
    if not names or not all(spread > 0 for spread in spreads.values()):
        raise ValueError(
            f"A combination of {', '.join(names) or 'nothing'} has spreads "
            f"{list(spreads.values())}; expected scores with spreads above 0."
        )
    return Combination(names, means, spreads, 0.0, {})


Turn = tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]
"""Scores of left-out known images and of pseudo-unknown ones, by name."""


def turns(
    plan: recogniser.Plan, train: recogniser.Described, labels: np.ndarray, classes: int
) -> list[Turn]:
    """Score left-out images of known classes, and of classes that are held out.

    In each turn half of the classes are held out, and a fifth of the images of the
    others. A recogniser is fitted to the rest. Each class is held out once a round.

    Args:
        plan: See `recogniser.Plan`.
        train: Training images of known classes.
        labels: Their classes, 0 to `classes - 1`.
        classes: Number of known classes.

    Raises:
        ValueError: Fewer than four known classes, or too few images of one.
    """
    if classes < 4:
        raise ValueError(
            f"`best` holds known classes out, but there are {classes}; expected 4 or "
            "more, or other scores than `best`."
        )
    found = []
    for number, (held, share) in enumerate(_deals(plan.seed, labels, classes)):
        kept = np.flatnonzero(~held)
        inner, left_out = np.isin(labels, kept), share == number % SHARES
        fitted, known = inner & ~left_out, inner & left_out
        own = recogniser.fit(
            plan, train.take(fitted), np.searchsorted(kept, labels[fitted]), len(kept)
        )
        sides = known, ~inner
        found.append(
            tuple(recogniser.judge(own, train.take(rows)).scores for rows in sides)
        )
    return found


def _deals(
    seed: int, labels: np.ndarray, classes: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give which classes each turn holds out, and the shares of the images."""
    count = min(TURNS, classes // 2)
    for number in range(ROUNDS):
        dealt = np.random.default_rng([seed, 1, number]).permutation(classes) % count
        share = logistic.folds(labels, SHARES, seed + number)
        for turn in range(count):
            yield dealt == turn, share


def choose(found: Sequence[Turn], names: Sequence[str]) -> Combination:
    """Choose the average that tells pseudo-unknown images best from known ones.

    The best score is taken first. Others join one by one, each time the one that raises
    the mean AUROC most. It has to rise by 0.001, and by one standard error of the
    rise over the turns.

    Args:
        found: See `turns`.
        names: Scores that can be chosen.

    References:
        Caruana, Niculescu-Mizil, Crew and Ksikes, *Ensemble Selection from Libraries of
        Models*, ICML 2004, without their repeated members.
    """
    means, spreads = {}, {}
    for name in names:
        known = np.concatenate([one[name] for one, _ in found])
        means[name] = float(known.mean())
        spreads[name] = float(known.std()) or 1.0

    def reached(chosen: tuple[str, ...]) -> np.ndarray:
        own = Combination(chosen, means, spreads, 0.0, {})
        return np.asarray([separation.auroc(*map(own.combine, one)) for one in found])

    alone = {name: reached((name,)) for name in names}
    chosen = (max(alone, key=lambda name: alone[name].mean()),)
    best = alone[chosen[0]]
    while len(chosen) < len(names):
        wider = {name: reached((*chosen, name)) for name in names if name not in chosen}
        name = max(wider, key=lambda name: wider[name].mean())
        rise = wider[name] - best
        error = rise.std(ddof=1) / np.sqrt(len(rise)) if len(rise) > 1 else 0.0
        if rise.mean() < max(GAIN, error):
            break
        chosen, best = (*chosen, name), wider[name]
    areas = {name: float(each.mean()) for name, each in alone.items()}
    return Combination(chosen, means, spreads, float(best.mean()), areas)
