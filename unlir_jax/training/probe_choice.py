"""What a probe has chosen: kept as JSON, read again, and told to all processes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unlir_jax.models import layers
from unlir_jax.runtime import mesh
from unlir_jax.training.probe import WEIGHT_DECAY, Candidate, Choice


def notes(choice: Choice, opened: Sequence[str]) -> dict[str, Any]:
    """Say what has been chosen as JSON knows it."""
    return choice.candidate._asdict() | {
        "chosen": list(opened),
        "reason": choice.reason,
        "held_out_pictures": choice.pictures,
        "folds": choice.folds,
        "candidates": [
            candidate._asdict() | score._asdict()
            for candidate, score in choice.scores.items()
        ],
    }


def check_kept(job: Any, kept: dict[str, Any], path: Path) -> dict[str, Any]:
    """Refuse what a search kept where it is not what a search keeps.

    Args:
        job: What is chosen for.
        kept: The document: `tried`, or the `choice` that it ended with, see `notes`.
        path: Where it was read.

    Raises:
        ValueError: It is something else.
    """
    chosen, tried = kept.get("choice"), kept.get("tried")
    if chosen is None:
        sound = isinstance(tried, dict) and all(map(_are_sums, tried.values()))
    else:
        sound = (
            isinstance(chosen, dict)
            and chosen.get("pooling") in _ways()
            and chosen.get("weight_decay") in _decays(job)
            and isinstance(chosen.get("steps"), int)
            and isinstance(chosen.get("reason"), str)
        )
    if not sound:
        raise ValueError(
            f"{str(path)!r} is not what a search for a probe keeps; expected what "
            "`unlir train` wrote: delete it, and the same command searches again."
        )
    return kept


def _are_sums(found: Any) -> bool:
    """Tell whether something is what `held_out.measure` gives."""
    rows = found if isinstance(found, list) else []
    return len(rows) == 3 and all(
        isinstance(row, list) and all(type(value) in (int, float) for value in row)
        for row in rows
    )


def _ways() -> tuple[str, ...]:
    return ("", *layers.POOLS)


def _decays(job: Any) -> tuple[float, ...]:
    if WEIGHT_DECAY in job.left_open:
        return tuple(job.settings.probe.weight_decays)
    return (job.settings.optimizer.weight_decay,)


def agree(job: Any, chosen: Mapping[str, Any] | None) -> Candidate:
    """Tell all processes what the first one has chosen.

    Args:
        job: The same in all of them.
        chosen: Of the first one, see `notes`.
    """
    ways, decays = _ways(), _decays(job)
    places = 0, 0, 0
    if chosen:
        places = ways.index(chosen["pooling"]), decays.index(chosen["weight_decay"])
        places = *places, chosen["steps"]
    pooling, decay, steps = mesh.agree(*places)
    return Candidate(ways[pooling], decays[decay], steps)
