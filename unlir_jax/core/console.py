"""Output of the command line: sentences, tables, JSON and progress."""

import io
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

# Exit codes. 70 is EX_SOFTWARE of sysexits.h; shells give 128 and the signal's number.
DONE, SOME_FAILED, BAD_INPUT, DIVERGED = 0, 1, 2, 3
INTERNAL_ERROR, INTERRUPTED, PIPE_CLOSED = 70, 130, 141

# What moves, colours or hides text in a terminal or turns its direction: controls but
# for the tab and the end of a line, marks of direction, letters without width (but for
# the two that join letters), ends of lines and halves of letters of Unicode 16.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    r"""Write letters that would act on a terminal or a page as what they are.

    Names of files, classes and arrays come from anybody.

    Example:
        >>> from unlir_jax.core import console
        >>> print(console.visible("a\x1b[31mb"))
        a\u001b[31mb
    """
    # As JSON writes them, so that text which is JSON stays the same document.
    return _HIDDEN.sub(lambda found: json.dumps(found[0])[1:-1], text)


def say(text: str) -> None:
    """Print a sentence, or lines of them, at once."""
    print(visible(text), flush=True)


Progress = Callable[[str, float], None]
"""Told what is being done, and the share of all the work that is done.

What is being done may be "stage: detail"; stages follow one another.
"""


@contextmanager
def progress(force: bool = False) -> Iterator[Progress]:
    """Draw how far the work is: `show(doing, share)`.

    Args:
        force: Whether to draw where there is no terminal.
    """
    from rich import console, progress  # Slow to import.

    bar = progress.Progress(
        progress.TextColumn("{task.description:<34}", markup=False),
        progress.BarColumn(bar_width=24),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        console=console.Console(stderr=True, force_terminal=force or None),
        transient=True,
    )
    with bar:
        task = bar.add_task("reading", total=1.0)

        def show(doing: str, share: float) -> None:
            bar.update(task, description=cut(visible(doing)), completed=share)

        yield show


def cut(text: str, most: int = 34) -> str:
    """Shorten a text to what a line has room for; its end says what is new."""
    return text if len(text) <= most else f"…{text[1 - most :]}"


@contextmanager
def lines(clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """Print a line for each stage, with the time since the beginning and the share.

    Args:
        clock: Seconds since some moment.
    """
    last = ""
    with sentences(clock) as say:

        def show(doing: str, share: float) -> None:
            nonlocal last
            stage = doing.partition(": ")[0]
            if stage != last:
                say(f"{share:4.0%}  {stage}")
            last = stage

        yield show
        # Not after an error: that has a sentence of its own.
        show("done", 1.0)


@contextmanager
def sentences(
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[str], None]]:
    """Print sentences next to the output, each with the minutes since the beginning.

    Args:
        clock: Seconds since some moment.
    """
    begun = clock()

    def say(text: str) -> None:
        minutes, seconds = divmod(round(clock() - begun), 60)
        told = f"{minutes:4}:{seconds:02}  {visible(text)}"
        print(told, file=sys.stderr, flush=True)

    yield say


@contextmanager
def silence() -> Iterator[Progress]:
    """Draw nothing."""
    yield lambda doing, share: None


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()
) -> int:
    """Print aligned columns, those numbered in `right` to the right; no cell is cut.

    In a terminal the head is bold.
    """
    from rich import console, table, text  # Slow to import.

    drawn = table.Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, title in enumerate(head):
        side = "right" if index in right else "left"
        drawn.add_column(text.Text(visible(title)), justify=side, no_wrap=True)
    for row in rows:
        drawn.add_row(*(text.Text(visible(cell)) for cell in row))
    page = io.StringIO()
    terminal = sys.stdout.isatty()
    # As wide as it needs to be, whatever reads it.
    console.Console(file=page, width=10**6, force_terminal=terminal).print(drawn)
    for line in page.getvalue().splitlines():
        print(line.rstrip())
    return DONE


def print_json(value: object) -> int:
    """Print what JSON can hold."""
    print(visible(json.dumps(value, indent=2, ensure_ascii=False)))
    return DONE


def complain(message: str) -> None:
    """Print a sentence next to the output."""
    print(f"unlir: {visible(' '.join(message.split()))}", file=sys.stderr)
