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
    count = min(most, len(places))
    if not count:
        return None
    columns = min(COLUMNS, count)
    sheet = Image.new("RGB", (columns * SIDE, math.ceil(count / columns) * SIDE))
    for number in range(count):
        image = test.images.read(places[number])["image"]
        picture = Image.fromarray(np.asarray(image))
        chosen = best(found[number], SHOWN)
        drawn = drawing.draw(picture, chosen, test.images.classes)
        drawn.thumbnail((SIDE, SIDE))
        row, column = divmod(number, columns)
        sheet.paste(drawn, (column * SIDE, row * SIDE))
    return sheet


def best(found: detection.Detections, share: float) -> detection.Detections:
    """Keep boxes whose score is at least a share of the highest one."""
    scores = np.asarray(found.scores)
    if not len(scores):
        return found
    keep = scores >= share * scores.max()
    return detection.Detections(
        np.asarray(found.boxes)[keep], scores[keep], np.asarray(found.labels)[keep]
    )
