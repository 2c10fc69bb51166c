"""The contract between the trainer and whatever it trains."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from unlir_jax.types import Array, Logits, PerImage, RandomKey, Variables

Batch = Mapping[str, Any]
"""Rows of a batch by name: `image` or `features`, `label`, `weight`, `position`, …;
and in each `done`, the share of the training that is behind it."""


class Outcome(NamedTuple):
    """Hold what an objective says of a batch, row by row.

    Attributes:
        loss: One number a row; who calls it averages over the rows that count.
        metrics: By name, one number a row.
        statistics: What the network keeps besides its parameters, after this batch.
    """

    loss: PerImage
    metrics: dict[str, PerImage]
    statistics: Any


class Objective(NamedTuple):
    """Hold the two functions that a trainer calls.

    Attributes:
        train: `(variables, batch, key) -> Outcome`, to be differentiated.
        evaluate: `(variables, batch) -> {name: one number a row}`; has a "loss".
        metrics: The names that `evaluate` gives.
    """

    train: Callable[[Variables, Batch, RandomKey], Outcome]
    evaluate: Callable[[Variables, Batch], dict[str, PerImage]]
    metrics: tuple[str, ...]


class Apply(NamedTuple):
    """Hold a network as training sees it.

    Attributes:
        train: `(variables, inputs, key) -> (logits, statistics)`.
        evaluate: `(variables, inputs) -> logits`.
        inputs: Which rows of a batch it takes: `image` (uint8 or float in [0, 1]) or
            `features`.
        traits: Of a network that decides by parts, `train` with all that constraints
            look at: `(variables, inputs, key) -> (Traits, statistics)`, those of
            `models.parts.cells`.
        knows: Which of the traits it has that others may not.
        axis_name: The axis of `pmap` that rows are dealt out to.
    """

    train: Callable[[Variables, Array, RandomKey], tuple[Logits, Any]]
    evaluate: Callable[[Variables, Array], Logits]
    inputs: str = "image"
    traits: Callable[[Variables, Array, RandomKey], tuple[Any, Any]] | None = None
    knows: tuple[str, ...] = ()
    axis_name: str | None = None
