"""A report of `unlir explain` without a network: made-up scores, maps and pictures."""

import numpy as np
from PIL import Image

from unlir_jax.report import explanation_page, overlay, words

METHODS = ("grad_cam", "opti_cam", "layer_cam", "gradient")
CONTROLS = ("fake_cam", "random", "center", "edges")
STEPS = np.linspace(0, 1, 29)


def _scores(share):
    rest = dict.fromkeys((*words.COLUMNS, words.SHOWN), share)
    curves = {"insertion_curve": [*STEPS], "deletion_curve": [*(1 - STEPS)]}
    return {**rest, **curves, "flat": False, "nearly_flat": False}


def _picture(random):
    coarse = random.integers(0, 256, (16, 16, 3), np.uint8)
    large = Image.fromarray(coarse).resize((224, 224), Image.Resampling.BICUBIC)
    noise = random.integers(-12, 13, (224, 224, 3))
    return Image.fromarray(np.clip(np.asarray(large) + noise, 0, 255).astype(np.uint8))


def write_report(file, count=3):
    """Write the page of some pictures, each with four methods and four controls."""
    random = np.random.default_rng(0)
    label = {"index": 1, "name": "tiger cat, Felis", "probability": 0.5}
    articles, entries = [], []
    for number in range(count):
        name, picture = f"cat-{number}", _picture(random)
        masks = {method: random.random((7, 7)) for method in METHODS}
        masks["gradient"] = random.random((224, 224))
        views = {
            method: overlay.views([picture], mask[None])[0]
            for method, mask in masks.items()
        }
        small = {c: overlay.small(picture, random.random((7, 7))) for c in CONTROLS}
        methods = {
            method: _scores(place / 5) | {"overlay": f"{name}__{method}.png"}
            for place, method in enumerate(METHODS)
        }
        entry = {
            **{"file": f"{name}.png", "sheet": f"{name}__sheet.png"},
            **{"label": {**label, "source": "predicted"}, "top5": [label] * 5},
            "methods": methods,
            "controls": {control: _scores(0.3) for control in CONTROLS},
        }
        entries.append(entry)
        articles.append(explanation_page.article(name, picture, entry, views, small))
    versions = {"unlir_jax": "0", "jax": "0", "python": "3"}
    rows = entries[0]["methods"] | entries[0]["controls"]
    document = {
        **{"model": "tiny", "layer": "block", "created": "2026-11-29T10:00:00+00:00"},
        "versions": versions | {"backend": "cpu", "device": "cpu"},
        "weights": {"source": "tiny.pth", "sha256": "0" * 64},
        "settings": {"methods": list(METHODS), "controls": list(CONTROLS)},
        **{"images": entries, "mean": rows, "flat": dict.fromkeys(rows, 0)},
        "nearly_flat": dict.fromkeys(rows, 0),
        "failed": [],
    }
    file.write_text(explanation_page.page(document, articles), "utf-8")
    return file
