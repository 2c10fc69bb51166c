"""Notice a signal to stop, and let a run save its state first."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """Say that work was given up because a signal asked for it."""


@contextlib.contextmanager
def watch() -> Iterator[Callable[[], str]]:
    """Take SIGTERM and the first Ctrl-C as a wish, not as an end.

    Yields:
        `asked() -> str`: the name of the signal that came, or "". A second Ctrl-C
        interrupts at once, as ever. Outside the main thread, which alone can be told
        of signals, nothing is watched.
    """
    came: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: ""
        return

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(signal.Signals(number).name)

    previous = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield lambda: came[0] if came else ""
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
