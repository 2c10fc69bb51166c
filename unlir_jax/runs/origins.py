"""Weights and data that a run began with, compared at each later start."""

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unlir_jax.core.document_types import Document, Record
from unlir_jax.data import source as sources
from unlir_jax.runtime import mesh, ranges
from unlir_jax.storage import documents, files

FILE = "began_with.json"
# Splits of more examples are recognised by their hashes only.
MOST_LISTED = 10_000
# As a workdir says whose it is: without, nothing has begun there.
CONFIG = "config.json"
# A network of the user's may compute something else with the same weights.
CODE = "model.code"
_WROTE = "what an earlier start wrote"
# What a document of another shape makes who reads it raise.
_MALFORMED = (KeyError, TypeError, AttributeError, IndexError, ValueError)


def describe(
    network: Any,
    weights: Mapping[str, str] | None = None,
    annotations: Sequence[str] = (),
    **splits: sources.Source | None,
) -> Record:
    """Describe what a run begins with.

    Args:
        network: See `pretrained.Pretrained`; it stands as `model`.
        weights: Hashes of further weights by what they are called in the config.
        annotations: Those that the run reads.
        **splits: The data by what the run calls it; None is left out.

    Returns:
        What `settle` keeps, as JSON knows it; {} in all processes but the first, which
        need not look.
    """
    if not mesh.is_first():
        return {}
    return {
        "weights": {"model": network.sha256} | dict(weights or {}),
        "data": {
            name: _described(source, annotations)
            for name, source in splits.items()
            if source is not None
        },
    }


def _described(source: sources.Source, annotations: Sequence[str]) -> Record:
    described: Record = {
        "examples": source.size,
        "names": _hash(source.name(index) for index in range(source.size)),
        "classes": _hash(source.classes),
        "labels": None,
        "sizes": None,
        "times": None,
    }
    if source.labels is not None:
        labels = np.asarray(source.labels, "<i4")
        described["labels"] = hashlib.sha256(labels.tobytes()).hexdigest()
    if source.fingerprint is not None:
        kinds = tuple(kind for kind in source.annotations if kind in annotations)
        for name, times in (("sizes", False), ("times", True)):
            described[name] = source.fingerprint(times=times, annotations=kinds)
    if source.size <= MOST_LISTED:
        described["listed"] = _listed(source)
    return described


def _hash(names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def _listed(source: sources.Source) -> dict[str, Sequence[object]]:
    """List names, labels, sizes and times, so that a change can be named."""
    names = [files.readable(source.name(index)) for index in range(source.size)]
    listed: dict[str, Sequence[object]] = {"names": names}
    if source.labels is not None:
        listed["labels"] = np.asarray(source.labels).tolist()
    if source.file is not None:
        found = [_looked_at(source.file(index)) for index in range(source.size)]
        listed["sizes"] = [size for size, _ in found]
        listed["times"] = [time for _, time in found]
    return listed


def _looked_at(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    return found.st_size, found.st_mtime_ns


def settle(
    folder: str | os.PathLike[str], now: Document, compare: str = "times"
) -> str:
    """Note in a workdir what a run begins with, or compare with what it began with.

    All processes call it, before the workdir's config is written: a folder that has a
    config, but no such note, is of a version that wrote none.

    Args:
        folder: The workdir; it is made if need be.
        now: See `describe`.
        compare: Whether files of data of other "times" are others, or only of other
            "sizes"; the setting `data.compare`.

    Returns:
        A sentence for people, "" where there is nothing to say.

    Raises:
        ValueError: Weights or data are others than at the first start; or the folder
            cannot be read or written.
    """
    ranges.check_one("data.compare", compare)
    action = functools.partial(note, Path(folder), now, compare)
    return mesh.first_does(action, f"go on in {str(folder)!r}") or ""


def note(folder: Path, now: Document, compare: str) -> str:
    """Do in the first process what `settle` does."""
    path = folder / FILE
    begun = (folder / CONFIG).exists()
    if begun and path.exists():
        then = documents.read_object(path, _WROTE)
        try:
            differing = differences(then, now, compare)
        except _MALFORMED as error:
            raise _malformed(path, error) from error
        if differing:
            raise ValueError(_sentence(folder, differing))
        return ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_text(path, files.to_json(dict(now)))
    except OSError as error:
        raise ValueError(
            f"Workdir {str(folder)!r} cannot be written to ({error.strerror}); "
            "expected a place that can."
        ) from error
    if not begun:
        return ""
    return (
        f"Workdir {str(folder)!r} does not say which weights and data it began with, "
        "as an earlier version left it: those of now are taken for the same."
    )


def changed(folder: Path, name: str, source: sources.Source) -> str:
    """Say how a split differs from what a run began with, whenever files were written.

    Args:
        folder: The workdir.
        name: What the run calls the split.
        source: The split as it is now.

    Returns:
        "" where it does not, or where that is not known.

    Raises:
        ValueError: What is known of it cannot be read.
    """
    if not (folder / FILE).exists():
        return ""
    then = documents.read_object(folder / FILE, _WROTE)
    now = {"weights": {}, "data": {name: _described(source, ())}}
    try:
        before = {name: then["data"][name]} if name in then["data"] else {}
        found = differences({"weights": {}, "data": before}, now, "sizes")
    except _MALFORMED as error:
        raise _malformed(folder / FILE, error) from error
    return "; ".join(found) if before else ""


def _malformed(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{str(path)!r} does not say what the run began with ({error!r}); expected "
        f"{_WROTE}."
    )


def _sentence(folder: Path, differing: Sequence[str]) -> str:
    more = f"; and {len(differing) - 6} more" if len(differing) > 6 else ""
    times = all(text.endswith(_TIMES) for text in differing)
    way = ", or --config.data.compare=sizes, which looks at sizes only" if times else ""
    return (
        f"Workdir {str(folder)!r} was begun with something else: "
        f"{'; '.join(differing[:6])}{more}. Expected what it began with, or another "
        f"workdir{way}."
    )


_TIMES = "at other times than then, with the same sizes"


def differences(then: Record, now: Document, compare: str = "times") -> list[str]:
    """Say how two descriptions differ, each difference with both values.

    Args:
        then: See `describe`.
        now: Description of this start.
        compare: See `settle`.
    """
    before, after = then["weights"], now["weights"]
    found = [
        f"{'the code has' if name == CODE else f'the weights of `{name}` have'} the "
        f"hash {_short(before.get(name))} there, {_short(after.get(name))} here"
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]
    before, after = then["data"], now["data"]
    for name in dict.fromkeys((*before, *after)):
        if (name in before) != (name in after):
            told = "no data there" if name in after else "no data here"
            found.append(f"`{name}` has {told}")
        else:
            found += [
                f"`{name}` has {text}"
                for text in _changes(before[name], after[name], compare)
            ]
    return found


def _short(value: str | None) -> str:
    if not value:
        return "none"
    # Anybody may have written another text.
    return value[:12] if value[:12].isalnum() else repr(value[:12])


def _changes(then: Record, now: Document, compare: str) -> list[str]:
    """Say what has become of a split."""

    def both(what: str) -> str:
        return f"hash {_short(then[what])} there, {_short(now[what])} here"

    found = []
    before, after = then.get("listed") or {}, now.get("listed") or {}
    if then["names"] != now["names"]:
        came = _named("new here", after.get("names"), before.get("names"))
        went = _named("no longer here", before.get("names"), after.get("names"))
        order = "" if came or went or not (before and after) else ", in another order"
        found.append(
            f"other examples, {then['examples']} there and {now['examples']} here"
            f"{came}{went}{order} ({both('names')})"
        )
    if then["classes"] != now["classes"]:
        found.append(f"other classes ({both('classes')})")
    if found:
        return found
    # A version that told less says nothing about what it did not tell.
    told = [what for what in ("labels", "sizes", "times") if then[what] and now[what]]
    if "labels" in told and then["labels"] != now["labels"]:
        which = _which("labels", before, after, lambda a, b: f"{a} there, {b} here")
        found.append(f"other labels{which} ({both('labels')})")
    if "sizes" in told and then["sizes"] != now["sizes"]:
        which = _which("sizes", before, after, lambda a, b: f"{a:,} and {b:,} bytes")
        found.append(f"other files{which} ({both('sizes')})")
    elif "times" in told and compare == "times" and then["times"] != now["times"]:
        which = _which("times", before, after, None)
        found.append(f"files{which} ({both('times')}) written {_TIMES}")
    return found


def _named(word: str, names: Sequence[str] | None, others: Sequence[str] | None) -> str:
    if names is None or others is None:
        return ""
    known = set(others)
    only = [name for name in names if name not in known]
    more = f" and {len(only) - 5} more" if len(only) > 5 else ""
    return f", {word} {', '.join(map(repr, only[:5]))}{more}" if only else ""


def _which(
    what: str,
    before: Mapping[str, Sequence[object]],
    after: Mapping[str, Sequence[object]],
    values: Callable[..., str] | None,
) -> str:
    """Name the examples of which something differs, and both values of the first."""
    if not (before.get(what) and after.get(what)):
        return ""
    changed = [
        (name, a, b)
        for name, a, b in zip(after["names"], before[what], after[what], strict=True)
        if a != b
    ]
    if not changed:
        return ""
    name, first, second = changed[0]
    told = f" ({values(first, second)})" if values else ""
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f", {name!r}{told}{more}"
