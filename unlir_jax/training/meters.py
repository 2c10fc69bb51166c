"""Meters of a training: means and time, added up from step to step."""

import time
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from unlir_jax.core.document_types import Record


class RunningMean:
    """Add up numbers by name until they are taken as means."""

    def __init__(self, sums: Record | None = None):
        self._values: dict[str, float] = dict(sums["values"]) if sums else {}
        self._count: int = sums["count"] if sums else 0

    def add(self, values: Mapping[str, float]) -> None:
        """Count the numbers of one step."""
        for name, value in values.items():
            self._values[name] = self._values.get(name, 0.0) + value
        self._count += 1

    def take(self) -> dict[str, float]:
        """Give the means, and start anew."""
        means = {name: value / self._count for name, value in self._values.items()}
        self._values, self._count = {}, 0
        return means

    def sums(self) -> Record:
        """Give what JSON can keep, for another `RunningMean` to continue from."""
        return {"values": dict(self._values), "count": self._count}


@runtime_checkable
class Waiting(Protocol):
    """Whatever adds up how long it was waited for."""

    seconds: float


class Throughput:
    """Measure how fast steps follow each other, without what lies between.

    The first step after a pause is not counted: it may be compiled, or wait for the
    data to begin.
    """

    def __init__(self, sums: Mapping[str, int | float] | None = None):
        sums = sums or {"images": 0, "seconds": 0.0, "waited": 0.0}
        self._sums = {name: sums[name] for name in ("images", "seconds", "waited")}
        self._mark: float | None = None

    def step(self, images: int, batches: Waiting) -> None:
        """Count a step that has just been done."""
        now = time.perf_counter()
        if self._mark is not None:
            self._sums["images"] += images
            self._sums["seconds"] += now - self._mark
            self._sums["waited"] += batches.seconds
        self._mark, batches.seconds = now, 0.0

    def pause(self) -> None:
        """Leave out what comes until the next step is done."""
        self._mark = None

    def values(self) -> dict[str, float]:
        """Give images per second, and the share of time spent waiting for data."""
        seconds = self._sums["seconds"]
        if not seconds:
            return {"images_per_second": 0.0, "data_wait": 0.0}
        return {
            "images_per_second": self._sums["images"] / seconds,
            "data_wait": self._sums["waited"] / seconds,
        }

    def sums(self) -> dict[str, int | float]:
        """Give what JSON can keep, for another `Throughput` to continue from."""
        return dict(self._sums)
