"""Rounds in which the sides of a benchmark take turns."""

import contextlib
import datetime
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import explainers
import protocol
import turns

from unlir_jax.storage import files


class Side(NamedTuple):
    """Describe a process that is timed.

    Attributes:
        python: Its interpreter.
        script: Its file, next to this one.
        settings: Settings of this side alone.
    """

    python: str
    script: str
    settings: Mapping[str, Any] = {}


def measure(
    sides: Mapping[str, Side],
    settings: Mapping[str, Any],
    wanted: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Start all sides, let them take turns, and return what was found.

    Args:
        sides: Sides by name, ours first.
        settings: Settings of all; `rounds` is a number of rounds.
        wanted: Methods to time; None for all.
    """
    with contextlib.ExitStack() as stack:
        workers = {}
        for name, side in sides.items():
            place = explainers.HERE / side.script
            quiet = {"TQDM_DISABLE": "1"}
            workers[name] = protocol.Worker(side.python, place, quiet, name)
            stack.enter_context(workers[name])
            workers[name].ask("load", settings={**settings, **side.settings})
        seconds = explainers.take_turns(workers, settings["rounds"], wanted)
        about = {name: worker.ask("describe") for name, worker in workers.items()}
    return {
        "schema": 1,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "settings": dict(settings),
        "machine": {"processor": turns.processor(), "load": protocol.load_average()},
        "sides": about,
        "seconds": seconds,
    }


def ratio(above: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, float]:
    """Divide times within each round, then take medians."""
    return {
        kind: statistics.median(
            each / own for each, own in zip(above[kind], below[kind], strict=True)
        )
        for kind in ("processor", "wall")
    }


def store(document: Mapping[str, Any], text: str, folder: Path, name: str) -> None:
    """Print a document's text, and write both as `<date>-<name>-cpu`."""
    print(text)
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{document['created'][:10]}-{name}-cpu"
    for suffix, content in (("json", files.to_json(document)), ("md", text)):
        files.write_text(folder / f"{stem}.{suffix}", content)
