"""The job: segment images by class maps, and measure mIoU with void.

The protocol of weakly supervised segmentation: a map of each class that an image is
known to have, refined or not, the highest at each pixel, and the background where no
map is high enough. Pixels of all images count together, void ones not.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from unlir_jax import metrics
from unlir_jax.core import finite
from unlir_jax.core.document_types import Record
from unlir_jax.data import object_masks, source
from unlir_jax.data.source import VOID
from unlir_jax.metrics import Highest
from unlir_jax.report import segments as drawing
from unlir_jax.runs import origins, sharing, workdir
from unlir_jax.runtime import config, preemption
from unlir_jax.runtime.config import Settings
from unlir_jax.storage import files, paths
from unlir_jax.weak_detection import descriptions, seeds, segment_measures
from unlir_jax.weak_detection.segmentation import (
    PREDICTED,
    Segmentation,
    prepare,
    segmentation,
)

DRAWING = "segments.png"
TRACES = (workdir.SUMMARY, DRAWING)
FREE = ("data.compare", "gallery")
GROUND = "background"

Progress = Callable[[str, float], None]


class Segmented(NamedTuple):
    """Say how a run ended: its summary, None if it was stopped, and a sentence."""

    summary: Record | None
    message: str


class Counted(NamedTuple):
    """Hold the pixels of all images.

    Attributes:
        both: By method the pixels that are found and right, `[images, thresholds,
            classes]`, background first; see `metrics.class_counts`.
        either: So those that are found or there.
        void: Share of all pixels that is void.
        known: Images whose classes in the mask are among those that they have.
        unreadable: Number of images that cannot be read.
        drawn: Images with their segments, to be drawn once a background is chosen.
    """

    both: Mapping[str, np.ndarray]
    either: Mapping[str, np.ndarray]
    void: float
    known: int
    unreadable: int
    drawn: list[tuple[Image.Image, np.ndarray, dict[str, Highest]]]


def run(
    settings: Settings,
    folder: str | Path,
    *,
    progress: Progress = lambda doing, share: None,
    say: Callable[[str], None] = lambda text: None,
) -> Segmented:
    """Segment the images of a config, and compare with their masks.

    Writes `summary.json` and drawings of the first images to the workdir.

    Args:
        settings: See `segmentation.segmentation`.
        folder: The workdir: new, or that of an earlier start with the same settings.
        progress: Told what is being done, and the share of all that is done.
        say: Told a sentence for people.

    Raises:
        ValueError: A setting that makes no sense, a folder of something else, masks of
            other classes, or other weights or data than it was begun with.
    """
    folder, plain = paths.check(folder, "workdir"), config.to_dict(settings)
    known = config.to_dict(segmentation())
    place = sharing.Place(folder, plain, FREE, known, TRACES)
    done, given = sharing.check(place), prepare(settings)
    network, how = given.trained_on.network, settings.data.compare
    now = origins.describe(network, annotations=("mask",), test=given.test.images)
    told = sharing.compare(place, now, how)
    if done is not None:
        return Segmented(done, f"Done before: {_result(folder, done)}")
    for sentence in (*([told] if told else ()), *given.test.images.notices):
        say(sentence)
    sharing.check_writable(folder)
    sharing.claim(place, now, how)
    try:
        with preemption.watch() as asked:
            found = _count(given, progress, asked)
    except preemption.Stopped as stopped:
        return Segmented(None, f"{stopped}; the same command begins anew.")
    summary, chosen = _summary(given, found)
    finite.check(summary, "the summary")
    with sharing.alone(folder), sharing.writing(folder):
        if found.drawn:
            files.write_png(folder / DRAWING, _drawn(given, found, chosen))
        files.write_text(folder / workdir.SUMMARY, files.to_json(summary))
    return Segmented(summary, f"Done: {_result(folder, summary)}")


def _count(
    given: Segmentation, progress: Progress, asked: Callable[[], str]
) -> Counted:
    """Segment all images by all methods, and count their pixels."""
    settings, images = given.settings, given.test.images
    both: dict[str, list] = {name: [] for name in given.explainers}
    either: dict[str, list] = {name: [] for name in given.explainers}
    void = pixels = known = unreadable = 0
    drawn = []
    for start, squares, examples in _read(given):
        progress("segmenting", start / images.size)
        if asked():
            raise preemption.Stopped(f"Stopped by {asked()} at image {start}")
        unreadable += min(descriptions.BATCH, images.size - start) - len(examples)
        if not examples:
            continue
        places, pictures, masks = zip(*examples, strict=True)
        (maps,) = descriptions.looked_at(given.trained_on.eye, squares)
        cells = descriptions.whitened(maps, given.detector.whitening)
        present = _present(given, np.asarray(places), cells)
        own = {
            name: metrics.highest_classes(
                explain, cells, np.stack(squares).astype(np.float32) / 255, present
            )
            for name, explain in given.explainers.items()
        }
        for row, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
            object_masks.check(mask, images.classes, images.name(places[row]))
            void, pixels = void + int((mask == VOID).sum()), pixels + mask.size
            there = np.setdiff1d(mask[mask != VOID], [0]).astype(int) - 1
            known += bool(given.test.present[places[row]][there].all())
            resized = {name: _resized(each, row, mask) for name, each in own.items()}
            for name, each in resized.items():
                counts = metrics.class_counts(
                    each,
                    mask[None],
                    len(images.classes) + 1,
                    thresholds=settings.thresholds,
                )
                for kept, count in zip((both, either), counts, strict=True):
                    kept[name].append(count[0])
            if len(drawn) < settings.gallery:
                drawn.append((Image.fromarray(picture), mask, resized))
    if not pixels:
        why = source.reason(images, 0, ("mask",))
        raise ValueError(f"No image of the data can be read: {why}")
    stacked, others = (
        {n: np.stack(each) for n, each in kept.items()} for kept in (both, either)
    )
    return Counted(stacked, others, void / pixels, known, unreadable, drawn)


Example = tuple[int, np.ndarray, np.ndarray]


def _read(given: Segmentation) -> Iterator[tuple[int, list[np.ndarray], list[Example]]]:
    """Read images and masks, batch by batch; those that cannot be read are left out."""
    images, side = given.test.images, given.trained_on.eye.image_size
    read = source.narrowed(images, ("mask",)).read
    for start in range(0, images.size, descriptions.BATCH):
        squares, examples = [], []
        for place in range(start, min(start + descriptions.BATCH, images.size)):
            try:
                example = read(place)
            except (ValueError, OSError):
                continue
            picture = np.asarray(example["image"])
            squares.append(descriptions.stretched(picture, side))
            examples.append((place, picture, np.asarray(example["mask"])))
        yield start, squares, examples


def _present(given: Segmentation, places: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Say which classes images have."""
    if given.settings.labels != PREDICTED:
        return given.test.present[places]
    layer = given.detector.variables["classifier"]
    logits = cells.mean((1, 2)) @ np.asarray(layer["kernel"])
    return logits + np.asarray(layer["bias"]) > 0


def _resized(found: Highest, row: int, mask: np.ndarray) -> Highest:
    """Bring the highest map of an image from the square to the pixels of its mask."""
    size = mask.shape[::-1]
    values = Image.fromarray(found.values[row].astype(np.float32))
    classes = Image.fromarray(found.classes[row].astype(np.int32))
    return Highest(
        np.asarray(values.resize(size, Image.Resampling.BILINEAR))[None],
        np.asarray(classes.resize(size, Image.Resampling.NEAREST))[None],
    )


def _summary(
    given: Segmentation, found: Counted
) -> tuple[Record, dict[str, tuple[int, int]]]:
    """Say what came of it, and at which background each half of images is cut."""
    settings, images = given.settings, given.test.images
    count = len(found.both[seeds.PLAIN])
    if 2 * found.known < count:
        raise ValueError(
            f"Masks of {count - found.known} of {count} images have classes that "
            "these images do not have; expected the place of a class in alphabetical "
            f"order as its value: {', '.join(images.classes):.200}."
        )
    chosen, figures = segment_measures.measure(found.both, found.either, settings)
    named = [GROUND, *images.classes]
    for name in given.explainers:
        each = figures[f"{name}/classes"]
        figures[f"{name}/classes"] = dict(zip(named, each, strict=True))
    summary: Record = {
        "classes": list(images.classes),
        "images": count,
        "unreadable": found.unreadable,
        "void": found.void,
        "labels": settings.labels,
        "network": given.trained_on.network.name,
        "sha256": given.trained_on.network.sha256,
        "backgrounds": {
            name: [place / settings.thresholds for place in halves]
            for name, halves in chosen.items()
        },
        **figures,
    }
    return summary, chosen


def _drawn(
    given: Segmentation, found: Counted, chosen: Mapping[str, tuple[int, int]]
) -> Image.Image:
    """Draw images, their masks and their segments, a row for each image."""
    rows = []
    for number, (picture, mask, own) in enumerate(found.drawn):
        every = [mask]
        for name, highest in own.items():
            place = chosen[name][number % 2]
            every.append(highest.segments(place / given.settings.thresholds)[0])
        rows.append((picture, every))
    return drawing.sheet(rows, ("mask", *found.drawn[0][2]))


def _result(folder: Path, summary: Record) -> str:
    named = [name for name in summary if name.endswith("/miou")]
    best = max(named, key=lambda name: summary[name]["mean"])
    plain = summary[f"{seeds.PLAIN}/miou"]["mean"]
    return (
        f"mIoU {plain:.3f} of plain class maps, and {summary[best]['mean']:.3f} of "
        f"{best.removesuffix('/miou')}: {folder / workdir.SUMMARY}"
    )
