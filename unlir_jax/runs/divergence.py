"""Stop a run whose numbers are none any more, and note in its workdir where."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from unlir_jax.core import finite
from unlir_jax.runtime import mesh
from unlir_jax.storage import files

DIVERGED = "diverged.json"
ADVICE = (
    "the checkpoint before is kept: try a smaller optimizer.learning_rate, or "
    "optimizer.clip_norm=1"
)


def check_step(
    folder: Path,
    values: Mapping[str, float],
    step: int,
    index: np.ndarray,
    name: Callable[[int], str],
) -> None:
    """Stop a training whose numbers are none any more.

    The names of all images of that batch are written to `diverged.json`.

    Raises:
        FloatingPointError: Says so, with the step and some of the names.
    """
    bad = [what for what, value in values.items() if not math.isfinite(value)]
    if not bad:
        return
    names = [name(int(place)) for place in index if place >= 0]
    if mesh.is_first():
        document = {"step": step, "not_a_number": bad, "batch": names}
        files.write_text(folder / DIVERGED, files.to_json(document))
    more = f", see {DIVERGED}" if len(names) > finite.MOST_NAMED else ""
    raise FloatingPointError(
        f"{' and '.join(bad)} of step {step} is not a finite number"
        f"{finite.named(names)}{more}; {ADVICE}."
    )


def check_measured(
    folder: Path,
    values: Mapping[str, object],
    where: str,
    examples: Sequence[str] = (),
    advice: str = "the checkpoint before is kept, and the same command tries again",
) -> None:
    """Stop a training that has measured what is no number; see `finite.check`.

    All of the names are written to `diverged.json`.
    """
    try:
        finite.check(values, where, examples, advice)
    except FloatingPointError:
        if mesh.is_first():
            bad = [
                name for name, value in values.items() if not finite.is_finite(value)
            ]
            document = {"where": where, "not_a_number": bad, "batch": list(examples)}
            files.write_text(folder / DIVERGED, files.to_json(document))
        raise


def check_state(folder: Path, sound: Mapping[str, object], step: int) -> None:
    """Stop a training before what is no number is kept as a checkpoint.

    Args:
        folder: The workdir.
        sound: Whether each array is finite, by path; see `state.make_check`.
        step: Its number.
    """
    known = jax.device_get(dict(sound))
    values = {p: 0.0 if whole else math.nan for p, whole in known.items()}
    check_measured(folder, values, f"the state after step {step}", advice=ADVICE)
