"""The job: from picture files to maps, scores and a report."""

import datetime
import difflib
import inspect
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from unlir_jax import maps, metrics, pretrained, record, saliency, split
from unlir_jax.data import files, preprocessing
from unlir_jax.pretrained import Pretrained
from unlir_jax.report import html, overlay, sheet, words
from unlir_jax.types import Explainer

DEFAULT_METHODS = ("grad_cam", "opti_cam")
BASELINES: dict[str, maps.Baseline] = {"insertion": "blur", "deletion": "black"}
CURVE_STEPS = 28
TOP = 5

Progress = Callable[[str, float], None]
"""Called with what is being done and the share of all work that is done."""


class Outcome(NamedTuple):
    """Say what a run did."""

    folder: Path
    explained: list[str]
    failed: list[dict[str, str]]


class _Picture(NamedTuple):
    file: Path
    name: str
    framed: Image.Image


def run(
    images: Sequence[str],
    output: str | os.PathLike[str],
    *,
    model: str = "efficientnet_lite0",
    weights: str | None = None,
    layer: str | None = None,
    methods: Sequence[str] = DEFAULT_METHODS,
    label: str | None = None,
    overwrite: bool = False,
    batch_size: int = 8,
    seed: int = 0,
    steps: int | None = None,
    controls: bool = True,
    progress: Progress = lambda doing, share: None,
) -> Outcome:
    """Explain pictures and write overlays, sheets, `results.json` and `report.html`.

    All is written to a hidden folder first and appears at the end, complete. Results
    do not depend on the batch size.

    Args:
        images: Files, folders and patterns; see `files.find_pictures`.
        output: Folder to write to; new or empty, or with `overwrite` one that holds a
            previous report, whose files are replaced.
        model: Name of the network.
        weights: See `pretrained.load`.
        layer: Where to cut; see `pretrained.load`.
        methods: Names in `saliency.METHODS`.
        label: Index or name of the class to explain in every picture; by default the
            class predicted for each.
        overwrite: Whether to replace a previous report.
        batch_size: Pictures that go through the network together.
        seed: Of whatever is random.
        steps: Of Opti-CAM; its own default without.
        controls: Whether to score maps that know nothing of the network as well.
        progress: Told how far the work is.

    Returns:
        The folder, the names of the pictures done, and those that could not be read,
        with the reason.

    Raises:
        ValueError: Unknown method, label, layer or network; no picture matched or could
            be read; an output folder that may not be written to.
    """
    methods = _check_methods(methods, steps)
    if batch_size < 1:
        raise ValueError(f"`batch_size`={batch_size}; expected at least 1.")
    found = files.find_pictures(images, outside=output)
    if not found.files:
        raise ValueError(
            f"No picture matches {', '.join(map(repr, images))}; expected picture files, "
            "folders that hold some, or patterns such as 'photos/*.jpg'."
        )
    failed = [{"file": item, "error": "It matches no picture."} for item in found.unmatched]
    names = dict(zip(found.files, files.distinct_names(found.files), strict=True))
    added = [c for c in saliency.CONTROLS if c not in methods] if controls else []
    targets = {"results.json", "report.html"} | {
        file for name in names.values() for file in _file_names(name, methods).values()
    }
    record.check_folder(output, targets, overwrite=overwrite)

    progress("loading the network", 0.0)
    network = pretrained.load(model, weights, layer, fold=True)
    _check_maps(network)
    given = None if label is None else find_class(label, network.class_names)
    factories = {name: saliency.METHODS[name] for name in (*methods, *added)}
    chosen = {"opti_cam": {} if steps is None else {"steps": steps}}
    explainers = {
        name: factory(network.model, **chosen.get(name, {}))
        for name, factory in factories.items()
    }

    document: dict[str, Any] = {
        "schema": record.SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": network.name,
        "layer": network.layer,
        "weights": {"source": network.source, "sha256": network.sha256},
        "settings": {
            "methods": list(methods),
            "controls": added,
            "hyper_parameters": {
                name: _hyper_parameters(factory) | chosen.get(name, {})
                for name, factory in factories.items()
            },
            "label": label,
            "baselines": BASELINES,
            "steps": CURVE_STEPS,
            "seed": seed,
            "batch_size": batch_size,
            "image_size": network.image_size,
            "crop": network.crop,
            "folded_norms": True,
            "score": "softmax probability",
            "mask": "pixels in [0,1] before the network's normalisation",
            "normalization": "range",
            "ties": "row-major",
        },
        "versions": record.versions(),
        "images": [],
        "failed": failed,
    }
    articles: list[str] = []
    frame = preprocessing.framing(network.image_size, network.crop)
    with record.new_folder(output) as folder:
        for batch in _batches(names, frame, batch_size, failed):
            done = len(document["images"]) + len(failed) - len(found.unmatched)
            share = functools_progress(progress, done, len(batch), len(names))
            entries, masks = _explain(network, explainers, batch, given, seed, share)
            for index, (picture, entry) in enumerate(zip(batch, entries, strict=True)):
                entry["controls"] = {c: entry["methods"].pop(c) for c in added}
                views = {
                    name: html.View(
                        overlay.overlay(picture.framed, masks[name][index]),
                        overlay.masked(picture.framed, masks[name][index]),
                    )
                    for name in methods
                }
                _write(folder, picture, entry, views, document)
                articles.append(html.article(picture.name, picture.framed, entry, views))
                document["images"].append(entry)
        if not document["images"]:
            raise ValueError(_all_failed(failed))
        _summarise(document)
        progress("writing the report", 1.0)
    return Outcome(Path(output), [entry["file"] for entry in document["images"]], failed)
