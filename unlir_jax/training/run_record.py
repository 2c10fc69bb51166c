"""Record of a training next to each checkpoint, from which it resumes bitwise."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from unlir_jax.core.document_types import Record
from unlir_jax.training.state import Report

Numbers = Mapping[str, int | float]


class RunRecord(NamedTuple):
    """Hold what a training has measured so far.

    Attributes:
        train: Means of the last line about training, by name.
        test: The last evaluation.
        best: The best evaluation, and its `step`.
        unreadable: Names of the images that could not be read, by split.
        means: Sums of the next line, see `meters.RunningMean`.
        clock: See `meters.Throughput`.
        start: Entries of the summary that hooks gave before the first step.
        chosen: Choice of a probe, before the first step; in the first process only.
        duplicates: Images both trained and tested on; None where nobody has looked.
    """

    train: Numbers = {}
    test: Numbers = {}
    best: Numbers = {}
    unreadable: Mapping[str, list[str]] = {"train": [], "test": []}
    means: Record | None = None
    clock: Numbers | None = None
    start: Mapping[str, object] = {}
    chosen: Mapping[str, object] = {}
    duplicates: Mapping[str, object] | None = None


_ALWAYS = ("train", "test", "best", "unreadable", "means", "clock")


def document(record: RunRecord) -> Record:
    """Give what JSON can hold of a record; what there is not is left out."""
    fields = record._asdict().items()
    return {name: value for name, value in fields if name in _ALWAYS or value}


def read(kept: object) -> RunRecord:
    """Read what `document` gave.

    Raises:
        ValueError: Something is missing or of another type.
    """

    def numbers(group: object, *names: str) -> bool:
        return (
            isinstance(group, dict)
            and {*names} <= {*group}
            and all(isinstance(value, int | float | None) for value in group.values())
        )

    if isinstance(kept, dict) and {*_ALWAYS} <= {*kept}:
        record = RunRecord(**{n: kept[n] for n in RunRecord._fields if n in kept})
        means, unread = record.means, record.unreadable
        sound = all(numbers(group) for group in record[:3])
        sound &= means is None or (
            isinstance(means, dict)
            and numbers(means.get("values"))
            and isinstance(means.get("count"), int)
        )
        clocked = "images", "seconds", "waited"
        sound &= record.clock is None or numbers(record.clock, *clocked)
        sound &= isinstance(unread, dict) and all(
            isinstance(unread.get(split), list) for split in ("train", "test")
        )
        sound &= all(isinstance(group or {}, dict) for group in record[6:])
        if sound:
            return record
    raise ValueError("its notes are not those of a training")


def with_unreadable(
    record: RunRecord, split: str, report: Report, name: Callable[[int], str]
) -> RunRecord:
    """Remember the names of images that could not be read, each once."""
    places = report.index[(report.weight == 0) & (report.index >= 0)].tolist()
    names = [*dict.fromkeys((*record.unreadable[split], *map(name, places)))]
    return record._replace(unreadable={**record.unreadable, split: names})


def with_test(
    record: RunRecord, test: Numbers, step: int, best: str, largest: bool
) -> RunRecord:
    """Remember an evaluation, and as the best one where none had a better `best`."""
    before, sign = record.best.get(best), 1 if largest else -1
    record = record._replace(test=test)
    if before is not None and sign * test[best] <= sign * before:
        return record
    return record._replace(best={"step": step} | dict(test))
