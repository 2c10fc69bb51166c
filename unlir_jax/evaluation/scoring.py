"""One batch of an evaluation: explained by every method, and scored by every metric."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import finite
from unlir_jax.data import pipeline, source
from unlir_jax.evaluation import scorers, store, task
from unlir_jax.metrics import boxes
from unlir_jax.runtime import mesh
from unlir_jax.storage import files
from unlir_jax.types import Explainer

Progress = Callable[[str, float], None]


def batches(
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


class _Seen(NamedTuple):
    """Hold a batch as the network sees it, and what is known of it.

    Attributes:
        arguments: Variables, images and labels, laid out over the devices.
        logits: Of the images.
        known: What metrics take besides, by name.
        key: Of all that is random.
        kept: Which rows have a picture.
        names: Of all rows, "" where there is no picture.
    """

    arguments: tuple[Any, Any, Any]
    logits: Any
    known: dict[str, Any]
    key: Any
    kept: np.ndarray
    names: list[str]


def score(
    job: task.Task,
    batch: dict[str, np.ndarray],
    share: float,
    batches: int,
    progress: Progress,
) -> store.Rows:
    """Explain a batch by every method, and score every map.

    Raises:
        FloatingPointError: Logits, a map, or a score where its metric is defined, are
            not finite; it names the pictures.
    """
    seen, labels, chances = _look(job, batch)
    kept = seen.kept
    # What stays NaN here follows from the curves of all pictures, see `settled`.
    values = np.full((len(labels), len(job.explainers), len(job.columns)), np.nan)
    flat = np.empty(values.shape[:2], bool)
    curves: dict[str, list[np.ndarray]] = {}
    begun = time.monotonic()
    for place, (name, explain) in enumerate(job.explainers.items()):
        done = place / len(job.explainers)
        progress(_doing(name, begun, done, share, batches), share + done / batches)
        raw = explain(*seen.arguments, key=seen.key)
        _check(seen, f"the map of {name}", raw)
        flat[:, place] = np.asarray(maps.is_flat(raw))
        enlarged = maps.resize(raw, batch["image"].shape[1:3])
        for scorer in job.scorers:
            found = _found(scorer, explain, seen, enlarged)
            nothing = _without_object(scorer, seen)
            for column, name_of in scorer.columns.items():
                if name_of:
                    own = np.asarray(found[name_of], np.float64)
                    _check(seen, f"{column} of {name}", own, nothing)
                    values[:, place, job.columns.index(column)] = own
            for curve, name_of in scorer.curves.items():
                own = np.asarray(found[name_of], np.float32)
                _check(seen, f"{curve} of {name}", own, nothing)
                curves.setdefault(curve, []).append(own)
    predicted = chances.argmax(1).astype(np.int32)
    lost = (batch["index"] >= 0) & ~kept
    return store.Rows(
        batch["index"][kept],
        labels[kept],
        predicted[kept],
        chances[np.arange(len(labels)), labels][kept],
        values[kept],
        flat[kept],
        {name: np.stack(found, 1)[kept] for name, found in curves.items()},
        batch["index"][lost],
    )


def _look(
    job: task.Task, batch: dict[str, np.ndarray]
) -> tuple[_Seen, np.ndarray, np.ndarray]:
    """Show a batch to the network: what it sees, the labels, and the chances."""
    kept, index = batch["weight"] > 0, batch["index"]
    images: Any = batch["image"].astype(np.float32) / 255
    if kept.any():
        # Rows without a picture repeat one: what is computed there is thrown away.
        images[~kept] = images[np.flatnonzero(kept)[0]]
    variables, others, many = job.network.variables, job.others, job.laid.mesh.size > 1
    if many:
        variables = mesh.put_state(job.laid, variables)
        images = mesh.put_batch(job.laid, {"images": images})["images"]
        others = {n: mesh.put_state(job.laid, other) for n, other in others.items()}
    images = jnp.asarray(images)
    logits = split.whole(job.network.model)(variables, images)
    chances = np.asarray(jax.nn.softmax(logits))
    labels = np.where(index >= 0, job.labels[index], -1)
    labels = np.where(kept & (labels >= 0), labels, chances.argmax(1)).astype(np.int32)
    given: Any = jnp.asarray(labels)
    if many:
        given = mesh.put_batch(job.laid, {"labels": labels})["labels"]
    names = [job.data.name(int(place)) if place >= 0 else "" for place in index]
    arguments, key = (variables, images, given), jax.random.key(job.settings.seed)
    seen = _Seen(arguments, logits, _known(job, batch) | others, key, kept, names)
    _check(seen, f"the logits of {job.network.name}", logits)
    return seen, labels, chances


def _check(
    seen: _Seen, what: str, values: Any, nothing: np.ndarray | None = None
) -> None:
    """Refuse what is not finite, but where a metric has nothing to measure.

    Raises:
        FloatingPointError: Names what it is, and the pictures.
    """
    counted = seen.kept if nothing is None else seen.kept & ~nothing
    names = [files.readable(name) for name in seen.names]
    finite.check_rows(values, what, names, counted)


def _without_object(scorer: scorers.Scorer, seen: _Seen) -> np.ndarray | None:
    """Tell in which pictures a metric has nothing to find, and so no value."""
    if scorer.takes == "boxes":
        return ~np.asarray(boxes.exists(seen.known["boxes"])).any(1)
    if scorer.takes == "regions":
        return ~(np.asarray(seen.known["regions"]) > 0).any((1, 2))
    return None


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
    scorer: scorers.Scorer, explain: Explainer, seen: _Seen, saliency: Any
) -> dict[str, Any]:
    """Score the maps of a batch by one metric."""
    key, known = seen.key, seen.known
    if scorer.takes == "explain":
        further = [known[scorer.other]] if scorer.other else []
        return scorer.score(explain)(*seen.arguments, saliency, *further, key=key)
    if scorer.takes:
        return scorer.score(*seen.arguments, saliency, known[scorer.takes], key=key)
    clean = {"clean": seen.logits} if scorer.clean else {}
    return scorer.score(*seen.arguments, saliency, key=key, **clean)


def _doing(name: str, begun: float, done: float, share: float, batches: int) -> str:
    """Name what is being done, and how long all of it may still take."""
    if not done:
        return name
    seconds = (time.monotonic() - begun) / done * batches * (1 - share - done / batches)
    return f"{name}, {max(seconds, 0) / 60:.0f} min left"
