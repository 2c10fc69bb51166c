"""Test images with the boxes that were found in them."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from unlir_jax import detection
from unlir_jax.data.objects import ObjectImages
from unlir_jax.report import boxes as drawing

FILE = "detections.png"
SIDE, COLUMNS = 256, 4
SHOWN = 0.5
"""Boxes are drawn from this share of the image's highest score on."""


def draw(
    test: ObjectImages,
    places: Sequence[int],
    found: Sequence[detection.Detections],
    most: int,
) -> Image.Image | None:
    """Draw the first test images with what was found, None for no image."""
    drawn = []
    for place, boxes in list(zip(places, found, strict=True))[:most]:
        picture = Image.fromarray(np.asarray(test.images.read(place)["image"]))
        chosen = best(boxes, SHOWN)
        drawn.append(drawing.draw(picture, chosen, test.images.classes))
    return sheet(drawn) if drawn else None


def sheet(drawn: Sequence[Image.Image]) -> Image.Image:
    """Lay small copies of images side by side, row by row."""
    columns = min(COLUMNS, len(drawn))
    size = columns * SIDE, math.ceil(len(drawn) / columns) * SIDE
    whole = Image.new("RGB", size, "white")
    for number, image in enumerate(drawn):
        small = image.copy()
        small.thumbnail((SIDE, SIDE))
        row, column = divmod(number, columns)
        whole.paste(small, (column * SIDE, row * SIDE))
    return whole


def best(found: detection.Detections, share: float) -> detection.Detections:
    """Keep boxes whose score is at least a share of the highest one."""
    scores = np.asarray(found.scores)
    if not len(scores):
        return found
    keep = scores >= share * scores.max()
    return detection.Detections(
        np.asarray(found.boxes)[keep], scores[keep], np.asarray(found.labels)[keep]
    )
