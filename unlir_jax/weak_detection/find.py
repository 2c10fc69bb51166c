"""The job: find objects in images with a trained detector, and draw them."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from unlir_jax import detection
from unlir_jax.core.document_types import Record
from unlir_jax.data import image_files, levels, preprocessing
from unlir_jax.report import boxes as drawing
from unlir_jax.runs import workdir
from unlir_jax.storage import files, paths
from unlir_jax.weak_detection import descriptions, detector, gallery
from unlir_jax.weak_detection import settings as default_settings
from unlir_jax.weak_detection import setup as setups
from unlir_jax.weak_detection.detector import Detector
from unlir_jax.weak_detection.setup import DetectionSetup

BATCH, SHOWN = 16, 24
"""Images at a time, and in the overview."""

Progress = Callable[[str, float], None]


class Found(NamedTuple):
    """Say where results are, what they are, and which images could not be read."""

    folder: Path
    document: Record
    failed: list[dict[str, str]]


def run(
    images: Sequence[str],
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    weights: str | None = None,
    share: float = 0.5,
    threshold: float = 0.0,
    most: int = 20,
    nms: float | None = None,
    white_level: levels.WhiteLevel | None = None,
    overwrite: bool = False,
    progress: Progress = lambda doing, share: None,
) -> Found:
    """Find objects, and write `results.json`, an overview and a drawing of each image.

    Args:
        images: Files, folders and patterns.
        model: Workdir of a training with `configs/weak_detection.py`.
        output: Folder to write to.
        weights: Weights of the network, where they are elsewhere than in training.
        share: Boxes count from this share of the image's highest score on, in [0, 1].
        threshold: Boxes count from this score on.
        most: Number of boxes of an image that are told, the best ones.
        nms: Largest overlap of two boxes of a class; None: that of training.
        white_level: White of images of more than 8 bits, see `data.levels`; None: that
            of training.
        overwrite: Whether to replace previous results in the folder.
        progress: Told how far the work is.

    Raises:
        ValueError: A setting that makes no sense, a folder that is no such training,
            other weights than it was trained on, nothing to look at, or an output
            folder that may not be written to.
    """
    if not 0 <= share <= 1 or most < 1:
        raise ValueError(
            f"`share`={share} and `most`={most}; expected a share in [0, 1], and 1 box "
            "or more."
        )
    paths.check(output, "output")
    found = image_files.find_pictures(images, outside=output)
    if not found.files:
        raise ValueError("There is no image; expected files, folders or patterns.")
    names = [f"{stem}__boxes.png" for stem in image_files.distinct_names(found.files)]
    written = {gallery.FILE, *names}
    files.check_folder(output, {files.RESULTS, *written}, overwrite=overwrite)
    given, trained = load(model, weights)
    limit = given.settings["nms"] if nms is None else nms
    trained_with = given.settings["data"]["white_level"]
    asked = trained_with if white_level is None else white_level
    white = levels.check_white_level(asked)
    failed, entries, shown = found.failures(), [], []
    told = found.told()
    with files.new_folder(output, overwrite=overwrite) as place:
        for start in range(0, len(found.files), BATCH):
            progress("finding", start / len(found.files))
            read = _read(found.files[start : start + BATCH], told, white, failed)
            for path, image, every in _found(given, trained, read, limit):
                chosen = _chosen(every, share, threshold, most)
                name = names[found.files.index(path)]
                drawn = drawing.draw(image, chosen, given.classes)
                files.write_png(place / name, drawn)
                shown += [drawn] if len(shown) < SHOWN else []
                entries.append(_entry(told[path], name, image, chosen, given.classes))
        if shown:
            files.write_png(place / gallery.FILE, gallery.sheet(shown))
        drawings = {entry["drawing"] for entry in entries}
        document: Record = {
            "schema": files.SCHEMA,
            "files": sorted(
                {files.RESULTS, *({gallery.FILE} if shown else ()), *drawings}
            ),
            "model": paths.told(model),
            "classes": list(given.classes),
            "settings": {
                "share": share,
                "threshold": threshold,
                "most": most,
                "nms": limit,
                "white_level": white,
            },
            "images": entries,
            "failed": failed,
        }
        files.write_text(place / files.RESULTS, files.to_json(document))
    progress("done", 1.0)
    return Found(Path(output), document, failed)


def load(
    model: str | os.PathLike[str], weights: str | None = None, *, name: str = "model"
) -> tuple[DetectionSetup, Detector]:
    """Load a trained detector; `name` is the setting that says where it lies.

    Raises:
        ValueError: The folder is no finished training of a detector, or the weights
            are others than it was trained on.
    """
    settings, summary = _trained(model, name)
    if weights is not None:
        settings.model.weights = weights
    setups.check(settings)
    classes, everywhere = (tuple(summary[name]) for name in ("classes", "everywhere"))
    given = setups.assemble(settings, None, classes, everywhere)
    folder = Path(model)
    if summary["sha256"] != given.network.sha256:
        raise ValueError(
            f"The weights of {given.network.source!r} are not those that "
            f"{str(folder)!r} was trained on; expected the same file, see `weights`."
        )
    template = jax.eval_shape(
        lambda key: given.initial(key, summary["dimensions"]), jax.random.key(0)
    )
    return given, detector.read(folder / detector.FILE, template)


def settings_of(model: str | os.PathLike[str]) -> Any:
    """Give the settings that a detector was trained with.

    Raises:
        ValueError: The folder is no finished training of a detector.
    """
    return _trained(model)[0]


def _trained(model: str | os.PathLike[str], name: str = "model") -> tuple[Any, Record]:
    """Give the settings and the summary of a finished training."""
    folder = paths.check(model, name)
    kept, summary = (
        workdir.read(folder / file) for file in (workdir.CONFIG, workdir.SUMMARY)
    )
    theirs = (kept or {}).get("kind")
    if kept is None or summary is None or theirs != default_settings.KIND:
        state = (
            "is not finished" if theirs == default_settings.KIND else "is no detector"
        )
        raise ValueError(
            f"`{name}`={str(folder)!r} {state}; expected the finished workdir of "
            "`unlir train --config configs/weak_detection.py`."
        )
    settings: Any = default_settings.weak_detection()
    # JSON has lists for tuples, and whole numbers for some floats.
    with settings.ignore_type():
        settings.update(kept)
    return settings, summary


def _read(
    every: Sequence[Path],
    told: dict[Path, str],
    white_level: levels.WhiteLevel,
    failed: list[dict[str, str]],
) -> list[tuple[Path, Image.Image]]:
    found = []
    for path in every:
        try:
            image = preprocessing.read_image(path, white_level=white_level)
            found.append((path, image))
        except (ValueError, OSError) as error:
            failed.append({"file": told[path], "error": str(error)})
    return found


def _found(
    given: DetectionSetup,
    trained: Detector,
    read: Sequence[tuple[Path, Image.Image]],
    nms: float,
) -> list[tuple[Path, Image.Image, detection.Detections]]:
    if not read:
        return []
    side = given.eye.image_size
    squares = [descriptions.stretched(image, side) for _, image in read]
    (maps,) = descriptions.looked_at(given.eye, squares)
    cells = descriptions.whitened(maps, trained.whitening)
    boxes = detector.detect(
        given.heads(cells.shape[-1]),
        given.regions,
        trained.variables,
        cells,
        np.asarray([image.size for _, image in read]),
        nms=nms,
        voting=given.settings["voting"],
    )
    return [(*each, own) for each, own in zip(read, boxes, strict=True)]


def _chosen(
    found: detection.Detections, share: float, threshold: float, most: int
) -> detection.Detections:
    """Keep what is told of an image: the best boxes, in order."""
    boxes, scores, labels = (np.asarray(each) for each in found)
    least = max(threshold, share * float(scores.max(initial=0.0)))
    best = np.argsort(-scores, kind="stable")
    best = best[scores[best] >= least][:most]
    return detection.Detections(boxes[best], scores[best], labels[best])


def _entry(
    name: str,
    drawing: str,
    image: Image.Image,
    found: detection.Detections,
    classes: Sequence[str],
) -> Record:
    objects = [
        {
            "class": classes[int(label)],
            "score": float(score),
            **{
                key: round(float(edge), 2)
                for key, edge in zip(("x0", "y0", "x1", "y1"), box, strict=True)
            },
        }
        for box, score, label in zip(*found, strict=True)
    ]
    width, height = image.size
    return {
        "image": name,
        "drawing": drawing,
        "width": width,
        "height": height,
        "objects": objects,
    }
