"""Panels of a report on parts: contributions, heatmaps, regions."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from unlir_jax.core.document_types import Record
from unlir_jax.features import receptive_field
from unlir_jax.models.part_network import PartNet
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.part_report import training_images
from unlir_jax.parts import attribution
from unlir_jax.parts import gallery as part_gallery
from unlir_jax.report import overlay
from unlir_jax.storage import paths

THUMB, CROP, CROPS = 224, 112, 5
# Side of framed training images, in pixels; regions are cut out of them.
FRAMED = 448


class PartExplanation(NamedTuple):
    """Hold what is shown of one image.

    Attributes:
        entry: For `results.json`, see `attribution.account`.
        views: By part, where it is in the image.
        regions: By part, training regions that look like it.
        sentence: Why there are no such regions, or "".
    """

    entry: Record
    views: dict[int, Image.Image]
    regions: dict[int, list[Image.Image]]
    sentence: str = ""


class PartExplainer(NamedTuple):
    """Know a part network and what has been learnt from.

    Attributes:
        explain: `(images, framed pictures, labels)` -> one explanation for each.
        centres: Where the cells look, where that is known.
    """

    explain: Callable[
        [np.ndarray, Sequence[Image.Image], Sequence[int]], list[PartExplanation]
    ]
    centres: receptive_field.Centres | None


def part_explainer(
    network: Pretrained, model: str | os.PathLike[str], against: int | None = None
) -> PartExplainer | None:
    """Prepare to explain why a network decided; None if it does not decide by parts.

    Args:
        network: The network.
        model: What it was loaded by; training regions are shown for a workdir.
        against: See `attribution.account`.
    """
    if not isinstance(network.module, PartNet):
        return None
    gallery, training = _gallery(network, Path(model))
    parts = gallery["parts"] if gallery else []
    centres = part_gallery.centres(gallery) if gallery else None
    read = attribution.reader(network, centres)
    names = network.class_names

    def crops(part: int) -> list[Image.Image]:
        regions = parts[part]["regions"] if parts else []
        found = training_images.cuts(training, regions, CROP, CROPS)
        return [image for _, image in found]

    def explain(
        images: np.ndarray, pictures: Sequence[Image.Image], labels: Sequence[int]
    ) -> list[PartExplanation]:
        accounts = read(images)
        return [
            _explanation(accounts, row, picture, label)
            for row, (picture, label) in enumerate(zip(pictures, labels, strict=True))
        ]

    def _explanation(
        accounts: attribution.Accounts, row: int, picture: Image.Image, label: int
    ) -> PartExplanation:
        entry = attribution.account(accounts, row, label, names, parts, against)
        shown = [line["part"] for line in entry["shown"]]
        also = [line["part"] for line in entry["contrast"]["shown"]]
        views = {
            part: _view(picture, attribution.heat(accounts, row, part, picture.width))
            for part in dict.fromkeys([*shown, *also])
        }
        regions = {part: crops(part) for part in shown}
        told = paths.without_folders(training.missing)
        return PartExplanation(entry, views, regions, told)

    return PartExplainer(explain, centres)


def _gallery(
    network: Pretrained, folder: Path
) -> tuple[Record | None, training_images.TrainingImages]:
    if not folder.is_dir():
        return None, training_images.nothing(
            "Training regions are shown where --model is the workdir of a training, "
            "which knows its images."
        )
    try:
        gallery = part_gallery.read(folder)
    except ValueError as error:
        return None, training_images.nothing(f"No training regions are shown: {error}")
    if len(gallery["parts"]) != network.module.classifier.parts:
        return None, training_images.nothing(
            f"No training regions are shown: {part_gallery.FILE} is of another network."
        )
    return gallery, training_images.open_images(
        folder, FRAMED, network.crop, network.interpolation
    )


def _view(picture: Image.Image, heat: np.ndarray) -> Image.Image:
    drawn = overlay.overlay(picture, heat)
    return drawn.resize((THUMB, THUMB), Image.Resampling.LANCZOS)
