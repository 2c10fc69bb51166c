"""One network, cut at one layer, explained on all images of a report."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from unlir_jax import saliency
from unlir_jax.core.document_types import Document, Record
from unlir_jax.data import classes
from unlir_jax.explanation import (
    batches,
    drawing,
    explainers,
    measures,
    method_options,
    raw_maps,
    scoring,
)
from unlir_jax.explanation import results as explained
from unlir_jax.explanation.targets import Target
from unlir_jax.models import factories, pretrained
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.parts import attribution
from unlir_jax.report import html
from unlir_jax.saliency.spec import NONE
from unlir_jax.split import scores
from unlir_jax.types import Explainer

if TYPE_CHECKING:  # Other networks need none of it, and it takes long to import.
    from unlir_jax.part_report import panels

Progress = Callable[[str, float], None]
"""Told what is being done, and the share of all the work that is done."""


class Wish(NamedTuple):
    """Hold what is asked of every network; see `explain.run`."""

    methods: Sequence[str] | None
    crop: float | None
    interpolation: str | None
    texts: str | os.PathLike[str] | None
    label: str | None
    against: str | None
    seed: int
    steps: int | None
    options: method_options.Options
    score: scores.ScoreLike | None
    controls: bool
    white_level: int | float | str
    rows: int

    @property
    def measured(self) -> scores.Score:
        """Give the score that metrics measure."""
        return scores.resolve("softmax" if self.score is None else self.score)


class Prepared(NamedTuple):
    """Hold a network and all that is needed to explain images by it.

    Attributes:
        target: What it was asked for as.
        network: The network.
        methods: Methods that are shown.
        controls: Maps that they are compared with.
        parameters: Settings of both.
        explainers: Both.
        label: Class to explain; None for the predicted one.
        part_explainer: What says which parts decided; None where none do.
    """

    target: Target
    network: Pretrained
    methods: Sequence[str]
    controls: Sequence[str]
    parameters: Mapping[str, Record]
    explainers: Mapping[str, Explainer]
    label: int | None
    part_explainer: "panels.PartExplainer | None"

    @property
    def subtitle(self) -> str:
        """Name the network and the layer."""
        return f"{self.network.name}, layer {self.network.layer}"

    @property
    def signed(self) -> list[str]:
        """List the methods whose maps have a sign."""
        return explainers.signed(self.parameters)


class Drawn(NamedTuple):
    """Hold what a network gave: its part of `results.json`, and pieces of the page.

    Attributes:
        document: What there is to say, with an entry for each image.
        pieces: One for each entry, by the name of its image.
    """

    document: Record
    pieces: dict[str, html.Markup]


def methods_of(target: Target, wish: Wish) -> tuple[str, ...]:
    """List the methods that explain a network, before it is loaded.

    Raises:
        ValueError: A method, or a setting of one, that the network does not have.
    """
    by_parts = attribution.decides_by_parts(target.model, target.weights)
    chosen = explainers.default(by_parts) if wish.methods is None else wish.methods
    methods = explainers.check(chosen, wish.steps, by_parts=by_parts)
    if wish.against is not None and not by_parts:
        raise ValueError(
            f"`against`={wish.against!r} is answered by parts, but the network does "
            "not decide by parts; expected none, or the workdir of a part network."
        )
    method_options.check_methods(wish.options, methods)
    return methods


def file_names(target: Target, wish: Wish, images: Sequence[str]) -> set[str]:
    """Name the files that are written of a network."""
    by_parts = attribution.decides_by_parts(target.model, target.weights)
    kinds = (*methods_of(target, wish), *(["decision"] if by_parts else []))
    named = (drawing.file_names(name, kinds, target.tag) for name in images)
    return {file for files in named for file in files}


def prepare(
    target: Target, wish: Wish, load: Callable[..., Pretrained] | None = None
) -> Prepared:
    """Load a network, and make its explainers.

    Args:
        target: The network.
        wish: What was asked for.
        load: Loads it; `factories.load` by default.

    Raises:
        FileNotFoundError: The file of weights is missing.
        ValueError: An unknown network, layer or class, or a setting without sense.
    """
    methods = methods_of(target, wish)
    by_texts = {} if wish.texts is None else {"texts": wish.texts}
    network = (load or factories.load)(
        target.model,
        target.weights,
        target.layer,
        weights_key=target.weights_key,
        crop=wish.crop,
        interpolation=wish.interpolation,
        **by_texts,
        fold=True,
    )
    given, rival = (
        None if name is None else classes.find_class(name, network.class_names)
        for name in (wish.label, wish.against)
    )
    known = saliency.CONTROLS if wish.controls else ()
    compared = [name for name in known if name not in methods]
    parameters = {
        name: explainers.settings(
            name, wish.steps, wish.score, wish.options.get(name, NONE)
        )
        for name in (*methods, *compared)
    }
    part_explainer = None
    if attribution.decides_by_parts(target.model, target.weights):
        from unlir_jax.part_report import panels

        part_explainer = panels.part_explainer(network, target.model, rival)
    centres = part_explainer and part_explainer.centres
    made = {
        name: explainers.make(name, network, values, centres)
        for name, values in parameters.items()
    }
    about = methods, compared, parameters, made
    return Prepared(target, network, *about, given, part_explainer)


def explain(
    prepared: Prepared,
    wish: Wish,
    names: Mapping[Path, tuple[str, str]],
    folder: Path,
    keep: raw_maps.Add,
    pool: Executor,
    failures: Sequence[dict[str, str]] = (),
    progress: Progress = lambda doing, share: None,
) -> Drawn:
    """Explain and score all images by one network, and draw them.

    Args:
        prepared: The network.
        wish: What was asked for.
        names: Files, with their names in records and the names of their images.
        folder: Where files go.
        keep: Takes raw maps: `keep(image, method, map)`.
        pool: Threads that read and draw while the network computes.
        failures: What could not be read so far.
        progress: Told how far the work of this network is.

    Raises:
        ValueError: None of the images can be read.
        FloatingPointError: The network, or a map of it, gives what is not finite.
    """
    failed, rows = [*failures], wish.rows
    document = _document(prepared, wish) | {"images": [], "failed": failed}
    entries: list[Record] = document["images"]
    drawn: list[tuple[str, Future[html.Markup]]] = []
    tag = prepared.target.tag
    frame = pretrained.framing(prepared.network, white_level=wish.white_level)
    for batch, padding in batches.read(names, frame, rows, failed, pool):
        before = len(entries)

        def advance(
            method: str, metric: str, share: float, batch=batch, before=before
        ) -> None:
            doing = scoring.doing(method, metric, first=before == 0)
            progress(doing, (before + share * len(batch)) / len(names))

        found, raw = _explain_batch(prepared, wish, batch + padding, advance)
        _judge(prepared.network, batch + padding, found)
        by_parts = _explain_parts(prepared, batch + padding, found)
        views = drawing.overlays(batch, raw, prepared.methods, prepared.signed)
        for index, picture in enumerate(batch):
            entry = found[index]
            entry["controls"] = {c: entry["methods"].pop(c) for c in prepared.controls}
            shown = {name: views[name][index] for name in prepared.methods}
            own = {name: batched[index] for name, batched in raw.items()}
            for name, each in own.items():
                keep("/".join(filter(None, (picture.name, tag))), name, each)
            given = folder, picture, entry, shown, own, by_parts[index]
            piece = pool.submit(drawing.draw, *given, prepared.subtitle, tag)
            drawn.append((picture.name, piece))
            entries.append(entry)
        # No more than two batches are held; what cannot be written ends the job.
        for _, piece in drawn[max(before - rows, 0) : before]:
            piece.result()
    if not entries:
        raise ValueError(explained.nothing_read(failed))
    pieces = {name: piece.result() for name, piece in drawn}
    return Drawn(document | explained.summarise(entries), pieces)


def _document(prepared: Prepared, wish: Wish) -> Record:
    """Say of a network and of all settings what does not depend on the images."""
    network = prepared.network
    return {
        "model": network.name,
        "layer": network.layer,
        "weights": pretrained.provenance(network),
        "settings": {
            "methods": list(prepared.methods),
            "controls": list(prepared.controls),
            "hyper_parameters": explained.recorded(prepared.parameters),
            "label": wish.label,
            "against": wish.against,
            "baselines": measures.BASELINES,
            "steps": measures.CURVE_STEPS,
            "seed": wish.seed,
            "batch_size": wish.rows,
            "image_size": network.image_size,
            "crop": network.crop,
            "white_level": wish.white_level,
            "preprocessing": pretrained.prepared(network),
            **measures.terms(wish.measured),
            "signs": measures.SIGNS,
            "signed": prepared.signed,
        },
    }


def _explain_batch(
    prepared: Prepared,
    wish: Wish,
    batch: Sequence[batches.Picture],
    progress: scoring.Steps,
) -> tuple[list[Record], dict[str, np.ndarray]]:
    """Explain and score a batch.

    Returns:
        What `results.json` says of each image, and the raw maps by method.
    """
    network, score = prepared.network, wish.measured
    given, files = prepared.label, [picture.file for picture in batch]
    labels = np.full(len(batch), -1 if given is None else given)
    images = jax.device_put(batches.stacked(batch))
    scorers = measures.scorers(network.model, score)
    found = scoring.score_batch(
        *(network, prepared.explainers, scorers),
        scoring.Batch(images, labels, files),
        key=jax.random.key(wish.seed),
        score=score,
        progress=progress,
        signed=prepared.signed,
        signs=measures.SIGNS,
    )
    names = network.class_names
    entries = explained.describe(files, found, names, given is not None, score)
    return entries, found.maps


def _judge(
    network: Pretrained,
    batch: Sequence[batches.Picture],
    entries: Sequence[Record],
) -> None:
    """Say of each image whether it is of a known class, where the network can."""
    if network.judge is not None:
        verdicts = network.judge(jax.device_put(batches.stacked(batch)))
        for entry, verdict in zip(entries, verdicts, strict=True):
            entry["open_set"] = dict(verdict)


def _explain_parts(
    prepared: Prepared,
    batch: Sequence[batches.Picture],
    entries: Sequence[Document],
) -> "list[panels.PartExplanation | None]":
    """Say which parts decided, where a network decides by parts."""
    if prepared.part_explainer is None:
        return [None] * len(batch)
    pictures = [picture.framed for picture in batch]
    labels = [entry["label"]["index"] for entry in entries]
    images = batches.stacked(batch)
    return [*prepared.part_explainer.explain(images, pictures, labels)]
