"""Both ends of the pipe between the benchmark and the processes that it times.

One line of JSON asks, one line of JSON answers. The standard library only, and Python
3.11: this file also runs in the peer's environment.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# What a user can cause; anything else is a fault of ours and shows its traceback.
EXPECTED = (ImportError, OSError, ValueError)
# The pools of threads of the process timed before keep spinning for some milliseconds.
REST = 0.05


class Refused(Exception):
    """Carry the one sentence in which a process said why it could not."""

    def __init__(self, sentence: str, kind: str):
        super().__init__(sentence)
        self.kind = kind


class Worker:
    """Drive one long-lived process."""

    def __init__(
        self,
        python: str,
        script: Path,
        environment: Mapping[str, str],
        name: str = "worker",
    ):
        self.name = name
        self._process = subprocess.Popen(
            [python, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | dict(environment),
            text=True,
            # Ctrl-C is for the one who drives; the others end when their pipe closes.
            start_new_session=True,
        )

    def ask(self, command: str, **arguments: Any) -> Any:
        """Send a command and wait for its answer.

        Raises:
            Refused: The process said why it could not.
            RuntimeError: The process ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError(f"The process of {self.name} has no pipes.")
        try:
            stdin.write(json.dumps({"command": command} | arguments) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            raise RuntimeError(
                f"{self.name} ended with exit code {code} at {command!r}."
            )
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"], answer["kind"])
        return answer["answer"]

    def close(self) -> None:
        """End the process, which waits for a command."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    self._process.kill()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is not None:  # It may be in the middle of something long.
            self._process.kill()
        self.close()


def serve(handlers: Mapping[str, Callable[..., Any]]) -> None:
    """Answer commands until the other end closes."""
    # A library that prints to standard output must not break the conversation.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            answer = {"answer": handlers[arguments.pop("command")](**arguments)}
        except EXPECTED as error:
            answer = {"error": str(error), "kind": type(error).__name__}
        channel.write(json.dumps(answer) + "\n")
        channel.flush()


def serve_session(make: Callable[[dict[str, Any]], Any], names: Sequence[str]) -> None:
    """Answer `load` by making a session, and other commands by its methods."""
    session: list[Any] = []
    handlers: dict[str, Callable[..., Any]] = {
        "load": lambda settings: session.append(make(settings)),
    }
    for name in names:
        handlers[name] = lambda name=name, **given: getattr(session[-1], name)(**given)
    serve(handlers)


def median_seconds(function: Callable[[], object], calls: int) -> float:
    """Time calls one by one; the median leaves out the odd one that was disturbed."""
    time.sleep(REST)
    return statistics.median(seconds(function) for _ in range(calls))


def seconds(function: Callable[[], object]) -> float:
    """Time one call, which must wait for its own result."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def both_seconds(function: Callable[[], object], calls: int) -> list[float]:
    """Give medians of a call's seconds on the wall and on the processor.

    The processor's do not count the time for which others had the core.
    """
    time.sleep(REST)
    wall, own = [], []
    for _ in range(calls):
        begin, spent = time.perf_counter(), time.process_time()
        function()
        wall.append(time.perf_counter() - begin)
        own.append(time.process_time() - spent)
    return [statistics.median(wall), statistics.median(own)]


def peak_mebibytes() -> float:
    """Give the largest resident memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def load_average() -> list[float]:
    return [round(value, 2) for value in os.getloadavg()]


def restrict(cores: Sequence[int]) -> None:
    """Keep this process and its children on some cores, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError(
            "`--threads` needs Linux, where a process can be kept on cores."
        )
    os.sched_setaffinity(0, cores)


def available_cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
