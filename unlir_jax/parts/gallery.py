"""Gallery of a network's parts: best regions, and weights in the classes.

Collected over the training images when a part network is finished, and kept in its
workdir as `parts.json`; `unlir parts` and `unlir explain` show it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.core.document_types import Record
from unlir_jax.data import pipeline
from unlir_jax.data import source as sources
from unlir_jax.features import receptive_field
from unlir_jax.features.batches import Batches
from unlir_jax.metrics.parts import keypoints
from unlir_jax.parts import gallery_document
from unlir_jax.parts.part_run import PartRun
from unlir_jax.runs import workdir
from unlir_jax.storage import documents, files
from unlir_jax.types import Array, Variables

FILE, SCHEMA = workdir.PARTS, 1
# Best regions of a part among all images; and of one class, for its first parts.
BEST, BEST_OF_CLASS, PARTS_OF_CLASS, CLASSES_OF_PART = 12, 5, 6, 5
# With more classes the table of parts by classes would be most of the file.
MOST_CLASSES = 200
ROWS, ASKED = 64, 4
# A part is named after a keypoint within 15 % of the frame of a region's centre, in at
# least 30 % of its regions.
NEAR, USUAL = 0.15, 0.3


class _Found(NamedTuple):
    """Hold the best regions found so far, best first: `[…, count]` each."""

    score: np.ndarray
    picture: np.ndarray
    cell: np.ndarray


def collect(run: PartRun, variables: Variables, reader: Batches) -> Record:
    """Look at all training images, by chunks, for what each part is.

    Args:
        run: The training of a part network.
        variables: All variables of the network.
        reader: Its batches; features are used where it keeps them.

    Returns:
        What `parts.json` holds: `centres`, where cells look; `parts`, for each its best
        regions (at most one an image), the classes that it supports most, its usual
        keypoint where those are known, its mean absolute contribution to the logit of
        an image's own class and its share of all cells; `categories`, for each class
        the parts that add most to its logit, with their best regions in its images; and
        `contributions`, the mean of each part to each class over the images of that
        class, with at most 200 classes.
    """
    source = run.data.train
    totals = _total(run, variables, reader)
    centres = _centres(run, variables, totals.grid)
    place = _Placing(source, centres, totals.grid[1], totals.side)
    regions = [_regions(totals.best, part, place) for part in range(len(totals.share))]
    mean = totals.added / np.maximum(totals.pictures, 1)[:, None]
    document: Record = {
        "schema": SCHEMA,
        "network": run.network.name,
        "pictures": int(totals.pictures.sum()),
        "classes": list(source.classes),
        "grid": list(totals.grid),
        "centres": {"rows": centres.rows, "columns": centres.columns},
        "parts": _parts(totals, mean, regions, _keypoints(run, regions)),
        "categories": [
            {
                "class": label,
                "pictures": int(totals.pictures[label]),
                "parts": [
                    {
                        "part": int(part),
                        "contribution": _plain(mean[label, part]),
                        "regions": _regions(totals.of_class, (label, part), place),
                    }
                    for part in _largest(mean[label], PARTS_OF_CLASS)
                ],
            }
            for label in range(len(source.classes))
        ],
    }
    if len(source.classes) <= MOST_CLASSES:
        document["contributions"] = np.round(mean.T, 5).tolist()
    return document


def _parts(
    totals: "_Totals",
    mean: np.ndarray,
    regions: list[list[Record]],
    usual: list[Record | None],
) -> list[Record]:
    return [
        {
            "part": part,
            "share": _plain(totals.share[part]),
            "strength": _plain(totals.strength[part]),
            "keypoint": usual[part],
            "classes": [
                {"class": int(label), "contribution": _plain(mean[label, part])}
                for label in _largest(mean[:, part], CLASSES_OF_PART)
            ],
            "regions": regions[part],
        }
        for part in range(len(regions))
    ]


def write(folder: Path, document: Record) -> None:
    """Write `parts.json` into a workdir."""
    files.write_text(Path(folder) / FILE, files.to_json(document))


def read(folder: Path) -> Record:
    """Read the `parts.json` of a workdir.

    Raises:
        ValueError: There is none, or it is not what `write` wrote.
    """
    path = Path(folder) / FILE
    try:
        document = documents.read_json(path, "what `unlir train` wrote")
    except FileNotFoundError as error:
        raise ValueError(
            f"Workdir {str(folder)!r} holds no {FILE}, which `unlir train` writes at "
            "the end of the training of a part network; expected one: train it again, "
            "in another workdir."
        ) from error
    known = isinstance(document, dict) and document.get("schema") == SCHEMA
    if not known or not {"parts", "categories", "classes"} <= set(document):
        raise ValueError(
            f"{str(path)!r} is no gallery of parts of this version; expected what "
            "`unlir train` wrote."
        )
    fault = gallery_document.fault(document)
    if fault:
        raise ValueError(
            f"{str(path)!r} lacks `{fault}`, or holds a wrong one; expected the "
            "gallery of parts that `unlir train` wrote."
        )
    return document


def centres(document: Record) -> receptive_field.Centres:
    """Give where the cells of a gallery look."""
    found = document["centres"]
    return receptive_field.Centres(tuple(found["rows"]), tuple(found["columns"]))


class _Totals(NamedTuple):
    """Hold what has been seen in all images.

    Attributes:
        best: The best regions of each part, `[parts, BEST]`.
        of_class: Those in the images of each class, `[classes, parts, …]`.
        added: Sum of contributions to the own class, `[classes, parts]`.
        pictures: Images of each class.
        share: Share of all locations, `[parts]`.
        strength: Mean absolute contribution to the own class, `[parts]`.
        grid: Rows and columns of the scores.
        side: Side of a location of the last maps, in shares of the frame.
    """

    best: _Found
    of_class: _Found
    added: np.ndarray
    pictures: np.ndarray
    share: np.ndarray
    strength: np.ndarray
    grid: tuple[int, int]
    side: float


def _total(run: PartRun, variables: Variables, reader: Batches) -> _Totals:
    """Go through all images once."""
    classes, parts = len(run.data.train.classes), run.network.module.classifier.parts
    best, of_class = _nothing(parts, BEST), _nothing(classes, parts, BEST_OF_CLASS)
    added, pictures = np.zeros((classes, parts)), np.zeros(classes, int)
    share, strength = np.zeros(parts), np.zeros(parts)
    grid, side = (1, 1), 1.0
    for seen in _read(run, variables, reader):
        grid, side = seen["grid"], seen["side"]
        labels = seen["label"]
        best = _merge(best, seen["score"].T, seen["index"], seen["cell"].T)
        for label in np.unique(labels):
            own = labels == label
            known = _Found(*(values[label] for values in of_class))
            new = seen["score"][own].T, seen["index"][own], seen["cell"][own].T
            for values, merged in zip(of_class, _merge(known, *new), strict=True):
                values[label] = merged
            added[label] += seen["own"][own].sum(0)
            pictures[label] += own.sum()
        share += seen["share"].sum(0)
        strength += np.abs(seen["own"]).sum(0)
    every = max(int(pictures.sum()), 1)
    return _Totals(
        best, of_class, added, pictures, share / every, strength / every, grid, side
    )


def _read(run: PartRun, variables: Variables, reader: Batches) -> Iterator[Record]:
    """Give, of some images at a time, all that is kept of them."""
    module = run.network.module

    @jax.jit
    def look(
        variables: Variables, maps: jax.Array, labels: jax.Array
    ) -> dict[str, jax.Array]:
        reading = module.apply(variables, maps, method="read")
        rows, columns, parts = reading.scores.shape[1:]
        cells = reading.scores.reshape((-1, rows * columns, parts))
        own = jnp.take_along_axis(reading.contributions, labels[:, None, None], axis=2)
        return {
            "score": cells.max(1),
            "cell": cells.argmax(1),
            "own": own[..., 0],
            "share": reading.shares.mean((1, 2)),
            "grid": jnp.zeros((rows, columns, 0)),
        }

    for maps, labels, index in _maps(run, variables, reader):
        count = len(labels)
        maps = np.pad(maps, [(0, ROWS - count)] + [(0, 0)] * 3)
        padded = jnp.asarray(np.pad(labels, (0, ROWS - count)))
        seen = look(variables, maps, padded)
        rows, columns, _ = seen.pop("grid").shape
        found = {name: np.asarray(values)[:count] for name, values in seen.items()}
        yield found | {
            "label": labels,
            "index": index,
            "grid": (rows, columns),
            "side": 1 / min(maps.shape[1:3]),
        }


def _maps(
    run: PartRun, variables: Variables, reader: Batches
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Give maps, labels and indices of the training images that can be read."""
    kept, module = reader.train, run.network.module
    if kept is not None:
        for first in range(0, len(kept.label), ROWS):
            some = slice(first, first + ROWS)
            good = np.asarray(kept.weight[some]) > 0
            maps = np.asarray(kept.features[some], np.float32)[good]
            index = first + np.flatnonzero(good)
            yield maps, np.asarray(kept.label[some])[good].astype(np.int32), index
        return
    trunk = jax.jit(
        lambda variables, images: module.apply(
            variables, images.astype(jnp.float32) / 255, method="features"
        )
    )
    for batch in pipeline.evaluation(run.data.train, batch_size=ROWS, **run.frame):
        good = batch["weight"] > 0
        maps = np.asarray(trunk(variables, batch["image"]), np.float32)[good]
        yield maps, batch["label"][good], batch["index"][good]


def _nothing(*shape: int) -> _Found:
    return _Found(
        np.full(shape, -np.inf, np.float32),
        np.full(shape, -1, np.int64),
        np.zeros(shape, np.int64),
    )


def _merge(
    known: _Found, score: np.ndarray, picture: np.ndarray, cell: np.ndarray
) -> _Found:
    """Keep the best of what is known and what is new: `[parts, count]`."""
    picture = np.broadcast_to(picture, score.shape)
    both = [
        np.concatenate(pair, axis=-1)
        for pair in zip(known, (score, picture, cell), strict=True)
    ]
    order = np.argsort(-both[0], axis=-1, kind="stable")[..., : known.score.shape[-1]]
    return _Found(*(np.take_along_axis(values, order, axis=-1) for values in both))


class _Placing(NamedTuple):
    """Know how a cell of an image is written down."""

    source: sources.Source
    centres: receptive_field.Centres
    columns: int
    side: float


def _regions(found: _Found, at: Any, place: _Placing) -> list[Record]:
    regions = []
    for score, picture, cell in zip(*(values[at] for values in found), strict=True):
        if picture < 0:
            continue
        row, column = divmod(int(cell), place.columns)
        regions.append(
            {
                "picture": place.source.name(int(picture)),
                "index": int(picture),
                "row": row,
                "column": column,
                "score": _plain(score),
                "box": box(place.centres, row, column, place.side),
            }
        )
    return regions


def box(
    centres: receptive_field.Centres, row: int, column: int, side: float
) -> list[float]:
    """Give the square round a cell, moved into the frame: x0, y0, x1, y1 in shares."""
    left, top = (
        min(max(centre - side / 2, 0.0), 1 - side)
        for centre in (centres.columns[column], centres.rows[row])
    )
    return [_plain(value) for value in (left, top, left + side, top + side)]


def _centres(
    run: PartRun, variables: Variables, grid: tuple[int, int]
) -> receptive_field.Centres:
    """Ask the network about some training images where its cells look."""
    module, source = run.network.module, run.data.train
    some = np.linspace(0, source.size - 1, ASKED).astype(int)
    batches = pipeline.evaluation(
        sources.subset(source, some), batch_size=ASKED, **run.frame
    )
    (batch,) = batches
    if not batch["weight"].any():
        return receptive_field.even(*grid)

    def scores(known: Variables, images: Array) -> jax.Array:
        maps = module.apply(known, images, method="features")
        return module.apply(known, maps, method="read").scores

    return receptive_field.measure(
        scores, variables, batch["image"][batch["weight"] > 0] / np.float32(255)
    )


def _keypoints(run: PartRun, regions: list[list[Record]]) -> list[Record | None]:
    """Find the keypoint that is most often nearest to a part's best regions, if any."""
    source = run.data.train
    if "keypoints" not in source.annotations:
        return [None] * len(regions)
    needed = np.unique([region["index"] for some in regions for region in some])
    batches = pipeline.evaluation(
        sources.subset(source, needed),
        batch_size=ROWS,
        annotations=("keypoints",),
        **run.frame,
    )
    points = np.concatenate([batch["keypoints"] for batch in batches])[: len(needed)]
    known = dict(zip(needed.tolist(), points, strict=True))
    names, groups = keypoints.merge_sides(source.parts)
    usual: list[Record | None] = []
    side = run.frame["image_size"]
    for some in regions:
        nearest = []
        for region in some:
            x0, y0, x1, y1 = region["box"]
            centre = np.asarray([x0 + x1, y0 + y1]) / 2 * side
            places = known[region["index"]]
            away = np.square(places[:, :2] - centre).sum(-1)
            away = np.where(places[:, 2] > 0, away, np.inf)
            if away.min() <= (NEAR * side) ** 2:
                nearest.append(groups[away.argmin()])
        counts = np.bincount(np.asarray(nearest, int), minlength=len(names))
        share = counts.max() / max(len(some), 1)
        name = names[int(counts.argmax())]
        usual.append({"name": name, "share": _plain(share)} if share >= USUAL else None)
    return usual


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    return np.argsort(-values, kind="stable")[:count]


def _plain(value: float | np.number) -> float:
    return round(float(value), 5)
