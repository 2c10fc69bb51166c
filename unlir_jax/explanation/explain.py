"""The job: from image files to maps, scores and a report."""

import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from unlir_jax import saliency
from unlir_jax.core import loops, random_keys
from unlir_jax.core.document_types import Document, Record
from unlir_jax.data import classes
from unlir_jax.data import image_files as files
from unlir_jax.explanation import (
    batches,
    explainers,
    measures,
    method_options,
    raw_maps,
    scoring,
)
from unlir_jax.explanation import results as explained
from unlir_jax.models import factories, pretrained
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.parts import attribution
from unlir_jax.report import explanation_page, html, overlay, sheet
from unlir_jax.saliency.spec import NONE
from unlir_jax.split import scores
from unlir_jax.storage import files as record
from unlir_jax.storage import paths
from unlir_jax.types import Explainer

if TYPE_CHECKING:  # Other networks need none of it, and it takes long to import.
    from unlir_jax.part_report import panels

PAGE = "report.html"

Progress = Callable[[str, float], None]
"""Told what is being done, and the share of all the work that is done."""


class ExplanationOutcome(NamedTuple):
    """Say what a run did: where, which images, and which could not be read."""

    folder: Path
    explained: list[str]
    failed: list[dict[str, str]]


def run(
    images: Sequence[str],
    output: str | os.PathLike[str],
    *,
    model: str = "efficientnet_lite0",
    weights: str | None = None,
    weights_key: str = "",
    crop: float | None = None,
    interpolation: str | None = None,
    layer: str | None = None,
    methods: Sequence[str] | None = None,
    label: str | None = None,
    against: str | None = None,
    overwrite: bool = False,
    batch_size: int | None = None,
    seed: int = 0,
    steps: int | None = None,
    options: method_options.Options = NONE,
    score: scores.ScoreLike | None = None,
    controls: bool = True,
    white_level: int | float | str = "auto",
    progress: Progress = lambda doing, share: None,
) -> ExplanationOutcome:
    """Explain images: overlays, sheets, raw maps, `results.json` and `report.html`.

    Everything is written to a hidden folder and appears at the end, complete. Scores
    do not depend on the batch size, but for the roundings that Opti-CAM amplifies.

    Args:
        images: Files, folders and patterns; see `files.find_pictures`.
        output: Folder to write to: new, empty, or with `overwrite` one that holds a
            previous report, whose files are replaced.
        model: Name of the network, the workdir of a training, or `module:factory`,
            see `factories.load`.
        weights: Its weights, see `pretrained.load`; so for the next three.
        weights_key: Key of the weights in the file.
        crop: Share of the shorter side that is kept.
        interpolation: By which images are resized.
        layer: Where to cut it, see `pretrained.load`.
        methods: Names of `unlir methods`; by default Grad-CAM and Opti-CAM, after
            the class map of the parts where the network decides by parts.
        label: Index or name of the class to explain in every image; by default the
            class that is predicted for each.
        against: Why that class and not this one, of a network that decides by parts; by
            default the class with the next logit.
        overwrite: Whether to replace a previous report.
        batch_size: Number of images that go through the network together; by default
            one on a CPU and eight elsewhere, so that all runs share their programs.
        seed: Seed of all random numbers.
        steps: Number of passes of methods that have one; the default is each's own.
        options: Settings of single methods, by method and name.
        score: Score that is explained and measured, see `scores.resolve`. Without it
            every method explains its own, and metrics measure the softmax.
        controls: Whether to score maps computed without the network as well.
        white_level: White of images of more than 8 bits, see `data.levels`.
        progress: Told how far the work is.

    Raises:
        FileNotFoundError: The file of weights is missing.
        ValueError: An unknown method, network, layer or label; no image matches or
            can be read; an output folder that may not be written to.
        FloatingPointError: The network, or a map of it, gives what is not finite.
    """
    if methods is not None:
        methods = explainers.check(methods, steps)
    random_keys.check_seed(seed)
    score = explainers.find_score(score) if isinstance(score, str) else score
    measured = scores.resolve("softmax" if score is None else score)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"`batch_size`={batch_size}; expected at least 1.")
    found = _find(images, output)
    by_parts = attribution.decides_by_parts(model, weights)
    chosen = explainers.default(by_parts) if methods is None else methods
    methods = explainers.check(chosen, steps, by_parts=by_parts)
    if against is not None and not by_parts:
        raise ValueError(
            f"`against`={against!r} is answered by parts, but the network does not "
            "decide by parts; expected none, or the workdir of a part network."
        )
    method_options.check_methods(options, methods)
    rows = batches.rows(batch_size, len(found.files))
    own_names = files.distinct_names(found.files)
    told = zip(found.names, own_names, strict=True)
    names = dict(zip(found.files, told, strict=True))
    kinds = (*methods, *(["decision"] if by_parts else []))
    expected = {file for name in own_names for file in _file_names(name, kinds)}
    expected |= {PAGE, raw_maps.NAME}
    record.check_folder(output, expected, overwrite=overwrite)

    progress("loading the network", 0.0)
    network = factories.load(
        model,
        weights,
        layer,
        weights_key=weights_key,
        crop=crop,
        interpolation=interpolation,
        fold=True,
    )
    given, rival = (
        None if name is None else classes.find_class(name, network.class_names)
        for name in (label, against)
    )
    compared = [c for c in saliency.CONTROLS if c not in methods] if controls else []
    parameters = {
        name: explainers.settings(name, steps, score, options.get(name, {}))
        for name in (*methods, *compared)
    }
    signed = explainers.signed(parameters)
    part_explainer = _part_explainer(network, model, rival) if by_parts else None
    made = {
        name: explainers.make(
            name, network, values, part_explainer and part_explainer.centres
        )
        for name, values in parameters.items()
    }
    failed = found.failures()
    document: Record = {
        "schema": record.SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": network.name,
        "layer": network.layer,
        "weights": pretrained.provenance(network),
        "settings": {
            "methods": list(methods),
            "controls": compared,
            "hyper_parameters": explained.recorded(parameters),
            "label": label,
            "against": against,
            "baselines": measures.BASELINES,
            "steps": measures.CURVE_STEPS,
            "seed": seed,
            "batch_size": rows,
            "image_size": network.image_size,
            "crop": network.crop,
            "white_level": white_level,
            "preprocessing": pretrained.prepared(network),
            **measures.terms(measured),
            "signs": measures.SIGNS,
            "signed": signed,
        },
        "versions": record.versions(),
        "images": [],
        "failed": failed,
    }
    articles: list[Future[html.Markup]] = []
    # Images are read and drawn while the network computes.
    with (
        record.new_folder(output, overwrite=overwrite) as folder,
        raw_maps.new_file(folder / raw_maps.NAME) as keep,
        ThreadPoolExecutor(loops.cores()) as pool,
    ):
        frame = pretrained.framing(network, white_level=white_level)
        for batch, padding in batches.read(names, frame, rows, failed, pool):
            before = len(document["images"])

            def advance(doing: str, share: float, batch=batch, before=before) -> None:
                progress(doing, (before + share * len(batch)) / len(names))

            entries, raw = _explain(
                network, made, batch + padding, given, seed, measured, advance, signed
            )
            accounts = _explain_parts(part_explainer, batch + padding, entries)
            overlays = _overlays(batch, raw, methods, signed)
            for index, picture in enumerate(batch):
                entry = entries[index]
                entry["controls"] = {c: entry["methods"].pop(c) for c in compared}
                views = {name: overlays[name][index] for name in methods}
                own = {name: batched[index] for name, batched in raw.items()}
                for name, each in own.items():
                    keep(picture.name, name, each)
                given_to = folder, picture, entry, views, own, accounts[index], document
                articles.append(pool.submit(_draw, *given_to))
                document["images"].append(entry)
            # No more than two batches are held; what cannot be written ends the job.
            for article in articles[max(before - rows, 0) : before]:
                article.result()
        if not document["images"]:
            raise ValueError(explained.nothing_read(failed))
        progress("writing the report", 1.0)
        drawn = [article.result() for article in articles]
        document |= explained.summarise(document["images"])
        written = [path.name for path in folder.iterdir()]
        document["failed"] = paths.without_folders(failed)
        document["files"] = sorted([*written, PAGE, record.RESULTS])
        record.write_text(folder / PAGE, explanation_page.page(document, drawn))
        record.write_text(folder / record.RESULTS, record.to_json(document))
    return ExplanationOutcome(
        Path(output), [entry["file"] for entry in document["images"]], failed
    )


def _find(images: Sequence[str], output: str | os.PathLike[str]) -> files.Found:
    paths.check(output, "output")
    found = files.find_pictures(images, outside=output)
    if not found.files:
        raise ValueError(
            f"No image matches {', '.join(map(repr, images)) or 'nothing'}; expected "
            "image files, folders that hold some, or patterns such as 'photos/*.jpg'."
        )
    return found


def _explain(
    network: Pretrained,
    explainers: Mapping[str, Explainer],
    batch: Sequence[batches.Picture],
    given: int | None,
    seed: int,
    score: scores.Score,
    progress: Progress,
    signed: Sequence[str] = (),
) -> tuple[list[Record], dict[str, np.ndarray]]:
    """Explain and score a batch.

    Returns:
        What `results.json` says of each image, and the raw maps by method.
    """
    model, files = network.model, [picture.file for picture in batch]
    scorers = measures.scorers(model, score)
    labels = np.full(len(batch), -1 if given is None else given)
    images, key = jax.device_put(batches.stacked(batch)), jax.random.key(seed)
    own = scoring.Batch(images, labels, files)
    found = scoring.score_batch(
        *(network, explainers, scorers, own),
        key=key,
        score=score,
        progress=progress,
        signed=signed,
        signs=measures.SIGNS,
    )
    given_label = given is not None
    entries = explained.describe(files, found, network.class_names, given_label, score)
    return entries, found.maps


def _overlays(
    batch: Sequence[batches.Picture],
    raw: Mapping[str, np.ndarray],
    methods: Sequence[str],
    signed: Sequence[str],
) -> dict[str, list[overlay.View]]:
    """Draw the maps of each method; copies that fill the batch are left out."""
    pictures = [picture.framed for picture in batch]
    shown = {name: raw[name][: len(batch)] for name in methods}
    return {
        name: overlay.views(pictures, each, measures.SIGNS if name in signed else None)
        for name, each in shown.items()
    }


def _part_explainer(
    network: Pretrained, model: str, rival: int | None
) -> "panels.PartExplainer | None":
    from unlir_jax.part_report import panels

    return panels.part_explainer(network, model, rival)


def _explain_parts(
    part_explainer: "panels.PartExplainer | None",
    batch: Sequence[batches.Picture],
    entries: Sequence[Document],
) -> "list[panels.PartExplanation | None]":
    """Say which parts decided, where a network decides by parts."""
    if part_explainer is None:
        return [None] * len(batch)
    pictures = [picture.framed for picture in batch]
    labels = [entry["label"]["index"] for entry in entries]
    return [*part_explainer.explain(batches.stacked(batch), pictures, labels)]


def _account(
    folder: Path,
    picture: batches.Picture,
    entry: Record,
    by_parts: "panels.PartExplanation | None",
    document: Document,
) -> str:
    """Write the sheet of the parts that decided, and give their piece of the page."""
    if by_parts is None:
        return ""
    from unlir_jax.report import part_panel, part_sheet

    entry["parts"] = by_parts.entry | {"sheet": f"{picture.name}__decision.png"}
    drawn = part_sheet.sheet_of_decision(
        picture.framed, entry, by_parts, _subtitle(document)
    )
    record.write_png(folder / entry["parts"]["sheet"], drawn)
    return part_panel.panel(
        picture.name,
        by_parts.entry,
        by_parts.views,
        by_parts.regions,
        by_parts.sentence,
    )


def _draw(
    folder: Path,
    picture: batches.Picture,
    entry: Record,
    views: Mapping[str, overlay.View],
    raw: Mapping[str, np.ndarray],
    by_parts: "panels.PartExplanation | None",
    document: Document,
) -> html.Markup:
    """Write an image's files, and give its piece of the page."""
    _write_pictures(folder, picture, entry, views, document)
    account = _account(folder, picture, entry, by_parts, document)
    framed = picture.framed
    small = {name: overlay.small(framed, raw[name]) for name in entry["controls"]}
    return explanation_page.article(picture.name, framed, entry, views, small, account)


def _write_pictures(
    folder: Path,
    picture: batches.Picture,
    entry: Record,
    views: Mapping[str, overlay.View],
    document: Document,
) -> None:
    *overlays, last = _file_names(picture.name, views)
    for file, (name, view) in zip(overlays, views.items(), strict=True):
        record.write_png(folder / file, view.overlay)
        entry["methods"][name]["overlay"] = file
    entry["sheet"] = last
    drawn = sheet.sheet(picture.framed, entry, views, _subtitle(document))
    record.write_png(folder / last, drawn)


def _subtitle(document: Document) -> str:
    return f"{document['model']}, layer {document['layer']}"


def _file_names(name: str, methods: Sequence[str] | Document) -> list[str]:
    return [f"{name}__{kind}.png" for kind in (*methods, "sheet")]
