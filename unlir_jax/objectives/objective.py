"""The contract between the trainer and whatever it trains."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from unlir_jax.features.batches import Batches
from unlir_jax.models.part_network.cells import Traits
from unlir_jax.types import Array, Logits, PerImage, PyTree, RandomKey, Variables

Batch = Mapping[str, Any]
"""Rows of a batch by name: `image` or `features`, `label`, `weight`, `position`, …;
and in each `done`, the share of the training that is behind it."""

Numbers = Mapping[str, int | float]


class Outcome(NamedTuple):
    """Hold what an objective says of a batch, row by row.

    Attributes:
        loss: One number a row; who calls it averages over the rows that count.
        metrics: By name, one number a row.
        statistics: What the network keeps besides its parameters, after this batch.
    """

    loss: PerImage
    metrics: dict[str, PerImage]
    statistics: PyTree


class Session(NamedTuple):
    """Hold what a hook may use of a training.

    Attributes:
        folder: The workdir.
        batches: Batches of the training, and features where they are kept.
        show: Tells people what is being done.
    """

    folder: Path
    batches: Batches
    show: Callable[[str], None]


Action = Callable[[Variables, Session], tuple[Variables, Mapping[str, object]]]
"""`(variables, session) -> (variables, entries of the summary)`, in all processes."""


def _nothing(
    variables: Variables, session: Session
) -> tuple[Variables, Mapping[str, object]]:
    del session
    return variables, {}


class Hook(NamedTuple):
    """Hold what is done at the two ends of a training.

    Attributes:
        before_first_step: Gives the variables to start from; not called on resuming,
            its entries are kept with the checkpoints.
        after_last_step: Gives the variables that are written as weights.
    """

    before_first_step: Action = _nothing
    after_last_step: Action = _nothing


class Replay(NamedTuple):
    """Say how an objective changes images by the slope of its own loss.

    Attributes:
        times: Number of steps in a row that see the same batch.
        move: `(change, slope) -> change`, row by row: what is added to images, and the
            slope of the rows' losses by it.
    """

    times: int
    move: Callable[[jax.Array, jax.Array], jax.Array]


def _silent(known: Numbers, best: Numbers) -> str:
    del known, best
    return ""


class Objective(NamedTuple):
    """Hold the two functions that a trainer calls, and its hooks.

    Attributes:
        train: `(variables, batch, key) -> Outcome`, to be differentiated.
        evaluate: `(variables, batch) -> {name: one number a row}`; has a "loss".
        metrics: The names that `evaluate` gives.
        hooks: Called one after the other, each with the variables of the one before.
        annotations: Which of the data's annotations its batches hold in training.
        notice: `(known, best) -> sentence` after an evaluation, "" for nothing. The
            last numbers of training and test are known by name, such as
            `test/accuracy`; the best evaluation has its `step` as well.
        replay: Where there is one, batches of training have a `change`, an array like
            the images, which starts at 0 and moves after every step. Its rows belong
            to places in the batch.
        check: Called with shapes alone, before anything is written: refuses a network
            that the objective is not for.
    """

    train: Callable[[Variables, Batch, RandomKey], Outcome]
    evaluate: Callable[[Variables, Batch], dict[str, PerImage]]
    metrics: tuple[str, ...]
    hooks: tuple[Hook, ...] = ()
    annotations: tuple[str, ...] = ()
    notice: Callable[[Numbers, Numbers], str] = _silent
    replay: Replay | None = None
    check: Callable[[Variables, Batch], object] | None = None


class Apply(NamedTuple):
    """Hold a network as training sees it.

    Attributes:
        train: `(variables, inputs, key) -> (logits, statistics)`.
        evaluate: `(variables, inputs) -> logits`.
        inputs: Which rows of a batch it takes: `image` (uint8 or float in [0, 1]) or
            `features`.
        traits: Traits of a part network, `train` with all that constraints
            need: `(variables, inputs, key) -> (Traits, statistics)`, see
            `models.part_network.cells`.
        knows: Which of the traits it has that others may not.
        axis_name: The axis of `pmap` that rows are dealt out to.
        mean: Colour in [0, 1] that the network sees as zero; () if it is not known.
    """

    train: Callable[[Variables, Array, RandomKey], tuple[Logits, PyTree]]
    evaluate: Callable[[Variables, Array], Logits]
    inputs: str = "image"
    traits: Callable[[Variables, Array, RandomKey], tuple[Traits, PyTree]] | None = None
    knows: tuple[str, ...] = ()
    axis_name: str | None = None
    mean: tuple[float, ...] = ()
