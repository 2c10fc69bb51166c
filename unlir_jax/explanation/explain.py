"""The job: from image files to maps, scores and a report."""

import datetime
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from unlir_jax.core import loops, random_keys
from unlir_jax.core.document_types import Record
from unlir_jax.data import image_files as files
from unlir_jax.explanation import (
    batches,
    explainers,
    method_options,
    network_run,
    raw_maps,
    targets,
)
from unlir_jax.explanation.network_run import Progress
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.report import explanation_page, networks_page
from unlir_jax.saliency.spec import NONE
from unlir_jax.split import scores
from unlir_jax.storage import files as record
from unlir_jax.storage import paths

PAGE = "report.html"


class ExplanationOutcome(NamedTuple):
    """Say what a run did: where, which images, and which could not be read.

    `verdicts` says of each image, by its file, whether it is of a known class; it is
    empty where no network judges that.
    """

    folder: Path
    explained: list[str]
    failed: list[dict[str, str]]
    verdicts: list[tuple[str, Record]] = []


def run(
    images: Sequence[str],
    output: str | os.PathLike[str],
    *,
    model: str | Sequence[str] = "efficientnet_lite0",
    weights: targets.Asked = None,
    weights_key: targets.Asked = "",
    crop: float | None = None,
    interpolation: str | None = None,
    texts: str | os.PathLike[str] | None = None,
    layer: targets.Asked = None,
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
    load: Callable[..., Pretrained] | None = None,
    progress: Progress = lambda doing, share: None,
) -> ExplanationOutcome:
    """Explain images: overlays, sheets, raw maps, `results.json` and `report.html`.

    Everything is written to a hidden folder and appears at the end, complete. Scores
    do not depend on the batch size, but for the roundings that Opti-CAM amplifies.
    Several networks, or layers of one, share one report: they are loaded one after
    another, and `results.json` has a list `runs`, see `targets.listed`.

    Args:
        images: Files, folders and patterns; see `files.find_pictures`.
        output: Folder to write to: new, empty, or with `overwrite` one that holds a
            previous report, whose files are replaced.
        model: Name of the network, the workdir of a training, or `module:factory`,
            see `factories.load`; or several.
        weights: Its weights, see `pretrained.load`; so for the next three.
        weights_key: Key of the weights in the file.
        crop: Share of the shorter side that is kept.
        interpolation: By which images are resized.
        texts: A file of texts that are the classes, see `models.zero_shot`.
        layer: Where to cut it, see `pretrained.load`; several of one network, or one
            for each.
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
        load: Loads a network, as `factories.load` does, which is the default.
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
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"`batch_size`={batch_size}; expected at least 1.")
    asked = targets.listed(model, weights, weights_key, layer)
    found = _find(images, output)
    rows = batches.rows(batch_size, len(found.files))
    wish = network_run.Wish(
        *(methods, crop, interpolation, texts, label, against, seed, steps),
        *(method_options.named(options), score, controls, white_level, rows),
    )
    names = files.distinct_names(found.files)
    expected = [network_run.file_names(each, wish, names) for each in asked]
    record.check_folder(
        output, {PAGE, raw_maps.NAME}.union(*expected), overwrite=overwrite
    )
    told = dict(zip(found.files, zip(found.names, names, strict=True), strict=True))
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if len(asked) > 1:
        _check(asked, wish, load, progress)
    # Images are read and drawn while the network computes.
    with (
        record.new_folder(output, overwrite=overwrite) as folder,
        raw_maps.new_file(folder / raw_maps.NAME) as keep,
        ThreadPoolExecutor(loops.cores()) as pool,
    ):
        drawn = []
        for number, target in enumerate(asked):

            def advance(doing: str, share: float, number=number) -> None:
                told = f"{asked[number].tag}, {doing}" if len(asked) > 1 else doing
                progress(told, (number + share) / len(asked))

            advance("loading the network", 0.0)
            # Nothing here holds the network, so that memory has one at a time.
            drawn.append(
                network_run.explain(
                    network_run.prepare(target, wish, load),
                    wish,
                    *(told, folder, keep, pool, found.failures(), advance),
                )
            )
        progress("writing the report", 1.0)
        failed = _failed(drawn)
        document = {
            "schema": record.SCHEMA,
            "created": created,
            "versions": record.versions(),
            **_results(asked, drawn),
            "failed": paths.without_folders(failed),
        }
        written = [path.name for path in folder.iterdir()]
        document["files"] = sorted([*written, PAGE, record.RESULTS])
        record.write_text(folder / PAGE, _page(document, drawn))
        record.write_text(folder / record.RESULTS, record.to_json(document))
    every = [entry for each in drawn for entry in each.document["images"]]
    explained = [*dict.fromkeys(entry["file"] for entry in every)]
    verdicts = [(e["file"], e["open_set"]) for e in every if "open_set" in e]
    return ExplanationOutcome(Path(output), explained, failed, verdicts)


def _find(images: Sequence[str], output: str | os.PathLike[str]) -> files.Found:
    paths.check(output, "output")
    found = files.find_pictures(images, outside=output)
    if not found.files:
        raise ValueError(
            f"No image matches {', '.join(map(repr, images)) or 'nothing'}; expected "
            "image files, folders that hold some, or patterns such as 'photos/*.jpg'."
        )
    return found


def _check(
    asked: Sequence[targets.Target],
    wish: network_run.Wish,
    load: Callable[..., Pretrained] | None,
    progress: Progress,
) -> None:
    """Load each network once, so that what the last lacks is said before all work."""
    classes = {}
    for target in asked:
        progress(f"looking at {target.tag}", 0.0)
        network = network_run.prepare(target, wish, load).network
        classes[target.said] = network.class_names
        del network
    targets.check_label(wish.label, classes)


def _failed(drawn: Sequence[network_run.Drawn]) -> list[dict[str, str]]:
    """List what could not be read, each image and reason once."""
    every = (each for one in drawn for each in one.document["failed"])
    return list({(each["file"], each["error"]): each for each in every}.values())


def _results(
    asked: Sequence[targets.Target], drawn: Sequence[network_run.Drawn]
) -> Record:
    """Give what `results.json` says of one network, or of a list of them."""
    if len(drawn) == 1:
        return drawn[0].document
    runs = []
    for target, each in zip(asked, drawn, strict=True):
        told = {"failed": paths.without_folders(each.document["failed"])}
        runs.append({"name": target.tag} | each.document | told)
    return {"runs": runs}


def _page(document: Record, drawn: Sequence[network_run.Drawn]) -> str:
    if "runs" not in document:
        return explanation_page.page(document, [*drawn[0].pieces.values()])
    return networks_page.page(document, [each.pieces for each in drawn])
