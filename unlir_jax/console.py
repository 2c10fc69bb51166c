"""What the command line says: sentences, tables, JSON, and how far the work is."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

DONE = 0


def say(text: str) -> None:
    """Print a sentence at once."""
    print(text, flush=True)


@contextmanager
def progress() -> Iterator[Callable[[str, float], None]]:
    """Draw how far the work is: `show(doing, share)`."""
    from rich import console, progress  # Slow to import.

    bar = progress.Progress(
        progress.TextColumn("{task.description:<22}"),
        progress.BarColumn(bar_width=36),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        console=console.Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("reading", total=1.0)
        yield lambda doing, share: bar.update(task, description=doing, completed=share)


@contextmanager
def silence() -> Iterator[Callable[[str, float], None]]:
    """Draw nothing."""
    yield lambda doing, share: None


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()
) -> int:
    """Print aligned columns; those numbered in `right` to the right."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        cells = [
            text.rjust(width) if index in right else text.ljust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    return DONE


def print_json(value: Any) -> int:
    """Print what JSON can hold."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
    return DONE


def complain(message: str) -> None:
    """Print a sentence beside the output."""
    print(f"unlir: {' '.join(message.split())}", file=sys.stderr)
