"""Dry run: a description of an evaluation, and what it may cost, without evaluating."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

from unlir_jax import metrics, saliency, split
from unlir_jax.core import passes
from unlir_jax.core.document_types import Document, Record
from unlir_jax.core.passes import Passes
from unlir_jax.data import pipeline
from unlir_jax.evaluation import axes, conditions, evaluate, gallery, setup, store
from unlir_jax.evaluation.setup import EvaluationSetup
from unlir_jax.explanation import explainers
from unlir_jax.explanation.scoring import Scorer
from unlir_jax.metrics import spec
from unlir_jax.runs import origins
from unlir_jax.runtime import mesh, ranges
from unlir_jax.runtime.config import Settings
from unlir_jax.saliency.perturbation import occlusion
from unlir_jax.storage import paths

BACKWARD = 2
"""Forward passes that take as long as a backward pass, as a rule of thumb."""
TIMED = 3
LINE_BYTES, CELL_BYTES = 24, 12
"""Bytes of a line of the table besides its names, and of one in the Parquet file."""
PAGE_BYTES, PIXEL_BYTES = 100_000, 2
"""Bytes of the report without its images, and of a pixel of these, roughly."""
KINDS = 3
"""Kinds of images in the gallery: best, worst, most disputed."""


def describe(settings: Settings, folder: str | Path | None = None) -> Record:
    """Say what an evaluation would do; nothing is written.

    All is prepared as for the evaluation, which refuses what it would refuse. One
    forward pass is compiled and measured.

    Args:
        settings: See `evaluation.settings.evaluation`.
        folder: The workdir, if there is one.

    Returns:
        `images`, `batch_size`, `batches`; `network`, `layer`, `image_size`; `methods`,
        `controls`, `conditions`, `metrics`; `passes` of one image by method and metric,
        with their sum (over all conditions) and that of `all`, and what is `uncounted`;
        `seconds` and `bytes`, both estimates; and what the `workdir` would hold and
        holds.

    Raises:
        ValueError: A setting, the data or the workdir does not fit.
    """
    if folder is not None:
        paths.check(folder, "workdir")
        evaluate.look(settings, Path(folder))
    ranges.check(settings)
    given = setup.prepare(settings)
    taken, uncounted = _passes(given)
    size, batches = given.data.size, _batches(given)
    every = axes.setups(given)
    summed = [passes for each in every for passes in _sums(each, taken)]
    one = Passes(*map(sum, zip(*summed, strict=True)))
    forward, head = _measure(given)
    equal = one.forwards + BACKWARD * one.backwards
    return {
        "images": size,
        "batch_size": settings.batch_size,
        "batches": batches,
        "labels": given.labelled_by,
        "network": given.network.name,
        "layer": given.network.layer,
        "image_size": given.image_size,
        "methods": [name for name in given.explainers if name not in given.controls],
        "controls": list(given.controls),
        "conditions": [each.condition.title for each in every],
        "metrics": list(given.columns),
        "passes": {
            **{what: _plain(of) for what, of in taken.items()},
            "image": _passed(one),
            "all": _passed(Passes(*(size * count for count in one))),
            "uncounted": uncounted,
        },
        "seconds": {
            "forward": forward,
            "head": head,
            # The last batch is filled up.
            "all": batches * settings.batch_size * (equal * forward + one.heads * head),
        },
        "bytes": sum(map(_bytes, every)),
        "workdir": _workdir(given, folder, batches),
        "notices": list(given.notices),
    }


Taken = Mapping[str, Mapping[str, Passes | None]]


def _passes(given: EvaluationSetup) -> tuple[Taken, list[str]]:
    """Count the passes of each method, and of each metric for one method."""
    sizes = _sizes(given)
    methods = {}
    for name, own in given.parameters.items():
        if name in given.given:
            methods[name] = Passes()
        elif (plain := saliency.parted(name)[0]) == explainers.PARTS:
            methods[name] = Passes(1)
        else:
            own_sizes = sizes | _windows(given, own) if "window" in own else sizes
            text = saliency.SPECS[plain].passes
            methods[name] = passes.count(text, own, own_sizes)
    found = {next(iter(each.columns)): _scored(given, each) for each in given.scorers}
    taken: Taken = {"methods": methods, "metrics": found}
    unknown = [n for own in taken.values() for n, each in own.items() if each is None]
    return taken, unknown


def _scored(given: EvaluationSetup, scorer: Scorer) -> Passes | None:
    """Count the passes of what gives a metric, or several at once."""
    name = next(iter(scorer.columns))
    text = metrics.SPECS[spec.base(name)].passes
    found = passes.count(text, given.contracts[name]["settings"], {})
    if found is None or scorer.needs != "logits":
        return found
    # The pass of the image itself is shared by all.
    return found._replace(forwards=found.forwards - 1)


def _sums(given: EvaluationSetup, taken: Taken) -> Iterator[Passes]:
    """Give the passes of an image: for its logits, for maps, and for scores."""
    yield Passes(1)
    if not given.condition.plain and (given.labels < 0).any():
        yield Passes(1)  # Of the image as it was.
    names = [next(iter(each.columns)) for each in given.scorers]
    for method in taken["methods"].values():
        method = method or Passes()
        yield method
        for name in names:
            metric = taken["metrics"][name] or Passes()
            yield metric._replace(explanations=0)
            yield Passes(*(metric.explanations * count for count in method))


def _sizes(given: EvaluationSetup) -> dict[str, int]:
    network, size = given.network, given.image_size
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    found = jax.eval_shape(network.model.features, network.variables, image)
    return {"filter": found.maps.shape[-1]}


def _windows(given: EvaluationSetup, own: Document) -> dict[str, int]:
    size = (given.image_size, given.image_size)
    return {"window": occlusion.windows(size, own["window"], own["stride"])}


def _measure(given: EvaluationSetup) -> tuple[float, float]:
    """Time a forward pass and the head alone, in seconds for one image."""
    model, variables = given.network.model, given.network.variables
    size, rows = given.image_size, given.settings.batch_size
    images = np.zeros((rows, size, size, 3), np.float32)
    if given.laid.mesh.size > 1:
        images = mesh.put_batch(given.laid, {"images": images})["images"]
    features = jax.jit(model.features)(variables, images)
    forward = _seconds(lambda: split.whole(model)(variables, images))
    head = jax.jit(model.head)
    return forward / rows, _seconds(lambda: head(variables, features)) / rows


def _seconds(run: Callable[[], object]) -> float:
    jax.block_until_ready(run())  # Compiles.
    taken = []
    for _ in range(TIMED):
        begun = time.monotonic()
        jax.block_until_ready(run())
        taken.append(time.monotonic() - begun)
    return min(taken)


def _batches(given: EvaluationSetup) -> int:
    return pipeline.evaluation_batches(given.data.size, given.settings.batch_size)


def _bytes(given: EvaluationSetup) -> int:
    """Estimate the disk that batches, tables and report take."""
    methods, columns, size = list(given.explainers), given.columns, given.data.size
    names = sum(len(given.data.name(i)) for i in range(size)) / size
    words = names + sum(map(len, methods)) / len(methods)
    words += sum(map(len, columns)) / len(columns) + LINE_BYTES
    rows = size * len(methods) * len(columns)
    points = sum(_points(given, name) for name in columns)
    binary = size * len(methods) * (8 * len(columns) + 4 * points)
    shown = KINDS * given.settings.gallery * len(methods)
    page = PAGE_BYTES + PIXEL_BYTES * shown * given.image_size**2
    return round(rows * (words + CELL_BYTES) + binary + page)


def _points(given: EvaluationSetup, name: str) -> int:
    """Count the points of a metric's curves."""
    own = given.contracts[name]["settings"]
    number = own.get("thresholds") or own.get(passes.setting(own), 0) + 1
    return number * len(metrics.SPECS[spec.base(name)].curves)


def _workdir(given: EvaluationSetup, folder: str | Path | None, batches: int) -> Record:
    holds = [setup.workdir.CONFIG, origins.FILE, f"{store.FOLDER}/"]
    holds += [f"{gallery.FOLDER}/"] if given.settings.gallery else []
    asked = given.settings.classes + given.settings.augmentations
    holds += [f"{conditions.FOLDER}/"] if "+" in asked else []
    there = 0
    if folder is not None:
        there = batches - len(store.missing(Path(folder), batches))
    return {
        "folder": None if folder is None else str(folder),
        "would_hold": [*holds, *evaluate.WRITTEN, evaluate.SUMMARY],
        "batches_there": there,
    }


def _plain(found: Mapping[str, Passes | None]) -> dict[str, Record | None]:
    return {name: each and each._asdict() for name, each in found.items()}


def _passed(total: Passes) -> Record:
    """Give a sum, in which explanations are passes already."""
    return {k: v for k, v in total._asdict().items() if k != "explanations"}


def lines(document: Document) -> str:
    """Write a description for people, all but the table of passes."""
    counted, seconds = document["passes"]["all"], document["seconds"]
    workdir, uncounted = document["workdir"], document["passes"]["uncounted"]
    heads = f", {counted['heads']:,} of the head alone" if counted["heads"] else ""
    lone = 1000 * seconds["forward"]
    told = {
        "images": f"{document['images']:,}, batches of {document['batch_size']}: "
        f"{document['batches']:,}, classes by {document['labels']}",
        "network": f"{document['network']}, cut at {document['layer']!r}, "
        f"{document['image_size']} pixels",
        "methods": ", ".join(document["methods"]),
        "controls": ", ".join(document["controls"]),
        "conditions": "; ".join(document["conditions"]),
        "metrics": ", ".join(document["metrics"]),
        "passes": f"{counted['forwards']:,} forward, {counted['backwards']:,} back"
        + heads,
        "not counted": ", ".join(uncounted),
        "time": f"about {_duration(seconds['all'])}, an estimate: {lone:.3g} ms a "
        f"forward pass and image, measured here; a pass back counts as {BACKWARD}; "
        "without reading and compiling",
        "disk": f"about {max(document['bytes'] / 1e6, 0.1):.1f} MB, an estimate",
        "workdir": workdir["folder"] or "none is named",
        "would hold": ", ".join(workdir["would_hold"]),
        "done already": f"{workdir['batches_there']} batches"
        if workdir["batches_there"]
        else "",
    }
    entries = [f"{name}: {text}" for name, text in told.items() if text]
    return "\n".join([*entries, *document["notices"], "Nothing was written."])


def rows(document: Document) -> list[tuple[str, ...]]:
    """List the passes of one image for a table: method or metric, and its passes."""
    found = []
    for what in ("methods", "metrics"):
        for name, taken in document["passes"][what].items():
            cells = ["?"] * 4 if taken is None else [f"{n:,}" for n in taken.values()]
            found.append((name, *cells))
    total = document["passes"]["image"].values()
    return [*found, ("an image, all", *(f"{number:,}" for number in total), "")]


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.2g} seconds"
