"""Choice of a probe: kept as JSON, read again, and sent to all processes."""

from collections.abc import Sequence
from pathlib import Path

from unlir_jax.core.document_types import Record
from unlir_jax.models import layers
from unlir_jax.runtime import mesh
from unlir_jax.training.probe import WEIGHT_DECAY, Candidate, poolings
from unlir_jax.training.probe_search import Choice
from unlir_jax.training.setup import TrainingSetup


def notes(choice: Choice, opened: Sequence[str]) -> Record:
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


def check_kept(setup: TrainingSetup, kept: Record, path: Path) -> Record:
    """Refuse what a search kept where it is not what a search keeps.

    Args:
        setup: What is chosen for.
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
            and chosen.get("pooling") in _ways(setup)
            and chosen.get("weight_decay") in _decays(setup)
            and isinstance(chosen.get("steps"), int)
            and isinstance(chosen.get("reason"), str)
        )
    if not sound:
        raise ValueError(
            f"{str(path)!r} is not what a search for a probe keeps; expected what "
            "`unlir train` wrote: delete it, and the same command searches again."
        )
    return kept


def _are_sums(found: object) -> bool:
    """Tell whether something is what `held_out.measure` gives."""
    rows = found if isinstance(found, list) else []
    return len(rows) == 3 and all(
        isinstance(row, list) and all(type(value) in (int, float) for value in row)
        for row in rows
    )


def _ways(setup: TrainingSetup) -> tuple[str, ...]:
    module = setup.network.module
    tried = poolings(setup.settings, setup.left_open, module)
    own = getattr(module, "pooling", "")
    return tuple(dict.fromkeys(("", *layers.POOLS, own, *tried)))


def _decays(setup: TrainingSetup) -> tuple[float, ...]:
    if WEIGHT_DECAY in setup.left_open:
        return tuple(setup.settings.probe.weight_decays)
    return (setup.settings.optimizer.weight_decay,)


def agree(setup: TrainingSetup, chosen: Record | None) -> Candidate:
    """Tell all processes what the first one has chosen.

    Args:
        setup: The same in all of them.
        chosen: Choice of the first probe, see `notes`.
    """
    ways, decays = _ways(setup), _decays(setup)
    places = 0, 0, 0
    if chosen:
        places = ways.index(chosen["pooling"]), decays.index(chosen["weight_decay"])
        places = *places, chosen["steps"]
    pooling, decay, steps = mesh.agree(*places)
    return Candidate(ways[pooling], decays[decay], steps)
