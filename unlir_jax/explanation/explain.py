"""The job: from picture files to maps, scores and a report."""

import datetime
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from unlir_jax import maps, metrics, saliency, split
from unlir_jax.core import finite, random_keys
from unlir_jax.data import classes, preprocessing
from unlir_jax.data import image_files as files
from unlir_jax.explanation import explainers
from unlir_jax.explanation import results as explained
from unlir_jax.models import pretrained
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.part_report import panels
from unlir_jax.parts import attribution
from unlir_jax.report import html, overlay, part_panel, part_sheet, sheet
from unlir_jax.storage import files as record
from unlir_jax.storage import paths
from unlir_jax.types import Explainer

BASELINES: dict[str, maps.Baseline] = {"insertion": "blur", "deletion": "black"}
CURVE_STEPS = 28
PAGE = "report.html"

Progress = Callable[[str, float], None]
"""Told what is being done, and the share of all the work that is done."""


class Outcome(NamedTuple):
    """Say what a run did: where, which pictures, and which could not be read."""

    folder: Path
    explained: list[str]
    failed: list[dict[str, str]]


class Picture(NamedTuple):
    """Hold one picture as the network sees it."""

    file: str
    name: str
    framed: Image.Image


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
    batch_size: int = 8,
    seed: int = 0,
    steps: int | None = None,
    controls: bool = True,
    white_level: int | float | str = "auto",
    progress: Progress = lambda doing, share: None,
) -> Outcome:
    """Explain pictures and write overlays, sheets, `results.json` and `report.html`.

    Everything is written to a hidden folder and appears at the end, complete. Scores
    do not depend on the batch size, but for the roundings that Opti-CAM amplifies.

    Args:
        images: Files, folders and patterns; see `files.find_pictures`.
        output: Folder to write to: new, empty, or with `overwrite` one that holds a
            previous report, whose files are replaced.
        model: Name of the network, or the workdir of a training.
        weights: Its weights, see `pretrained.load`; so for the next three.
        weights_key: Which of them.
        crop: Share of the shorter side that is kept.
        interpolation: By which pictures are resized.
        layer: Where to cut it, see `pretrained.load`.
        methods: Names in `explainers.KNOWN`; by default Grad-CAM and Opti-CAM, after
            the class map of the parts where the network decides by parts.
        label: Index or name of the class to explain in every picture; by default the
            class that is predicted for each.
        against: Why that class and not this one, of a network that decides by parts; by
            default the class with the next logit.
        overwrite: Whether to replace a previous report.
        batch_size: Number of pictures that go through the network together.
        seed: Of whatever is random.
        steps: Of Opti-CAM; the method's own default without.
        controls: Whether to score maps that know nothing of the network as well.
        white_level: Of pictures of more than 8 bits, see `data.levels`.
        progress: Told how far the work is.

    Raises:
        FileNotFoundError: The file of weights is missing.
        ValueError: An unknown method, network, layer or label; no picture matches or
            can be read; an output folder that may not be written to.
        FloatingPointError: The network, or a map of it, gives what is not finite.
    """
    if methods is not None:
        methods = explainers.check(methods, steps)
    random_keys.check_seed(seed)
    if batch_size < 1:
        raise ValueError(f"`batch_size`={batch_size}; expected at least 1.")
    paths.check(output, "output")
    found = files.find_pictures(images, outside=output)
    if not found.files:
        raise ValueError(
            f"No picture matches {', '.join(map(repr, images)) or 'nothing'}; expected "
            "picture files, folders that hold some, or patterns such as 'photos/*.jpg'."
        )
    by_parts = attribution.decides_by_parts(model, weights)
    chosen = explainers.default(by_parts) if methods is None else methods
    methods = explainers.check(chosen, steps, by_parts=by_parts)
    if against is not None and not by_parts:
        raise ValueError(
            f"`against`={against!r} is answered by parts, but the network does not "
            "decide by parts; expected none, or the workdir of a part network."
        )
    names = dict(zip(found.files, files.distinct_names(found.files), strict=True))
    kinds = (*methods, *(["decision"] if by_parts else []))
    expected = {file for name in names.values() for file in _file_names(name, kinds)}
    record.check_folder(output, {PAGE, *expected}, overwrite=overwrite)

    progress("loading the network", 0.0)
    network = pretrained.load(
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
        name: explainers.settings(name, steps) for name in (*methods, *compared)
    }
    teller = panels.teller(network, model, rival)
    made = {
        name: explainers.make(name, network, values, teller and teller.centres)
        for name, values in parameters.items()
    }
    failed = found.failures()
    document: dict[str, Any] = {
        "schema": record.SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": network.name,
        "layer": network.layer,
        "weights": pretrained.provenance(network),
        "settings": {
            "methods": list(methods),
            "controls": compared,
            "hyper_parameters": parameters,
            "label": label,
            "against": against,
            "baselines": BASELINES,
            "steps": CURVE_STEPS,
            "seed": seed,
            "batch_size": batch_size,
            "image_size": network.image_size,
            "crop": network.crop,
            "white_level": white_level,
            "preprocessing": pretrained.prepared(network),
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
    with record.new_folder(output, overwrite=overwrite) as folder:
        frame = preprocessing.framing(
            network.image_size,
            network.crop,
            network.interpolation,
            white_level=white_level,
        )
        for batch, padding in _batches(names, frame, batch_size, failed):
            before = len(document["images"])

            def advance(doing: str, share: float, batch=batch, before=before) -> None:
                progress(doing, (before + share * len(batch)) / len(names))

            entries, masks = _explain(
                network, made, batch + padding, given, seed, advance
            )
            told = _tell(teller, batch + padding, entries)
            for index, picture in enumerate(batch):
                entry = entries[index]
                entry["controls"] = {c: entry["methods"].pop(c) for c in compared}
                views = {
                    name: overlay.view(picture.framed, masks[name][index])
                    for name in methods
                }
                _write_pictures(folder, picture, entry, views, document)
                account = _account(folder, picture, entry, told[index], document)
                articles.append(
                    html.article(picture.name, picture.framed, entry, views, account)
                )
                document["images"].append(entry)
        if not document["images"]:
            raise ValueError(explained.nothing_read(failed))
        progress("writing the report", 1.0)
        document["mean"], document["flat"] = explained.summarise(document["images"])
        written = [path.name for path in folder.iterdir()]
        document["files"] = sorted([*written, PAGE, record.RESULTS])
        record.write_text(folder / PAGE, html.page(document, articles))
        record.write_text(folder / record.RESULTS, record.to_json(document))
    return Outcome(
        Path(output), [entry["file"] for entry in document["images"]], failed
    )


def _explain(
    network: Pretrained,
    explainers: Mapping[str, Explainer],
    batch: Sequence[Picture],
    given: int | None,
    seed: int,
    progress: Progress,
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Explain and score a batch.

    Returns:
        What `results.json` says of each picture, and by method the maps as masks,
        `[batch, size, size]` in [0, 1].
    """
    model, variables = network.model, network.variables
    images = jnp.asarray(_stacked(batch))
    whole = split.whole(model)
    logits, files = whole(variables, images), [picture.file for picture in batch]
    finite.check_rows(logits, f"the logits of {network.name}", files)
    probabilities = np.asarray(jax.nn.softmax(logits))
    predicted = probabilities.argmax(axis=1)
    labels = predicted if given is None else np.full(len(batch), given)
    labels = jnp.asarray(labels, jnp.int32)
    entries = [
        explained.describe(
            picture.file, int(label), row, network.class_names, given is not None
        )
        for picture, label, row in zip(batch, labels, probabilities, strict=True)
    ]
    scorers = [metrics.average_scores(model)] + [
        metrics.METRICS[name](model, baseline=baseline, steps=CURVE_STEPS)
        for name, baseline in BASELINES.items()
    ]
    masks = {}
    key = jax.random.key(seed)
    for done, (name, explain) in enumerate(explainers.items()):
        progress(name, done / len(explainers))
        raw = explain(variables, images, labels, key=key)
        # Before they are masks, which no number would make black.
        finite.check_rows(raw, f"the maps of {name}", files)
        # The metrics would enlarge the map alike, but be compiled for each size of it.
        enlarged = maps.resize(raw, images.shape[1:3])
        scores: dict[str, Any] = {}
        for score in scorers:
            scores |= score(variables, images, labels, enlarged, key=key)
        mask = maps.normalize(enlarged, "range")
        masks[name] = np.asarray(mask)
        seen = jax.nn.softmax(whole(variables, maps.apply_mask(images, mask)))
        scores["masked_probability"] = seen[jnp.arange(len(batch)), labels]
        scores["flat"] = maps.is_flat(raw)
        arrays = {metric: np.asarray(values) for metric, values in scores.items()}
        for index, entry in enumerate(entries):
            entry["methods"][name] = {
                metric: explained.plain(values[index])
                for metric, values in arrays.items()
            }
    return entries, masks


def _tell(
    teller: panels.Teller | None,
    batch: Sequence[Picture],
    entries: Sequence[Mapping[str, Any]],
) -> list[panels.Told | None]:
    """Say which parts decided, where a network decides by parts."""
    if teller is None:
        return [None] * len(batch)
    pictures = [picture.framed for picture in batch]
    labels = [entry["label"]["index"] for entry in entries]
    return [*teller.tell(_stacked(batch), pictures, labels)]


def _account(
    folder: Path,
    picture: Picture,
    entry: dict[str, Any],
    told: panels.Told | None,
    document: Mapping[str, Any],
) -> str:
    """Write the sheet of the parts that decided, and give their piece of the page."""
    if told is None:
        return ""
    entry["parts"] = told.entry | {"sheet": f"{picture.name}__decision.png"}
    drawn = part_sheet.sheet_of_decision(
        picture.framed, entry, told, _subtitle(document)
    )
    record.write_bytes(folder / entry["parts"]["sheet"], _png(drawn))
    return part_panel.panel(
        picture.name, told.entry, told.views, told.regions, told.sentence
    )


def _stacked(batch: Sequence[Picture]) -> np.ndarray:
    return np.stack([np.asarray(picture.framed, np.float32) / 255 for picture in batch])


def _batches(
    names: Mapping[Path, str],
    frame: Callable[[Path], Image.Image],
    size: int,
    failed: list[dict[str, str]],
) -> Iterator[tuple[list[Picture], list[Picture]]]:
    """Read pictures by batches; those that cannot be read are added to `failed`.

    Yields:
        Pictures, and copies that fill the batch up: a program is compiled for each
        size of batch, and results do not depend on neighbours.
    """
    size = min(size, len(names))
    batch: list[Picture] = []
    for number, (file, name) in enumerate(names.items(), start=1):
        try:
            batch.append(Picture(record.readable(str(file)), name, frame(file)))
        except (ValueError, OSError) as error:
            failed.append({"file": record.readable(str(file)), "error": str(error)})
        if len(batch) == size or (batch and number == len(names)):
            yield batch, [batch[-1]] * (size - len(batch))
            batch = []


def _write_pictures(
    folder: Path,
    picture: Picture,
    entry: dict[str, Any],
    views: Mapping[str, overlay.View],
    document: Mapping[str, Any],
) -> None:
    *overlays, last = _file_names(picture.name, views)
    for file, (name, view) in zip(overlays, views.items(), strict=True):
        record.write_bytes(folder / file, _png(view.overlay))
        entry["methods"][name]["overlay"] = file
    entry["sheet"] = last
    drawn = sheet.sheet(picture.framed, entry, views, _subtitle(document))
    record.write_bytes(folder / last, _png(drawn))


def _subtitle(document: Mapping[str, Any]) -> str:
    return f"{document['model']}, layer {document['layer']}"


def _file_names(name: str, methods: Sequence[str] | Mapping[str, Any]) -> list[str]:
    return [f"{name}__{kind}.png" for kind in (*methods, "sheet")]


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
