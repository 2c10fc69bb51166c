"""Curves of a training: every number is where it belongs, and a picture comes out."""

import io
import json

import numpy as np
from PIL import Image

from unlir_jax.report import training

ROWS = [
    {"step": 1, "train/loss": 2.0, "learning_rate": 0.1, "data_wait": 0.0},
    {"step": 2, "train/loss": None, "learning_rate": 0.2, "data_wait": 0.0},
    {"step": 2, "test/loss": 1.5, "test/accuracy": 0.25},
]


def test_curves_are_sorted_by_metric_and_split():
    assert training.read(json.dumps(row) for row in ROWS) == {
        "loss": {"train": [(1, 2.0)], "test": [(2, 1.5)]},
        "learning_rate": {"": [(1, 0.1), (2, 0.2)]},
        "accuracy": {"test": [(2, 0.25)]},
    }


def test_a_picture_is_drawn_also_of_nothing():
    for rows in (ROWS, []):
        curves = training.read(json.dumps(row) for row in rows)
        image = Image.open(io.BytesIO(training.draw(curves)))
        assert image.format == "PNG" and image.width > 300
        colours = len(
            np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
        )
        assert (colours > 10) == bool(rows)
