"""One batch of an evaluation, from its files to the rows that are kept."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.data import pipeline, source
from unlir_jax.evaluation import given_maps, store
from unlir_jax.evaluation.setup import EvaluationSetup
from unlir_jax.explanation import scoring
from unlir_jax.metrics.localization import boxes
from unlir_jax.metrics.sanity import augmentations
from unlir_jax.runtime import mesh
from unlir_jax.storage import files

Progress = Callable[[str, float], None]
KINDS = ("boxes", "masks")


class Scored(NamedTuple):
    """Hold the images of a batch that could be read.

    Attributes:
        rows: What is kept of them.
        pixels: 8-bit images as the network sees them.
        maps: Raw maps by method.
    """

    rows: store.Rows
    pixels: np.ndarray
    maps: dict[str, np.ndarray]


def batches(
    setup: EvaluationSetup, missing: Sequence[int]
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Read the batches that are not there yet, each as it would be in a whole run."""
    size, end = setup.settings.batch_size, setup.data.size
    rows = [np.arange(first * size, min((first + 1) * size, end)) for first in missing]
    if rows:
        yield from zip(missing, read(setup, np.concatenate(rows)), strict=True)


def read(setup: EvaluationSetup, places: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Read images of the data in batches; the last is filled up with nothing."""
    options = setup.settings.data
    for batch in pipeline.evaluation(
        source.subset(setup.data, places),
        batch_size=setup.settings.batch_size,
        image_size=setup.image_size,
        crop=setup.crop,
        interpolation=setup.interpolation,
        frame=setup.network.frame,
        annotations=setup.annotations,
        workers=options.workers,
        threads=options.threads or None,
        strict=options.strict,
    ):
        inside = batch["index"] >= 0
        batch["index"] = np.where(inside, places[batch["index"]], -1)
        yield batch


def score(
    setup: EvaluationSetup,
    batch: Mapping[str, np.ndarray],
    share: float = 0.0,
    batches: int = 1,
    progress: Progress = lambda doing, share: None,
    *,
    first: bool = False,
) -> Scored:
    """Explain a batch by every method, and score every map.

    Raises:
        FloatingPointError: Logits, a map, or a score where its metric is defined, are
            not finite; it names the images.
    """
    filled, index, begun = batch["weight"] > 0, batch["index"], time.monotonic()

    def advance(method: str, metric: str, done: float) -> None:
        doing = scoring.doing(method, metric, first=first)
        progress(_doing(doing, begun, done, share, batches), share + done / batches)

    theirs = {
        name: given_maps.explainer(method, index, setup.image_size)
        for name, method in setup.given.items()
    }
    given = _batch(setup, batch, filled)
    found = scoring.score_batch(
        setup.network,
        {name: theirs.get(name, made) for name, made in setup.explainers.items()},
        setup.scorers,
        given,
        key=jax.random.key(setup.settings.seed),
        score=setup.score,
        progress=advance,
        signed=setup.signed,
        signs=setup.signs,
    )
    rows = _rows(setup, found, index, filled)
    kept = {name: each[filled] for name, each in found.maps.items()}
    pixels = batch["image"]
    if not setup.condition.plain:
        pixels = np.rint(255 * np.asarray(given.images)).astype(np.uint8)
    return Scored(rows, pixels[filled], kept)


def _rows(
    setup: EvaluationSetup, found: scoring.Scores, index: np.ndarray, filled: np.ndarray
) -> store.Rows:
    """Put together what is kept of the images of a batch that could be read."""
    # What stays NaN here follows from the curves of all images, see `aggregate`.
    nothing = np.full(len(index), np.nan)
    values = [
        [np.asarray(each.get(column, nothing), np.float64) for column in setup.columns]
        for each in found.values.values()
    ]
    curves = {
        name: np.stack([each[name] for each in found.values.values()], 1)
        for name in setup.curves
    }
    return store.Rows(
        index[filled],
        found.labels[filled],
        found.probabilities.argmax(1).astype(np.int32)[filled],
        found.clean[filled],
        np.moveaxis(np.asarray(values), -1, 0)[filled],
        np.stack(list(found.flat.values()), 1)[filled],
        np.stack(list(found.nearly_flat.values()), 1)[filled].astype(np.int8),
        {name: each[filled].astype(np.float32) for name, each in curves.items()},
        index[(index >= 0) & ~filled],
    )


def _batch(
    setup: EvaluationSetup, batch: Mapping[str, np.ndarray], filled: np.ndarray
) -> scoring.Batch:
    """Lay a batch out over the devices, with what is known of its images."""
    images = batch["image"].astype(np.float32) / 255
    if filled.any():
        # Rows without an image repeat one: what is computed there is thrown away.
        images[~filled] = images[np.flatnonzero(filled)[0]]
    index, objects = batch["index"], _objects(setup, batch)
    labels = np.where(filled, setup.labels[index], -1)
    if not setup.condition.plain:
        images, labels, objects = _augmented(setup, images, labels, objects)
    if setup.laid.mesh.size > 1:
        images = mesh.put_batch(setup.laid, {"images": images})["images"]
    names = [setup.data.name(int(place)) if place >= 0 else "" for place in index]
    return scoring.Batch(
        jnp.asarray(images),
        labels,
        [files.readable(name) for name in names],
        filled,
        {**objects, **setup.others},
    )


def _augmented(
    setup: EvaluationSetup,
    images: np.ndarray,
    labels: np.ndarray,
    objects: dict[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Augment images, and move their objects with them.

    The class that the network itself says is that of the images as they are.
    """
    name, key = setup.condition.augmentation, jax.random.key(setup.settings.seed)
    if (labels < 0).any():
        labels = scoring.chosen(setup.network, jnp.asarray(images), labels, setup.score)
    keys = augmentations.keys(images, key)
    moved = {}
    if "masks" in objects:
        moved["masks"] = augmentations.move_masks(name, objects["masks"], keys)
    if "boxes" in objects:
        moved["boxes"] = objects["boxes"].copy()
        for place in range(moved["boxes"].shape[1]):
            alone = boxes.fill(objects["boxes"][:, [place]], images.shape[1:3])
            there = augmentations.move_masks(name, alone.astype(np.int8), keys)
            moved["boxes"][:, place] = boxes.around(there > 0)
    return np.asarray(augmentations.augment(name, images, key)), labels, moved


def _objects(
    setup: EvaluationSetup, batch: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Give what localisation compares with: the object's boxes and mask.

    Of a mask alone the box is that around all of it.

    Boxes are whole pixels with both ends included, as `metrics.boxes` takes them; void
    pixels of a mask are -1.
    """
    found = {}
    if "boxes" in setup.annotations:
        corners = np.asarray(batch["boxes"])
        there = (corners[..., 2:] > corners[..., :2]).all(-1, keepdims=True)
        low = np.clip(np.floor(corners[..., :2]), 0, setup.image_size - 1)
        high = np.clip(np.ceil(corners[..., 2:]) - 1, low, setup.image_size - 1)
        whole = np.concatenate([low, high], -1).astype(np.int32)
        nothing = np.asarray([0, 0, -1, -1], np.int32)
        found["boxes"] = np.where(there, whole, nothing)
        size = (setup.image_size, setup.image_size)
        found["masks"] = np.asarray(boxes.fill(found["boxes"], size))
    if "mask" in setup.annotations:
        mask = np.asarray(batch["mask"])
        # A batch may have no object but void, which 255 would not tell from white.
        found["masks"] = np.where(mask == source.VOID, -1, mask > 0).astype(np.int8)
    if "boxes" not in found and "masks" in found:
        found["boxes"] = boxes.around(found["masks"] > 0)[:, None].astype(np.int32)
    return found


def objects(
    setup: EvaluationSetup, places: np.ndarray
) -> dict[int, dict[str, np.ndarray]]:
    """Give the boxes and the mask of some images, as far as the data has them.

    Args:
        setup: The evaluation.
        places: Places of the images in the data.

    Returns:
        By place; an image that cannot be read is not there.
    """
    found = {}
    if not len(places) or not setup.annotations:
        return found
    for batch in read(setup, np.asarray(places)):
        filled = batch["weight"] > 0
        given = _batch(setup, batch, filled).inputs
        for row in np.flatnonzero(filled).tolist():
            own = {
                name: np.asarray(given[name][row]) for name in given if name in KINDS
            }
            found[int(batch["index"][row])] = own
    return found


def _doing(name: str, begun: float, done: float, share: float, batches: int) -> str:
    """Name what is being done, and how long all of it may still take."""
    if not done:
        return name
    seconds = (time.monotonic() - begun) / done * batches * (1 - share - done / batches)
    return f"{name}, {max(seconds, 0) / 60:.0f} min left"
