"""Weakly supervised detection: boxes of objects, learned from classes of images."""

# isort: off
from unlir_jax.detection.boxes import (
    of_pixels as of_pixels,
    overlaps as overlaps,
)
from unlir_jax.detection.suppression import (
    Kept as Kept,
    nms as nms,
)
