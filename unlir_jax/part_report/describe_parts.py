"""The job: from the workdir of a part network to a gallery of its parts."""

import datetime
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from unlir_jax.core.document_types import Document, Record
from unlir_jax.data import classes as class_names
from unlir_jax.models import pretrained
from unlir_jax.part_report import contrast as part_contrast
from unlir_jax.part_report import training_images
from unlir_jax.parts import gallery as part_gallery
from unlir_jax.report import part_page, part_panel, part_sheet
from unlir_jax.runs import workdir
from unlir_jax.storage import files, paths
from unlir_jax.weights import exported

PAGE, SHEET = "parts.html", "parts.png"
FRAMED, CROP, SMALL = 448, 112, 88
REGIONS, REGIONS_OF_CLASS = 8, 4
# A page with more would take tens of megabytes.
MOST_PARTS, MOST_CATEGORIES, MOST_ROWS = 200, 200, 64

Progress = Callable[[str, float], None]


class PartReportOutcome(NamedTuple):
    """Say where a gallery is, and all that it says."""

    folder: Path
    document: Record


def run(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    classes: Sequence[str] = (),
    contrast: Sequence[str] = (),
    overwrite: bool = False,
    progress: Progress = lambda doing, share: None,
) -> PartReportOutcome:
    """Write `parts.html`, `parts.png` and `results.json`: what the parts are.

    Args:
        folder: The workdir of a finished training of a part network.
        output: Folder to write to, see `files.check_folder`.
        classes: Indices or names of the categories to show; all by default.
        contrast: Two classes: why images of the first are not taken for the second.
        overwrite: Whether to replace a previous report.
        progress: Told how far the work is.

    Raises:
        ValueError: The workdir is none of a finished training of a part network, lacks
            `parts.json`, or there is no such class; the training images are needed
            for a contrast and are not there; an output that may not be written to.
    """
    folder = Path(folder)
    purpose = exported.purpose(exported.find(folder))
    if purpose is None or not purpose.decision:
        raise ValueError(
            f"The network in {str(folder)!r} does not decide by parts; expected the "
            "workdir of a part network, such as configs/train_parts.py trains."
        )
    gallery = part_gallery.read(folder)
    names = gallery["classes"]
    chosen = [class_names.find_class(name, names) for name in classes]
    pair = _pair(contrast, names)
    files.check_folder(output, (PAGE, SHEET), overwrite=overwrite)
    training = training_images.open_images(
        folder, FRAMED, purpose.crop, purpose.interpolation
    )
    if pair and training.source is None:
        raise ValueError(
            f"`contrast` needs the training images, but: {training.missing}"
        )
    document = _document(folder, gallery, purpose, chosen, training)
    if pair:
        progress("comparing", 0.0)
        network = pretrained.load(str(folder), fold=True)
        document["contrast"] = part_contrast.contrast(
            network, part_gallery.centres(gallery), training, pair, gallery["parts"]
        )
    sections = []
    with files.new_folder(output, overwrite=overwrite) as place:
        shown = document["shown"]
        rows = []
        for number, part in enumerate(shown["parts"]):
            progress("cutting out regions", number / max(len(shown["parts"]), 1))
            entry = gallery["parts"][part]
            crops = training_images.cuts(training, entry["regions"], CROP, REGIONS)
            rows.append((entry, crops))
        sections.append(part_page.parts(rows, names))
        if pair:
            sections.insert(0, _contrast(document["contrast"], training))
        categories = []
        for number, label in enumerate(shown["categories"]):
            progress("cutting out regions", number / max(len(shown["categories"]), 1))
            entry = gallery["categories"][label]
            found = [
                (
                    line,
                    training_images.cuts(
                        training, line["regions"], SMALL, REGIONS_OF_CLASS
                    ),
                )
                for line in entry["parts"]
            ]
            categories.append((entry, found))
        sections.append(
            part_page.categories(categories, names, gallery["parts"], shown["parts"])
        )
        progress("writing the gallery", 1.0)
        files.write_text(place / PAGE, part_page.page(document, gallery, sections))
        drawn = part_sheet.sheet_of_parts(
            f"The parts of {document['workdir']}",
            part_page.summary(document, gallery),
            [
                (
                    part_panel.part_title(entry),
                    part_page.brief(entry, names),
                    _bare(crops),
                )
                for entry, crops in rows[:MOST_ROWS]
            ],
        )
        files.write_png(place / SHEET, drawn)
        document["files"] = sorted([PAGE, SHEET, files.RESULTS])
        files.write_text(place / files.RESULTS, files.to_json(document))
    return PartReportOutcome(Path(output), document)


def _pair(contrast: Sequence[str], names: Sequence[str]) -> tuple[int, int] | None:
    if not contrast:
        return None
    if len(contrast) != 2:
        raise ValueError(
            f"`contrast` names {len(contrast)} classes; expected two: A,B."
        )
    first, second = (class_names.find_class(name, names) for name in contrast)
    if first == second:
        raise ValueError(
            f"`contrast` names {names[first]!r} twice; expected two classes."
        )
    return first, second


def _document(
    folder: Path,
    gallery: Record,
    purpose: exported.Purpose,
    chosen: Sequence[int],
    training: training_images.TrainingImages,
) -> Record:
    strength = [-entry["strength"] for entry in gallery["parts"]]
    parts = np.argsort(strength, kind="stable")[:MOST_PARTS].tolist()
    categories = [*dict.fromkeys(chosen)] or [*range(len(gallery["classes"]))]
    left_out = []
    if len(strength) > MOST_PARTS:
        left_out.append(
            f"Of {len(strength)} parts, the {MOST_PARTS} that add most are shown."
        )
    if len(categories) > MOST_CATEGORIES:
        left_out.append(
            f"Of {len(categories)} categories, the first {MOST_CATEGORIES} are shown: "
            "choose others with --classes."
        )
        categories = categories[:MOST_CATEGORIES]
    known = workdir.read(folder / workdir.SUMMARY) or {}
    figures = ("test/accuracy", "test/keypoint_share_top30", "test/nmi")
    return {
        "schema": files.SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "workdir": folder.resolve().name,
        "model": purpose.network,
        "decision": purpose.decision,
        "figures": {name: known[name] for name in figures if name in known},
        "versions": files.versions(),
        "missing": paths.without_folders(training.missing),
        "left_out": left_out,
        "shown": {"parts": parts, "categories": categories},
        "classes": gallery["classes"],
        "parts": gallery["parts"],
        "categories": [gallery["categories"][label] for label in categories],
    }


def _contrast(found: Record, training: training_images.TrainingImages) -> str:
    crops = [
        [
            _bare(training_images.cuts(training, regions, SMALL, 3))
            for regions in (line["regions"], line["rival_regions"])
        ]
        for line in found["shown"]
    ]
    return part_page.contrast(found, crops)


def _bare(crops: Sequence[tuple[Document, Image.Image]]) -> list[Image.Image]:
    return [image for _, image in crops]
