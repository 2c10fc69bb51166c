"""What a training notes on its way, and the summary that it ends with."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unlir_jax import tree
from unlir_jax.core import finite
from unlir_jax.models import pretrained
from unlir_jax.report import training
from unlir_jax.runs import workdir
from unlir_jax.runtime import config, mesh, metric_writer
from unlir_jax.storage import files
from unlir_jax.weights import exported, readers

DIVERGED = "diverged.json"
ADVICE = (
    "the checkpoint before is kept: try a smaller optimizer.learning_rate, or "
    "optimizer.clip_norm=1"
)


def first_notes() -> dict[str, Any]:
    """Give what a training notes beside each checkpoint, as it is at its beginning."""
    return {
        "train": {},
        "test": {},
        "best": {},
        "unreadable": {"train": [], "test": []},
        "means": None,
        "clock": None,
    }


_NUMBERS = (int, float)


def check_notes(kept: Any) -> None:
    """Refuse notes of a checkpoint that are not those of a training.

    Raises:
        ValueError: Something is missing or of another type.
    """

    def numbers(group: Any) -> bool:
        return isinstance(group, dict) and all(
            isinstance(value, _NUMBERS) or value is None for value in group.values()
        )

    def sums(group: Any, names: set[str]) -> bool:
        return isinstance(group, dict) and names <= set(group)

    sound = isinstance(kept, dict) and set(first_notes()) <= set(kept)
    if sound:
        means, clock, unread = kept["means"], kept["clock"], kept["unreadable"]
        sound = all(numbers(kept[name]) for name in ("train", "test", "best"))
        sound &= means is None or (
            sums(means, {"values", "count"})
            and numbers(means["values"])
            and isinstance(means["count"], int)
        )
        clocked = {"images", "seconds", "waited"}
        sound &= clock is None or sums(clock, clocked) and numbers(clock)
        sound &= sums(unread, {"train", "test"}) and all(
            isinstance(names, list) for names in unread.values()
        )
    if not sound:
        raise ValueError("its notes are not those of a training")


def check_finite(
    folder: Path,
    values: Mapping[str, float],
    step: int,
    index: np.ndarray,
    name: Callable[[int], str],
) -> None:
    """Stop a training whose numbers are none any more.

    The names of all pictures of that batch are written to `diverged.json`.

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
    values: Mapping[str, Any],
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


def check_state(folder: Path, sound: Mapping[str, Any], step: int) -> None:
    """Stop a training before what is no number is kept as a checkpoint.

    Args:
        folder: The workdir.
        sound: Whether each array is finite, by path; see `state.make_check`.
        step: Its number.
    """
    known = jax.device_get(dict(sound))
    values = {p: 0.0 if whole else math.nan for p, whole in known.items()}
    check_measured(folder, values, f"the state after step {step}", advice=ADVICE)


def note_unreadable(
    notes: dict[str, Any], split: str, report: Any, name: Callable[[int], str]
) -> None:
    """Remember the names of pictures that could not be read, each once."""
    known = notes["unreadable"][split]
    for place in report.index[(report.weight == 0) & (report.index >= 0)].tolist():
        if name(place) not in known:
            known.append(name(place))


def note_best(
    notes: dict[str, Any], metrics: Mapping[str, float], step: int, settings: Any
) -> bool:
    """Remember the best evaluation; tell whether this one is it."""
    name = f"test/{settings.best}"
    before = notes["best"].get(name)
    sign = 1 if settings.largest else -1
    if before is not None and sign * metrics[name] <= sign * before:
        return False
    notes["best"] = {"step": step} | dict(metrics)
    return True


def finish(
    folder: Path,
    job: Any,
    variables: Mapping[str, Any],
    notes: Mapping[str, Any],
    speed: Mapping[str, float],
) -> dict[str, Any]:
    """Write the weights and, last of all, the summary of a finished training.

    Args:
        folder: The workdir.
        job: See `job.Job`.
        variables: What has been learnt, whole.
        notes: Of the last checkpoint.
        speed: See `progress.Clock.values`.

    Returns:
        The summary.

    Raises:
        FloatingPointError: A number of it, or of the weights, is none; nothing is
            written then.
    """
    train, test = job.data
    leaves = {path: np.asarray(leaf) for path, leaf in tree.flatten(variables).items()}
    network = job.network._replace(class_names=train.classes, **job.frame)
    purpose = pretrained.purpose(network)
    best = {
        f"best/{name.removeprefix('test/')}": value
        for name, value in notes["best"].items()
    }
    summary = dict(notes.get("test", {})) | dict(notes.get("train", {})) | best
    summary |= speed
    summary |= notes.get("start", {}) | notes.get("measured", {})
    summary |= notes.get("filters", {}) | notes.get("chosen", {})
    summary |= {
        "seed": job.settings.seed,
        "steps": job.steps,
        "train_examples": train.size,
        "test_examples": test.size if test else 0,
        "unreadable": notes["unreadable"],
        "duplicates": notes.get("duplicates"),
        "devices": job.laid.mesh.size,
        "processes": jax.process_count(),
        "versions": files.versions(),
        "initial_weights": pretrained.provenance(job.network),
        "preprocessing": pretrained.prepared(job.network, **job.frame),
        "config": config.to_dict(job.settings),
    }
    check_measured(folder, summary, "the summary")
    check_state(folder, {p: np.isfinite(x).all() for p, x in leaves.items()}, job.steps)
    if mesh.is_first():
        path = exported.write(folder, leaves, purpose)
        summary["weights_sha256"] = readers.sha256(path)
        lines = (folder / metric_writer.METRICS).read_text("utf-8").splitlines()
        files.write_bytes(folder / workdir.CURVES, training.draw(training.read(lines)))
        files.write_text(folder / workdir.SUMMARY, files.to_json(summary))
    return summary


def listed(metrics: Mapping[str, float]) -> str:
    """Write numbers by name for people."""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def result(folder: Path, summary: Mapping[str, Any]) -> str:
    """Say in a sentence how a finished training came out."""
    # The ends of intervals are in the summary.
    names = [name for name in summary if name.startswith("test/")]
    names = [name for name in names if not name.endswith(("_low", "_high"))]
    names = names or ["train/loss"]
    found = {name: summary[name] for name in names if summary.get(name) is not None}
    unread = sum(map(len, summary["unreadable"].values()))
    skipped = ""
    if unread:
        some = [name for names in summary["unreadable"].values() for name in names]
        more = ", …" if unread > 5 else ""
        skipped = f" {unread} pictures could not be read: {', '.join(some[:5])}{more}."
    return f"training is finished in {str(folder)!r}, {listed(found)}.{skipped}"
