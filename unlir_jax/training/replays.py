"""Batches that several steps in a row see, and what these steps add to images.

Free adversarial training needs them, see `Objective.replay`. A step is one update of
the parameters, so that `steps`, `epochs` and the learning rate count updates.
"""

from collections.abc import Callable, Iterator

from unlir_jax.core.document_types import Settings
from unlir_jax.features.batches import Batch
from unlir_jax.objectives.objective import Objective


def shape(settings: Settings, objective: Objective, image_size: int) -> tuple[int, ...]:
    """Give the shape of what steps add to images; () where they add nothing."""
    whole = settings.batch_size, image_size, image_size, 3
    return whole if objective.replay else ()


def told(
    settings: Settings, objective: Objective, steps: int, examples: int
) -> list[str]:
    """Say how often the data is passed over.

    Raises:
        ValueError: A batch would be worked through in parts.
    """
    if objective.replay is None:
        return []
    parts, times = settings.optimizer.accumulate, objective.replay.times
    if parts > 1:
        raise ValueError(
            f"`optimizer.accumulate`={parts} with an objective that replays batches; "
            "expected 1."
        )
    passes = steps * settings.batch_size / examples / times
    return [
        f"replays: {times} steps in a row see one batch, so {steps} steps pass over "
        f"the data {passes:.4g} times"
    ]


def batches(
    training: Callable[[int], Iterator[Batch]], start: int, objective: Objective
) -> Iterator[Batch]:
    """Give the batches of training: step t sees batch t // `times`.

    Args:
        training: `start -> batches`, see `features.batches.Batches`.
        start: The step to begin with.
        objective: Says how often batches are replayed.
    """
    if objective.replay is None:
        return training(start)
    first, skipped = divmod(start, objective.replay.times)
    return _repeated(training(first), skipped, objective.replay.times)


def _repeated(rows: Iterator[Batch], skipped: int, times: int) -> Iterator[Batch]:
    try:
        for batch in rows:
            yield from [batch] * (times - skipped)
            skipped = 0
    finally:
        getattr(rows, "close", lambda: None)()
