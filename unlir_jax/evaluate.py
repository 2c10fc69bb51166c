"""The job: many methods by many metrics over a data set, with how sure the figures are.

Every batch is kept as soon as it is scored, so that a run which is killed goes on where
it was, and ends with the same table.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import config, interruption, maps, mesh, record, split, workdir
from unlir_jax.data import pipeline, source
from unlir_jax.evaluation import comparison, gallery, scorers, settled, store, task
from unlir_jax.evaluation import settings as default_settings
from unlir_jax.metrics import boxes
from unlir_jax.report import evaluation as report
from unlir_jax.types import Explainer

SUMMARY, WORDS, PAGE = "summary.json", "summary.md", "report.html"
FREE = ("data.compare", "data.workers", "data.threads", "devices")

Progress = Callable[[str, float], None]


class Outcome(NamedTuple):
    """Say how an evaluation ended: its summary, None if it was stopped, and a line."""

    summary: dict[str, Any] | None
    message: str


def run(
    settings: Any,
    folder: str | Path,
    *,
    progress: Progress = lambda doing, share: None,
    say: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Evaluate as a config says, or go on with it.

    Writes to the workdir `per_image.parquet` and `.csv` (image, label, method, metric,
    value), `summary.json`, `summary.md` and `report.html`.

    Args:
        settings: See `evaluation.settings.evaluation`.
        folder: The workdir: new, or that of an earlier start with the same settings.
        progress: Told what is being done, and the share of all that is done.
        say: Told what people should know of it, a sentence at a time.

    Raises:
        ValueError: A setting that makes no sense, or a folder of something else.
    """
    folder, plain = Path(folder), config.to_dict(settings)
    known = config.to_dict(default_settings.evaluation())
    done = workdir.check(folder, plain, FREE, known)
    if done is not None:
        return Outcome(done, f"Done before: {_result(folder)}")
    progress("loading the network", 0.0)
    job = task.prepare(settings)
    for notice in job.notices:
        say(notice)
    _claim(folder, plain)
    batches = pipeline.evaluation_batches(job.data.size, settings.batch_size)
    own = range(jax.process_index(), batches, jax.process_count())
    missing = [index for index in store.missing(folder, batches) if index in own]
    with interruption.watch() as asked:
        for number, (index, batch) in enumerate(_batches(job, missing)):
            if asked():
                break
            share = (len(own) - len(missing) + number) / len(own)
            store.write(folder, index, _score(job, batch, share, len(own), progress))
    # Who was asked to stop comes here too: else the others would wait for ever.
    mesh.wait_for_all("evaluated")
    if not mesh.is_first():
        return Outcome(None, "")
    left = len(store.missing(folder, batches))
    if left:
        return Outcome(
            None,
            f"Stopped by {asked() or 'another process'} after {batches - left} of "
            f"{batches} batches: the same command goes on from there.",
        )
    progress("comparing", 1.0)
    return Outcome(_finish(job, folder, batches), f"Done: {_result(folder)}")


def _claim(folder: Path, plain: dict[str, Any]) -> None:
    if mesh.is_first():
        folder.mkdir(parents=True, exist_ok=True)
        record.write_text(folder / workdir.CONFIG, record.to_json(dict(plain)))
    mesh.wait_for_all("claimed")


def _result(folder: Path) -> str:
    return f"open {folder / PAGE}; all scores are in {folder / store.TABLE}"


def _batches(
    job: task.Task, missing: list[int]
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Read the batches that are not there yet, each as it would be in a whole run."""
    size = job.settings.batch_size
    rows = [
        np.arange(index * size, min((index + 1) * size, job.data.size))
        for index in missing
    ]
    if not rows:
        return
    places = np.concatenate(rows)
    left = job.settings.data
    for index, batch in zip(
        missing,
        pipeline.evaluation(
            source.subset(job.data, places),
            batch_size=size,
            image_size=job.image_size,
            crop=job.crop,
            interpolation=job.interpolation,
            annotations=job.annotations,
            workers=left.workers,
            threads=left.threads or None,
            strict=left.strict,
        ),
        strict=True,
    ):
        inside = batch["index"] >= 0
        batch["index"] = np.where(inside, places[batch["index"]], -1)
        yield index, batch


def _score(
    job: task.Task,
    batch: dict[str, np.ndarray],
    share: float,
    batches: int,
    progress: Progress,
) -> store.Rows:
    """Explain a batch by every method, and score every map."""
    kept = batch["weight"] > 0
    images = batch["image"].astype(np.float32) / 255
    if kept.any():
        # Rows without a picture repeat one: what is computed there is thrown away.
        images[~kept] = images[np.flatnonzero(kept)[0]]
    labels = np.where(batch["index"] >= 0, job.labels[batch["index"]], -1)
    variables = job.network.variables
    if job.laid.mesh.size > 1:
        variables = mesh.put_state(job.laid, variables)
        images = mesh.put_batch(job.laid, {"images": images})["images"]
    images = jnp.asarray(images)
    whole = split.whole(job.network.model)
    logits = whole(variables, images)
    chances = np.asarray(jax.nn.softmax(logits))
    predicted = chances.argmax(1)
    labels = np.where(kept & (labels >= 0), labels, predicted).astype(np.int32)
    given = jnp.asarray(labels)
    if job.laid.mesh.size > 1:
        given = mesh.put_batch(job.laid, {"labels": labels})["labels"]
    key = jax.random.key(job.settings.seed)
    known = _known(job, batch)
    others = job.others
    if job.laid.mesh.size > 1:
        others = {n: mesh.put_state(job.laid, other) for n, other in others.items()}
    # What stays NaN here follows from the curves of all pictures, see `settled`.
    values = np.full((len(labels), len(job.explainers), len(job.columns)), np.nan)
    flat = np.empty(values.shape[:2], bool)
    curves: dict[str, list[np.ndarray]] = {}
    begun = time.monotonic()
    for place, (name, explain) in enumerate(job.explainers.items()):
        done = place / len(job.explainers)
        progress(_doing(name, begun, done, share, batches), share + done / batches)
        raw = explain(variables, images, given, key=key)
        flat[:, place] = np.asarray(maps.is_flat(raw))
        enlarged = maps.resize(raw, images.shape[1:3])
        for scorer in job.scorers:
            seen = (variables, images, given)
            clean = {"clean": logits} if scorer.clean else {}
            found = _found(scorer, explain, known | others, seen, enlarged, key, clean)
            for column, name_of in scorer.columns.items():
                if name_of:
                    at = job.columns.index(column)
                    values[:, place, at] = np.asarray(found[name_of], np.float64)
            for curve, name_of in scorer.curves.items():
                kept_curve = np.asarray(found[name_of], np.float32)
                curves.setdefault(curve, []).append(kept_curve)
    lost = (batch["index"] >= 0) & ~kept
    return store.Rows(
        batch["index"][kept],
        labels[kept],
        predicted[kept].astype(np.int32),
        chances[np.arange(len(labels)), labels][kept],
        values[kept],
        flat[kept],
        {name: np.stack(found, 1)[kept] for name, found in curves.items()},
        batch["index"][lost],
    )


def _known(job: task.Task, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give what localisation compares with: the object's boxes and region.

    Boxes are whole pixels with both ends included, as `metrics.boxes` takes them; void
    pixels of a region are -1.
    """
    known = {}
    if "boxes" in job.annotations:
        corners = np.asarray(batch["boxes"])
        there = (corners[..., 2:] > corners[..., :2]).all(-1, keepdims=True)
        low = np.clip(np.floor(corners[..., :2]), 0, job.image_size - 1)
        high = np.clip(np.ceil(corners[..., 2:]) - 1, low, job.image_size - 1)
        whole = np.concatenate([low, high], -1).astype(np.int32)
        nothing = np.asarray([0, 0, -1, -1], np.int32)
        known["boxes"] = np.where(there, whole, nothing)
        size = (job.image_size, job.image_size)
        known["regions"] = np.asarray(boxes.fill(known["boxes"], size))
    if "mask" in job.annotations:
        mask = np.asarray(batch["mask"])
        # A batch may have no object but void, which 255 would not tell from white.
        known["regions"] = np.where(mask == source.VOID, -1, mask > 0).astype(np.int8)
    return known


def _found(
    scorer: scorers.Scorer,
    explain: Explainer,
    known: dict[str, Any],
    seen: tuple[Any, ...],
    saliency: Any,
    key: Any,
    clean: dict[str, Any],
) -> dict[str, Any]:
    """Score the maps of a batch by one metric."""
    if scorer.takes == "explain":
        further = [known[scorer.other]] if scorer.other else []
        return scorer.score(explain)(*seen, saliency, *further, key=key)
    if scorer.takes:
        return scorer.score(*seen, saliency, known[scorer.takes], key=key)
    return scorer.score(*seen, saliency, key=key, **clean)


def _doing(name: str, begun: float, done: float, share: float, batches: int) -> str:
    """Name what is being done, and how long all of it may still take."""
    if not done:
        return name
    seconds = (time.monotonic() - begun) / done * batches * (1 - share - done / batches)
    return f"{name}, {max(seconds, 0) / 60:.0f} min left"


def _finish(job: task.Task, folder: Path, batches: int) -> dict[str, Any]:
    """Write the tables, the figures and the page."""
    rows = store.read(folder, batches)
    if not len(rows.index):
        why = source.reason(job.data, 0, job.annotations)
        raise ValueError(f"No picture of the data can be read: {why}")
    rows, facts = settled.settle(job, rows)
    names = [job.data.name(int(index)) for index in rows.index]
    methods = list(job.explainers)
    store.write_tables(folder, rows, names, methods, job.columns)
    options = job.settings.statistics
    figures = comparison.compare(
        rows.values,
        methods,
        job.controls,
        job.columns,
        confidence=options.confidence,
        resamples=options.resamples,
        seed=job.settings.seed,
    )
    document = report.document(job, rows, names, figures, facts)
    shown = gallery.draw(job, rows, names)
    record.write_text(folder / WORDS, report.markdown(document))
    record.write_text(folder / PAGE, report.page(document, rows, shown))
    # Last: what says that all is there.
    record.write_text(folder / SUMMARY, record.to_json(document))
    return document
