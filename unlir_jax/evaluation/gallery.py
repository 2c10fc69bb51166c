"""Which pictures of an evaluation are worth looking at, and their maps."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from unlir_jax import maps, metrics
from unlir_jax.data import pipeline, source
from unlir_jax.evaluation import store
from unlir_jax.report import overlay

# Of what is asked for, the first of these decides what is best and worst.
JUDGES = ("insertion", "average_gain", "average_drop", "deletion")


class Shown(NamedTuple):
    """Hold one picture of the gallery.

    Attributes:
        kind: `best`, `worst` or `disputed`.
        name: Of the picture.
        picture: As the network sees it.
        views: By method, its map over the picture and the picture seen through it.
        scores: By method, what the judge gives.
        place: Its row in the table.
        judge: The metric of the scores.
    """

    kind: str
    name: str
    picture: Image.Image
    views: dict[str, overlay.View]
    scores: dict[str, float]
    place: int
    judge: str


def judge(names: Sequence[str]) -> str:
    """Choose the metric by which pictures are the best and the worst."""
    return next((name for name in JUDGES if name in names), names[0])


def choose(
    values: np.ndarray, flat: np.ndarray, higher: bool, count: int
) -> list[tuple[str, int]]:
    """Choose the best, the worst and the most disputed pictures.

    Args:
        values: Of the judge, `[pictures, methods]`, without controls.
        flat: Whether a map is flat, of the same shape; such pictures are the worst.
        higher: Whether more is better.
        count: Of each kind; fewer where there are few pictures.

    Returns:
        Kinds and places; a picture comes once.
    """
    finite = np.where(np.isfinite(values), values, 0.0)
    mean = (finite if higher else -finite).mean(1) - flat.any(1)
    order = np.argsort(-mean, kind="stable").tolist()
    count = min(count, len(order) // 2)
    chosen = [("best", place) for place in order[:count]]
    chosen += [("worst", place) for place in order[::-1][:count]]
    if values.shape[1] > 1:
        taken = {place for _, place in chosen}
        apart = np.argsort(-np.ptp(finite, axis=1), kind="stable").tolist()
        left = [place for place in apart if place not in taken]
        chosen += [("disputed", place) for place in left[:count]]
    return chosen


def draw(job: Any, rows: store.Rows, names: Sequence[str]) -> list[Shown]:
    """Explain the chosen pictures again, and draw their maps."""
    methods = [name for name in job.explainers if name not in job.controls]
    methods = methods or list(job.explainers)
    places = [list(job.explainers).index(name) for name in methods]
    by = judge(job.columns)
    values = rows.values[:, places, job.columns.index(by)]
    higher = metrics.higher_is_better(by)
    chosen = choose(values, rows.flat[:, places], higher, job.settings.gallery)
    if not chosen:
        return []
    at = np.asarray([rows.index[place] for _, place in chosen])
    batches = pipeline.evaluation(
        source.subset(job.data, at),
        batch_size=len(at),
        image_size=job.image_size,
        crop=job.crop,
        interpolation=job.interpolation,
    )
    pixels = next(batches)["image"]
    masks: dict[str, list[np.ndarray]] = {name: [] for name in methods}
    key = jax.random.key(job.settings.seed)
    # One by one: a map does not depend on its neighbours, and memory stays small.
    for (_, place), picture in zip(chosen, pixels, strict=True):
        image = jnp.asarray(picture[None], jnp.float32) / 255
        label = jnp.asarray(rows.label[place][None])
        for name in methods:
            raw = job.explainers[name](job.network.variables, image, label, key=key)
            enlarged = maps.resize(raw, image.shape[1:3])
            masks[name].append(np.asarray(maps.normalize(enlarged, "range"))[0])
    shown = []
    for number, (kind, place) in enumerate(chosen):
        picture = Image.fromarray(pixels[number])
        views = {name: overlay.view(picture, masks[name][number]) for name in methods}
        scores = dict(zip(methods, values[place].tolist(), strict=True))
        shown.append(Shown(kind, names[place], picture, views, scores, place, by))
    return shown
