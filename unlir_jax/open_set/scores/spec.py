"""Specs of scores: all that is said of a method, and the checks of every call.

A score is a factory under `@score(...)`, imported once. Configs, tables of the
documentation and tests read the tables below.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from unlir_jax.types import Array

Rows = Float[Array, "batch channels"]
Logits = Float[Array, "batch classes"]
Labels = Integer[Array, " batch"]
State = Any
Takes = Literal["logits", "features", "activations", "parts"]


class Linear(NamedTuple):
    """Hold a linear classifier of features, `features @ kernel + bias`.

    Attributes:
        kernel: `[channels, classes]`.
        bias: `[classes]`.
    """

    kernel: np.ndarray
    bias: np.ndarray

    def logits(self, features: Rows) -> np.ndarray:
        """Classify features, `[batch, classes]`."""
        return np.asarray(features, np.float64) @ self.kernel + self.bias


class Score(NamedTuple):
    """Hold the two functions of a score.

    Attributes:
        fit: `(features, logits, labels) -> state`, from training images of known
            classes alone.
        score: `(state, features, logits) -> [batch]`, high where an image fits the
            known classes; float64, and the same whatever else is in the batch.
    """

    fit: Callable[..., State]
    score: Callable[..., np.ndarray]


class ScoreSpec(NamedTuple):
    """Describe a score; as a decorator, register the factory below.

    Attributes:
        title: Name for people.
        formula: The score in words or symbols.
        takes: The input that the score reads: `logits`, `features` of any sign,
            `activations` from 0, or scores of `parts`.
        source: Authors, venue and year.
        head: Whether the factory needs the linear classifier of the features.
    """

    title: str
    formula: str
    takes: Takes
    source: str
    head: bool = False

    def __call__[**P](self, factory: Callable[P, Score]) -> Callable[P, Score]:
        """Register a factory `(head, *, settings) -> Score` under its own name.

        Its functions are given float64, and check shapes, labels and numbers.

        Raises:
            ValueError: Another factory has the name.
        """
        name = factory.__name__
        owner = SCORES.get(name, factory).__module__
        if owner != factory.__module__:
            raise ValueError(f"`{name}` is a score of {owner}; expected another name.")

        @functools.wraps(factory)
        def made(*args: P.args, **kwargs: P.kwargs) -> Score:
            head = args[0] if args else kwargs.get("head")
            if self.head and not isinstance(head, Linear):
                raise TypeError(
                    f"`head`={type(head).__name__} of {name!r}; expected the Linear "
                    "classifier of the features."
                )
            return _checked(name, self, factory(*args, **kwargs))

        SPECS[name], SCORES[name] = self, made
        return made


score = ScoreSpec

SCORES: dict[str, Callable[..., Score]] = {}
"""Factories by name; each takes the linear classifier and its own settings."""

SPECS: dict[str, ScoreSpec] = {}
"""Specs by name, in the order of the imports."""


def _checked(name: str, spec: ScoreSpec, own: Score) -> Score:
    def fit(features: Rows, logits: Logits, labels: Labels) -> State:
        rows, scores = _numbers(name, spec, features, logits)
        own_labels, classes = np.asarray(labels), scores.shape[1]
        if own_labels.shape != (len(rows),):
            raise ValueError(
                f"`labels` of {name!r} has shape {own_labels.shape}; expected "
                f"({len(rows)},), one for each row of features."
            )
        absent = np.setdiff1d(np.arange(classes), own_labels)
        if own_labels.min() < 0 or own_labels.max() >= classes or len(absent):
            raise ValueError(
                f"`labels` of {name!r} holds {own_labels.min()} to {own_labels.max()}"
                f"; expected each of the {classes} classes of the logits, from 0."
            )
        return own.fit(rows, scores, own_labels)

    def score(state: State, features: Rows, logits: Logits) -> np.ndarray:
        rows, scores = _numbers(name, spec, features, logits)
        found = own.score(state, rows, scores)
        broken = np.count_nonzero(~np.isfinite(found))
        if broken:
            raise FloatingPointError(
                f"{name!r} gives {broken} of {len(found)} images no finite score; "
                "expected features and logits of moderate size."
            )
        return found

    return Score(fit, score)


def _numbers(
    name: str, spec: ScoreSpec, features: Rows, logits: Logits
) -> tuple[np.ndarray, np.ndarray]:
    rows, scores = np.asarray(features, np.float64), np.asarray(logits, np.float64)
    if len(rows) != len(scores) or not len(rows):
        raise ValueError(
            f"`features` of {name!r} has {len(rows)} rows and `logits` {len(scores)}; "
            "expected as many of both, 1 or more."
        )
    if scores.shape[1] < 2:
        raise ValueError(
            f"`logits` of {name!r} has {scores.shape[1]} classes; expected 2 or more."
        )
    for what, table in (("features", rows), ("logits", scores)):
        broken = np.count_nonzero(~np.isfinite(table).all(1))
        if broken:
            raise ValueError(
                f"`{what}` of {name!r} has {broken} rows that are not finite; expected "
                "numbers: leave such images out, and count them."
            )
    if spec.takes == "activations" and (rows < 0).any():
        raise ValueError(
            f"`features` of {name!r} holds {rows.min():g}; expected activations from "
            "0, such as those behind a ReLU."
        )
    return rows, scores
