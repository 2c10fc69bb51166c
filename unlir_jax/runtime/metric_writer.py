"""Metrics of a training: a JSON Lines file, TensorBoard, a progress line."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from unlir_jax.core import console, extras, finite
from unlir_jax.storage import documents

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"


class Journal(NamedTuple):
    """Hold the functions that a training speaks with.

    Attributes:
        write: `(step, values)`: keeps numbers by name, such as "test/accuracy"; raises
            FloatingPointError where one is not finite.
        show: `(step, text)`: moves the progress line.
        say: `(text)`: prints a line that stays.
        close: Ends it all.
    """

    write: Callable[[int, Mapping[str, float]], None]
    show: Callable[[int, str], None]
    say: Callable[[str], None]
    close: Callable[[], None]


def silent() -> Journal:
    """Make a journal that keeps nothing, for all processes but the first."""
    return Journal(*[lambda *arguments: None] * 4)


def start(
    folder: Path,
    step: int,
    steps: int,
    *,
    tensorboard: bool = False,
    live: bool = False,
    say: Callable[[str], None] = print,
) -> Journal:
    """Continue with the journal of a workdir.

    Args:
        folder: The workdir.
        step: Where the training continues: what was written of later steps is dropped,
            for it will be written again.
        steps: Where it ends.
        tensorboard: Whether TensorBoard gets the metrics too.
        live: Whether somebody watches, so that there shall be a progress line.
        say: Prints a line.
    """
    path = folder / METRICS
    _truncate(path, step)
    file = path.open("a", encoding="utf-8")
    board = _board(folder / TENSORBOARD, step) if tensorboard else None
    bar, task = _bar(step, steps) if live else (None, None)

    def write(step: int, values: Mapping[str, float]) -> None:
        finite.check(values, f"step {step}")
        file.write(json.dumps({"step": step} | dict(values), allow_nan=False) + "\n")
        file.flush()
        if board is not None:
            for name, value in values.items():
                board.add_scalar(name, value, step)
            board.flush()

    def show(step: int, text: str) -> None:
        if bar is not None:
            bar.update(task, completed=step, text=text)

    def speak(text: str) -> None:
        if bar is not None:
            text = console.visible(text)
            bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            say(text)

    def close() -> None:
        file.close()
        if board is not None:
            board.close()
        if bar is not None:
            bar.stop()

    return Journal(write, show, speak, close)


def _truncate(path: Path, step: int) -> None:
    """Drop lines of later steps, and one that an interruption left unfinished."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        known = _step(line)
        if known is not None and known <= step:
            kept.append(line)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(b"".join(kept))
    os.replace(temporary, path)


def _step(line: bytes) -> int | None:
    """Read the step of a line; None where an interruption or damage left none."""
    try:
        known = documents.parse_json(line, "the line") if line.endswith(b"\n") else {}
    except ValueError:
        return None
    step = known.get("step") if isinstance(known, dict) else None
    return step if isinstance(step, int) else None


def _board(folder: Path, step: int) -> Any:
    with extras.needed("train"):
        import tensorboardX
    return tensorboardX.SummaryWriter(str(folder), purge_step=step + 1)


def _bar(step: int, steps: int) -> tuple[Any, Any]:
    from rich import console as terminal
    from rich import progress

    bar = progress.Progress(
        progress.TextColumn("step {task.completed}/{task.total}"),
        progress.BarColumn(bar_width=28),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[text]}"),
        console=terminal.Console(stderr=True),
    )
    bar.start()
    return bar, bar.add_task("training", total=steps, completed=step, text="")
