"""The job: find the images of a folder that are most like others."""

import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from unlir_jax import adapters
from unlir_jax.core import finite
from unlir_jax.core.document_types import Record
from unlir_jax.data import image_files, preprocessing
from unlir_jax.data.classes import in_order
from unlir_jax.metrics import retrieval as measures
from unlir_jax.models import fold, pooling, pretrained
from unlir_jax.parts import clustering
from unlir_jax.report import html
from unlir_jax.retrieval import search
from unlir_jax.runtime import ranges
from unlir_jax.storage import files as record
from unlir_jax.storage import paths as places
from unlir_jax.types import Array, Features, Variables
from unlir_jax.weights import readers

PAGE = "retrieval.html"
THUMB = 160

Progress = Callable[[str, float], None]


class RetrievalOutcome(NamedTuple):
    """Say what a search did: where, what was found, and what could not be read."""

    folder: Path
    document: Record
    failed: list[dict[str, str]]


def run(
    queries: Sequence[str],
    index: Sequence[str],
    output: str | os.PathLike[str],
    *,
    model: str = "efficientnet_lite0",
    weights: str | None = None,
    weights_key: str = "",
    adapter: str | os.PathLike[str] | None = None,
    pool: str = "gem",
    whiten: int = 0,
    top: int = 10,
    image_size: int | None = None,
    crop: float | None = None,
    interpolation: str | None = None,
    overwrite: bool = False,
    batch_size: int = 16,
    white_level: int | float | str = "auto",
    progress: Progress = lambda doing, share: None,
) -> RetrievalOutcome:
    """Search, and write `results.json` and `search.html`.

    Where all images of the index lie in folders that name their class, see
    `image_files.classes_of`, the mean average precision and recall of each as a query
    are given too.

    Args:
        queries: Files, folders and patterns.
        index: Files, folders and patterns that are searched.
        output: Folder to write to.
        model: Name of the network, or the workdir of a training.
        weights: Its weights, see `pretrained.load`; they need no classifier.
        weights_key: Key of the weights in the file.
        adapter: A file of weights of its filters, which are folded in; its images'
            size is taken then.
        pool: Pooling of the maps, one of `pooling.POOLINGS`, or `token` for the class
            token of a vision transformer.
        whiten: Directions of a PCA whitening, fitted to the index, at most one less
            than it has images; 0: none.
        top: Number of images to find for each query.
        image_size: Side in pixels of the images; by default that of the adapter, or
            of the network.
        crop: Share of the shorter side that is kept; None takes the network's.
        interpolation: Filter of the resizing; None takes the network's.
        overwrite: Whether to replace a previous search.
        batch_size: Images that go through the network together.
        white_level: White of images of more than 8 bits, see `data.levels`.
        progress: Told how far the work is.

    Raises:
        ValueError: A setting that makes no sense, nothing to search or to search for,
            or an output folder that may not be written to.
        FloatingPointError: The network gives no numbers for an image.
    """
    if pool not in (*pooling.POOLINGS, pooling.TOKEN):
        known = ", ".join((*pooling.POOLINGS, pooling.TOKEN))
        raise ValueError(f"`pool`={pool!r}; expected one of {known}.")
    most = ranges.MOST_SIDE
    if top < 1 or whiten < 0 or not 1 <= batch_size <= ranges.MOST_BATCH:
        raise ValueError(
            f"`top`={top}, `whiten`={whiten}, `batch_size`={batch_size}; expected 1 or "
            f"more, 0 or more, 1 to {ranges.MOST_BATCH:,}."
        )
    if image_size is not None and not 1 <= image_size <= most:
        raise ValueError(f"`image_size`={image_size}; expected 1 to {most:,} pixels.")
    places.check(output, "output")
    found = [
        image_files.find_pictures(asked, outside=output) for asked in (queries, index)
    ]
    for what, listed in zip(("query", "image to search"), found, strict=True):
        if not listed.files:
            raise ValueError(
                f"There is no {what}; expected files, folders or patterns."
            )
    record.check_folder(output, {PAGE}, overwrite=overwrite)
    given = weights_key, adapter, crop, interpolation, image_size
    network = _network(model, weights, *given)
    if image_size is not None:
        network = network._replace(image_size=image_size)
    _check_whiten(network, whiten, len(found[1].files))
    failed = [failure for listed in found for failure in listed.failures()]
    every = list(dict.fromkeys([*found[1].files, *found[0].files]))
    frame = preprocessing.framing(
        network.image_size,
        network.crop,
        network.interpolation,
        white_level=white_level,
    )
    rows = _describe(network, every, frame, pool, batch_size, failed, progress)
    named = found[0].told() | found[1].told()
    shown = [record.readable(name) for name in named.values()]
    told = dict(zip(named, image_files.apart(shown), strict=True))
    known = [path for path in every if path in rows]
    searched = [path for path in found[1].files if path in rows]
    asking = [path for path in found[0].files if path in rows]
    if not searched or not asking:
        raise ValueError(
            f"{'None of the queries' if searched else 'Nothing to search'} can be read "
            f"({failed[0]['error']}); expected images."
        )
    table = {path: rows[path] for path in known}
    _check_finite(rows)
    if whiten:
        _check_whiten(network, whiten, len(searched))
        fitted = clustering.whitening(np.stack([rows[p] for p in searched]), whiten)
        table = {
            path: np.asarray(clustering.whiten(row[None], fitted))[0]
            for path, row in rows.items()
        }
    _check_finite(table)
    document = _search(table, asking, searched, top, told)
    document["measured"] = _measure(table, searched, index)
    finite.check(document["measured"] or {}, f"the index {', '.join(index)}")
    document |= {
        "schema": record.SCHEMA,
        "model": network.name,
        "weights": pretrained.provenance(network),
        "adapter": None if adapter is None else readers.sha256(adapter),
        "image_size": network.image_size,
        "white_level": white_level,
        "preprocessing": pretrained.prepared(network),
        "pool": pool,
        "whiten": whiten,
        "failed": [
            places.without_folders(each | {"file": _told(each["file"], told)})
            for each in failed
        ],
        "versions": record.versions(),
        "files": [PAGE, record.RESULTS],
    }
    with record.new_folder(output, overwrite=overwrite) as folder:
        record.write_text(folder / PAGE, _page(document, told))
        record.write_text(folder / record.RESULTS, record.to_json(document))
    return RetrievalOutcome(Path(output), document, failed)


def _check_whiten(network: pretrained.Pretrained, whiten: int, pictures: int) -> None:
    """Refuse more directions than channels, or than images but one, can have."""
    size = network.image_size
    example = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    maps = jax.eval_shape(
        functools.partial(network.module.apply, method=_method(network)),
        network.variables,
        example,
    )
    most = min(_channels(network, maps), pictures - 1)
    if whiten > most:
        raise ValueError(
            f"`whiten`={whiten} directions of {_channels(network, maps)} filters and "
            f"{pictures} images in the index; expected at most {most}: one less than "
            "images, and no more than filters."
        )


def _check_finite(rows: Mapping[Path, np.ndarray]) -> None:
    """Stop at descriptors that are no numbers, and name their images."""
    broken = [str(path) for path, row in rows.items() if not np.isfinite(row).all()]
    if broken:
        finite.check({"the descriptor": math.nan}, "the search", broken)


def _network(
    model: str,
    weights: str | None,
    weights_key: str,
    adapter: str | os.PathLike[str] | None,
    crop: float | None,
    interpolation: str | None,
    image_size: int | None,
) -> pretrained.Pretrained:
    """Load a network with its norms folded, and an adapter before them if there is."""
    network = pretrained.load(
        model,
        weights,
        weights_key=weights_key,
        crop=crop,
        interpolation=interpolation,
        image_size=image_size,
        fold=adapter is None,
        trunk_only=True,
    )
    if adapter is None:
        return network
    asked = {"crop": crop, "interpolation": interpolation}
    asked = {name: value for name, value in asked.items() if value is not None}
    adapted = adapters.apply(adapters.load(adapter), network)._replace(**asked)
    folded = fold.fold_batchnorm(adapted.module, adapted.variables)
    return pretrained.changed(adapted, *folded)


def _describe(
    network: pretrained.Pretrained,
    paths: Sequence[Path],
    frame: Callable[[Path], Image.Image],
    pool: str,
    batch_size: int,
    failed: list[dict[str, str]],
    progress: Progress,
) -> dict[Path, np.ndarray]:
    """Pool the maps of all images that can be read, at unit length."""

    def look(variables: Variables, images: Array) -> jax.Array | Features:
        if hasattr(network.module, "last_features"):
            return network.module.apply(variables, images, method="last_features")
        maps = network.module.apply(variables, images, method=_method(network))
        return maps[..., : _channels(network, maps)]

    @jax.jit
    def describe(variables: Variables, images: Array) -> jax.Array:
        pooled = pooling.describe(look(variables, images), pool)
        # At one length before whitening too, or bright images would shape it; what
        # is no number has no length, and would come out as zeros.
        sound = jnp.isfinite(pooled).all(-1, keepdims=True)
        return jnp.where(sound, clustering.unit(pooled), jnp.nan)

    found: dict[Path, np.ndarray] = {}
    batch: list[tuple[Path, np.ndarray]] = []
    for number, path in enumerate(paths, 1):
        try:
            batch.append((path, np.asarray(frame(path), np.float32) / 255))
        except (ValueError, OSError) as error:
            failed.append({"file": str(path), "error": str(error)})
        if batch and (len(batch) == batch_size or number == len(paths)):
            images = np.stack([pixels for _, pixels in batch])
            padded = np.pad(images, [(0, batch_size - len(batch))] + [(0, 0)] * 3)
            rows = np.asarray(describe(network.variables, padded))
            found |= {own: row for (own, _), row in zip(batch, rows, strict=False)}
            batch = []
            progress("describing", number / len(paths))
    return found


def _method(network: pretrained.Pretrained) -> str:
    """Name the method that gives maps; attention pooling may pack more into those."""
    return "last_maps" if hasattr(network.module, "last_maps") else "features"


def _channels(
    network: pretrained.Pretrained, maps: Array | jax.ShapeDtypeStruct
) -> int:
    """Leave out what a part network has packed behind its last maps."""
    return getattr(network.module, "channels", maps.shape[-1])


def _search(
    table: dict[Path, np.ndarray],
    asking: Sequence[Path],
    searched: Sequence[Path],
    top: int,
    told: Mapping[Path, str],
) -> Record:
    """Find the nearest of each query; an image does not find itself."""
    queries, index = (
        np.stack([table[p] for p in paths]) for paths in (asking, searched)
    )
    count = min(top + 1, len(searched))
    matches = search.search(queries, index, count)
    rows = []
    for path, near, scores in zip(asking, matches.places, matches.scores, strict=True):
        pairs = [
            {"file": told[searched[place]], "score": float(score)}
            for place, score in zip(near.tolist(), scores.tolist(), strict=True)
            if searched[place] != path
        ]
        rows.append({"file": told[path], "matches": pairs[:top]})
    return {"queries": rows, "index": len(searched)}


def _measure(
    table: dict[Path, np.ndarray], searched: Sequence[Path], index: Sequence[str]
) -> dict[str, float] | None:
    """Let the index find itself by class, where folders name classes."""
    named = image_files.classes_of(searched, [Path(asked) for asked in index])
    names = [name for name in named if name is not None]
    if len(names) < len(named):
        return None
    classes = in_order(names)
    counts = [names.count(name) for name in classes]
    if len(classes) < 2 or max(counts) < 2:
        return None
    labels = np.asarray([classes.index(name) for name in names])
    found = measures.by_class(np.stack([table[path] for path in searched]), labels)
    return {
        "mean_average_precision": found.mean_average_precision,
        "recall_at_1": found.recall(1),
        "classes": len(classes),
        "left_out": found.left_out,
    }


def _told(file: str, told: Mapping[Path, str]) -> str:
    return told.get(Path(file), file)


def _page(document: Record, told: Mapping[Path, str]) -> str:
    files = {name: path for path, name in told.items()}

    def thumbnail(file: str) -> Image.Image:
        white = document["white_level"]
        picture = preprocessing.read_image(files[file], white_level=white)
        picture.thumbnail((THUMB, THUMB))
        return picture

    return html.render(
        "retrieval.html",
        title=f"What {document['model']} finds alike",
        command="unlir retrieve",
        document=document,
        measured=document["measured"],
        asked=lambda row: [
            (row["file"], "asked for"),
            *((match["file"], f"{match['score']:.2f}") for match in row["matches"]),
        ],
        thumbnail=thumbnail,
        base=lambda file: Path(file).name,
        folder=lambda file: Path(file).parent.name,
    )
